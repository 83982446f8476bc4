"""Makes the zoo: `python tests/formats/make.py OUT [MODULE …]`, each module in a process of its own.

Each specimen gets a folder `OUT/<name>`: what the program left there, `truth.json` and `truth.safetensors`. `--record`
writes what was made into `zoo.json`, which the tests and `docs/formats.md` take the list from; entries of programs that
were not made this time stay as they are.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zoo.page import PAGE, render

HERE = Path(__file__).parent
RECORD = HERE / "zoo.json"
QUIET = {  # nothing is looked up, sent or installed
    "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_OFFLINE": "1", "WANDB_MODE": "disabled",
    "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "NO_COLOR": "1", "CUDA_VISIBLE_DEVICES": "",
    "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1",
}  # fmt: skip


def modules() -> list[str]:
    """Returns the names of all generators."""
    return sorted(path.stem for path in HERE.glob("make_*.py"))


def together(asked: Iterable[str]) -> list[list[str]]:
    """Returns the generators by process: those of torch share two, for importing it takes longer than most of them.

    What forks (make_torch_programs) comes first in its process.
    """
    shared = (
        [
            "make_torch_programs",
            "make_torch_layouts",
            "make_torch_trees",
            "make_numpy",
            "make_others",
            "make_archives",
            "make_joblib",
        ],
        ["make_torch_modules", "make_safetensors", "make_timm", "make_torchvision"],
    )
    left = set(asked)
    batches = [[module for module in batch if module in left] for batch in shared]
    alone = sorted(left - {module for batch in shared for module in batch})
    return [batch for batch in batches if batch] + [[module] for module in alone]


def make(batch: Sequence[str], out: Path) -> str:
    """Runs generators in a process of their own; returns what it says, empty when all went well."""
    out.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "zoo.make", str(out), *batch, "--here"],
        env={**os.environ, **QUIET, "YOLO_CONFIG_DIR": str(out), "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _make_here(module: str, out: Path) -> int:
    from zoo.specimen import write_truth

    warnings.simplefilter("ignore")
    collection = importlib.import_module(f"zoo.{module}").COLLECTION
    failed = 0
    for name, specimen in collection.specimens.items():
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "made").mkdir(parents=True)
        try:
            write_truth(specimen.write(folder / "made"), specimen, folder)
        except Exception:
            failed += 1
            (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            print(f"{name}: {traceback.format_exc()}", file=sys.stderr)
    (out / f"{module}.json").write_text(json.dumps(_summary(collection, out), indent=1), encoding="utf-8")
    return failed


def _summary(collection: Any, out: Path) -> dict[str, Any]:
    """Returns what was made, as far as the table of formats tells it."""
    specimens = {}
    for name, specimen in collection.specimens.items():
        told: dict[str, Any] = {"what": specimen.what}
        if (path := out / name / "truth.json").is_file():
            truth = json.loads(path.read_text(encoding="utf-8"))
            if "refusal" in truth:
                told["refusal"] = truth["refusal"]
            else:
                words = [word for word in (truth["made_by"] or "").split() if not word[0].isdigit()]  # no version
                told |= {"kind": truth["kind"], "made_by": " ".join(words), "schedules": truth["schedules"]}
                told |= {
                    key: [name for name, _ in truth[key]["$dict"]] for key in ("roles", "plain", "optimizers", "facts")
                }
        specimens[name] = told
    from zoo.specimen import installed

    version = installed(collection.program)
    return {"program": collection.program, "needs": collection.needs, "version": version, "specimens": specimens}


def record(out: Path) -> None:
    """Writes what was made into `zoo.json`."""
    kept = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    made = {module: out / f"{module}.json" for module in modules()}
    kept |= {module: json.loads(path.read_text(encoding="utf-8")) for module, path in made.items() if path.is_file()}
    text = json.dumps({module: kept[module] for module in sorted(kept) if module in made}, indent=1)
    RECORD.write_text(text + "\n", encoding="utf-8")


def main() -> int:
    """Makes all modules, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("module", nargs="*", help="all of them without one")
    parser.add_argument("--record", action="store_true", help="write zoo.json and docs/formats.md")
    parser.add_argument("--here", action="store_true", help="in this process")
    asked = parser.parse_args()
    out = asked.out.resolve()
    if asked.here:
        return sum(_make_here(module, out) for module in asked.module)
    failed = 0
    for batch in together(asked.module or modules()):
        said = make(batch, out)
        failed += bool(said)
        print(f"{', '.join(batch)}: {said or 'made'}", flush=True)
    if asked.record:
        record(out)
        PAGE.write_text(render(), encoding="utf-8")
    return failed


if __name__ == "__main__":
    sys.exit(main())

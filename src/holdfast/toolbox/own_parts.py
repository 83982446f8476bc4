"""Our own runs and checkpoint directories, told by their manifests and skeletons; tensors are not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.checkpoints import BEST_OF_RUN, Checkpoint, CheckpointStore
from holdfast.checkpoints.tensors import DTYPES
from holdfast.errors import CheckpointError
from holdfast.formats.roles import is_optimizer
from holdfast.formats.safetensors_file import DTYPES as DTYPE_NAMES
from holdfast.toolbox.report import Part, Report, TensorLine


def inspect_run(spec: str) -> Report:
    """Reports on a checkpoint of a run: the newest of `runs/x`, or `runs/x@best`, `runs/x@last`, `runs/x@1200`.

    Raises:
        CheckpointError: there is no such run, or no such checkpoint in it.
    """
    name, _, which = spec.rpartition("@") if not Path(spec).exists() else (spec, "", "last")
    run = Path(name)
    if not (run / "checkpoints").is_dir():
        found = "nothing" if not run.exists() else "no run: it has no folder `checkpoints`"
        raise CheckpointError(
            f"Inspecting {spec}: found {found} at {run}; expected a run before the @. Check the path."
        )
    store = CheckpointStore(run / "checkpoints", BEST_OF_RUN)
    steps = store.steps()
    if not steps:
        raise CheckpointError(
            f"Inspecting {run}: it has no checkpoint yet; expected at least one. Wait for the first save."
        )
    step = store.best() if which == "best" else int(which) if which.isdecimal() else steps[-1]
    if step is None:
        raise CheckpointError(
            f"Inspecting {spec}: no checkpoint of it has been evaluated yet; expected one with metrics. "
            f"Ask for {run}@last, or a step: {', '.join(map(str, steps))}."
        )
    if step not in steps or which not in ("best", "last", str(step)):
        raise CheckpointError(
            f"Inspecting {run}: there is no checkpoint {which!r}. Ask for best, last, or a step: "
            f"{', '.join(map(str, steps))}."
        )
    return _report(store.open(step))


def inspect_directory(path: str) -> Report:
    """Reports on a checkpoint directory. Raises CheckpointCorrupt when its manifest or its state is damaged."""
    return _report(Checkpoint(path))


def _report(checkpoint: Checkpoint) -> Report:
    manifest = checkpoint.manifest
    writer = {"made_by": manifest.written_by} if manifest.written_by else {}
    facts = {
        "step": manifest.step,
        "format_version": manifest.version,
        **writer,
        "metrics": checkpoint.metrics,
        **manifest.metadata,
    }
    parts: dict[str, Part] = {}
    for name, part in manifest.parts.items():
        lines = {
            n: TensorLine(n, DTYPE_NAMES[t.dtype], t.shape, DTYPES[t.dtype].itemsize) for n, t in part.tensors.items()
        }
        for alias, target in part.aliases.items():
            lines[alias] = lines[target]._replace(name=alias, alias_of=target)
        skeleton = checkpoint.skeletons.get(name)
        parts[name] = Part(_kind(skeleton, lines), list(lines.values()), _values(skeleton))
    return Report(str(checkpoint.path), "Holdfast checkpoint", facts, parts)


def _kind(skeleton: Any, lines: dict[str, TensorLine]) -> str:
    if isinstance(skeleton, dict) and is_optimizer(skeleton):
        return "optimizer"
    return "weights" if lines else "values"


def _values(skeleton: Any) -> Any:
    """Returns a skeleton that says more than the names of tensors; None for one that does not."""
    if isinstance(skeleton, dict) and all(isinstance(v, dict) and set(v) == {"$tensor"} for v in skeleton.values()):
        return None
    return skeleton

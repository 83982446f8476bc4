"""Opens damaged copies of real files, one after another, and prints how they ended. Run in a process of its own.

    python fuzz.py FOLDER NUMBER SEED

Each file gets 2 seconds of the processor and the process 1 GB more than it had; whatever is neither the right answer
nor a CheckpointError ends it with code 1 and a message. FOLDER is where the copies are written; nothing else may be.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import os
import random
import resource
import runpy
import shutil
import signal
import sys
import tarfile
import time
import traceback
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from holdfast.errors import CheckpointError
from holdfast.formats import open_checkpoint

TESTS = Path(__file__).parents[1]
_SECONDS, _BYTES = 2.0, 1 << 30
Files = dict[str, bytes]  # name within the place → contents; "" for a place that is a file itself


def _single() -> dict[str, Files]:
    """Files of the readers that have been there for long."""
    made = runpy.run_path(str(TESTS / "property/test_foreign_files.py"))["_originals"]()
    return {name: {"": data} for name, data in made.items()}


def _programs() -> dict[str, Files]:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 2))).eval()
    script, program, old, inner = (io.BytesIO() for _ in range(4))
    torch.jit.save(torch.jit.script(net), script)
    torch.export.save(torch.export.export(net, (torch.ones(2, 3),)), program)
    torch.save(net.state_dict(), inner)
    with zipfile.ZipFile(old, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", inner.getvalue())
    named = (("script", script), ("program", program), ("old program", old))
    return {name: {"": buffer.getvalue()} for name, buffer in named}


def _packed() -> dict[str, Files]:
    """Files within archives and compressed ones, joblib's, and NumPy's arrays of Python objects."""
    saved, tar, packed, objects, arrays = (io.BytesIO() for _ in range(5))
    torch.save(nn.Linear(3, 4).state_dict(), saved)
    with tarfile.open(fileobj=tar, mode="w") as archive:
        member = tarfile.TarInfo("run/model.pth")
        member.size = len(saved.getvalue())
        archive.addfile(member, io.BytesIO(saved.getvalue()))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("run/model.pth", saved.getvalue())
    np.save(objects, {"conv": {"weights": np.ones((2, 3), "f4")}})  # type: ignore[arg-type]
    wrapped = b"\x80\2}X\3\0\0\0a.wcjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(X\5\0\0\0shapeK\3\x85X\5\0\0\0dtype"
    wrapped += b"cnumpy\ndtype\nX\2\0\0\0f4\x89\x88\x87R(K\3X\1\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    arrays.write(wrapped + b"X\x1b\0\0\0numpy_array_alignment_bytesK\x10ub" + b"\2\xff\xff" + bytes(12) + b"s.")
    made = {"xz": lzma.compress(saved.getvalue()), "tar in bzip2": bz2.compress(tar.getvalue())}
    made |= {"zip in zip": packed.getvalue(), "objects": objects.getvalue(), "joblib": arrays.getvalue()}
    return {name: {"": data} for name, data in made.items()}


def _places() -> dict[str, Files]:
    """Folders: pieces of two ranks, slices, shards, and what a trainer leaves."""
    golden, made = TESTS / "golden/foreign", {}
    for name in ("two-ranks", "two-ranks-slices"):
        made[name] = {file.name: file.read_bytes() for file in (golden / name).iterdir()}
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), momentum=0.9)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    weights, state = io.BytesIO(), io.BytesIO()
    torch.save({"fc.bias": net.bias}, weights)
    torch.save(optimizer.state_dict(), state)
    shards = {"fc.weight": "model-00001-of-00002.safetensors", "fc.bias": "model-00002-of-00002.bin"}
    made["shards"] = {
        "model.safetensors.index.json": json.dumps({"weight_map": shards}).encode(),
        shards["fc.weight"]: safetensors.torch.save({"fc.weight": net.weight.detach()}),
        shards["fc.bias"]: weights.getvalue(),
        "optimizer.pt": state.getvalue(),
        "trainer_state.json": b'{"global_step": 3}',
    }
    return made


# Files whose bytes are covered by checksums: what is read from them is right, whichever of them was damaged.
_PROVEN = (
    "zip",
    "zip-5",
    "module",
    "xz",
    "tar in bzip2",
    "zip in zip",
    "deflated",
    "gzip",
    "npz",
    "script",
    "program",
    "old program",
)


def _write(place: Path, files: Files) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.unlink(missing_ok=True)
    if "" in files:
        place.write_bytes(files[""])
        return
    place.mkdir()
    for name, data in files.items():
        (place / name).write_bytes(data)


def _weights(place: Path) -> dict[str, Tensor]:
    opened = open_checkpoint(place)
    return {f"{role}/{n}": t.clone() for role in opened.roles for n, t in opened.weights(role, names="file").items()}


def _too_slow(signum: int, frame: Any) -> None:
    raise TimeoutError("more than two seconds")


def _try(name: str, place: Path, truth: dict[str, Tensor]) -> str:
    """Returns how opening a place ended; raises what must not be."""
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        found = _weights(place)
    except CheckpointError as error:
        if str(place) not in str(error):
            raise AssertionError(f"a message that does not name the file: {error}") from error
        return "refused"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if name in _PROVEN:
        assert found.keys() == truth.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in truth.items())
    return "opened"


def main() -> None:
    """Runs the program."""
    folder, number, seed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    damaged = runpy.run_path(str(TESTS / "property/test_foreign_files.py"))["_damaged"]
    originals = {**_single(), **_programs(), **_packed(), **_places()}
    signal.signal(signal.SIGPROF, _too_slow)
    truths, ended, longest, place = {}, {name: {"opened": 0, "refused": 0} for name in originals}, 0.0, folder / "place"
    for name, files in originals.items():
        _write(place, files)
        truths[name] = _weights(place)
        assert truths[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for count in range(number):
        name = sorted(originals)[count % len(originals)]
        dice = random.Random(f"{seed} {count}")
        files = dict(originals[name])
        victim = dice.choice(sorted(files))
        files[victim] = damaged(files[victim], dice)
        _write(place, files)
        start = time.process_time()
        try:
            ended[name][_try(name, place, truths[name])] += 1
        except Exception:
            print(f"{name}, {victim!r}, seed {seed!r} {count}", traceback.format_exc(), file=sys.stderr)
            os._exit(1)
        longest = max(longest, time.process_time() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    left = sorted(path.name for path in folder.iterdir())
    print(json.dumps({"ended": ended, "seconds": longest, "bytes": grown, "left": left}))
    sys.exit(grown > _BYTES)


if __name__ == "__main__":
    main()

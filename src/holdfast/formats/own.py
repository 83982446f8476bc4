"""Holdfast's own runs, checkpoints and model files, opened like anybody's, with every tensor proven by its digest."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.byte_file import Buffer, ByteFile, Bytes
from holdfast.formats.inert import InertObject
from holdfast.formats.lazy_tensor import QUANTIZED, LazyTensor, Storage
from holdfast.formats.roles import Roles, is_optimizer
from holdfast.formats.safetensors_file import Extent, read_safetensors, row_major


def open_run(spec: str) -> Roles:
    """Opens a checkpoint of a run: the newest of `runs/x`, or `runs/x@best`, `runs/x@last`, `runs/x@1200`.

    Raises:
        CheckpointError: there is no such run or checkpoint.
    """
    from holdfast.checkpoints import BEST_CLASSIFIER, CheckpointStore

    name, _, which = spec.rpartition("@") if not Path(spec).exists() else (spec, "", "last")
    if not (Path(name) / "checkpoints").is_dir():
        raise CheckpointError(f"Opening {spec}: there is no run at {name}. Check the path.")
    store = CheckpointStore(Path(name) / "checkpoints", BEST_CLASSIFIER)
    steps = store.steps()
    step = store.best() if which == "best" else int(which) if which.isdecimal() else steps[-1] if steps else None
    if step is None or step not in steps or which not in ("best", "last", str(step)):
        raise CheckpointError(
            f"Opening {spec}: there is no checkpoint {which!r}. Ask for best, last, or a step: "
            f"{', '.join(map(str, steps)) or 'there is none yet'}."
        )
    return open_checkpoint_directory(str(store.open(step).path))


def open_checkpoint_directory(path: str) -> Roles:
    """Opens a checkpoint directory. Raises CheckpointCorrupt when its manifest or its state is damaged."""
    from holdfast.checkpoints import Checkpoint

    checkpoint = Checkpoint(path)
    weights: dict[str, dict[str, Any]] = {}
    optimizers: dict[str, dict[str, Any]] = {}
    rest: dict[str, Any] = {}
    for part, entry in checkpoint.manifest.parts.items():
        skeleton = checkpoint.skeletons.get(part)
        if isinstance(skeleton, dict) and is_optimizer(skeleton):
            optimizers[part] = checkpoint.read(part)
        elif entry.file is None or not isinstance(skeleton, dict) or not _is_named_tensors(skeleton):
            rest[part] = skeleton
        else:
            file = ByteFile(checkpoint.path / entry.file)
            tensors = read_safetensors(file).tensors
            if lost := entry.tensors.keys() - tensors.keys():
                raise CheckpointCorrupt(f"{checkpoint.where}: {entry.file} lacks {', '.join(sorted(lost)[:3])}.")
            for name, stored in entry.tensors.items():
                _prove(tensors[name], stored.digest, f"{checkpoint.where}: {name} in {entry.file}")
            tensors |= {alias: tensors[name] for alias, name in entry.aliases.items()}
            weights[part] = {name: _as_it_was(tensors, stored) for name, stored in skeleton.items()}
    facts = {"step": checkpoint.step, "metrics": checkpoint.metrics, **checkpoint.metadata}
    facts |= {"written_by": checkpoint.manifest.written_by, **({"parts": rest} if rest else {})}
    return Roles(weights, optimizers, {}, facts)


def open_model_file(file: Bytes, tensors: dict[str, LazyTensor], metadata: str) -> Roles:
    """Opens a file that `write_single_file` wrote.

    Raises:
        CheckpointCorrupt: its metadata are damaged.
    """
    from holdfast.checkpoints import read_single_file

    table = read_single_file(Path(file.where), header_only=True).metadata
    digests = json.loads(metadata)["tensors"]
    for name, tensor in tensors.items():
        _prove(tensor, digests[name][2], f"{file.where}: {name}")
    return Roles({"model": dict(tensors)}, {}, {}, dict(table))


def _is_named_tensors(skeleton: dict[str, Any]) -> bool:
    """Returns whether a part is a model's state: a table of tensors, and at most what modules keep beside them."""
    tensors = [name for name, value in skeleton.items() if isinstance(value, dict) and set(value) == {"$tensor"}]
    return bool(tensors) and all(name in tensors or name.endswith("_extra_state") for name in skeleton)


def _as_it_was(tensors: dict[str, LazyTensor], stored: Any) -> Any:
    """Returns a tensor with the type that it had; its values are row-major in the file, whatever they were before.

    Args:
        tensors: of the file, by name.
        stored: what the skeleton says: a name, or a name and facts (`checkpoints/stored_tensor.py`).
    """
    if not (isinstance(stored, dict) and set(stored) == {"$tensor"}):
        return stored
    facts = stored["$tensor"]
    if isinstance(facts, str):
        return tensors[facts]
    tensor, dtype = tensors[facts["name"]], facts.get("dtype", tensors[facts["name"]].dtype)
    if dtype in QUANTIZED or not facts.keys() <= {"name", "dtype", "strides"}:
        return InertObject("torch._utils", "_rebuild_qtensor", (facts["name"],))
    if dtype == tensor.dtype:
        return tensor
    # Complex numbers lie there as pairs of reals, other types as integers of the same size.
    shape = tensor.shape[:-1] if "complex" in dtype else tensor.shape
    storage = Storage(tensor.storage.data, dtype, math.prod(shape), tensor.storage.start)
    return LazyTensor(storage, dtype, 0, shape, row_major(shape))


def _prove(tensor: LazyTensor, digest: str, what: str) -> None:
    """Makes the tensor's bytes be compared with their digest when they are read, in either way."""
    data = tensor.storage.data
    fetch, extent = data.fetch, data.read_into
    assert isinstance(extent, Extent)  # as of every tensor of a safetensors file

    def fetch_proven() -> Buffer:
        from holdfast.checkpoints.digest import digest_of

        if fetch is None:
            raise CheckpointError(f"{what} has no bytes.")
        found = fetch()
        with found.view() as view:
            _compare(digest_of(view), digest, what)
        return found

    def read_into_proven(target: memoryview | None, start: int = 0, *, proven: bool = False) -> None:
        from holdfast.checkpoints.digest import Digest

        running = Digest()
        extent.read(target, start, None if proven else running.update)
        if not proven:
            _compare(running.text(), digest, what)

    data.fetch, data.read_into = fetch_proven, read_into_proven


def _compare(found: str, digest: str, what: str) -> None:
    if found != digest:
        raise CheckpointCorrupt(f"{what} does not match its digest. Take another copy of it.")

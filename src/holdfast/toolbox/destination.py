"""Where and as what a result is written: OUT, as a person names it."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import ConfigError
from holdfast.formats.sniff import a
from holdfast.toolbox.publishing import refuse_taken

KINDS = ("safetensors", "sharded", "checkpoint", "pth", "npz")
_SUFFIXES = {".safetensors": "safetensors", ".npz": "npz", **dict.fromkeys((".pth", ".pt", ".bin", ".ckpt"), "pth")}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B?", re.IGNORECASE)
_LIKE_A_KIND = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,11}")  # `.onnx`; the `.5` of `v1.5` is a number
_STEP_NAME = re.compile(r"step-(\d{8,})")
DEFAULT_SHARD = "5GB"


@dataclass(frozen=True)
class Destination:
    """Where a result goes.

    Attributes:
        path: of the file or folder.
        kind: "safetensors", "sharded", "checkpoint", "pth" or "npz".
        shard_bytes: the most that one file of a sharded one holds.
        step: the step that a checkpoint directory is named after; None for other names.
    """

    path: Path
    kind: str
    shard_bytes: int
    step: int | None


def destination(
    out: str | os.PathLike[str],
    to: str | None = None,
    shard_size: str | int | None = None,
    *,
    replace: bool = False,
    source: str | os.PathLike[str] | None = None,
) -> Destination:
    """Returns where to write.

    Args:
        out: a path; its suffix says the kind: .safetensors, .npz, .pth (.pt, .bin, .ckpt); none means a checkpoint
            directory, or a folder of shards when a shard's size is given. Any other suffix that begins with a letter
            is refused unless `to` is given: it is a kind that is not written, or a mistyped one.
        to: the kind, whatever the suffix.
        shard_size: "2GB", "500MB" (powers of 1,000; "GiB" of 1,024) or bytes.
        replace: whether what is there may be replaced.
        source: what is to be written, to propose a name of its own within a folder.

    Raises:
        ConfigError: the kind or the size is none, the suffix is unknown, they contradict each other, or something is
            there.
    """
    path = Path(out).expanduser()
    if to is not None and to not in KINDS:
        raise ConfigError(f"--to {to!r}: expected one of {', '.join(KINDS)}. Choose one of these.")
    if to is None:
        _refuse_unknown_suffix(path)
    found = _SUFFIXES.get(path.suffix.lower()) or ("sharded" if shard_size is not None else "checkpoint")
    kind = to or found
    if shard_size is not None and kind != "sharded":
        raise ConfigError(
            f"--shard-size {shard_size}: {path} is to be {a(kind)}, which has no shards; expected the name of a "
            "folder. Leave out the suffix, or the option."
        )
    named = _STEP_NAME.fullmatch(path.name)
    shard_bytes = size_of(DEFAULT_SHARD if shard_size is None else shard_size)
    place = Destination(path, kind, shard_bytes, int(named[1]) if named and kind == "checkpoint" else None)
    refuse_taken(path, kind, replace, _within(path, source))
    return place


def _refuse_unknown_suffix(path: Path) -> None:
    suffix = path.suffix
    if suffix.lower() in _SUFFIXES or not _LIKE_A_KIND.fullmatch(suffix):
        return
    near = difflib.get_close_matches(suffix.lower(), _SUFFIXES, 1, 0.6)
    meant = f" Did you mean {path.with_suffix(near[0]).name!r}?" if near else ""
    raise ConfigError(
        f"Writing {path}: {suffix} is no kind of file that is written; expected {', '.join(_SUFFIXES)}, or a name "
        f"without a suffix for a checkpoint directory.{meant} To keep the name, say what it shall be: --to "
        f"{', '.join(KINDS)}."
    )


def _within(folder: Path, source: str | os.PathLike[str] | None) -> str:
    """Returns a place in a folder for what a source becomes: `c/<stem>.safetensors`."""
    name = "model" if source is None else Path(os.fspath(source).partition("@")[0]).name
    stem = Path(name).stem if Path(name).suffix.lower() in _SUFFIXES else name
    return str(folder / f"{stem or 'model'}.safetensors")


def size_of(text: str | int) -> int:
    """Returns a size in bytes. Raises ConfigError for what is none, and for 0."""
    match = _SIZE.fullmatch(str(text).strip())
    size = (
        0 if match is None else float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " ")
    )
    if size < 1:
        raise ConfigError(f"--shard-size {text!r}: expected a size such as 2GB or 500MB. Correct it.")
    return int(size)

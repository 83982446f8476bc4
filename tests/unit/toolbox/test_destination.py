from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.toolbox.destination import destination, size_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.safetensors", "safetensors"),
        ("a.npz", "npz"),
        ("a.pth", "pth"),
        ("a.PT", "pth"),
        ("a.bin", "pth"),
        ("a.ckpt", "pth"),
        ("folder", "checkpoint"),
        ("v1.5", "checkpoint"),
        ("a.2", "checkpoint"),
        ("a.x-y", "checkpoint"),
    ],
)
def test_the_suffix_says_the_kind(tmp_path: Path, name: str, kind: str) -> None:
    """A known suffix is a kind of file; none, or a number behind a dot, is a checkpoint directory."""
    assert destination(tmp_path / name).kind == kind


def test_the_kind_can_be_given(tmp_path: Path) -> None:
    """`to` is stronger than the suffix, and a shard's size makes a folder of shards."""
    assert destination(tmp_path / "a.pth", "npz").kind == "npz"
    place = destination(tmp_path / "a", shard_size="2GB")
    assert (place.kind, place.shard_bytes) == ("sharded", 2_000_000_000)
    assert destination(tmp_path / "a", "sharded").shard_bytes == 5_000_000_000


def test_a_checkpoint_named_after_a_step_has_that_step(tmp_path: Path) -> None:
    """step-00001200 is step 1200; other names say nothing."""
    assert destination(tmp_path / "step-00001200").step == 1200
    assert destination(tmp_path / "step-12").step is None
    assert destination(tmp_path / "step-00001200", "sharded").step is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2_000_000_000),
        ("500 MB", 500_000_000),
        ("1.5kb", 1500),
        ("1GiB", 1 << 30),
        ("77", 77),
        (5, 5),
        ("3B", 3),
    ],
)
def test_sizes_are_read(text: str | int, size: int) -> None:
    """Powers of a thousand, or of 1,024 with an i."""
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "2 gigs", "0.5"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    """The message has what was found and an example."""
    with pytest.raises(ConfigError, match=r"--shard-size .*: expected a size such as 2GB or 500MB"):
        size_of(text)


def test_a_destination_is_refused_when_the_request_contradicts_itself(tmp_path: Path) -> None:
    """A file has no shards, and a kind has to be one."""
    with pytest.raises(ConfigError, match=r"a\.safetensors is to be a safetensors, which has no shards"):
        destination(tmp_path / "a.safetensors", shard_size="2GB")
    with pytest.raises(ConfigError, match="--to 'onnx': expected one of safetensors, sharded, checkpoint, pth, npz"):
        destination(tmp_path / "a", "onnx")


def test_a_destination_is_refused_when_something_is_there(tmp_path: Path) -> None:
    """Without leave nothing is replaced, and a folder for it has to be there."""
    (tmp_path / "a.npz").touch()
    with pytest.raises(ConfigError, match=r"a\.npz: it is there already. Choose another name, or replace it with"):
        destination(tmp_path / "a.npz")
    assert destination(tmp_path / "a.npz", replace=True).kind == "npz"
    with pytest.raises(ConfigError, match="there is no folder"):
        destination(tmp_path / "gone" / "a.npz")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("model.safetensor", r" Did you mean 'model\.safetensors'\?"),
        ("model.PTHH", r" Did you mean 'model\.pth'\?"),
        ("x.onnx", ""),
        ("run.v1", ""),
    ],
)
def test_a_destination_is_refused_when_its_suffix_is_unknown(tmp_path: Path, name: str, near: str) -> None:
    """The known kinds and the nearest are named; `to` keeps the name, and a shard's size alone does not."""
    known = r"expected \.safetensors, \.npz, \.pth, \.pt, \.bin, \.ckpt, or a name without a suffix for a checkpoint"
    for size in (None, "2GB"):
        with pytest.raises(
            ConfigError, match=rf"is no kind of file that is written; {known} directory\.{near} To keep"
        ):
            destination(tmp_path / name, shard_size=size)
    assert destination(tmp_path / name, "checkpoint").kind == "checkpoint"


@pytest.mark.parametrize(
    ("source", "proposed"), [("runs/x@best", "x"), ("m.pt", "m"), ("a/model.v1", "model.v1"), (None, "model")]
)
def test_a_folder_of_other_things_is_answered_with_a_name_in_it(
    tmp_path: Path, source: str | None, proposed: str
) -> None:
    """Where --force would not help it is not advised, and the name in the folder is that of the source."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "notes.txt").touch()
    for replace in (True, False):
        with pytest.raises(ConfigError) as error:
            destination(f"{tmp_path}/c/", source=source, replace=replace)
        assert str(error.value).endswith(f"Choose one in it, such as {tmp_path}/c/{proposed}.safetensors.")
        assert "--force" not in str(error.value)

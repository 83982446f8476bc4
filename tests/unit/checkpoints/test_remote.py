from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from holdfast.checkpoints import Best, CheckpointStore, Last, remote, remote_files
from holdfast.checkpoints.place import is_alive, this_place
from holdfast.checkpoints.remote import CLAIM_FILE, Remote, cache_root, is_url, open_storage
from holdfast.checkpoints.remote_files import RemoteFiles
from holdfast.checkpoints.storage import Folder
from holdfast.errors import CheckpointCorrupt, CheckpointError


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(remote_files, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["memory", "local"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place in an object store, and one in a file system that has directories."""
    if request.param == "local":
        yield f"local://{tmp_path}/store"
        return
    yield "memory://bucket/run"
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def _parts(step: int) -> dict[str, Any]:
    return {"model": {"w": torch.full((10,), float(step))}, "counters": {"step": step}}


def _dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_is_saved_comes_back(url: str) -> None:
    """A store at a URL publishes, lists, measures, prunes and restores as one in a folder does."""
    with CheckpointStore(url, Best("accuracy") | Last(1)) as store:
        assert store.restore_latest(_parts(0)) == 0
        for step, accuracy in ((1, 0.5), (2, 0.9), (3, 0.7)):
            assert store.save(step, _parts(step)) == f"{url}/step-{step:08d}"
            store.annotate(step, {"accuracy": accuracy})
        store.wait()
        assert (store.root, store.steps(), store.best()) == (url, [2, 3], 2)
    parts = _parts(0)
    again = CheckpointStore(url)
    assert again.restore_latest(parts) == 3
    assert parts["counters"] == {"step": 3}
    assert torch.equal(parts["model"]["w"], torch.full((10,), 3.0))
    assert again.open(2).metrics == {"accuracy": 0.9}
    names = {"evaluation.json", "manifest.json", "model.safetensors", "state.json"}
    assert {path.rpartition("/")[2] for path in RemoteFiles(url).listing("step-00000003")} == names


def test_a_file_of_the_first_half_is_no_checkpoint(url: str) -> None:
    """Without a manifest there is no checkpoint; the next save of that step clears the place."""
    files = RemoteFiles(url)
    files.replace("step-00000001/model.safetensors", b"half of it")
    files.replace("step-00000001/optimizer.safetensors", b"of another save")
    store = CheckpointStore(url)
    assert (store.steps(), store.latest_valid()) == ([], None)
    store.save(1, _parts(1))
    store.wait()
    assert store.steps() == [1]
    assert "optimizer.safetensors" not in files.listing("step-00000001")


def test_leftovers_of_the_dead_are_swept_and_of_the_living_are_not(url: str) -> None:
    """A claim of a dead process of this place goes with the next save; of a living or a distant one it stays."""
    files = RemoteFiles(url)
    owners = {1: (this_place(), _dead_process()), 2: (this_place(), os.getppid()), 3: ("0" * 16, 1)}
    for step, (place, process) in owners.items():
        files.replace(f"step-{step:08d}/state.json", b"{}")
        files.replace(f"step-{step:08d}/{CLAIM_FILE}", f"{place} {process} 00".encode())
    store = CheckpointStore(url)
    store.save(9, _parts(9))
    store.wait()
    assert store.steps() == [9]
    assert {path.partition("/")[0] for path in files.listing()} == {"step-00000002", "step-00000003", "step-00000009"}


def test_a_distant_leftover_goes_when_it_has_been_silent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another machine left unfinished is deleted once it has not changed for as long as we watch."""
    files = RemoteFiles(url)
    files.replace("step-00000003/state.json", b"{}")
    store = CheckpointStore(url, background=False)
    store.save(8, _parts(8))
    assert "step-00000003/state.json" in files.listing()
    monkeypatch.setattr(remote, "_SILENT_SECONDS", -1)
    store.save(9, _parts(9))
    assert "step-00000003/state.json" not in files.listing()


def test_a_step_that_a_living_process_writes_is_refused(url: str) -> None:
    """Two processes of one machine do not write the same step."""
    RemoteFiles(url).replace(f"step-00000001/{CLAIM_FILE}", f"{this_place()} {os.getppid()} 00".encode())
    with pytest.raises(CheckpointError, match="is being written by another process of this machine"):
        CheckpointStore(url, background=False).save(1, _parts(1))


def test_a_damaged_checkpoint_is_set_aside_and_named_by_its_url(url: str) -> None:
    """A flipped bit is found in the copy, and the message speaks of the URL."""
    said: list[str] = []
    with CheckpointStore(url, background=False) as store:
        store.save(1, _parts(1))
        store.save(2, _parts(2))
    files = RemoteFiles(url)
    data = bytearray(files.read("step-00000002/model.safetensors"))
    data[-1] ^= 4
    files.replace("step-00000002/model.safetensors", bytes(data))
    store = CheckpointStore(url, say=said.append)
    valid = store.latest_valid()
    assert valid is not None and valid.step == 1
    assert said == [
        (
            "Passed over step-00000002: model.safetensors does not match its digest (damaged: w). Kept as "
            "damaged-step-00000002 for a look; going on from step 1, and the 1 step between is run again."
        )
    ]
    assert store.steps() == [1]
    assert files.read("damaged-step-00000002/model.safetensors") == bytes(data)
    with pytest.raises(CheckpointCorrupt, match=f"There is no checkpoint at {url}/step-00000002"):
        store.open(2)


def test_copies_are_renewed_and_deleted(url: str, tmp_path: Path) -> None:
    """Only what changed is fetched again; a copy goes with its checkpoint, and all go with the store."""
    storage = Remote(url)

    def fill(draft: Any) -> None:
        draft.write("state.json", [b"first"])
        draft.write("manifest.json", [b"{}"])

    storage.publish("step-00000001", fill)
    copy = storage.fetch("step-00000001")
    assert copy.is_relative_to(tmp_path / "cache" / "fetched")
    inode = (copy / "manifest.json").stat().st_ino
    storage.replace("step-00000001", "state.json", b"second one")
    assert storage.fetch("step-00000001") == copy
    assert ((copy / "state.json").read_bytes(), (copy / "manifest.json").stat().st_ino) == (b"second one", inode)
    storage.remove("step-00000001")
    assert not copy.exists()
    with pytest.raises(FileNotFoundError):
        storage.fetch("step-00000001")
    del storage
    assert list((tmp_path / "cache" / "fetched").iterdir()) == []


def test_stamps_of_a_thousand_take_one_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`names` lists once, and `stamp` asks nothing more; it is another after a replacement."""
    storage = Remote("memory://bucket/stamps")
    storage._files.replace("step-00000001/manifest.json", b"{}")
    storage._files.replace("step-00000001/evaluation.json", b"1")
    assert storage.names() == ["step-00000001"]
    before = storage.stamp("step-00000001", "evaluation.json")
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFiles, "listing", None)
        assert storage.stamp("step-00000001", "evaluation.json") == before
        assert storage.stamp("step-00000001", "state.json") is None
    storage.replace("step-00000001", "evaluation.json", b"22")
    assert storage.stamp("step-00000001", "evaluation.json") != before
    storage.remove("step-00000001")


def test_whatever_a_package_raises_becomes_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of packages below are tried again and then chained; those for good are not tried again."""
    files = RemoteFiles("memory://bucket/errors")
    calls: list[str] = []

    def fail(path: str) -> bytes:
        calls.append(path)
        raise {"odd": LookupError("odd"), "useless": ValueError("no"), "gone": FileNotFoundError("gone")}[
            path.rpartition("/")[2]
        ]

    monkeypatch.setattr(files._fs, "cat_file", fail)
    for name, kind, count in (("odd", OSError, 3), ("useless", OSError, 1), ("gone", FileNotFoundError, 1)):
        calls.clear()
        with pytest.raises(kind):
            files.read(name)
        assert len(calls) == count, name


def test_urls_and_folders_are_told_apart(tmp_path: Path) -> None:
    """`file://` and paths are folders, other URLs are remote, and a Path that was a URL is refused."""
    assert (is_url("s3://bucket/run"), is_url("runs/a"), is_url("file:///a"), is_url(Path("a"))) == (True,) + (
        False,
    ) * 3
    assert isinstance(open_storage(tmp_path), Folder)
    folder = open_storage(f"file://{tmp_path}/a%20b")
    assert isinstance(folder, Folder) and folder.root == tmp_path / "a b"
    with pytest.raises(CheckpointError, match=r"Opening s3:/bucket/run: a Path cannot hold a URL"):
        CheckpointStore(Path("s3://bucket/run"))
    with pytest.raises(CheckpointError, match=r"Opening odd://x: .* Expected a folder, or a URL"):
        CheckpointStore("odd://x")


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package for a URL, the message says what to install."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    importlib.import_module("fsspec.registry")
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(CheckpointError, match=r"pip install 'holdfast\[remote\]'"):
        CheckpointStore("s3://bucket/run")


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """$HOLDFAST_CACHE, then $XDG_CACHE_HOME, then the home folder."""
    assert cache_root() == Path(os.environ["HOLDFAST_CACHE"])
    monkeypatch.delenv("HOLDFAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_root() == Path("/x/holdfast")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "holdfast"


def test_processes_of_this_place_can_be_asked() -> None:
    """A process that has ended is not alive, and this one is."""
    assert (is_alive(os.getpid()), is_alive(_dead_process())) == (True, False)
    assert len(this_place()) == 16

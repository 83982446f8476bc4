"""Saves into an S3 server over a network that breaks: the old checkpoint or the new one, never a mixture."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.checkpoints import CheckpointStore, Last, remote, remote_files
from holdfast.errors import CheckpointError

pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")

_spec = importlib.util.spec_from_file_location("s3_on_loopback", Path(__file__).with_name("s3_on_loopback.py"))
assert _spec is not None and _spec.loader is not None
loopback = importlib.util.module_from_spec(_spec)
sys.modules["s3_on_loopback"] = loopback
_spec.loader.exec_module(loopback)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    """An S3 server on this machine."""
    with loopback.s3_server() as address:
        yield address


@pytest.fixture
def network(server: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The way to the server, with a bucket behind it. Pauses are short, and only our own attempts count."""
    for name, value in loopback.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setattr(remote_files, "PAUSES", (0.0, 0.01))
    with loopback.Network(server).running() as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{way.port}")
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(tmp_path.name.replace("_", "-").lower())
        yield way


@pytest.fixture
def url(network: Any, tmp_path: Path) -> str:
    """Where the checkpoints go."""
    return f"s3://{tmp_path.name.replace('_', '-').lower()}/run"


_EVERY = 5  # requests from one that breaks to the next, in the short form


def _parts(step: int, size: int = 300) -> dict[str, Any]:
    """Returns parts of which every single value tells the step."""
    return {
        "model": {"w": torch.full((size,), float(step)), "b": torch.full((7,), step)},
        "optimizer": {"m": torch.full((size,), -float(step))},
        "counters": {"step": step},
    }


def _what_is_left(url: str) -> int:
    """Returns the newest step, after asserting that every checkpoint listed is whole and of one step throughout."""
    said: list[str] = []
    store = CheckpointStore(url, say=said.append)
    steps = store.steps()
    for step in steps:
        checkpoint = store.open(step)
        checkpoint.verify()
        expected = _parts(step, int(checkpoint.tensors("model")["w"].numel()))
        for part in ("model", "optimizer"):
            for name, tensor in checkpoint.tensors(part).items():
                assert torch.equal(tensor, expected[part][name]), (step, part, name)
        assert checkpoint.read("counters") == {"step": step}
    newest = store.latest_valid()
    assert said == []
    assert newest is not None
    assert newest.step == steps[-1]
    return newest.step


def _save(url: str, step: int, size: int = 300) -> str:
    """Saves one step and keeps only the newest; returns the message of the failure, empty when it worked."""
    try:
        with CheckpointStore(url, Last(1), background=False) as store:
            store.save(step, _parts(step, size))
    except CheckpointError as error:
        return str(error)
    return ""


def _campaign(network: Any, url: str, *, for_good: bool, long_form: bool) -> int:
    """Breaks a save at its first request, at its sixth (long form: second), …; returns how many requests a save has.

    Every kind of break has its turn, in the short form as in the long one.
    """
    hows, every = (_all, 1) if long_form else (_turn, _EVERY)
    step, kinds, files = 1, set(), remote_files.RemoteFiles(url)  # one client: to make one takes longer than a save
    assert _save(url, step) == ""
    for number in itertools.count(1, every):
        for how in hows(number):

            def strike(count: int, at: int = number, how: str = how) -> str | None:
                return how if count == at or (for_good and count > at) else None

            network.restart(strike)
            failure = _save(url, step + 1)
            struck = len(network.seen) >= number
            network.restart(lambda _count: None)
            left = _what_is_left(url)
            if failure:
                assert for_good, (number, how, failure)
                assert failure.startswith(
                    (
                        "Saving s3://",
                        "Reading s3://",
                        "Reading the checkpoints in s3://",
                        "Deleting s3://",
                        "Removing s3://",
                    )
                ), failure
                assert left in (step, step + 1)
            else:
                assert left == step + 1
            step += 1
            if for_good:
                step += 1
                assert _save(url, step) == "", (number, how)
            assert {name.split("/")[0] for name in files.listing()} == {f"step-{step:08d}"}
            if not struck:
                assert kinds == set(loopback.BREAKS)
                return number - 1
            kinds.add(how)
    raise AssertionError


def _turn(number: int) -> list[str]:
    return [loopback.BREAKS[number // _EVERY % len(loopback.BREAKS)]]


def _all(_number: int) -> list[str]:
    return list(loopback.BREAKS)


def test_a_connection_that_breaks_once_costs_nothing(network: Any, url: str, long_form: bool) -> None:
    """Whichever request of a save breaks, and however, it is made again, and the save is whole."""
    assert _campaign(network, url, for_good=False, long_form=long_form) > 20


def test_a_network_that_is_gone_leaves_the_old_or_the_new(network: Any, url: str, long_form: bool) -> None:
    """Whichever request is the last that passes, what is listed is whole, and the next save works and cleans up."""
    assert _campaign(network, url, for_good=True, long_form=long_form) > 20


def test_a_large_file_is_sent_again_when_its_stream_breaks(
    network: Any, url: str, monkeypatch: pytest.MonkeyPatch, long_form: bool
) -> None:
    """A file of three parts whose every part breaks in turn arrives as it should, or not at all."""
    monkeypatch.setattr(remote_files, "BLOCK_BYTES", 5 << 20)
    size = 3_000_000  # float32: 12 MB, in blocks of 5 MiB
    assert _save(url, 1, size) == ""
    network.restart(lambda _count: None)
    assert _save(url, 2, size) == ""
    uploads = [i for i, seen in enumerate(network.seen, 1) if "uploadId=" in seen or "?uploads" in seen]
    assert len(uploads) >= 10  # two files: begin, three parts, complete
    for step, (number, how) in enumerate(
        zip(uploads[:: 1 if long_form else 3], itertools.cycle(loopback.BREAKS), strict=False), 3
    ):
        network.restart(lambda count, at=number, how=how: how if count == at else None)
        assert _save(url, step, size) == "", (number, how)
        network.restart(lambda _count: None)
        assert _what_is_left(url) == step


def test_the_store_goes_on_after_a_failure(network: Any, url: str) -> None:
    """A store that could not save says so in words, and saves the next step."""
    failures: list[CheckpointError] = []
    with CheckpointStore(url, on_failure=failures.append) as store:
        store.save(1, _parts(1))
        store.wait()
        network.restart(lambda count: "503" if count > 6 else None)
        store.save(2, _parts(2))
        store.wait()
        network.restart(lambda _count: None)
        store.save(3, _parts(3))
        store.wait()
        assert [str(error) for error in failures] == [
            f"Saving {url}/step-00000002: ServiceUnavailable. The checkpoints before it are unharmed."
        ]
        assert store.steps() == [1, 3]
    assert _what_is_left(url) == 3


def test_of_two_writers_of_one_step_one_is_refused(network: Any, url: str) -> None:
    """Two processes that save the same step at the same time: one checkpoint, whole, and an error for the other."""
    first, second = remote.Remote(url), remote.Remote(url)
    ends: list[str] = []

    def beside(draft: Any) -> None:
        draft.write("state.json", [b"first"])
        remote._drafts.clear()  # as in another process
        second.publish("step-00000001", lambda other: _fill(other, b"second"))
        ends.append("second")
        draft.write("manifest.json", [b"{}"])

    with pytest.raises(FileExistsError, match="another process writes"):
        first.publish("step-00000001", beside)
    assert ends == ["second"]
    assert first.read("step-00000001", "state.json") == b"second"
    assert first.names() == ["step-00000001"]


def _fill(draft: Any, text: bytes) -> None:
    draft.write("state.json", [text])
    draft.write("manifest.json", [b"{}"])


def test_a_manifest_is_never_replaced(network: Any, url: str) -> None:
    """Even at the last request: a manifest that appeared since the last look is left as it is."""
    files = remote_files.RemoteFiles(url)
    store = remote.Remote(url)

    def late(draft: Any) -> None:
        _fill(draft, b"mine")
        draft.check = lambda: files.create("step-00000001/manifest.json", b"theirs")

    with pytest.raises(FileExistsError, match=r"manifest\.json is there already"):
        store.publish("step-00000001", late)
    assert store.read("step-00000001", "manifest.json") == b"theirs"


def test_a_bucket_that_is_not_there_is_said(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt bucket is an error of the first save, and no bucket is made."""
    assert "NoSuchBucket" in (failure := _save("s3://holdfast-no-such-bucket/run", 1)) or "bucket" in failure
    assert not s3fs.S3FileSystem(skip_instance_cache=True).exists("holdfast-no-such-bucket")

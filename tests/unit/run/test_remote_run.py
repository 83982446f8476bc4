from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from holdfast.checkpoints import remote_files
from holdfast.checkpoints.remote_files import RemoteFiles
from holdfast.config import Config
from holdfast.errors import CheckpointError, ConfigError, RunError
from holdfast.run import owner
from holdfast.run.directory import RunDirectory
from holdfast.run.owner import OWNER_FILE
from holdfast.run.remote_run import RECORD_FILE, RemoteRun, open_run

URL = "memory://bucket/run"
BEGUN = {"config.yaml": b"seed: 1\n", "environment.json": b"{}\n", "results.csv": b"epoch\n1\n"}


class _There(RemoteFiles):
    """What lies at the URL, as another program sees it."""

    def contents(self) -> dict[str, bytes]:
        """Returns every file."""
        return {name: self.read(name) for name in self.listing()}

    def put(self, files: dict[str, bytes]) -> None:
        """Writes files."""
        for name, data in files.items():
            self.replace(name, data)

    def put_key(self, key: str, data: bytes) -> None:
        """Writes a file under a key that no file system would take."""
        self._fs.store[f"/bucket/run/{key}"] = MemoryFile(self._fs, f"/bucket/run/{key}", data)


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_There]:
    """An empty object store; no pause is waited for, and nobody is watched."""
    now = iter(range(0, 10**6, 60))
    monkeypatch.setattr(remote_files, "PAUSES", (0.0,))
    monkeypatch.setattr(owner, "time", SimpleNamespace(monotonic=lambda: next(now), sleep=lambda _seconds: None))
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "one"))
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield _There(URL)
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> _Network:
    """Notes what is written and deleted, and refuses what it is told to."""
    network = _Network()
    for name in ("_open", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, name, network.passing(name, getattr(MemoryFileSystem, name)))
    return network


class _Network:
    """What stands before the store: `written` and `deleted` are the names that have passed, in order."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.deleted: list[str] = []
        self.refused: tuple[str, ...] = ()

    def passing(self, method: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the method of the store with this network before it."""

        def call(fs: MemoryFileSystem, path: str, *rest: Any, **options: Any) -> Any:
            name = path.removeprefix("/bucket/run/")
            writes = method == "_open" and "rb" not in (*rest, options.get("mode", "rb" if not rest else ""))
            if writes or method == "rm_file":
                if name in self.refused:
                    raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
                if name != OWNER_FILE:
                    (self.written if writes else self.deleted).append(name)
            return real(fs, path, *rest, **options)

        return call


def _run() -> RemoteRun:
    return RemoteRun(URL, lambda _line: None)


def _here(run: RemoteRun) -> dict[str, bytes]:
    """Returns the files of the run's folder that are not hidden."""
    files = (path for path in run.path.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(run.path).as_posix(): path.read_bytes() for path in files}


def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str = "two") -> RemoteRun:
    """Returns the run as another machine has it."""
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / name))
    return _run()


# --- what is opened -------------------------------------------------------------------------------------------------


def test_a_folder_is_a_folder_and_a_url_a_run_in_the_cache(tmp_path: Path) -> None:
    """`open_run` tells them apart; two URLs that end alike have folders of their own."""
    for place in (tmp_path / "a", str(tmp_path / "a"), f"file://{tmp_path}/a"):
        run = open_run(place, print)
        assert (type(run), run.path) == (RunDirectory, tmp_path / "a")
    ours, other = open_run(f"{URL}/", print), open_run("memory://other/run", print)
    assert isinstance(ours, RemoteRun)
    assert (ours.place, ours.checkpoints) == (URL, f"{URL}/checkpoints")
    assert ours.path.parent == other.path.parent == tmp_path / "one" / "runs"
    assert ours.path.name.startswith("run-")
    assert ours.path != other.path


def test_a_url_that_nothing_opens_is_an_error_of_the_settings() -> None:
    """It is said before anything is made."""
    with pytest.raises(ConfigError, match=r"Opening nonsense://x/run: Protocol not known: nonsense"):
        open_run("nonsense://x/run", print)


def test_a_store_that_refuses_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held afterwards: the next attempt begins as this one did."""
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "find", _refuse)
        with pytest.raises(RunError) as caught, _run():
            pass
    assert str(caught.value) == (
        f"Opening the run {URL}: Permission denied. Expected a place that can be read and written; look at the "
        "bucket's name, its rights, the credentials and the network."
    )
    with _run():
        pass


def _refuse(*_arguments: object, **_options: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize("foreign", [{"thesis.tex": b"x"}, {"sub/config.yaml": b"x"}])
def test_a_place_with_files_of_others_is_refused_and_left_as_it_is(there: _There, foreign: dict[str, bytes]) -> None:
    """Neither is an owner written there."""
    there.put(foreign)
    with pytest.raises(ConfigError) as caught, _run():
        pass
    assert str(caught.value) == (
        f"--out {URL} holds files that are not ours ({next(iter(foreign))}). "
        "Give a URL with nothing below it, or a run of ours."
    )
    assert there.contents() == foreign


def test_a_run_is_owned_within_its_block_and_free_after_it(there: _There) -> None:
    """A second command on another machine, or in this process, is refused meanwhile."""
    with _run() as run:
        assert list(there.contents()) == [OWNER_FILE]
        with pytest.raises(RunError, match="This process is training in"), _run():
            pass
        assert run.is_there()
    assert there.contents() == {}


def test_a_run_of_a_living_owner_is_refused_and_nothing_is_fetched(
    there: _There, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another machine's: the folder here stays without its files, and the owner's file stays."""
    there.put({**BEGUN, OWNER_FILE: b'{"token": "theirs", "beats": 0}'})
    beats = iter(range(1, 100))
    clock = SimpleNamespace(
        monotonic=lambda: 0.0,
        sleep=lambda _seconds: there.put({OWNER_FILE: json.dumps({"token": "theirs", "beats": next(beats)}).encode()}),
    )
    monkeypatch.setattr(owner, "time", clock)
    run = _run()
    with pytest.raises(RunError, match="Another process is training in memory://bucket/run"), run:
        pass
    assert _here(run) == {}
    assert json.loads(there.read(OWNER_FILE)) == {"token": "theirs", "beats": 1}


# --- what is fetched ------------------------------------------------------------------------------------------------


def test_a_run_is_fetched_as_it_is_there_without_its_checkpoints(there: _There) -> None:
    """Its small files are; checkpoints go through the store, and hidden files are nobody's."""
    tensorboard = {"tensorboard/events.1": b"\0\1"}
    there.put({**BEGUN, **tensorboard, "checkpoints/step-00000001/manifest.json": b"{}", ".hidden": b"x"})
    with _run() as run:
        assert _here(run) == {**BEGUN, **tensorboard}
        assert run.exists


def test_what_is_there_wins_over_what_is_here(there: _There) -> None:
    """Another machine went on with the run: what it changed, made and deleted is taken over."""
    there.put({**BEGUN, "summary.json": b"{}"})
    with _run() as run:
        pass
    there.put({"results.csv": b"epoch\n1\n2\n", "best.safetensors": b"weights"})
    there.remove("summary.json")
    (run.path / "results.csv").write_bytes(b"epoch\n1\nmine\n")
    expected = {**BEGUN, "results.csv": b"epoch\n1\n2\n", "best.safetensors": b"weights"}
    with _run() as run:
        assert _here(run) == expected
    assert there.contents() == expected


def test_what_could_not_be_sent_is_kept_and_sent_by_the_next_command(there: _There, network: _Network) -> None:
    """The last push failed; nobody else worked on the run since: what is here is ahead, and is not overwritten."""
    there.put(BEGUN)

    def work(run: RemoteRun) -> None:
        run.write("results.csv", "epoch\n1\n2\n")
        run.write("predictions.csv", "new")
        network.refused = ("results.csv", "predictions.csv")

    with pytest.raises(RunError) as caught, _run() as run:
        work(run)
    assert str(caught.value) == (
        f"Sending files of the run to {URL}: predictions.csv (Network is unreachable); results.csv (Network is "
        "unreachable). The checkpoints there are whole; run the same command again to send the rest."
    )
    assert there.contents() == BEGUN
    network.refused = ()
    expected = {**BEGUN, "results.csv": b"epoch\n1\n2\n", "predictions.csv": b"new"}
    with _run() as run:
        assert _here(run) == expected
    assert there.contents() == expected


def test_what_is_here_of_a_run_that_is_gone_there_is_deleted(there: _There) -> None:
    """Somebody deleted the run at the URL: the same command begins anew, with nothing of the old one."""
    there.put(BEGUN)
    with _run() as run:
        run.write("predictions.csv", "old")
    for name in there.listing():
        there.remove(name)
    with _run() as run:
        assert (_here(run), run.exists) == ({}, False)
    assert there.contents() == {}


def test_a_file_that_was_deleted_here_between_two_commands_comes_back(there: _There) -> None:
    """A cache that was cleared, in part or whole, changes nothing of the run."""
    there.put(BEGUN)
    with _run() as run:
        pass
    (run.path / "results.csv").unlink()
    with _run() as run:
        assert _here(run) == BEGUN
    shutil.rmtree(run.path)
    with _run() as run:
        assert _here(run) == BEGUN
    assert there.contents() == BEGUN


@pytest.mark.parametrize(
    "key", ["../x", "../../x", "a/../../x", "/etc/x", "", ".", "..", "a//b", "a/", ".holdfast-lock", "a/.b/c"]
)
def test_no_key_leaves_the_folder(there: _There, tmp_path: Path, key: str) -> None:
    """A bucket may be anyone's: a name that would lead elsewhere, or to a hidden file, is passed over."""
    there.put(BEGUN)
    there.put_key(key, b"hostile")
    assert key in there.listing()
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with _run() as run:
        assert _here(run) == BEGUN
        own = {run.path / name for name in (*BEGUN, RECORD_FILE, ".holdfast-lock")}
        assert {path for path in tmp_path.rglob("*") if path.is_file()} - before == own
        assert b"hostile" not in (run.path / ".holdfast-lock").read_bytes()
    assert key in there.listing()  # and it is not ours to delete


def test_a_key_that_is_file_and_folder_at_once_is_an_error_in_words(there: _There) -> None:
    """An object store can hold `a` and `a/b`; a folder cannot."""
    there.put(BEGUN)
    for key in ("a", "a/b"):
        there.put_key(key, b"x")
    with pytest.raises(RunError, match=rf"Opening the run {URL}: (File exists|Not a directory|Is a directory)"), _run():
        pass
    assert OWNER_FILE not in there.listing()


DAMAGED = {
    "empty": b"",
    "half": b'{"results.csv": ["a',
    "a list": b"[]",
    "a number": b'{"results.csv": 7}',
    "too short": b'{"results.csv": ["a", 1]}',
    "no number": b'{"results.csv": ["a", Infinity, null]}',
    "a table for a list": b'{"results.csv": ["a", 1, {"x": 1}]}',
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_record_makes_everything_be_fetched_again(there: _There, damage: str) -> None:
    """Whatever stands in it, the run is what it is at the URL."""
    there.put(BEGUN)
    with _run() as run:
        pass
    (run.path / RECORD_FILE).write_bytes(DAMAGED[damage])
    (run.path / "results.csv").write_bytes(b"another")
    with _run() as run:
        assert _here(run) == BEGUN
    assert there.contents() == BEGUN


# --- what is sent ---------------------------------------------------------------------------------------------------


def test_only_what_changed_is_sent_and_config_yaml_last(there: _There, network: _Network) -> None:
    """A run has begun once config.yaml is there, so the rest is there by then."""
    with _run() as run:
        run.begin(Config(data="digits"), {"python": "3"})
        assert network.written == ["environment.json", "config.yaml"]
        network.written.clear()
        run.mirror()
        assert network.written == []
        (run.path / "tensorboard").mkdir()
        (run.path / "tensorboard" / "events").write_bytes(b"x")
        run.write("results.csv", "epoch\n")
        run.mirror()
        assert network.written == ["results.csv", "tensorboard/events"]
        network.written.clear()
        run.write("config.yaml", "seed: 2\n")
        run.write("results.csv", "epoch\n1\n")
        run.mirror()
        assert network.written == ["results.csv", "config.yaml"]
        (run.path / "tensorboard" / "events").unlink()
        run.mirror()
        assert network.deleted == ["tensorboard/events"]
        network.written.clear()
        expected = _here(run)
    assert network.written == []
    assert there.contents() == expected
    assert sorted(expected) == ["config.yaml", "environment.json", "results.csv"]


def test_a_large_file_arrives_whole(there: _There) -> None:
    """A best.safetensors of several pieces, and an empty file."""
    weights = bytes(range(256)) * 10_000
    with _run() as run:
        (run.path / "best.safetensors").write_bytes(weights)
        (run.path / "log.txt").write_bytes(b"")
    assert there.contents() == {"best.safetensors": weights, "log.txt": b""}


def test_a_failing_upload_is_a_checkpoint_error_and_the_next_one_sends_it(there: _There, network: _Network) -> None:
    """Training survives it, as it survives a save that fails; the other files are sent all the same."""
    there.put(BEGUN)
    with _run() as run:
        run.write("results.csv", "epoch\n1\n2\n")
        run.write("predictions.csv", "new")
        network.refused = ("predictions.csv",)
        with pytest.raises(CheckpointError) as caught:
            run.mirror()
        assert str(caught.value) == f"Sending files of the run to {URL}: predictions.csv (Network is unreachable)."
        assert there.read("results.csv") == b"epoch\n1\n2\n"
        network.refused = ()
        run.mirror()
        assert there.read("predictions.csv") == b"new"


def test_a_deletion_that_fails_is_tried_again(there: _There, network: _Network) -> None:
    """What was deleted here stays on the list until it is deleted there."""
    there.put({**BEGUN, "summary.json": b"{}"})
    with _run() as run:
        (run.path / "summary.json").unlink()
        network.refused = ("summary.json",)
        with pytest.raises(CheckpointError, match=r"summary\.json \(Network is unreachable\)"):
            run.mirror()
        network.refused = ()
    assert there.contents() == BEGUN


def test_a_run_that_cannot_be_begun_there_is_not_begun(there: _There, network: _Network) -> None:
    """Config.yaml is not sent before the rest; the message says that nothing is lost."""
    network.refused = ("environment.json",)
    with pytest.raises(RunError) as caught, _run() as run:
        run.begin(Config(data="digits"), {})
    assert str(caught.value) == (
        f"Sending files of the run to {URL}: environment.json (Network is unreachable). Nothing has been trained "
        "yet; mend it, or give another --out."
    )
    assert there.contents() == {}


def test_the_error_of_a_run_is_not_hidden_by_that_of_its_last_push(there: _There, network: _Network) -> None:
    """What failed first is what the person reads."""
    there.put(BEGUN)

    def work(run: RemoteRun) -> None:
        run.write("results.csv", "x")
        network.refused = ("results.csv",)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), _run() as run:
        work(run)
    assert there.contents() == BEGUN


def test_a_run_that_fails_still_sends_what_it_has(there: _There) -> None:
    """The log and the results of a run that broke off are there for whoever looks."""

    def work(run: RemoteRun) -> None:
        run.write("results.csv", "epoch\n1\n")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), _run() as run:
        work(run)
    assert there.contents() == {"results.csv": b"epoch\n1\n"}


# --- what must not be sent ------------------------------------------------------------------------------------------


def test_nothing_more_is_written_once_another_process_has_taken_over(there: _There, network: _Network) -> None:
    """The next save is refused before it begins, and neither it nor the end sends or deletes a single file."""
    there.put({**BEGUN, "summary.json": b"{}"})
    theirs = b'{"token": "theirs"}'

    def work(run: RemoteRun) -> None:
        run.write("results.csv", "mine")
        (run.path / "summary.json").unlink()
        there.put({OWNER_FILE: theirs})
        network.written.clear()
        with pytest.raises(CheckpointError, match="has taken over"):
            run.mirror()
        run.is_there()

    with pytest.raises(RunError, match="Another process has taken over memory://bucket/run"), _run() as run:
        work(run)
    assert (network.written, network.deleted) == ([], [])
    assert there.contents() == {**BEGUN, "summary.json": b"{}", OWNER_FILE: theirs}


def test_a_folder_that_vanishes_while_the_run_goes_on_deletes_nothing_there(there: _There, network: _Network) -> None:
    """Somebody clears the cache: the only other copy of the run is not deleted to match."""
    there.put(BEGUN)

    def work(run: RemoteRun) -> None:
        shutil.rmtree(run.path)
        with pytest.raises(CheckpointError, match="is not there any more"):
            run.mirror()

    with pytest.raises(RunError) as caught, _run() as run:
        work(run)
    assert str(caught.value) == (
        f"Sending files of the run to {URL}: {run.path}, where they are worked on, is not there any more. What is at "
        "the URL was left as it is. The checkpoints there are whole; run the same command again to send the rest."
    )
    assert network.deleted == []
    assert there.contents() == BEGUN
    with _run() as run:
        assert _here(run) == BEGUN


def test_a_run_that_has_begun_there_stays_begun(there: _There, network: _Network) -> None:
    """A cache's cleaner that took config.yaml alone does not make a run that nobody began."""
    there.put(BEGUN)
    with _run() as run:
        (run.path / "config.yaml").unlink()
    assert network.deleted == []
    assert there.contents() == BEGUN


def test_what_the_saves_thread_sends_after_the_end_is_left_out(there: _There, network: _Network) -> None:
    """A save that was still under way when the run broke off asks for a push: the run may be another's by now."""
    with _run() as run:
        run.write("results.csv", "epoch\n")
    network.written.clear()
    (run.path / "results.csv").write_bytes(b"later")
    run.mirror()
    assert (network.written, there.contents()) == ([], {"results.csv": b"epoch\n"})


def test_two_threads_send_one_after_the_other(there: _There, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run waits for the push that is under way, and the run is free only then."""
    inside, go_on, most = threading.Event(), threading.Event(), []
    real = RemoteRun._send

    def send(run: RemoteRun) -> list[str]:
        most.append(run)
        if len(most) == 1:
            inside.set()
            assert go_on.wait(60)
        assert OWNER_FILE in there.listing()
        found = real(run)
        most.append(run)
        return found

    monkeypatch.setattr(RemoteRun, "_send", send)
    pushed: list[str] = []

    def push(run: RemoteRun) -> None:
        run.mirror()
        pushed.append("first")

    with _run() as run:
        run.write("results.csv", "epoch\n")
        thread = threading.Thread(target=push, args=(run,))
        thread.start()
        assert inside.wait(60)
        threading.Timer(0.02, go_on.set).start()
    thread.join(60)
    assert (pushed, len(most)) == (["first"], 4)
    assert there.contents() == {"results.csv": b"epoch\n"}


def test_a_run_is_taken_up_on_another_machine_with_all_its_files(
    there: _There, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the one wrote the other has; what the other changed the first one has when it comes back."""
    with _run() as one:
        one.begin(Config(data="digits", seed=3), {"python": "3"})
        one.write("results.csv", "epoch\n1\n")
    with _elsewhere(monkeypatch, tmp_path) as two:
        assert _here(two) == _here(one)
        assert (two.config().seed, two.environment()) == (3, {"python": "3"})
        two.write("results.csv", "epoch\n1\n2\n")
    with _elsewhere(monkeypatch, tmp_path, "one") as back:
        assert back.path == one.path
        assert (back.path / "results.csv").read_bytes() == b"epoch\n1\n2\n"
    assert there.read("results.csv") == b"epoch\n1\n2\n"

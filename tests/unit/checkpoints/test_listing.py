from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.checkpoints import Best, CheckpointStore, EveryMinutes, EverySteps, Last, Policy, Saved
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.evaluation import EVALUATION_FILE, EvaluationRecord
from holdfast.checkpoints.listing import Listing
from holdfast.checkpoints.manifest import Manifest
from holdfast.checkpoints.storage import Folder
from holdfast.errors import CheckpointCorrupt, CheckpointError


class _Counting(Folder):
    """A folder that counts what is read of it, and may refuse to be looked at."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: Counter[str] = Counter()
        self.refuses: set[str] = set()

    def read(self, name: str, file: str) -> bytes:
        """Reads, and counts it."""
        self.reads[name] += 1
        return super().read(name, file)

    def fetch(self, name: str) -> Path:
        """Gives the directory, and counts it as well: its manifest is read from there."""
        self.reads[name] += 1
        return super().fetch(name)

    def stamp(self, name: str, file: str) -> object:
        """Looks at a file, where that is not refused."""
        if name in self.refuses:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return super().stamp(name, file)


def _store(root: Path, keep: Policy | None = None) -> tuple[CheckpointStore, _Counting, list[str]]:
    """Returns a store, the place it has, and the list of what it says."""
    said: list[str] = []
    store = CheckpointStore(root, keep, background=False, say=said.append)
    place = _Counting(root)
    store._storage = store._listing._storage = place
    return store, place, said


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _names(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir())


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def _strangers_directory(root: Path, step: int) -> Path:
    path = root / _name(step)
    path.mkdir(parents=True)
    (path / "thesis.tex").write_text("mine")
    return path


# --- none, one, many ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damaged", "found"),
    [([], 4), ([4], 3), ([3, 4], 2), ([1, 2, 3], 4), ([1, 3], 4), ([2, 4], 3), ([2, 3, 4], 1)],
)
def test_of_many_the_newest_valid_one_is_found_and_only_newer_ones_are_set_aside(
    tmp_path: Path, damaged: list[int], found: int
) -> None:
    """Damage in what is older than the one that is used is not looked for, and nothing of it is touched."""
    store, _, said = _store(tmp_path, Last(None))
    for step in (1, 2, 3, 4):
        store.save(step, {"tree": {"step": step}})
    for step in damaged:
        _damage(tmp_path / _name(step) / "state.json")
    checkpoint = store.latest_valid()
    assert checkpoint is not None
    assert checkpoint.read("tree") == {"step": found}
    newer = [step for step in damaged if step > found]
    assert len(said) == len(newer)
    assert _names(tmp_path) == sorted(
        [f"damaged-{_name(step)}" if step in newer else _name(step) for step in (1, 2, 3, 4)]
    )


def test_the_only_one_is_found(tmp_path: Path) -> None:
    """One valid checkpoint is enough."""
    store, _, said = _store(tmp_path)
    store.save(7, {"tree": {"x": 1}})
    checkpoint = store.latest_valid()
    assert checkpoint is not None
    assert (checkpoint.step, said) == (7, [])


def test_the_only_one_is_an_error_when_it_is_damaged(tmp_path: Path) -> None:
    """There is one, and it is not valid: never a quiet new start, and the wreck stays where it is."""
    store, _, said = _store(tmp_path)
    store.save(7, {"tree": {"x": 1}})
    _damage(tmp_path / _name(7) / "state.json")
    with pytest.raises(CheckpointCorrupt) as caught:
        store.latest_valid()
    assert str(caught.value) == (
        f"No checkpoint in {tmp_path} is valid (1 found):\n"
        f"  {tmp_path / _name(7)}: state.json does not match its digest\n"
        "Put a good copy back, or move the folder away to start over."
    )
    assert (_names(tmp_path), said) == ([_name(7)], [])


@pytest.mark.parametrize("make", [lambda _root: None, Path.mkdir, lambda root: root.write_text("a file")])
def test_none_is_none(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """No folder, an empty one, and a file in its place hold no checkpoint."""
    make(tmp_path / "a")
    store, _, said = _store(tmp_path / "a", Best("loss"))
    assert (store.latest_valid(), store.steps(), store.best(), said) == (None, [], None, [])


def test_only_looking_moves_nothing(tmp_path: Path) -> None:
    """A run that is not ours is left as it is; the reason and the cost are told all the same."""
    store, _, said = _store(tmp_path)
    for step in (1, 2):
        store.save(step, {})
    _damage(tmp_path / _name(2) / "state.json")
    checkpoint = store.latest_valid(set_aside=False)
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert _names(tmp_path) == [_name(1), _name(2)]
    assert said == [
        (
            "Passed over step-00000002: state.json does not match its digest. Going on from step 1, and the 1 step "
            "between is run again."
        )
    ]


# --- what is not ours -----------------------------------------------------------------------------------------------


def test_a_directory_that_holds_nothing_of_ours_is_left_alone(tmp_path: Path) -> None:
    """It is named, and neither restored, set aside nor deleted, and it takes nobody's place among those to keep."""
    _strangers_directory(tmp_path, 99)
    store, _, said = _store(tmp_path, Last(1) | Best("accuracy"))
    for step in (1, 2, 3):
        store.save(step, {"tree": {"step": step}}, {"accuracy": 1 / step})
    assert _names(tmp_path) == [_name(1), _name(3), _name(99)]
    checkpoint = store.latest_valid()
    assert checkpoint is not None
    assert checkpoint.step == 3
    assert said == [f"Left alone {tmp_path / _name(99)}: it holds nothing that we write."]
    assert _names(tmp_path / _name(99)) == ["thesis.tex"]


def test_a_file_with_a_checkpoints_name_is_left_alone(tmp_path: Path) -> None:
    """A file is no checkpoint, and stays."""
    (tmp_path / _name(50)).write_text("a file")
    store, _, said = _store(tmp_path, Last(1))
    for step in (1, 2):
        store.save(step, {})
    assert store.restore_latest({}) == 2
    assert said == [f"Left alone {tmp_path / _name(50)}: it holds nothing that we write."]
    assert _names(tmp_path) == [_name(2), _name(50)]


def test_only_strangers_directories_are_a_fresh_start(tmp_path: Path) -> None:
    """Nothing of ours is there, so there is nothing to lose."""
    _strangers_directory(tmp_path, 99)
    store, _, said = _store(tmp_path)
    assert (store.restore_latest({}), len(said)) == (0, 1)


@pytest.mark.parametrize("file", ["manifest.json", "state.json", "evaluation.json"])
def test_one_file_of_ours_is_enough_to_be_damaged_and_not_a_stranger(tmp_path: Path, file: str) -> None:
    """A checkpoint that has lost all but one of its files is a wreck of ours: an error, and no fresh start."""
    store, _, _ = _store(tmp_path)
    store.save(1, {"tree": {"x": 1}})
    for entry in (tmp_path / _name(1)).iterdir():
        if entry.name != file:
            entry.unlink()
    with pytest.raises(CheckpointCorrupt, match=r"is valid \(1 found\)"):
        store.restore_latest({})


def test_a_checkpoint_that_cannot_be_looked_at_is_no_fresh_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system refuses to say what is there, training does not quietly begin anew."""
    store, place, said = _store(tmp_path, Last(1))
    store.save(1, {"tree": {"x": 1}})
    place.refuses = {_name(1)}

    def refuse(_path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(CheckpointCorrupt, match=r"manifest\.json: cannot be read \(Permission denied\)"):
            store.restore_latest({})
    store.save(2, {"tree": {"x": 2}})  # and it is not deleted unseen
    assert (_names(tmp_path), said) == ([_name(1), _name(2)], [])


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    """The folder is named, with the system's reason."""
    store, _, _ = _store(tmp_path / "a")
    store.save(1, {})
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(CheckpointError, match=r"^Reading .*a: Permission denied"):
            store.restore_latest({})
    finally:
        (tmp_path / "a").chmod(0o755)


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails is no empty folder."""

    def refuse(_path: Path) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store, _, _ = _store(tmp_path)
    monkeypatch.setattr(os, "listdir", refuse)
    for ask in (store.steps, store.latest_valid, store.prune, lambda: store.save(1, {})):
        with pytest.raises(CheckpointError) as caught:
            ask()
        assert str(caught.value) == (
            f"Reading the checkpoints in {tmp_path}: Input/output error. "
            "See that the disk is there and that you may read it."
        )


# --- who saves here -------------------------------------------------------------------------------------------------


def test_saving_fails_when_somebody_else_saves_into_the_same_folder(tmp_path: Path) -> None:
    """A step that appeared and was not saved by this process means that two runs mix: one of them is stopped."""
    first, _, _ = _store(tmp_path)
    second, _, _ = _store(tmp_path)
    first.save(1, {})
    second.save(2, {})  # it finds step 1 there when it begins
    with pytest.raises(CheckpointError) as caught:
        first.save(3, {})
    assert str(caught.value) == (
        f"Saving {tmp_path / _name(3)}: step 2 has appeared in {tmp_path}, and this process did not save it. "
        "Two processes save into one folder; give each its own."
    )
    second.save(4, {})
    assert second.steps() == [1, 2, 4]


def test_what_was_there_at_the_beginning_and_what_was_deleted_are_nobody_elses(tmp_path: Path) -> None:
    """A run that is resumed saves on, whatever is pruned or set aside meanwhile."""
    _store(tmp_path)[0].save(1, {})
    store, _, _ = _store(tmp_path, Last(2))
    assert store.restore_latest({}) == 1
    for step in (2, 3, 4):
        store.save(step, {})
    _damage(tmp_path / _name(4) / "state.json")
    assert store.restore_latest({}) == 3
    store.save(4, {})
    assert store.steps() == [3, 4]


# --- what is known --------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_checkpoint_is_what_was_saved_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step, metrics, epoch and time, also after a measurement; of one whose record is damaged, the step alone."""
    store, _, _ = _store(tmp_path, Last(None))
    for step in (1, 2, 3):
        monkeypatch.setattr("time.time", lambda step=step: 1000.5 * step)
        store.save(step, {}, {"loss": 1 / step}, {"epoch": step})
    store.annotate(2, {"accuracy": 0.5})
    _damage(tmp_path / _name(3) / EVALUATION_FILE)
    assert store._listing.saved() == [
        Saved(1, {"loss": 1.0}, 1, 1000.5),
        Saved(2, {"loss": 0.5, "accuracy": 0.5}, 2, 2001.0),
        Saved(3),
    ]


@pytest.mark.parametrize("measured", [False, True])
def test_of_a_checkpoint_of_the_first_release_the_manifest_knows_the_rest(tmp_path: Path, measured: bool) -> None:
    """0.1.0 wrote evaluation.json only for what was measured later: metrics and epoch are in the manifest."""
    store, _, _ = _store(tmp_path)
    store.save(1, {}, {"accuracy": 0.5, "loss": 3.0}, {"epoch": 4})
    path = tmp_path / _name(1) / EVALUATION_FILE
    path.unlink()
    if measured:
        metrics = {"loss": 2.0}
        digest = digest_of(json.dumps(metrics, sort_keys=True).encode())
        path.write_text(json.dumps({"digest": digest, "metrics": metrics}, sort_keys=True) + "\n")
    expected = {"accuracy": 0.5, "loss": 2.0 if measured else 3.0}
    assert store._listing.saved() == [Saved(1, expected, 4, None)]
    store.annotate(1, {"accuracy": 0.75})
    assert store._listing.saved() == [Saved(1, {**expected, "accuracy": 0.75}, 4, None)]


def _make(root: Path, record: EvaluationRecord, step: int) -> None:
    """Puts a checkpoint without parts into `root`, faster than a save."""
    (root / _name(step)).mkdir()
    (root / _name(step) / EVALUATION_FILE).write_bytes(record.to_bytes())
    (root / _name(step) / "manifest.json").write_bytes(Manifest(step, {}, {}).to_bytes())


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    """Of a thousand checkpoints each record is read once; after that only what is new, or was measured anew."""
    for step in range(1, 1001):
        _make(tmp_path, EvaluationRecord({"accuracy": step / 10_000}, step, 60.0 * step), step)
    store, place, said = _store(tmp_path, Last(None) | Best("accuracy"))
    assert store.best() == 1000
    assert place.reads == Counter({_name(step): 1 for step in range(1, 1000)} | {_name(1000): 2})  # and its manifest
    for ask in (store.best, store.prune, lambda: store.save(1001, {}, {"accuracy": 0.5}), store.best):
        place.reads.clear()
        ask()
        assert sum(place.reads.values()) <= 2  # the record and the manifest of the one just saved
    assert place.reads == Counter()
    store.annotate(500, {"accuracy": 0.9})
    place.reads.clear()
    assert store.best() == 500
    assert (place.reads, said) == (Counter(), [])


def test_pruning_a_thousand_reads_nothing_of_those_it_deletes(tmp_path: Path) -> None:
    """What goes is told by what is known of it already."""
    store, place, _ = _store(tmp_path, Last(None))
    for step in range(1, 101):
        _make(tmp_path, EvaluationRecord({}, step, 60.0 * step), step)
    store.prune()
    place.reads.clear()
    store.keep = Last(2)
    store.prune()
    assert (store.steps(), place.reads) == ([99, 100], Counter())


def test_a_measurement_of_the_same_size_in_the_same_tick_of_the_clock_counts(tmp_path: Path) -> None:
    """The best is the best by what was measured last, however quickly one measurement followed another."""
    store, _, _ = _store(tmp_path, Last(None) | Best("accuracy"))
    store.save(1, {}, {"accuracy": 0.5})
    store.save(2, {}, {"accuracy": 0.6})
    path = tmp_path / _name(1) / EVALUATION_FILE
    status = path.stat()
    Folder(tmp_path).replace(_name(1), EVALUATION_FILE, path.read_bytes())  # as another process would
    record = EvaluationRecord({"accuracy": 0.7}, None, json.loads(path.read_bytes())["saved_at"]).to_bytes()
    assert (store.best(), len(record)) == (2, status.st_size)
    Folder(tmp_path).replace(_name(1), EVALUATION_FILE, record)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.best() == 1


# --- what may go ----------------------------------------------------------------------------------------------------


@pytest.mark.row("S10")
def test_the_step_that_was_resumed_from_is_never_deleted(tmp_path: Path) -> None:
    """It is the one checkpoint that this process has seen to be whole; those it saved itself nobody has read yet."""
    _store(tmp_path)[0].save(5, {})
    store, _, _ = _store(tmp_path, Last(1))
    assert store.restore_latest({}) == 5
    for step in (6, 7, 8):
        store.save(step, {})
        assert store.steps() == [5, step]
    again, _, _ = _store(tmp_path, Last(1))
    assert again.restore_latest({}) == 8
    again.save(9, {})
    assert again.steps() == [8, 9]


@pytest.mark.parametrize(
    ("keep", "times", "kept"),
    [
        # minutes at which steps 1, 2, … are saved, by a clock that was set back
        (EveryMinutes(30), [0, 10, 40, 50, 20, 30, 60], [1, 3, 4, 5, 7]),
        (EveryMinutes(30), [100, 90, 80, 70], [1, 2, 3, 4]),
        (EverySteps(3), [100, 90, 80, 70, 60, 50, 40], [3, 6, 7]),
        (Last(2), [100, 90, 80, 70, 60], [4, 5]),
    ],
    ids=["set back once", "running backwards", "by steps", "the newest"],
)
def test_a_clock_that_goes_backwards_deletes_nothing_that_was_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Policy, times: list[int], kept: list[int]
) -> None:
    """Newest is who has the greatest step, not the latest time; and where time is unclear, more is kept."""
    store, _, said = _store(tmp_path, keep)
    for step, minute in enumerate(times, 1):
        monkeypatch.setattr("time.time", lambda minute=minute: 1e9 + 60.0 * minute)
        store.save(step, {})
        assert store.steps()[-1] == step
    assert (store.steps(), said) == (kept, [])


def test_what_was_just_saved_stays_where_later_steps_are_there_already(tmp_path: Path) -> None:
    """A run that begins at nought in a folder with checkpoints keeps its newest; what was there stays the latest."""
    earlier, _, _ = _store(tmp_path, Last(2))
    for step in (10, 20, 30):
        earlier.save(step, {})
    store, _, _ = _store(tmp_path, Last(2))
    for step in (5, 6):
        assert Path(store.save(step, {})).is_dir()
        assert store.steps() == [step, 20, 30]


def test_the_best_is_kept_by_a_policy_that_would_let_it_go(tmp_path: Path) -> None:
    """Whatever else a union keeps, the newest and the best are never deleted."""
    store, _, _ = _store(tmp_path, EverySteps(100) | Best("loss", "min"))
    for step, loss in enumerate((3.0, 1.0, 2.0, 4.0), 1):
        store.save(step, {}, {"loss": loss})
    assert store.steps() == [2, 4]


def test_a_checkpoint_that_cannot_be_deleted_is_named_and_tried_again(tmp_path: Path) -> None:
    """The line says which; the others go, and with the next save it goes as well."""
    store, place, said = _store(tmp_path, Last(1))
    for step in (1, 2):
        store._storage.publish(_name(step), lambda draft: draft.write(EVALUATION_FILE, [b"{}"]))
    real = place.remove

    def remove(name: str) -> None:
        if name == _name(1):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(name)

    place.remove = remove  # type: ignore[method-assign]
    store.save(3, {})
    assert said == ["Deleting the old checkpoint of step 1: Device or resource busy. Some of it stays for now."]
    assert store.steps() == [1, 3]
    place.remove = real  # type: ignore[method-assign]
    store.save(4, {})
    assert store.steps() == [4]


def test_names_of_steps_are_eight_digits_or_more(tmp_path: Path) -> None:
    """So that they sort as they count, up to a hundred million steps; beyond, they are listed by their numbers."""
    listing = Listing(Folder(tmp_path), lambda _line: None)
    assert [listing.name(step) for step in (0, 7, 123_456_789)] == ["step-00000000", "step-00000007", "step-123456789"]
    assert listing.where(7) == f"{tmp_path}/step-00000007"


def test_opening_fails_with_the_reason_when_the_place_refuses(tmp_path: Path) -> None:
    """Not there and not to be had are different errors."""
    store, place, _ = _store(tmp_path)
    errors: list[tuple[OSError, type[Exception], str]] = [
        (
            FileNotFoundError(errno.ENOENT, "gone"),
            CheckpointCorrupt,
            f"There is no checkpoint at {tmp_path / _name(1)}.",
        ),
        (OSError(errno.EIO, "the wire broke"), CheckpointError, f"Reading {tmp_path / _name(1)}: the wire broke."),
    ]
    for error, kind, message in errors:

        def fetch(_name: str, error: OSError = error) -> Path:
            raise error

        place.fetch = fetch  # type: ignore[method-assign]
        with pytest.raises(kind) as caught:
            store.open(1)
        assert (type(caught.value), str(caught.value)) == (kind, message)


@pytest.mark.parametrize(
    "name",
    ["with spaces", "it's", 'a "quote"', "a\nnewline", "ünïcödé", "日本", "a/../b", "%41", "-rf", "~", "a;b", "$HOME"],
)
def test_a_store_may_have_any_name(tmp_path: Path, name: str) -> None:
    """Save, list, measure, restore, prune and set aside work in a folder of any name, and the folder has that name."""
    (tmp_path / "a").mkdir()
    root = tmp_path / name
    store, _, _ = _store(root, Last(2))
    for step in (1, 2, 3):
        store.save(step, {"tree": {"step": step}})
    store.annotate(3, {"loss": 1.0})
    tree: dict[str, Any] = {}
    assert store.restore_latest({"tree": tree}) == 3
    assert (tree, store.open(3).metrics) == ({"step": 3}, {"loss": 1.0})
    assert store.set_aside(3) == f"{root}/damaged-{_name(3)}"
    assert _names(root) == [f"damaged-{_name(3)}", _name(2)]
    assert root.resolve() == (tmp_path / "b" if name == "a/../b" else tmp_path / name).resolve()


def test_the_best_is_none_whose_manifest_is_damaged(tmp_path: Path) -> None:
    """What cannot be opened is no best: the next best is, and it is the one that stays."""
    store, _, _ = _store(tmp_path, Last(None) | Best("accuracy"))
    for step, accuracy in ((1, 0.5), (2, 0.9), (3, 0.7), (4, 0.1)):
        store.save(step, {}, {"accuracy": accuracy})
    path = tmp_path / _name(2) / "manifest.json"
    path.write_bytes(path.read_bytes()[:-9])
    assert store.best() == 3
    store.keep = Last(1) | Best("accuracy")
    store.prune()
    assert {3, 4} <= set(store.steps())


def test_nothing_is_deleted_while_the_newest_is_damaged(tmp_path: Path) -> None:
    """A store that was just opened proves the newest before it deletes: the last valid one may be an older one."""
    store, _, _ = _store(tmp_path, Last(None))
    for step in (1, 2, 3):
        store.save(step, {"tree": {"w": torch.ones(5)}})
    path = tmp_path / _name(3) / "tree.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    again, _, said = _store(tmp_path, Last(1))
    again.prune()
    assert again.steps() == [1, 2, 3]
    assert len(said) == 1 and said[0].startswith("Deleting nothing while the newest checkpoint is not sound: ")
    assert again.restore_latest({"tree": {}}) == 2
    again.prune()
    assert again.steps() == [2]

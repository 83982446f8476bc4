from __future__ import annotations

import errno
import functools
import importlib.metadata
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from holdfast.checkpoints import Best, Checkpoint, CheckpointStore, Last, files
from holdfast.checkpoints.manifest import FILE_NAME, VERSION
from holdfast.checkpoints.storage import Folder
from holdfast.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch, UnsupportedState


def _store(root: Path, **options: Any) -> tuple[CheckpointStore, list[str]]:
    """Returns a store and the list of what it says."""
    said: list[str] = []
    return CheckpointStore(root, say=said.append, **{"background": False, **options}), said


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def _leftover(root: Path, name: str) -> Path:
    """Returns the place where a store of this process writes what it will publish as `name`."""
    return Folder(root)._hidden(name)


def _names(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir())


# --- saving -------------------------------------------------------------------------------------------------------


@pytest.mark.row("S9")
def test_saving_makes_the_directories_it_needs(tmp_path: Path) -> None:
    """The first save makes the store's folder, those above it, and a directory named by the step."""
    path = CheckpointStore(tmp_path / "runs" / "a", background=False).save(1200, {"tree": {"x": 1}})
    assert path == tmp_path / "runs" / "a" / "step-00001200"
    assert _names(Path(path)) == ["evaluation.json", "manifest.json", "state.json"]


def test_making_a_store_touches_no_disk(tmp_path: Path) -> None:
    """Nothing is made before there is something to save, and asking finds nothing."""
    store = CheckpointStore(tmp_path / "a", background=False)
    assert (store.steps(), store.best(), store.latest_valid(), store.restore_latest({})) == ([], None, None, 0)
    assert not (tmp_path / "a").exists()


def test_a_save_leaves_nothing_unfinished_behind(tmp_path: Path) -> None:
    """After a save there are checkpoints in the folder, and nothing hidden."""
    store, said = _store(tmp_path, keep=Last(1))
    for step in (1, 2, 3):
        store.save(step, {"tree": {"x": torch.ones(1)}})
    assert _names(tmp_path) == ["step-00000003"]
    assert said == []


def test_saving_fails_when_the_step_is_published(tmp_path: Path) -> None:
    """A published step is never overwritten."""
    store, _ = _store(tmp_path)
    store.save(5, {"tree": {"x": 1}})
    with pytest.raises(CheckpointError, match="step-00000005 is published already, and a published step is never"):
        store.save(5, {"tree": {"x": 2}})
    assert store.open(5).read("tree") == {"x": 1}


def test_saving_fails_when_the_step_is_negative(tmp_path: Path) -> None:
    """A step below nought is refused, since nothing would find it again."""
    with pytest.raises(CheckpointError, match="cannot be of step -1"):
        CheckpointStore(tmp_path, background=False).save(-1, {})


@pytest.mark.parametrize(
    "part",
    [
        "../evil",
        "a/b",
        "/abs",
        "..",
        ".hidden",
        "",
        "-flag",
        "a b",
        "a\n",
        "ä",
        "a\0",
        "state",
        "manifest",
        "evaluation",
    ],
)
def test_saving_fails_when_a_part_has_a_name_that_is_no_file_name(tmp_path: Path, part: str) -> None:
    """Names that leave the directory, hide, or are ours are refused before anything is written."""
    with pytest.raises(CheckpointError, match="A part cannot be called ") as caught:
        CheckpointStore(tmp_path / "a", background=False).save(1, {part: {"x": torch.ones(1)}})
    assert repr(part) in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_the_file_name_of_a_part_has_room_on_the_disk(tmp_path: Path) -> None:
    """A name of 200 letters is saved; a longer one is refused before anything is written, and not shown whole."""
    store = CheckpointStore(tmp_path / "a", background=False)
    with pytest.raises(CheckpointError, match="has 201 letters, and a file's has room for 200 at most") as caught:
        store.save(1, {"a" * 201: {"x": torch.ones(1)}})
    assert len(str(caught.value)) < 150
    assert not (tmp_path / "a").exists()
    store.save(1, {"a" * 200: {"x": torch.ones(1)}})
    assert store.restore_latest({"a" * 200: {"x": torch.zeros(1)}}) == 1


@pytest.mark.parametrize("parts", [nn.Linear(2, 1), [nn.Linear(2, 1)], None, 5], ids=lambda parts: type(parts).__name__)
def test_parts_that_have_no_names_are_refused_at_both_ends(tmp_path: Path, parts: Any) -> None:
    """A model in the place of the dict is told before training begins, not at the first save."""
    store = CheckpointStore(tmp_path / "a", background=False)
    for use in (store.restore_latest, functools.partial(store.save, 1)):
        with pytest.raises(CheckpointError, match=f"are a {type(parts).__name__}; expected a dict of names"):
            use(parts)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("step", [np.int64(7), torch.tensor(7), np.uint8(7)], ids=lambda step: type(step).__name__)
def test_a_step_may_be_a_whole_number_of_any_library(tmp_path: Path, step: Any) -> None:
    """A loop that counts in NumPy or torch loses nothing for it."""
    with CheckpointStore(tmp_path) as store:
        store.save(step, {"x": {"w": torch.ones(1)}})
        store.annotate(step, {"accuracy": 0.5})
    assert CheckpointStore(tmp_path).steps() == [7]
    assert CheckpointStore(tmp_path).open(step).metadata == {}


@pytest.mark.parametrize("step", ["5", 1.0, None, True, torch.tensor([1, 2]), torch.tensor(1.0)], ids=repr)
def test_saving_fails_when_the_step_is_no_whole_number(tmp_path: Path, step: Any) -> None:
    """What counts nothing is refused in the loop, not on the thread that writes."""
    with pytest.raises(CheckpointError, match="steps are whole numbers and count from 0"):
        CheckpointStore(tmp_path / "a").save(step, {"x": {"w": torch.ones(1)}})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("metrics", [{"accuracy": "high"}, {"accuracy": None}, {"a": torch.ones(2)}, 0.5], ids=repr)
def test_saving_fails_when_a_metric_is_no_number(tmp_path: Path, metrics: Any) -> None:
    """The dict that was given is shown, and nothing is written."""
    with pytest.raises(CheckpointError, match="expected a dict of names to numbers"):
        CheckpointStore(tmp_path / "a").save(1, {"x": {"w": torch.ones(1)}}, metrics)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("part", ["model", "ema-0.999", "G", "net_2.head", "0"])
def test_ordinary_names_of_parts_are_fine(tmp_path: Path, part: str) -> None:
    """Letters, digits, '_', '-' and '.' make a name."""
    store, _ = _store(tmp_path)
    store.save(1, {part: {"x": torch.ones(1)}})
    assert store.open(1).tensors(part)["x"].tolist() == [1]


def test_saving_fails_before_writing_when_a_value_is_unsupported(tmp_path: Path) -> None:
    """A value that cannot be stored is refused by its path, and nothing is on the disk."""
    parts = {"model": nn.Linear(2, 2), "extra": {"hooks": [print]}}
    with pytest.raises(UnsupportedState, match=r"Saving extra\.hooks\.0: found a builtins\.builtin_function_or_method"):
        CheckpointStore(tmp_path / "a", background=False).save(1, parts)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("value", [{"x": float("nan")}, {"x": object()}, {"x": torch.ones(1)}, {"x": "\udc80"}])
def test_saving_fails_before_writing_when_the_metadata_are_no_json(tmp_path: Path, value: dict[str, Any]) -> None:
    """Metadata are JSON or an error."""
    with pytest.raises(UnsupportedState, match=r"Saving the metadata of .*step-00000001: .*; expected JSON values"):
        CheckpointStore(tmp_path / "a", background=False).save(1, {}, metadata=value)
    assert not (tmp_path / "a").exists()


def test_metadata_are_stored_as_json_understands_them(tmp_path: Path) -> None:
    """Keys become text, also where two become the same, and the checkpoint opens."""
    path = CheckpointStore(tmp_path, background=False).save(1, {}, metadata={1: "a", "1": "b", "t": (1, 2)})  # type: ignore[dict-item]
    assert Checkpoint(path).metadata == {"1": "b", "t": [1, 2]}


def test_metrics_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """A loss that is not a number is never the best."""
    store, _ = _store(tmp_path, keep=Last() | Best("loss", "min"))
    store.save(1, {}, {"loss": float("nan"), "accuracy": 0.5})
    store.save(2, {}, {"loss": 3.0})
    assert store.open(1).metrics == {"accuracy": 0.5}
    assert store.best() == 2


def test_everything_is_synced_before_it_is_published_and_published_before_anything_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of a save: files, manifest last, directory, rename, parent; then the old one goes, by the same rule."""
    store, _ = _store(tmp_path / "a", keep=Last(1))
    calls: list[str] = []

    def watch(name: str, show: Callable[[Any], str]) -> None:
        real = getattr(files, name)

        def call(*arguments: Any) -> Any:
            result = real(*arguments)
            calls.append(f"{name} {show(arguments[-1] if name == 'rename' else arguments[0])}".rstrip())
            return result

        monkeypatch.setattr(files, name, call)

    watch("write_durably", lambda path: path.name)
    watch("sync_file", lambda _descriptor: "")
    watch("sync_directory", lambda path: path.name)
    watch("rename", lambda target: target.name.partition(".")[0])
    watch("remove_tree", lambda _path: "")
    store.save(1, {"model": {"w": torch.ones(1)}, "counters": {"n": 1}})
    save = [
        "sync_file",
        "write_durably model.safetensors",
        "sync_file",
        "write_durably state.json",
        "sync_file",
        "write_durably evaluation.json",
        "sync_file",
        "write_durably manifest.json",
    ]
    aside = f"sync_directory {_leftover(tmp_path, 'step-00000001').name}"
    assert calls == [
        f"sync_directory {tmp_path.name}",
        *save,
        aside,
        "rename step-00000001",
        "sync_directory a",
    ]
    calls.clear()
    store.save(2, {"model": {"w": torch.ones(1)}, "counters": {"n": 2}})
    assert calls == [
        *save,
        aside.replace("001", "002"),
        "rename step-00000002",
        "sync_directory a",
        "rename",
        "sync_directory a",
        "remove_tree",
    ]


# --- listing and restoring ----------------------------------------------------------------------------------------


def test_what_is_unfinished_is_no_checkpoint(tmp_path: Path) -> None:
    """Hidden leftovers, set-aside ones and strange names are not steps and are never restored."""
    store, said = _store(tmp_path)
    store.save(1, {"tree": {"x": 1}})
    for name in (
        f"{files.HIDDEN_PREFIX}step-00000009.1",
        "damaged-step-00000008",
        "step-7",
        "step-00000006.bak",
        "best",
    ):
        (tmp_path / name).mkdir()
    tree: dict[str, int] = {}
    assert store.steps() == [1]
    assert store.restore_latest({"tree": tree}) == 1
    assert (tree, said) == ({"x": 1}, [])


def test_steps_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Ascending, also beyond eight digits."""
    store, _ = _store(tmp_path, keep=Last(None))
    for step in (30, 4, 123_456_789, 0, 99_999_999):
        store.save(step, {})
    assert store.steps() == [0, 4, 30, 99_999_999, 123_456_789]


def test_opening_fails_when_the_step_is_not_there(tmp_path: Path) -> None:
    """A step that was never saved is named by its directory."""
    with pytest.raises(CheckpointCorrupt, match=r"step-00000003 has no manifest\.json"):
        CheckpointStore(tmp_path, background=False).open(3)


@pytest.mark.parametrize("steps", [[], [7], [1, 2, 3]])
def test_latest_valid_is_the_newest(tmp_path: Path, steps: list[int]) -> None:
    """Of none it is None; of one, that one; of many, the newest."""
    store, said = _store(tmp_path)
    for step in steps:
        store.save(step, {})
    latest = store.latest_valid()
    assert (latest.step if latest else None) == (steps[-1] if steps else None)
    assert said == []


def test_damaged_checkpoints_are_named_set_aside_and_passed_over(tmp_path: Path) -> None:
    """Two damaged ones are reported, newest first, with reason, place and cost; the third is restored."""
    store, said = _store(tmp_path)
    for step in (100, 200, 300):
        store.save(step, {"tree": {"step": step, "w": torch.ones(4)}})
    _flip(tmp_path / "step-00000300" / FILE_NAME)
    (tmp_path / "step-00000200" / "state.json").unlink()
    tree: dict[str, Any] = {}
    assert store.restore_latest({"tree": tree}) == 100
    assert tree["step"] == 100
    assert _names(tmp_path) == ["damaged-step-00000200", "damaged-step-00000300", "step-00000100"]
    assert len(said) == 2
    assert said[0].startswith("Passed over step-00000300: ")
    assert "manifest.json: " in said[0]
    assert said[1] == (
        "Passed over step-00000200: state.json is missing. Kept as damaged-step-00000200 for a look; "
        "going on from step 100, and the 100 steps between are run again."
    )
    assert said[0].endswith("going on from step 100, and the 200 steps between are run again.")
    assert ".." not in said[0]


def test_a_step_that_was_damaged_can_be_saved_again_and_be_damaged_again(tmp_path: Path) -> None:
    """The run that comes by again publishes the step anew; a second wreck gets a name of its own."""
    store, _ = _store(tmp_path)
    store.save(1, {"tree": {"x": 1}})
    for _attempt in range(3):
        store.save(2, {"tree": {"x": 2}})
        _flip(tmp_path / "step-00000002" / "state.json")
        assert store.restore_latest({}) == 1
    assert _names(tmp_path) == [
        "damaged-step-00000002",
        "damaged-step-00000002-2",
        "damaged-step-00000002-3",
        "step-00000001",
    ]


def test_restoring_fails_when_no_checkpoint_is_valid(tmp_path: Path) -> None:
    """When all are damaged, each is listed, nothing is moved and nothing changed: never a quiet new start."""
    store, said = _store(tmp_path)
    for step in (1, 2):
        store.save(step, {"tree": {"x": step}})
        _flip(tmp_path / f"step-0000000{step}" / "state.json")
    tree = {"x": 0}
    with pytest.raises(CheckpointCorrupt, match=r"No checkpoint in .* is valid \(2 found\)") as caught:
        store.restore_latest({"tree": tree})
    assert str(caught.value).count("state.json does not match its digest") == 2
    assert "Put a good copy back, or move the folder away to start over." in str(caught.value)
    assert (tree, said) == ({"x": 0}, [])
    assert _names(tmp_path) == ["step-00000001", "step-00000002"]


def test_restoring_fails_when_the_newest_does_not_fit_and_changes_nothing(tmp_path: Path) -> None:
    """A mismatch is no damage: nothing is set aside, no older one is taken, and the model is as it was."""
    store, _ = _store(tmp_path)
    store.save(1, {"model": nn.Linear(3, 2)})
    store.save(2, {"model": nn.Linear(3, 2)})
    other = nn.Linear(4, 2)
    before = other.weight.clone()
    with pytest.raises(CheckpointMismatch, match=r"weight was saved with shape \[2, 3\], the model has \[2, 4\]"):
        store.restore_latest({"model": other})
    assert torch.equal(other.weight, before)
    assert store.steps() == [1, 2]


def test_restoring_fails_when_the_newest_is_of_a_newer_holdfast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later format is not damage: it is neither set aside nor passed over."""
    store, said = _store(tmp_path)
    store.save(1, {})
    store.save(2, {})
    monkeypatch.setattr("holdfast.checkpoints.manifest.VERSION", 0)
    ours = f"holdfast {importlib.metadata.version('holdfast')}"
    with pytest.raises(CheckpointError) as caught:
        store.restore_latest({})
    assert str(caught.value) == (
        f"{tmp_path}/step-00000002/manifest.json: format holdfast-checkpoint version {VERSION}, written by "
        f"{ours}; this is {ours}, which reads holdfast-checkpoint up to version 0. Install {ours} or newer to open it."
    )
    assert not isinstance(caught.value, CheckpointCorrupt)
    assert (store.steps(), said) == ([1, 2], [])


def test_restoring_fails_when_the_damaged_one_cannot_be_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that may not be changed is an error, since the run would stop at that step again."""
    store, _ = _store(tmp_path)
    store.save(1, {})
    store.save(2, {})
    _flip(tmp_path / "step-00000002" / "state.json")

    def refuse(_source: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files, "rename", refuse)
    with pytest.raises(CheckpointError, match=r"Setting the damaged .*step-00000002 aside: Operation not permitted"):
        store.restore_latest({})


def test_by_default_a_store_speaks_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a `say` of the caller's, a person reads it on the error stream; stdout is for data."""
    store = CheckpointStore(tmp_path, background=False)
    store.save(1, {})
    store.save(2, {})
    _flip(tmp_path / "step-00000002" / "state.json")
    assert store.restore_latest({}) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("Passed over step-00000002: state.json does not match its digest. Kept as ")
    assert printed.out == ""


# --- metrics, best, pruning ---------------------------------------------------------------------------------------


def test_metrics_of_several_measurements_add_up(tmp_path: Path) -> None:
    """A second annotation keeps what the first said, and replaces what it says anew."""
    store, _ = _store(tmp_path)
    store.save(1, {}, {"saved": 1.0})
    store.annotate(1, {"accuracy": 0.5, "loss": 2.0, "broken": float("inf")})
    store.annotate(1, {"loss": 1.0})
    assert store.open(1).metrics == {"saved": 1.0, "accuracy": 0.5, "loss": 1.0}


def test_annotating_fails_when_there_is_no_such_checkpoint(tmp_path: Path) -> None:
    """The checkpoint that is not there is named, and nothing is made in its place."""
    with pytest.raises(CheckpointError) as caught:
        CheckpointStore(tmp_path, background=False).annotate(4, {"accuracy": 1.0})
    assert str(caught.value) == f"There is no checkpoint at {tmp_path / 'step-00000004'} to add metrics to."
    assert _names(tmp_path) == []


def test_annotating_fails_when_the_earlier_measurement_is_damaged(tmp_path: Path) -> None:
    """A damaged measurement is not written over: whoever verifies should see it."""
    store, _ = _store(tmp_path)
    store.save(1, {})
    store.annotate(1, {"accuracy": 0.5})
    _flip(tmp_path / "step-00000001" / "evaluation.json")
    with pytest.raises(CheckpointCorrupt, match=r"evaluation\.json is damaged"):
        store.annotate(1, {"accuracy": 1.0})


def test_a_flipped_bit_in_a_measurement_is_damage(tmp_path: Path) -> None:
    """A checkpoint whose measurement was changed is passed over like any damaged one."""
    store, said = _store(tmp_path)
    for step in (1, 2):
        store.save(step, {})
        store.annotate(step, {"accuracy": step / 10})
    _flip(tmp_path / "step-00000002" / "evaluation.json")
    assert store.restore_latest({}) == 1
    assert "evaluation.json is damaged" in said[0]


@pytest.mark.row("S8", "S9")
def test_the_newest_and_the_best_are_never_deleted(tmp_path: Path) -> None:
    """After every one of many saves, the newest and the best so far are there and verify; no others are."""
    scores = [0.1, 0.6, 0.3, 0.6, 0.2, 0.9, 0.9, 0.1, 0.5]
    store, said = _store(tmp_path, keep=Last(2) | Best("accuracy"))
    for step, score in enumerate(scores, 1):
        store.save(step, {"tree": {"x": step}}, {"accuracy": score})
        best = scores.index(max(scores[:step])) + 1
        assert store.best() == best
        assert store.steps() == sorted({best, step, max(step - 1, 1)})
        for kept in store.steps():
            store.open(kept).verify()
    assert said == []


@pytest.mark.row("S8")
def test_later_training_does_not_change_the_best(tmp_path: Path) -> None:
    """The best weights on disk are those of the best step, whatever the live model has become since."""
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    store, _ = _store(tmp_path, keep=Last(1) | Best("accuracy"))
    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    store.save(1, {"model": model}, {"accuracy": 0.9})
    for step in range(2, 6):
        with torch.no_grad():
            model.weight.add_(1)
        store.save(step, {"model": model}, {"accuracy": 0.5})
    assert store.steps() == [1, 5]
    store.open(store.best() or 0).restore({"model": model})
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in best.items())


def test_a_score_that_is_known_later_keeps_its_checkpoint(tmp_path: Path) -> None:
    """A measurement after the save counts when the next save prunes, also for a store that is opened anew."""
    store, _ = _store(tmp_path, keep=Last(1) | Best("accuracy"))
    store.save(1, {})
    store.annotate(1, {"accuracy": 0.9})
    store.save(2, {}, {"accuracy": 0.1})
    assert store.steps() == [1, 2]
    again, _ = _store(tmp_path, keep=Last(1) | Best("accuracy"))
    again.save(3, {}, {"accuracy": 0.2})
    assert (again.steps(), again.best()) == ([1, 3], 1)
    again.annotate(3, {"accuracy": 0.95})
    again.prune()
    assert again.steps() == [3]


def test_pruning_says_what_it_could_not_delete_and_the_save_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old checkpoint that cannot be deleted costs a line, not the new checkpoint."""
    store, said = _store(tmp_path, keep=Last(1))
    store.save(1, {})

    def refuse(_path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove_tree", refuse)
        store.save(2, {})
    assert said == ["Deleting the old checkpoint of step 1: Operation not permitted. Some of it stays for now."]
    assert store.steps() == [2]
    store.save(3, {})
    assert _names(tmp_path) == ["step-00000003"]


def test_a_damaged_checkpoint_stops_neither_best_nor_pruning(tmp_path: Path) -> None:
    """One whose record is damaged has no score, and the others are judged as ever."""
    store, _ = _store(tmp_path, keep=Last(2) | Best("accuracy"))
    for step in (1, 2):
        store.save(step, {}, {"accuracy": step / 10})
    _flip(tmp_path / "step-00000002" / "evaluation.json")
    assert store.best() == 1
    store.save(3, {}, {"accuracy": 0.05})
    assert store.steps() == [1, 2, 3]
    store.save(4, {}, {"accuracy": 0.01})
    assert store.steps() == [1, 3, 4]


def test_a_place_that_is_someone_else_s_is_left_alone_and_said(tmp_path: Path) -> None:
    """A file where the folder would be, and a folder of our kind of name that holds nothing of ours."""
    parts = {"m": {"w": torch.ones(1)}}
    (tmp_path / "file").write_text("a thesis")
    with pytest.raises(CheckpointError, match=r"found a file at .*file, expected a folder or nothing yet; choose"):
        CheckpointStore(tmp_path / "file", background=False).save(1, parts)
    with pytest.raises(CheckpointError, match=r"found a file at .*file, expected a folder or nothing yet; choose"):
        CheckpointStore(tmp_path / "file").restore_latest(parts)  # before the first step, not at the first save
    assert (tmp_path / "file").read_text() == "a thesis"
    (tmp_path / "a" / "step-00000003").mkdir(parents=True)
    (tmp_path / "a" / "step-00000003" / "mine").write_text("figures")
    store = CheckpointStore(tmp_path / "a", background=False)
    with pytest.raises(CheckpointError, match="step-00000003: found something there that we did not write"):
        store.save(3, parts)
    for step in range(4, 9):
        store.save(step, parts)
    assert (tmp_path / "a" / "step-00000003" / "mine").read_text() == "figures"


def test_a_bad_sector_in_the_newest_checkpoint_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that cannot be read is damage with its reason: the checkpoint before is used, and nothing ends."""

    class Failing(FileIO):
        def readinto(self, *_: Any) -> int | None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    said: list[str] = []
    for step in (1, 2):
        CheckpointStore(tmp_path, background=False).save(step, {"m": {"w": torch.full((9,), float(step))}})
    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *args, **more: Failing(self) if "02/m.safe" in str(self) else real(self, *args, **more),
    )
    live = {"w": torch.zeros(9)}
    assert CheckpointStore(tmp_path, say=said.append).restore_latest({"m": live}) == 1
    assert live["w"].tolist() == [1.0] * 9
    assert "m.safetensors cannot be read (Input/output error)" in said[0] and "going on from step 1" in said[0]

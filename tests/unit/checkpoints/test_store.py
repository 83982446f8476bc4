from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from holdfast.checkpoints import Checkpoint, CheckpointStore, Retention, files
from holdfast.checkpoints.manifest import FILE_NAME
from holdfast.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch, UnsupportedState


def _store(root: Path, **options: Any) -> tuple[CheckpointStore, list[str]]:
    """Returns a store and the list of what it says."""
    said: list[str] = []
    return CheckpointStore(root, say=said.append, **options), said


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def _names(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir())


def _dead_process() -> int:
    """Returns the number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


# --- saving -------------------------------------------------------------------------------------------------------


@pytest.mark.row("S9")
def test_saving_makes_the_directories_it_needs(tmp_path: Path) -> None:
    """The first save makes the store's folder, those above it, and a directory named by the step."""
    path = CheckpointStore(tmp_path / "runs" / "a").save(1200, {"tree": {"x": 1}})
    assert path == tmp_path / "runs" / "a" / "step-00001200"
    assert _names(path) == ["manifest.json", "state.json"]


def test_making_a_store_touches_no_disk(tmp_path: Path) -> None:
    """Nothing is made before there is something to save, and asking finds nothing."""
    store = CheckpointStore(tmp_path / "a")
    assert (store.steps(), store.best(), store.latest_valid(), store.restore_latest({})) == ([], None, None, 0)
    assert not (tmp_path / "a").exists()


def test_a_save_leaves_nothing_unfinished_behind(tmp_path: Path) -> None:
    """After a save there are checkpoints in the folder, and nothing hidden."""
    store, said = _store(tmp_path, retention=Retention(last=1))
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
        CheckpointStore(tmp_path).save(-1, {})


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
        CheckpointStore(tmp_path / "a").save(1, {part: {"x": torch.ones(1)}})
    assert repr(part) in str(caught.value)
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
        CheckpointStore(tmp_path / "a").save(1, parts)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("value", [{"x": float("nan")}, {"x": object()}, {"x": torch.ones(1)}, {"x": "\udc80"}])
def test_saving_fails_before_writing_when_the_metadata_are_no_json(tmp_path: Path, value: dict[str, Any]) -> None:
    """Metadata are JSON or an error."""
    with pytest.raises(UnsupportedState, match=r"Saving the metadata of .*step-00000001: .*; expected JSON values"):
        CheckpointStore(tmp_path / "a").save(1, {}, metadata=value)
    assert not (tmp_path / "a").exists()


def test_metadata_are_stored_as_json_understands_them(tmp_path: Path) -> None:
    """Keys become text, also where two become the same, and the checkpoint opens."""
    path = CheckpointStore(tmp_path).save(1, {}, metadata={1: "a", "1": "b", "t": (1, 2)})  # type: ignore[dict-item]
    assert Checkpoint(path).metadata == {"1": "b", "t": [1, 2]}


def test_metrics_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """A loss that is not a number is never the best."""
    store, _ = _store(tmp_path, retention=Retention(metric="loss", direction="min"))
    store.save(1, {}, {"loss": float("nan"), "accuracy": 0.5})
    store.save(2, {}, {"loss": 3.0})
    assert store.open(1).metrics == {"accuracy": 0.5}
    assert store.best() == 2


def test_everything_is_synced_before_it_is_published_and_published_before_anything_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of a save: files, manifest last, directory, rename, parent; then the old one goes, by the same rule."""
    store, _ = _store(tmp_path / "a", retention=Retention(last=1))
    calls: list[str] = []

    def watch(name: str, show: Callable[[Any], str]) -> None:
        real = getattr(files, name)

        def call(*arguments: Any) -> Any:
            result = real(*arguments)
            calls.append(f"{name} {show(arguments[-1] if name == 'rename' else arguments[0])}".rstrip())
            return result

        monkeypatch.setattr(files, name, call)
        if name == "write_durably":
            monkeypatch.setattr("holdfast.checkpoints.tensors.write_durably", call)

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
        "write_durably manifest.json",
    ]
    aside = f"sync_directory {files.HIDDEN_PREFIX}step-00000001.{os.getpid()}"
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


# --- leftovers ----------------------------------------------------------------------------------------------------


def test_leftovers_of_ended_processes_are_deleted_by_the_next_save(tmp_path: Path) -> None:
    """What a process that is gone left unfinished, or half deleted, goes with the next save."""
    dead = _dead_process()
    for name in (f"step-00000007.{dead}", f"pruned-3.{dead}", f"step-00000009.{os.getpid()}"):
        (tmp_path / f"{files.HIDDEN_PREFIX}{name}").mkdir()
        (tmp_path / f"{files.HIDDEN_PREFIX}{name}" / "model.safetensors").write_bytes(b"half")
    CheckpointStore(tmp_path).save(1, {})
    assert _names(tmp_path) == ["step-00000001"]


def test_leftovers_of_living_processes_and_other_peoples_files_stay(tmp_path: Path) -> None:
    """The work of a process that is alive is left alone, and so is what is not ours."""
    kept = [f"{files.HIDDEN_PREFIX}step-00000007.{os.getppid()}", f"{files.HIDDEN_PREFIX}lock", ".git", "notes.1"]
    for name in kept:
        (tmp_path / name).mkdir()
    CheckpointStore(tmp_path).save(1, {})
    assert _names(tmp_path) == sorted([*kept, "step-00000001"])


def test_a_process_of_another_user_counts_as_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may not be asked is alive."""

    def refuse(_process: int, _signal: int) -> None:
        raise PermissionError

    (tmp_path / f"{files.HIDDEN_PREFIX}step-00000007.1").mkdir()
    monkeypatch.setattr(os, "kill", refuse)
    CheckpointStore(tmp_path).save(1, {})
    assert _names(tmp_path) == [f"{files.HIDDEN_PREFIX}step-00000007.1", "step-00000001"]


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


# --- listing and restoring ----------------------------------------------------------------------------------------


def test_steps_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Ascending, also beyond eight digits."""
    store, _ = _store(tmp_path, retention=Retention(last=None))
    for step in (30, 4, 123_456_789, 0, 99_999_999):
        store.save(step, {})
    assert store.steps() == [0, 4, 30, 99_999_999, 123_456_789]


def test_opening_fails_when_the_step_is_not_there(tmp_path: Path) -> None:
    """A step that was never saved is named by its directory."""
    with pytest.raises(CheckpointCorrupt, match=r"step-00000003 has no manifest\.json"):
        CheckpointStore(tmp_path).open(3)


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
    with pytest.raises(CheckpointError, match="Install a newer Holdfast to open it"):
        store.restore_latest({})
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
    store = CheckpointStore(tmp_path)
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
    """The file that could not be written is named."""
    with pytest.raises(CheckpointError, match=r"Writing .*step-00000004/evaluation\.json: No such file or directory"):
        CheckpointStore(tmp_path).annotate(4, {"accuracy": 1.0})


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
    store, said = _store(tmp_path, retention=Retention(last=2, metric="accuracy"))
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
    store, _ = _store(tmp_path, retention=Retention(last=1, metric="accuracy"))
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
    store, _ = _store(tmp_path, retention=Retention(last=1, metric="accuracy"))
    store.save(1, {})
    store.annotate(1, {"accuracy": 0.9})
    store.save(2, {}, {"accuracy": 0.1})
    assert store.steps() == [1, 2]
    again, _ = _store(tmp_path, retention=Retention(last=1, metric="accuracy"))
    again.save(3, {}, {"accuracy": 0.2})
    assert (again.steps(), again.best()) == ([1, 3], 1)
    again.annotate(3, {"accuracy": 0.95})
    again.prune()
    assert again.steps() == [3]


def test_pruning_says_what_it_could_not_delete_and_the_save_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old checkpoint that cannot be deleted costs a line, not the new checkpoint."""
    store, said = _store(tmp_path, retention=Retention(last=1))
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
    """One that does not open has no score, and the others are judged as ever."""
    store, _ = _store(tmp_path, retention=Retention(last=2, metric="accuracy"))
    for step in (1, 2):
        store.save(step, {}, {"accuracy": step / 10})
    _flip(tmp_path / "step-00000002" / FILE_NAME)
    assert store.best() == 1
    store.save(3, {}, {"accuracy": 0.05})
    assert store.steps() == [1, 2, 3]


# --- whole checkpoints --------------------------------------------------------------------------------------------


class _Net(nn.Module):
    """A small net for 28 x 28 grey pictures, with batch statistics and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 5, stride=3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(4 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(F.relu(self.norm(self.convolution(x))).flatten(1)))


def _digits(real_data: Path, number: int = 160) -> tuple[Tensor, Tensor]:
    """Returns the first real MNIST digits: [N, 1, 28, 28] float32 in [0, 1], and their labels."""
    with gzip.open(real_data / "mnist" / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + number * 784)[16:], np.uint8).reshape(number, 1, 28, 28)
    with gzip.open(real_data / "mnist" / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + number)[8:], np.uint8)
    return torch.from_numpy(pixels.copy()).float() / 255, torch.from_numpy(labels.copy()).long()


class _Training:
    """A person's own loop: a net, an optimizer with two groups, a scheduler, counters."""

    def __init__(self) -> None:
        self.model = _Net()
        groups = [{"params": self.model.convolution.parameters(), "lr": 1e-3}, {"params": self.model.head.parameters()}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, 0.5)
        self.counters: dict[str, Any] = {"epoch": 0, "losses": [], "note": "α", "seen": {1, 2}}

    def parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "counters": self.counters,
        }

    def run(self, images: Tensor, labels: Tensor, first: int, last: int) -> None:
        for step in range(first, last):
            torch.manual_seed(step)
            chosen = torch.randperm(len(images))[:16]
            loss = F.cross_entropy(self.model(images[chosen]), labels[chosen])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.counters["losses"].append(loss.item())
            self.counters["epoch"] = step // 5


@pytest.mark.row("S3", "S10")
def test_training_on_real_digits_resumes_bit_for_bit_from_every_checkpoint(tmp_path: Path, real_data: Path) -> None:
    """Epoch, weights, optimizer, scheduler, losses and extra state come back, and the end is the same."""
    images, labels = _digits(real_data)
    store, said = _store(tmp_path, retention=Retention(last=None))
    torch.manual_seed(0)
    whole = _Training()
    for step in range(0, 10, 2):
        whole.run(images, labels, step, step + 2)
        store.save(step + 2, whole.parts())
    for stop in (2, 4, 6, 8):
        torch.manual_seed(99)
        resumed = _Training()
        store.open(stop).restore(resumed.parts())
        assert len(resumed.counters["losses"]) == stop
        assert resumed.scheduler.last_epoch == stop
        resumed.run(images, labels, stop, 10)
        assert resumed.counters == whole.counters
        assert resumed.scheduler.get_last_lr() == whole.scheduler.get_last_lr()
        ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()), stop
    assert said == []


@pytest.mark.row("S10")
def test_the_same_three_lines_again_go_on_where_they_stopped(tmp_path: Path) -> None:
    """A loop that restores, trains and saves ends on the same weights however often it is interrupted."""

    def loop(root: Path, stop_after: int | None) -> tuple[int, Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        parts = {"model": model, "optimizer": optimizer}
        store = CheckpointStore(root)
        start = store.restore_latest(parts)
        for step in range(start + 1, 11):
            optimizer.zero_grad()
            (model(torch.full((1, 3), step / 10)) - 1).pow(2).sum().backward()
            optimizer.step()
            store.save(step, parts)
            if stop_after is not None and step - start == stop_after:
                break
        return start, model.weight.detach().clone()

    _, expected = loop(tmp_path / "whole", None)
    starts = [loop(tmp_path / "parts", 3)[0] for _ in range(3)]
    start, found = loop(tmp_path / "parts", None)
    assert (*starts, start) == (0, 3, 6, 9)
    assert torch.equal(found, expected)


@pytest.mark.row("S4")
def test_two_models_with_their_optimizers_are_one_checkpoint(tmp_path: Path) -> None:
    """A generator and a discriminator, trained in turns, go on from one checkpoint exactly as they would have."""

    class Gan:
        def __init__(self, seed: int) -> None:
            torch.manual_seed(seed)
            self.generator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4))
            self.discriminator = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(), nn.Linear(8, 1))
            self.parts = {
                "generator": self.generator,
                "discriminator": self.discriminator,
                "generator_optimizer": torch.optim.Adam(self.generator.parameters(), 1e-2, betas=(0.5, 0.9)),
                "discriminator_optimizer": torch.optim.SGD(self.discriminator.parameters(), 1e-2, momentum=0.9),
            }

        def run(self, first: int, last: int) -> None:
            for step in range(first, last):
                torch.manual_seed(step)
                real, fake = torch.randn(6, 4) + 2, self.generator(torch.randn(6, 2))
                judged = F.softplus(-self.discriminator(real)) + F.softplus(self.discriminator(fake.detach()))
                self._step("discriminator_optimizer", judged.mean())
                self._step("generator_optimizer", F.softplus(-self.discriminator(fake)).mean())

        def _step(self, part: str, loss: Tensor) -> None:
            self.parts[part].zero_grad()
            loss.backward()
            self.parts[part].step()

    whole, resumed = Gan(0), Gan(1)
    whole.run(0, 4)
    store = CheckpointStore(tmp_path)
    path = store.save(4, whole.parts)
    assert {entry.stem for entry in path.glob("*.safetensors")} == set(whole.parts)
    saved = store.open(4).read("generator_optimizer")
    assert all(name.startswith("generator.") for name in saved["state"])
    whole.run(4, 8)
    assert store.restore_latest(resumed.parts) == 4
    resumed.run(4, 8)
    for part in ("generator", "discriminator"):
        ours, theirs = resumed.parts[part].state_dict(), whole.parts[part].state_dict()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()), part


@pytest.mark.row("S4")
def test_one_model_of_several_can_be_taken_alone(tmp_path: Path) -> None:
    """For inference the generator is restored without the rest."""
    generator, other = nn.Linear(2, 2), nn.Linear(2, 2)
    store = CheckpointStore(tmp_path)
    store.save(1, {"generator": generator, "discriminator": nn.Linear(2, 1)})
    store.restore_latest({"generator": other})
    assert torch.equal(other.weight, generator.weight)


@pytest.mark.row("S3")
def test_anything_with_state_dict_can_be_a_part(tmp_path: Path) -> None:
    """An object of the user's own is saved and restored by its two methods."""

    class Counter:
        def __init__(self, count: int) -> None:
            self.count = count

        def state_dict(self) -> dict[str, Any]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.count = state["count"]

    store = CheckpointStore(tmp_path)
    store.save(1, {"counter": Counter(41)})
    counter = Counter(0)
    assert store.restore_latest({"counter": counter}) == 1
    assert counter.count == 41

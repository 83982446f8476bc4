from __future__ import annotations

import copy
import errno
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.checkpoints import CheckpointStore, Last, snapshot
from holdfast.checkpoints.flatten import flatten
from holdfast.checkpoints.named_state import state_of
from holdfast.checkpoints.tensors import tensor_bytes
from holdfast.errors import CheckpointError, UnsupportedState

Held = Callable[[CheckpointStore], Any]
Bits = dict[str, tuple[Any, dict[str, bytes]]]


def _bits(parts: dict[str, Any]) -> Bits:
    """Returns everything a save of `parts` would write now: by part, the skeleton and the bytes of each tensor."""
    states = {part: flatten(tree, part) for part, tree in state_of(parts).items()}
    return {
        part: (copy.deepcopy(s.skeleton), {name: bytes(tensor_bytes(t)) for name, t in s.tensors.items()})
        for part, s in states.items()
    }


def _saved_bits(store: CheckpointStore, step: int) -> Bits:
    """Returns the same of what was saved at `step`, after verifying it."""
    checkpoint = store.open(step)
    checkpoint.verify()
    return {
        part: (
            checkpoint.skeletons[part],
            {n: bytes(tensor_bytes(t)) for n, t in checkpoint.tensors(part).items() if n not in entry.aliases},
        )
        for part, entry in checkpoint.manifest.parts.items()
    }


def _memory_of(store: CheckpointStore) -> list[Tensor]:
    """Returns the memory that a store copies into: of what is copied at once, and of the rest."""
    return [memory._memory for memory in store._memory]


class _Training:
    """A net with a frozen layer and batch statistics, its optimizer, and counters."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        self.net[0].requires_grad_(False)
        self.optimizer = torch.optim.Adam([p for p in self.net.parameters() if p.requires_grad], 0.1)
        self.counters: dict[str, Any] = {"step": 0, "losses": [], "best": torch.zeros(2)}

    @property
    def parts(self) -> dict[str, Any]:
        return {"model": self.net, "optimizer": self.optimizer, "counters": self.counters}

    def forward(self) -> Tensor:
        """Makes a forward pass, which changes the batch statistics, and the counters."""
        loss: Tensor = self.net(torch.randn(6, 4)).square().sum()
        self.counters["losses"].append(loss.item())
        self.counters["best"].add_(1)
        return loss

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.forward().backward()
            self.optimizer.step()
            self.counters["step"] += 1


@pytest.fixture
def training() -> _Training:
    """A training that has made two steps, so that its optimizer has slots."""
    training = _Training()
    training.run(2)
    return training


@pytest.fixture
def held_copy(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Stops the thread that copies until the event is set."""
    go_on = threading.Event()
    real = snapshot._copy_on_cpu

    def copy_on_cpu(target: Tensor, source: Tensor) -> None:
        if threading.current_thread().name == "holdfast-copy":
            assert go_on.wait(60)
        real(target, source)

    monkeypatch.setattr(snapshot, "_copy_on_cpu", copy_on_cpu)
    yield go_on
    go_on.set()


def _aside(action: Callable[[], object]) -> threading.Thread:
    """Starts `action` on a thread of its own, and gives it a moment."""
    thread = threading.Thread(target=action)
    thread.start()
    thread.join(0.05)
    return thread


# --- of which moment a save is --------------------------------------------------------------------------------------


@pytest.mark.row("S3", "S10")
def test_a_save_is_of_the_moment_it_was_asked_for_although_training_goes_on(
    tmp_path: Path, training: _Training, held_folder: Held
) -> None:
    """While the disk stands still, three steps are made; what is written is the state of before them, bit for bit."""
    store = CheckpointStore(tmp_path, Last(None))
    folder = held_folder(store)
    folder.hold()
    metrics, metadata = {"loss": 1.0}, {"classes": ["ants"]}
    expected = _bits(training.parts)
    store.save(2, training.parts, metrics, metadata)
    training.run(3)
    metrics["loss"] = 2.0
    metadata["classes"].append("bees")
    assert folder.reached.wait(60)
    later = _bits(training.parts)
    folder.let_go()
    assert _saved_bits(store, 2) == expected
    assert (store.open(2).metrics, store.open(2).metadata) == ({"loss": 1.0}, {"classes": ["ants"]})
    changed = [name for name in expected["model"][1] if later["model"][1][name] != expected["model"][1][name]]
    assert changed == [name for name in expected["model"][1] if not name.startswith("0.")]  # all but what is frozen


def test_what_the_very_next_forward_pass_changes_is_not_in_the_save(
    tmp_path: Path, training: _Training, held_folder: Held, held_copy: threading.Event
) -> None:
    """Batch statistics and counters change before a single parameter has been copied; the save has the old ones."""
    store = CheckpointStore(tmp_path)
    held_folder(store)
    expected = _bits(training.parts)
    store.save(2, training.parts)
    training.forward()
    held_copy.set()
    assert _saved_bits(store, 2) == expected
    assert _bits(training.parts)["model"][1]["1.running_mean"] != expected["model"][1]["1.running_mean"]


def test_a_step_waits_for_the_copy_and_not_for_the_disk(
    tmp_path: Path, training: _Training, held_folder: Held, held_copy: threading.Event
) -> None:
    """An optimizer changes nothing before the copy is made, and then at once, while the disk still stands still."""
    store = CheckpointStore(tmp_path)
    folder = held_folder(store)
    folder.hold()
    expected = _bits(training.parts)
    store.save(2, training.parts)
    training.optimizer.zero_grad()
    training.forward().backward()
    weights = _bits({"model": training.net})["model"][1]
    stepping = _aside(training.optimizer.step)
    assert stepping.is_alive()
    assert _bits({"model": training.net})["model"][1] == weights
    held_copy.set()
    stepping.join(60)
    assert not stepping.is_alive()
    assert _bits({"model": training.net})["model"][1] != weights
    assert store._listing.steps() == []
    folder.let_go()
    assert _saved_bits(store, 2) == expected


@pytest.mark.row("S4")
def test_with_two_optimizers_neither_steps_before_the_copy_is_made(
    tmp_path: Path, held_folder: Held, held_copy: threading.Event
) -> None:
    """Generator and discriminator both wait, whichever steps first, and both are saved as they were."""
    parts = {f"{part}_{seed}": value for seed in (0, 1) for part, value in _Training(seed).parts.items()}
    optimizers = [parts["optimizer_0"], parts["optimizer_1"]]
    for model in (parts["model_0"], parts["model_1"]):
        model(torch.randn(6, 4)).sum().backward()
    store = CheckpointStore(tmp_path)
    held_folder(store)
    expected = _bits(parts)
    store.save(2, parts)
    stepping = [_aside(optimizer.step) for optimizer in reversed(optimizers)]
    assert all(thread.is_alive() for thread in stepping)
    held_copy.set()
    for thread in stepping:
        thread.join(60)
    assert _saved_bits(store, 2) == expected
    assert all(_bits(parts)[f"model_{n}"] != expected[f"model_{n}"] for n in (0, 1))


def test_parts_without_their_optimizer_are_copied_at_once(
    tmp_path: Path, training: _Training, held_folder: Held, held_copy: threading.Event
) -> None:
    """Where no optimizer is among the parts nobody waits, and the next step changes nothing of the save."""
    parts = {"model": training.net, "counters": training.counters}
    store = CheckpointStore(tmp_path)
    held_folder(store).hold()
    expected = _bits(parts)
    store.save(2, parts)
    training.run(1)
    store._storage.let_go()  # type: ignore[attr-defined]
    assert _saved_bits(store, 2) == expected
    assert not held_copy.is_set()


@pytest.mark.parametrize("background", [True, False])
def test_tensors_of_every_kind_are_saved_alike_in_the_background_and_at_once(tmp_path: Path, background: bool) -> None:
    """Expanded, tied, strided, conjugated, of no dimension, empty: the files are the same, byte for byte."""
    base = torch.arange(24.0).reshape(4, 6)
    net = nn.Linear(4, 4)
    parts: dict[str, Any] = {
        "tensors": {
            "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
            "tied": base,
            "tied too": base,
            "a view of it": base.t()[1:],
            "strided": base[::2, ::3],
            "scalar": torch.tensor(3.5),
            "scalar of a view": base[1, 2],
            "empty": torch.empty(2, 0),
            "conjugated": torch.tensor([1 + 2j]).conj(),
            "channels last": torch.rand(1, 3, 2, 2).to(memory_format=torch.channels_last),
            "half": base.half().t(),
        },
        "model": net,
        "optimizer": torch.optim.SGD(net.parameters(), 0.1, momentum=0.9),
        "counters": {"step": 3},
    }
    net(torch.ones(1, 4)).sum().backward()
    parts["optimizer"].step()
    parts["tensors"]["of an owned parameter"] = net.weight[::2, 1:].detach()
    for name, in_background in (("this way", background), ("at once", False)):
        with CheckpointStore(tmp_path / name, background=in_background) as store:
            store.save(1, parts)
    ours, others = (tmp_path / name / "step-00000001" for name in ("this way", "at once"))
    names = {entry.name for entry in ours.iterdir()}
    assert names == {entry.name for entry in others.iterdir()}
    for name in names - {"evaluation.json"}:  # which has the time
        assert (ours / name).read_bytes() == (others / name).read_bytes(), name


# --- one at a time, and how much memory -----------------------------------------------------------------------------


def test_a_save_waits_for_the_one_before(tmp_path: Path, training: _Training, held_folder: Held) -> None:
    """There is one snapshot at a time, however slow the disk; and both are saved as they were."""
    store = CheckpointStore(tmp_path)
    folder = held_folder(store)
    folder.hold()
    first = _bits(training.parts)
    store.save(2, training.parts)
    training.run(1)
    second = _bits(training.parts)
    saving = _aside(lambda: store.save(3, training.parts))
    assert saving.is_alive()
    folder.let_go()
    saving.join(60)
    assert (_saved_bits(store, 2), _saved_bits(store, 3)) == (first, second)


def test_the_memory_of_one_copy_is_taken_once_and_given_back_at_the_end(tmp_path: Path, training: _Training) -> None:
    """The second save copies to where the first did; `close` gives the memory back, and a later save takes it again."""
    store = CheckpointStore(tmp_path, Last(None))
    places, sizes = set(), set()
    for step in (1, 2, 3):
        store.save(step, training.parts)
        store.wait()
        places.add(tuple(memory.data_ptr() for memory in _memory_of(store)))
        sizes.add(sum(memory.numel() for memory in _memory_of(store)))
        training.run(1)
    states = [bytes_ for _, tensors in _bits(training.parts).values() for bytes_ in tensors.values()]
    (size,) = sizes
    assert len(places) == 1
    assert size == sum(-(-len(bytes_) // 64) * 64 for bytes_ in states)  # the state, each tensor in whole cache lines
    store.close()
    assert [memory.numel() for memory in _memory_of(store)] == [0, 0]
    store.save(4, training.parts)
    store.wait()
    assert store.steps() == [1, 2, 3, 4]


def test_without_background_nothing_is_copied_and_the_checkpoint_is_there_on_return(
    tmp_path: Path, training: _Training
) -> None:
    """The tensors are written from where they lie, and no thread of ours is made."""
    store = CheckpointStore(tmp_path, background=False)
    expected = _bits(training.parts)
    threads = set(threading.enumerate())
    path = Path(store.save(2, training.parts))
    assert (path / "manifest.json").is_file()
    assert ([m.numel() for m in _memory_of(store)], set(threading.enumerate()) - threads) == ([0, 0], set())
    assert _saved_bits(store, 2) == expected


def test_an_optimizer_is_hooked_once_and_can_still_be_copied(tmp_path: Path, training: _Training) -> None:
    """A thousand saves do not make a thousand hooks; a copy of the optimizer steps as before."""
    store = CheckpointStore(tmp_path)
    for step in (1, 2, 3):
        store.save(step, training.parts)
    assert len(training.optimizer._optimizer_step_pre_hooks) == 1
    copy.deepcopy(training.optimizer).step()
    store.close()


# --- failures -------------------------------------------------------------------------------------------------------


def _stepped(store: CheckpointStore, training: _Training) -> None:
    training.run(1)


ASKING: dict[str, Callable[[CheckpointStore, _Training], object]] = {
    "the next step": _stepped,
    "the next save": lambda store, training: store.save(3, training.parts),
    "waiting": lambda store, _training: store.wait(),
    "closing": lambda store, _training: store.close(),
    "the end of a with block": lambda store, _training: store.__exit__(None, None, None),
}


@pytest.mark.parametrize("asking", ASKING)
def test_a_failure_in_the_background_is_raised_once(
    tmp_path: Path, training: _Training, held_folder: Held, asking: str
) -> None:
    """Whoever comes first gets it, in words; nobody gets it again, and the same step can be saved after it."""
    store = CheckpointStore(tmp_path)
    folder = held_folder(store)
    store.save(1, training.parts)
    store.wait()
    folder.failure = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    store.save(2, training.parts)
    store._lane.wait()
    before = _bits(training.parts)["optimizer"], _bits(training.parts)["model"][1]["2.weight"]
    with pytest.raises(CheckpointError) as caught:
        ASKING[asking](store, training)
    assert str(caught.value) == (
        f"Saving {tmp_path / 'step-00000002'}: No space left on device. The checkpoints before it are unharmed."
    )
    assert isinstance(caught.value.__cause__, OSError)
    assert (_bits(training.parts)["optimizer"], _bits(training.parts)["model"][1]["2.weight"]) == before
    assert store.steps() == [1]
    for again in ASKING.values():
        again(store, training)
    store.save(2, training.parts)
    store.close()
    assert store.steps() == [1, 2, 3]


def test_steps_best_and_opening_tell_of_no_failure(tmp_path: Path, training: _Training, held_folder: Held) -> None:
    """Whoever only asks what is there gets an answer; the failure is kept for who saves."""
    store = CheckpointStore(tmp_path)
    folder = held_folder(store)
    store.save(1, training.parts)
    store.wait()
    folder.failure = OSError(errno.EIO, os.strerror(errno.EIO))
    store.save(2, training.parts)
    assert (store.steps(), store.best(), store.open(1).step, store.restore_latest({})) == ([1], None, 1, 1)
    with pytest.raises(CheckpointError, match="Input/output error"):
        store.wait()


def test_what_nobody_foresaw_is_a_checkpoint_error_too(tmp_path: Path, training: _Training, held_folder: Held) -> None:
    """A bug in the background is not lost, and says what it was."""
    store = CheckpointStore(tmp_path)
    held_folder(store).failure = ZeroDivisionError("a bug")
    store.save(2, training.parts)
    with pytest.raises(CheckpointError) as caught:
        store.wait()
    assert str(caught.value) == "Saving a checkpoint: unexpected ZeroDivisionError: a bug."
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    store.close()


@pytest.mark.parametrize("background", [True, False])
def test_a_callback_takes_the_place_of_raising(
    tmp_path: Path, training: _Training, held_folder: Held, background: bool
) -> None:
    """The loop goes on over a full disk; each failure is handed over once, and the save after it works."""
    failures: list[CheckpointError] = []
    store = CheckpointStore(tmp_path, background=background, on_failure=failures.append)
    folder = held_folder(store)
    for step in (1, 2):
        folder.failure = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        store.save(step, training.parts)
        store._lane.wait()
        training.run(1)
        assert len(failures) == step
    store.save(3, training.parts)
    store.close()
    assert store.steps() == [3]
    assert [str(failure) for failure in failures] == [
        f"Saving {tmp_path / f'step-0000000{step}'}: No space left on device. The checkpoints before it are unharmed."
        for step in (1, 2)
    ]


def test_measuring_a_step_whose_save_failed_is_no_second_failure(
    tmp_path: Path, training: _Training, held_folder: Held
) -> None:
    """The measurement is of a checkpoint that is not there; that it is not was told. A later save counts again."""
    failures: list[CheckpointError] = []
    store = CheckpointStore(tmp_path, on_failure=failures.append)
    held_folder(store).failure = OSError(errno.EIO, os.strerror(errno.EIO))
    store.save(1, training.parts)
    store.annotate(1, {"accuracy": 0.5})
    store.wait()
    assert len(failures) == 1
    store.save(1, training.parts)
    store.annotate(1, {"accuracy": 0.75})
    store.wait()
    assert (len(failures), store.open(1).metrics) == (1, {"accuracy": 0.75})


def test_a_value_that_cannot_be_stored_is_refused_at_once(tmp_path: Path, training: _Training) -> None:
    """What is wrong with the state is found on the caller's own thread; nothing is handed over or written."""
    store = CheckpointStore(tmp_path / "a")
    with pytest.raises(UnsupportedState, match=r"Saving extra\.hook: "):
        store.save(1, {**training.parts, "extra": {"hook": print}})
    store.close()
    assert not (tmp_path / "a").exists()


# --- changes that are no step ---------------------------------------------------------------------------------------


def test_a_weight_that_was_changed_otherwise_fails_the_save_and_publishes_nothing(
    tmp_path: Path, training: _Training, held_copy: threading.Event
) -> None:
    """A mixture of two moments is never written; the message names the tensor and says what to do."""
    store = CheckpointStore(tmp_path / "a")
    store.save(2, training.parts)
    with torch.no_grad():
        training.net[2].weight.clamp_(-0.01, 0.01)
    held_copy.set()
    with pytest.raises(CheckpointError) as caught:
        store.wait()
    assert str(caught.value) == (
        "Taking a snapshot: model.2.weight changed before it was copied, and not in an optimizer's step. "
        "Call store.settle() before you change weights in another way, or save with background=False."
    )
    assert list((tmp_path / "a").iterdir()) == []
    store.save(2, training.parts)
    store.wait()
    assert store.steps() == [2]


def test_after_settling_a_weight_may_be_changed_in_any_way(
    tmp_path: Path, training: _Training, held_folder: Held
) -> None:
    """`settle` returns while the disk still stands still, and what is changed then is not in the save."""
    store = CheckpointStore(tmp_path)
    folder = held_folder(store)
    folder.hold()
    expected = _bits(training.parts)
    store.save(2, training.parts)
    store.settle()
    with torch.no_grad():
        for tensor in training.net.state_dict().values():
            tensor.zero_()
    training.optimizer.state.clear()
    store.settle()
    folder.let_go()
    assert _saved_bits(store, 2) == expected


def test_settling_without_a_save_does_nothing(tmp_path: Path) -> None:
    """It may be called at any time."""
    CheckpointStore(tmp_path).settle()


# --- threads, processes, ends ---------------------------------------------------------------------------------------


def test_saves_from_several_threads_are_all_published(tmp_path: Path) -> None:
    """Each thread trains and saves its own; no snapshot is written over by another, and none is lost."""
    store = CheckpointStore(tmp_path, Last(None))
    expected: dict[int, Bits] = {}
    errors: list[BaseException] = []
    lock = threading.Lock()

    def run(thread: int) -> None:
        try:
            with lock:  # the seed is one for all
                training = _Training(thread)
            for number in range(4):
                step = 10 * thread + number
                with torch.random.fork_rng():
                    training.run(1)
                expected[step] = _bits(training.parts)
                store.save(step, training.parts)
        except BaseException as error:  # shown below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    store.wait()
    assert errors == []
    assert store.steps() == sorted(expected)
    assert all(_saved_bits(store, step) == bits for step, bits in expected.items())


def test_a_snapshot_that_another_thread_took_meanwhile_is_still_waited_for(
    tmp_path: Path, training: _Training, held_copy: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for one save, on one thread, does not make the optimizers forget the next one, of another thread."""
    store = CheckpointStore(tmp_path)
    held_copy.set()
    store.save(1, training.parts)
    store._lane.wait()
    real = store._lane.wait
    held_copy.clear()
    waited: list[int] = []

    def wait() -> None:
        real()
        if not waited:  # between the waiting and what follows it, another thread saves
            waited.append(1)
            store.save(2, training.parts)

    monkeypatch.setattr(store._lane, "wait", wait)
    store.wait()
    training.forward().backward()
    stepping = _aside(training.optimizer.step)
    assert stepping.is_alive()
    held_copy.set()
    stepping.join(60)
    store.close()
    assert store.steps() == [1, 2]


def test_a_store_can_be_used_from_another_thread_than_it_was_made_on(tmp_path: Path, training: _Training) -> None:
    """Saving, measuring, restoring and closing on a worker thread are as on the main one."""
    store = CheckpointStore(tmp_path)
    found: list[object] = []

    def work() -> None:
        store.save(2, training.parts)
        store.annotate(2, {"loss": 1.0})
        training.run(1)
        found.append(store.restore_latest(training.parts))
        store.close()
        found.append(training.counters["step"])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert found == [2, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_process_nothing_waits_for_the_parents_save(
    tmp_path: Path, training: _Training, held_folder: Held
) -> None:
    """A worker that has inherited the store, amid a save, can wait, step and save without it; the save stays whole."""
    store = CheckpointStore(tmp_path / "parent")
    folder = held_folder(store)
    folder.hold()
    expected = _bits(training.parts)
    store.save(2, training.parts)
    assert folder.reached.wait(60)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            store.wait()
            store.settle()
            for parameter in training.net.parameters():
                parameter.grad = None
            training.optimizer.step()
            own = CheckpointStore(tmp_path / "child")
            own.save(9, {"tree": {"w": torch.ones(1000)}})
            own.close()
            code = 0 if own.steps() == [9] else 3
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    folder.let_go()
    assert _saved_bits(store, 2) == expected
    assert CheckpointStore(tmp_path / "child").open(9).read("tree")["w"].sum() == 1000


def test_a_store_that_is_forgotten_amid_a_save_publishes_it_and_lets_its_thread_end(
    tmp_path: Path, training: _Training, held_folder: Held
) -> None:
    """Nobody has to keep the store for the sake of the save; and the optimizer steps on without it."""
    store = CheckpointStore(tmp_path)
    folder = held_folder(store)
    folder.hold()
    expected = _bits(training.parts)
    store.save(2, training.parts)
    assert folder.reached.wait(60)
    lane = store._lane
    thread = lane._thread
    assert thread is not None
    del store
    gc.collect()
    training.run(1)
    folder.let_go()
    lane.wait()
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
    training.run(1)
    assert _saved_bits(CheckpointStore(tmp_path), 2) == expected


def test_a_second_store_on_the_same_folder_sees_what_the_first_has_under_way(
    tmp_path: Path, training: _Training, held_folder: Held
) -> None:
    """A cell of a notebook that is run again makes a second store: it restores what the first was still writing."""
    first = CheckpointStore(tmp_path)
    folder = held_folder(first)
    folder.hold()
    first.save(2, training.parts)
    second = CheckpointStore(tmp_path)
    found: list[int] = []
    asking = _aside(lambda: found.append(second.restore_latest({"counters": {}})))
    assert asking.is_alive()
    folder.let_go()
    asking.join(60)
    assert found == [2]


def test_a_with_block_ends_when_everything_is_durable(tmp_path: Path, training: _Training) -> None:
    """After the block the checkpoint is there, and the memory is given back."""
    with CheckpointStore(tmp_path) as store:
        store.save(2, training.parts)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000002"]
    assert [memory.numel() for memory in _memory_of(store)] == [0, 0]


def test_an_error_within_a_with_block_is_the_one_that_is_raised(
    tmp_path: Path, training: _Training, held_folder: Held
) -> None:
    """The save under way is finished first; that it failed does not take the place of the error, and is told later."""
    store = CheckpointStore(tmp_path)
    folder = held_folder(store)

    def save_and_fail(step: int) -> None:
        with store:
            store.save(step, training.parts)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        save_and_fail(2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000002"]
    folder.failure = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(ZeroDivisionError):
        save_and_fail(3)
    with pytest.raises(CheckpointError, match="step-00000003: Input/output error"):
        store.close()


def test_what_is_handed_over_is_done_in_its_turn(tmp_path: Path, training: _Training, held_folder: Held) -> None:
    """Measurements, actions and pruning come behind the saves; what an action refuses is told as a save's failure."""
    store = CheckpointStore(tmp_path, Last(None))
    folder = held_folder(store)
    folder.hold()
    found: list[list[int]] = []

    def refuse() -> None:
        raise CheckpointError("no")

    store.save(1, training.parts)
    store.annotate(1, {"accuracy": 0.5})
    store.then(lambda: found.append(store.steps()))
    store.then(refuse)
    store.prune()
    store.then(lambda: found.append([2]))
    assert found == []
    folder.let_go()
    with pytest.raises(CheckpointError, match=r"^no$"):
        store.wait()
    assert found == [[1], [2]]
    assert store.open(1).metrics == {"accuracy": 0.5}


# --- the end of the process -----------------------------------------------------------------------------------------

AT_THE_END = """
    import os, resource, sys, threading
    from pathlib import Path

    import torch

    from holdfast.checkpoints import CheckpointStore

    real = os.fsync

    def fsync(descriptor):  # no file is on the disk before the main thread has come to its end
        threading.main_thread().join()
        real(descriptor)

    os.fsync = fsync
    root, limit = Path(sys.argv[1]), int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    root.mkdir(exist_ok=True)
    store = CheckpointStore(root)
    # more than a buffer: it goes to the disk by direct writes, which have a thread of their own
    store.save(1, {"model": {"w": torch.arange(5_000_000.0)}, "counters": {"step": 1}})
    print("the end")
"""


def _run_to_the_end(root: Path, limit: int = 0, prefix: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {prefix}', sys.executable, "-c", textwrap.dedent(AT_THE_END), root, str(limit)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("prefix", ["", ">&-"], ids=["", "without a stdout"])
def test_a_process_that_ends_without_closing_finishes_its_save_first(tmp_path: Path, prefix: str) -> None:
    """The last line of a script may be `save`: what is under way then is published, large as it may be."""
    ended = _run_to_the_end(tmp_path, prefix=prefix)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "" if prefix else "the end\n", "")
    store = CheckpointStore(tmp_path)
    store.open(1).verify()
    assert torch.equal(store.open(1).tensors()["w"], torch.arange(5_000_000.0))


def test_a_process_that_ends_with_a_save_that_fails_says_so(tmp_path: Path) -> None:
    """Nobody is left to raise to, so the failure is one line on stderr; nothing half is left."""
    ended = _run_to_the_end(tmp_path, limit=9_000_000)
    assert (ended.returncode, ended.stdout) == (0, "the end\n")
    assert ended.stderr == (
        f"holdfast: Saving {tmp_path / 'step-00000001'}: File too large. The checkpoints before it are unharmed.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_is_interrupted_leaves_no_copy_that_writes_into_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C in the middle of `save`, the next save has other memory, and holds its own step and no other."""
    training = _Training()
    store = CheckpointStore(tmp_path, Last(None))
    store.save(1, training.parts)
    store.wait()
    before = store._memory

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store._lane, "submit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.save(2, training.parts)
    expected = _bits(training.parts)
    store.save(3, training.parts)
    store.wait()
    assert store.steps() == [1, 3]
    assert _saved_bits(store, 3) == expected
    assert not any(now is then for now, then in zip(store._memory, before, strict=True))


def test_tying_by_data_is_no_change(tmp_path: Path) -> None:
    """Two parameters made to share memory through `.data` count their changes apart; saves of them work."""
    model = nn.ModuleDict({"encoder": nn.Linear(3, 3), "decoder": nn.Linear(3, 3)})
    model["decoder"].weight.data = model["encoder"].weight.data
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with CheckpointStore(tmp_path, Last(None)) as store:
        for step in (1, 2, 3):
            model["encoder"].weight.grad = torch.ones(3, 3)
            optimizer.step()
            store.save(step, {"model": model, "optimizer": optimizer})
    assert store.steps() == [1, 2, 3]


def test_an_optimizer_without_hooks_is_copied_at_once(tmp_path: Path) -> None:
    """A wrapper that never called `Optimizer.__init__` cannot be made to wait; what it owns is saved as it is."""

    class Bare(torch.optim.Optimizer):
        def __init__(self, parameters: Any) -> None:
            self.param_groups = [{"params": list(parameters), "lr": 0.1}]
            self.state: Any = {}

        def state_dict(self) -> dict[str, Any]:
            return {"lr": 0.1}

    model = nn.Linear(2, 2)
    expected = model.weight.detach().clone()
    with CheckpointStore(tmp_path) as store:
        store.save(1, {"model": model, "optimizer": Bare(model.parameters())})
        model.weight.data.add_(1)
    assert torch.equal(store.open(1).tensors("model")["weight"], expected)


@pytest.mark.parametrize("typed", ["runs/a", "./runs/../runs/a"])
def test_one_folder_by_two_names_is_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """A second store waits for the first one's save, however either was told where."""
    monkeypatch.chdir(tmp_path)
    CheckpointStore(tmp_path / "runs" / "a").save(1, {"tree": {"w": torch.ones(1000)}})
    assert CheckpointStore(typed).steps() == [1]

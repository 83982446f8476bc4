from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from holdfast.checkpoints import CheckpointStore, Last
from holdfast.checkpoints import snapshot as module
from holdfast.checkpoints.flatten import FlatState, flatten
from holdfast.checkpoints.snapshot import Snapshot, SnapshotMemory
from holdfast.checkpoints.tensors import tensor_bytes
from holdfast.errors import CheckpointError


def _state(**tensors: Tensor) -> dict[str, FlatState]:
    return {"model": FlatState(None, dict(tensors))}


def _steady(*tensors: Tensor) -> set[int]:
    return {tensor.data_ptr() for tensor in tensors if tensor.numel()}


def _copies(snapshot: Snapshot) -> dict[str, Tensor]:
    return snapshot.states()["model"].tensors


class _Gate:
    """Stops the thread that copies, before each tensor."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.copied_at_once: list[Tensor] = []
        self._real: Callable[[Tensor, Tensor], None] = module._copy_on_cpu

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Stands in for the copying of one tensor."""
        if threading.current_thread().name == "holdfast-copy":
            self.reached.set()
            assert self.go_on.wait(60)
        else:
            self.copied_at_once.append(source)
        self._real(target, source)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Gate]:
    """The thread that copies, stopped."""
    gate = _Gate()
    monkeypatch.setattr(module, "_copy_on_cpu", gate.copy)
    yield gate
    gate.go_on.set()


# --- what is copied -------------------------------------------------------------------------------------------------


def _strange_tensors() -> dict[str, Tensor]:
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "contiguous": base,
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "a row of a view": base[1],
        "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
        "expanded scalar": torch.tensor(7).expand(5),
        "0-dim": torch.tensor(3.5),
        "0-dim of a view": base[2, 3],
        "one value with a stride": base[:, 0][1:2],
        "empty": torch.empty(0),
        "empty, with a shape": torch.empty(3, 0, 2, dtype=torch.int64),
        "channels last": torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "conjugated": torch.tensor([1 + 2j, 3 - 1j]).conj(),
        "negated": torch.tensor([1 + 2j, 3 - 1j]).conj().imag,
        "complex, transposed": torch.arange(6).reshape(2, 3).to(torch.complex64).t(),
        "bool, strided": torch.tensor([True, False, True, True])[::2],
        "half, transposed": base.half().t(),
        "bfloat16": base.bfloat16(),
        "float8, strided": base.to(torch.float8_e4m3fn)[:, ::2],
        "not a number": torch.tensor([float("nan"), float("inf"), -0.0]),
        "parameter": nn.Parameter(torch.ones(3)),
    }


@pytest.mark.parametrize("name", _strange_tensors())
@pytest.mark.parametrize("steady", [False, True], ids=["moving", "steady"])
def test_a_copy_has_the_bytes_that_would_be_written_of_the_tensor_itself(name: str, steady: bool) -> None:
    """Whatever its shape, stride and dtype, the copy is row-major and equal to the last bit."""
    tensor = _strange_tensors()[name]
    snapshot = Snapshot(_state(x=tensor), _steady(tensor) if steady else set(), SnapshotMemory())
    copy = _copies(snapshot)["x"]
    assert bytes(tensor_bytes(copy)) == bytes(tensor_bytes(tensor))
    assert (copy.dtype, copy.shape, copy.is_contiguous()) == (tensor.dtype, tensor.shape, True)
    assert not copy.requires_grad
    assert not copy.numel() or copy.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr()


def test_skeletons_and_ties_go_through_as_they_are() -> None:
    """A snapshot changes where the tensors lie, and nothing else; a tied tensor is copied once."""
    weight = torch.ones(2)
    state = flatten({"a": weight, "b": weight, "n": 3}, "model")
    copy = Snapshot({"model": state}, set(), SnapshotMemory()).states()["model"]
    assert (copy.skeleton, copy.aliases, list(copy.tensors)) == (state.skeleton, {"b": "a"}, ["a"])
    assert state.tensors["a"] is not copy.tensors["a"]


def test_several_parts_do_not_write_over_one_another() -> None:
    """Every tensor of every part has a place of its own, whatever odd sizes lie before it."""
    states = {
        part: FlatState(None, {f"t{n}": torch.full((n,), float(index * 100 + n)) for n in (1, 17, 3, 0, 16)})
        for index, part in enumerate(("model", "optimizer", "ema"))
    }
    copies = Snapshot(states, set(), SnapshotMemory()).states()
    for part, state in states.items():
        assert all(torch.equal(copies[part].tensors[name], tensor) for name, tensor in state.tensors.items())


# --- when it is copied ----------------------------------------------------------------------------------------------


def test_what_may_change_is_copied_before_the_snapshot_is_there_and_the_rest_beside(gate: _Gate) -> None:
    """Buffers may change in the very next line; parameters may not before `settle` has returned."""
    buffer, weight = torch.zeros(3), torch.zeros(3)
    snapshot = Snapshot(_state(buffer=buffer, weight=weight), _steady(weight), SnapshotMemory())
    assert gate.reached.wait(60)
    assert [t.data_ptr() for t in gate.copied_at_once] == [buffer.data_ptr()]
    buffer.fill_(7)
    settled: list[str] = []
    thread = threading.Thread(target=lambda: (snapshot.settle(), settled.append("settled")))
    thread.start()
    thread.join(0.05)
    assert settled == []
    gate.go_on.set()
    thread.join(60)
    weight.fill_(7)
    copies = _copies(snapshot)
    assert (copies["buffer"].tolist(), copies["weight"].tolist()) == ([0, 0, 0], [0, 0, 0])


def test_the_copied_tensors_are_not_held_any_longer_than_the_copying(gate: _Gate) -> None:
    """A model that is given up during a slow write gives its memory back."""
    weight = torch.zeros(3)
    gone = weakref.ref(weight.untyped_storage())
    owner = weakref.ref(weight)
    state = _state(weight=weight)
    snapshot = Snapshot(state, _steady(weight), SnapshotMemory())
    gate.go_on.set()
    snapshot.settle()
    del weight, state
    gate.copied_at_once.clear()
    assert owner() is None
    assert gone() is None
    assert _copies(snapshot)["weight"].tolist() == [0, 0, 0]


def test_a_change_before_the_copy_is_made_is_noticed_and_named(gate: _Gate) -> None:
    """A weight that was changed in place, and not in an optimizer's step, makes the snapshot one that is never used."""
    weight = torch.zeros(3)
    snapshot = Snapshot(_state(**{"head.weight": weight}), _steady(weight), SnapshotMemory())
    weight.add_(1)
    gate.go_on.set()
    with pytest.raises(CheckpointError) as caught:
        snapshot.states()
    assert str(caught.value) == (
        "Taking a snapshot: model.head.weight changed before it was copied, and not in an optimizer's step. "
        "Call store.settle() before you change weights in another way, or save with background=False."
    )


def test_of_many_changes_the_first_three_are_named(gate: _Gate) -> None:
    """The message stays short, and says that there are more."""
    weights = {f"w{n}": torch.zeros(3) for n in range(5)}
    snapshot = Snapshot(_state(**weights), _steady(*weights.values()), SnapshotMemory())
    for weight in weights.values():
        weight.add_(1)
    gate.go_on.set()
    with pytest.raises(CheckpointError, match=r"model\.w0, model\.w1, model\.w2 … changed before it was copied"):
        snapshot.states()


def test_a_change_through_a_view_is_noticed(gate: _Gate) -> None:
    """Views count their changes together with what they look at."""
    weight = torch.zeros(3)
    snapshot = Snapshot(_state(w=weight), _steady(weight), SnapshotMemory())
    weight[1:].zero_()
    gate.go_on.set()
    with pytest.raises(CheckpointError, match=r"model\.w changed"):
        snapshot.states()


def test_settling_raises_nothing_and_leaves_the_failure_to_who_asks_for_the_states(gate: _Gate) -> None:
    """The optimizer that waits is not to blame; the save is what fails."""
    weight = torch.zeros(3)
    snapshot = Snapshot(_state(w=weight), _steady(weight), SnapshotMemory())
    weight.add_(1)
    gate.go_on.set()
    snapshot.settle()
    for _ in range(2):
        with pytest.raises(CheckpointError):
            snapshot.states()


def test_the_step_that_waited_is_not_taken_for_a_change_before_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The save thread looks at the versions once more while the loop comes to its step: the step waits for the look."""
    weight = torch.zeros(3)
    snapshot = Snapshot(_state(w=weight), _steady(weight), SnapshotMemory())
    snapshot._join()
    looking, stepped, copies = threading.Event(), threading.Event(), list[Tensor]()
    real = module.version_of

    def slow(tensor: Tensor) -> int:
        if threading.current_thread() is saving:
            looking.set()
            stepped.wait(0.1)
        return real(tensor)

    def step() -> None:
        snapshot.settle()
        weight.add_(1)
        stepped.set()

    saving = threading.Thread(target=lambda: copies.append(_copies(snapshot)["w"]))
    monkeypatch.setattr(module, "version_of", slow)
    saving.start()
    assert looking.wait(60)
    step()
    saving.join(60)
    assert [copy.tolist() for copy in copies] == [[0, 0, 0]]


def test_tensors_of_inference_mode_are_copied_at_once(gate: _Gate) -> None:
    """They do not count their changes, so nobody could notice one."""
    with torch.inference_mode():
        weight = torch.zeros(3)
    snapshot = Snapshot(_state(w=weight), _steady(weight), SnapshotMemory())
    with torch.inference_mode():
        weight.add_(1)
    gate.go_on.set()
    assert _copies(snapshot)["w"].tolist() == [0, 0, 0]


def test_where_no_thread_can_be_started_everything_is_copied_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save at the end of the interpreter is made without help."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    weight = torch.zeros(3)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        snapshot = Snapshot(_state(w=weight), _steady(weight), SnapshotMemory())
    snapshot.settle()
    weight.add_(1)
    assert _copies(snapshot)["w"].tolist() == [0, 0, 0]


# --- memory ---------------------------------------------------------------------------------------------------------


def test_the_memory_is_used_again() -> None:
    """The second snapshot of a state lies where the first one lay, and so does a smaller one."""
    memory = SnapshotMemory()
    tensors = [torch.ones(100), torch.ones(3, dtype=torch.int64)]
    first = [target.data_ptr() for target in memory.targets(tensors)]
    assert [target.data_ptr() for target in memory.targets(tensors)] == first
    assert memory.targets(tensors[1:])[0].data_ptr() == first[0]


def test_the_memory_grows_with_the_state() -> None:
    """A state that has become larger gets room for all of it, and the earlier memory is given back first."""
    memory = SnapshotMemory()
    memory.targets([torch.ones(10)])
    small = weakref.ref(memory._memory)
    targets = memory.targets([torch.ones(10), torch.ones(100_000)])
    assert small() is None
    for number, target in enumerate(targets):
        target.fill_(number)
    assert [target.unique().tolist() for target in targets] == [[0], [1]]


def test_the_memory_is_as_large_as_the_state_and_a_cache_line_a_tensor() -> None:
    """Targets begin at cache lines, do not overlap, and there is not a byte more than that takes."""
    memory = SnapshotMemory()
    tensors = [torch.ones(n, dtype=dtype) for n in (1, 15, 16, 17, 0, 1000) for dtype in (torch.uint8, torch.float64)]
    targets = memory.targets(tensors)
    starts = [target.data_ptr() - memory._memory.data_ptr() for target in targets if target.numel()]
    sizes = [target.numel() * target.element_size() for target in targets if target.numel()]
    assert all(start % 64 == 0 for start in starts)
    assert all(end <= start for end, start in zip(map(sum, zip(starts, sizes, strict=True)), starts[1:], strict=False))
    assert memory._memory.numel() == sum(-(-size // 64) * 64 for size in sizes)


def test_nothing_takes_no_memory() -> None:
    """A state without tensors, or with empty ones only, is a snapshot as well."""
    memory = SnapshotMemory()
    assert memory.targets([]) == []
    assert memory.targets([torch.empty(0, 4)])[0].shape == (0, 4)
    assert memory._memory.numel() == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_does_not_write_into_its_parents_snapshot() -> None:
    """A worker that saves something of its own while the parent's snapshot is being written spoils nothing."""
    memory = SnapshotMemory()
    (target,) = memory.targets([torch.ones(10_000)])
    target.fill_(1)
    child = os.fork()
    if child == 0:
        target.fill_(2)
        os._exit(0)
    os.waitpid(child, 0)
    assert target.unique().tolist() == [1]


@pytest.mark.gpu
def test_on_a_gpu_the_copies_stand_between_this_step_and_the_next(tmp_path: Path) -> None:
    """Training goes on at once; what is saved is the state of the step, buffers included, in page-locked memory."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    net = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.Linear(512, 512)).cuda()
    optimizer = torch.optim.AdamW(net.parameters(), 0.1)
    inputs = torch.randn(64, 512, device="cuda")
    expected = []
    with CheckpointStore(tmp_path, Last(None)) as store:
        for step in range(1, 6):
            optimizer.zero_grad()
            net(inputs).square().mean().backward()
            optimizer.step()
            expected.append({name: tensor.cpu().clone() for name, tensor in net.state_dict().items()})
            store.save(step, {"model": net, "optimizer": optimizer})
            net(inputs)  # the buffers change at once
        assert store._memory[1]._memory.is_pinned()
    for step, tensors in enumerate(expected, 1):
        saved = store.open(step).tensors("model")
        assert all(torch.equal(saved[name], tensor) for name, tensor in tensors.items())

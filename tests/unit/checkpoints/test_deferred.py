from __future__ import annotations

import collections
import copy
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.checkpoints import CheckpointStore, Last, deferred, snapshot
from holdfast.checkpoints import store as store_module
from holdfast.checkpoints.deferred import Deferred, copies_by_identity, defer
from holdfast.checkpoints.flatten import FlatState, flatten
from holdfast.checkpoints.named_state import state_of
from holdfast.checkpoints.snapshot import Snapshot, SnapshotMemory
from holdfast.checkpoints.steady import steady_storages
from holdfast.errors import UnsupportedState

NET = nn.Linear(1, 1)  # any module: whether a part can wait depends on what it is, and on its tree


class _Training:
    """A net with batch statistics, its optimizer with a learning rate of its own kind, and an average of the net."""

    def __init__(self, lr: float | Tensor = 0.1) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 2))
        self.average = torch.optim.swa_utils.AveragedModel(self.net)
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.net.parameters(), lr)

    @property
    def parts(self) -> dict[str, Any]:
        return {"model": self.net, "ema": self.average, "optimizer": self.optimizer, "counters": {"epoch": 1}}

    def run(self, steps: int = 1) -> None:
        """Trains: a forward pass changes the batch statistics, the end of a step the average."""
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.net(torch.randn(4, 3, 4, 4)).square().sum().backward()
            self.optimizer.step()
            self.average.update_parameters(self.net)


@pytest.fixture
def training() -> _Training:
    """A training that has made two steps, so that its optimizer has slots."""
    training = _Training()
    training.run(2)
    return training


@pytest.fixture
def held_copy(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Stops the thread that takes the deferred parts apart until the event is set."""
    go_on = threading.Event()
    real = Snapshot._take_apart

    def take_apart(self: Snapshot) -> None:
        assert go_on.wait(60)
        real(self)

    monkeypatch.setattr(Snapshot, "_take_apart", take_apart)
    yield go_on
    go_on.set()


@pytest.fixture
def deferred_parts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, bool]]:
    """For each save, which parts were deferred."""
    seen: list[dict[str, bool]] = []
    real = store_module.Snapshot

    def taken(states: dict[str, FlatState | Deferred], *rest: Any) -> Snapshot:
        seen.append({part: isinstance(state, Deferred) for part, state in states.items()})
        return real(states, *rest)

    monkeypatch.setattr(store_module, "Snapshot", taken)
    return seen


def _defer(tree: Any, *steady: Tensor, value: Any = NET) -> Deferred | None:
    return defer(value, tree, "model", {tensor.data_ptr() for tensor in steady})


def _files(path: Path, step: int) -> dict[str, bytes]:
    """Returns a checkpoint's files but those that have its time or its step."""
    folder = path / f"step-{step:08d}"
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name not in ("evaluation.json", "manifest.json")}


def _at_once(path: Path, parts: dict[str, Any]) -> dict[str, bytes]:
    """Returns the files of a save that copies nothing and defers nothing."""
    with CheckpointStore(path, background=False) as store:
        store.save(1, parts)
    return _files(path, 1)


# --- what can wait --------------------------------------------------------------------------------------------------


def test_modules_and_optimizers_can_wait_and_nothing_else(
    tmp_path: Path, training: _Training, deferred_parts: list[dict[str, bool]]
) -> None:
    """Their trees are made anew by `state_dict`; a dict of the caller's may change in the next line."""

    class Counter:
        def state_dict(self) -> dict[str, Any]:
            return {"n": 1}

        def load_state_dict(self, _state: dict[str, Any]) -> None:
            raise AssertionError

    scheduler = torch.optim.lr_scheduler.StepLR(training.optimizer, 1)
    with CheckpointStore(tmp_path) as store:
        store.save(1, {**training.parts, "counter": Counter(), "schedule": scheduler})
    assert deferred_parts == [
        {"model": True, "ema": True, "optimizer": True, "counters": False, "counter": False, "schedule": False}
    ]


def test_what_stands_still_is_only_referred_to_and_what_moves_is_listed_once() -> None:
    """Parameters of the optimizer stand; a buffer moves, under however many names."""
    weight, buffer, empty = torch.ones(3), torch.zeros(2), torch.empty(0)
    one = _defer({"w": weight, "b": buffer, "tied": buffer, "again": buffer.view(2), "empty": empty}, weight)
    assert one is not None
    assert [t.data_ptr() for t in one.standing] == [weight.data_ptr(), 0]
    assert [t.data_ptr() for t in one.moving] == [buffer.data_ptr()]


def _odd_tensors() -> dict[str, Tensor]:
    base = torch.arange(12.0).reshape(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to remove them one day
        quantised = torch.quantize_per_tensor(base, 0.5, 1, torch.qint8)
    return {
        "transposed": base.t(),
        "every second": base[:, ::2],
        "expanded": torch.tensor([1.0]).expand(4),
        "channels last": torch.ones(1, 3, 2, 2).to(memory_format=torch.channels_last),
        # Contiguous by torch's word, and not row-major: the step of an axis of one value says nothing, and is stored.
        "channels last, of one channel": torch.arange(8.0).reshape(2, 1, 2, 2).as_strided((2, 1, 2, 2), (4, 1, 2, 1)),
        "quantised": quantised,
        "conjugated": torch.tensor([1 + 2j]).conj(),
        "negated": torch.tensor([1 + 2j]).conj().imag,
        "of a subclass": torch.ones(2).as_subclass(type("Marked", (Tensor,), {})),
    }


@pytest.mark.parametrize("name", _odd_tensors())
def test_a_moving_tensor_that_a_row_major_copy_does_not_tell_all_of_is_done_at_once(name: str) -> None:
    """And a state with one is equal to what `flatten` makes of it: facts, ties and bytes."""
    tensor = _odd_tensors()[name]
    assert _defer({"x": tensor, "y": torch.ones(1)}) is None


@pytest.mark.parametrize("name", [name for name in _odd_tensors() if name != "of a subclass"])
def test_the_same_tensor_can_wait_where_it_stands_still(name: str) -> None:
    """It is taken apart live, as it is."""
    tensor = _odd_tensors()[name]
    one = _defer({"x": tensor}, tensor)
    assert one is not None
    assert (len(one.moving), one.standing[0] is tensor) == (0, True)


@pytest.mark.parametrize(
    "odd",
    [
        {1, 2},
        b"bytes",
        1j,
        torch.Size([1]),
        collections.namedtuple("Pair", "a b")(1, 2),
        print,
        torch.ones(2).to_sparse(),
        torch.ones(2, device="meta"),
    ],
    ids=lambda odd: type(odd).__name__,
)
def test_a_tree_with_other_values_is_done_at_once(odd: object) -> None:
    """What may be refused is refused on the caller's thread, and what is rare is not worth a second way."""
    assert _defer({"w": torch.ones(1), "deep": [{"odd": (odd,)}]}) is None


def test_the_ordinary_values_of_a_state_can_wait() -> None:
    """Text, numbers, truth, nothing, types and devices, in dicts of any kind, lists and tuples."""
    tree = collections.OrderedDict(
        a=[1, 2.5, "x", None, True, torch.float16, torch.device("cpu")], b=({3: ()},), c=nn.Parameter(torch.ones(1))
    )
    one = _defer(tree)
    assert one is not None
    assert len(one.moving) == 1


def test_a_tree_within_itself_or_deeper_than_the_stack_is_left_to_flatten() -> None:
    """Which stores the one and has words for the other; neither ends in a RecursionError."""
    inside: dict[str, Any] = {}
    inside["self"] = inside
    deep: Any = 1
    for _ in range(495):
        deep = [deep]
    assert _defer(inside) is None
    with pytest.raises(UnsupportedState, match="contains itself"):
        flatten(inside, "model")
    one = _defer(deep)
    assert (one.flatten() if one else flatten(deep, "model")).skeleton == deep


# --- what is copied at once -----------------------------------------------------------------------------------------


def test_holding_puts_copies_in_the_place_of_what_moves_and_makes_the_containers_its_own() -> None:
    """Nothing of the tree's owner shows in it any more, but what stands still."""
    weight, buffer, groups = torch.ones(2), torch.zeros(2), [{"lr": 0.1, "betas": (0.9, torch.tensor(0.5))}]
    tree = {"w": weight, "b": buffer, "tied": buffer, "groups": groups}
    one = _defer(tree, weight)
    assert one is not None
    one.hold(copies_by_identity(one.moving, [tensor.clone() for tensor in one.moving]))
    assert one.moving == []
    buffer.fill_(7)
    groups[0]["betas"][1].fill_(7)  # type: ignore[index]
    groups[0]["lr"] = 7
    groups.append({})
    del tree["w"]
    state = one.flatten()
    assert state.skeleton == {
        "w": {"$tensor": "w"},
        "b": {"$tensor": "b"},
        "tied": {"$tensor": "tied"},
        "groups": [{"lr": 0.1, "betas": {"$tuple": [0.9, {"$tensor": "groups.0.betas.1"}]}}],
    }
    assert state.aliases == {"tied": "b"}
    assert {name: tensor.tolist() for name, tensor in state.tensors.items()} == {
        "w": [1, 1], "b": [0, 0], "groups.0.betas.1": 0.5,
    }  # fmt: skip
    assert state.tensors["w"] is weight


def test_buffers_and_tensor_learning_rates_are_saved_as_they_were(tmp_path: Path, held_copy: threading.Event) -> None:
    """They change before anything of the deferred parts is taken apart, and the files have the old values."""
    training = _Training(lr=torch.tensor(0.125))
    training.run(2)
    expected = _at_once(tmp_path / "at once", training.parts)
    store = CheckpointStore(tmp_path / "a")
    store.save(1, training.parts)
    training.net(torch.randn(4, 3, 4, 4))
    training.optimizer.param_groups[0]["lr"].fill_(7)
    held_copy.set()
    store.close()
    assert _files(tmp_path / "a", 1) == expected
    assert store.open(1).read("optimizer")["param_groups"][0]["lr"].item() == 0.125


def test_a_scheduler_right_after_a_save_does_not_show_in_it(
    tmp_path: Path, training: _Training, held_copy: threading.Event
) -> None:
    """`param_groups` is the optimizer's own list of dicts: what it holds at the save is what is saved."""
    store = CheckpointStore(tmp_path)
    store.save(1, training.parts)
    group = training.optimizer.param_groups[0]
    group["lr"] = 7.0
    group["betas"] = (0.0, 0.0)
    group["new"] = "x"
    held_copy.set()
    store.close()
    (saved,) = store.open(1).read("optimizer")["param_groups"]
    assert (saved["lr"], saved["betas"], "new" in saved) == (0.1, (0.9, 0.999), False)


def test_tied_buffers_stay_tied(tmp_path: Path) -> None:
    """They are stored once, and copied once."""
    net = nn.Module()
    buffer = torch.arange(1000.0)
    net.register_buffer("a", buffer)
    net.register_buffer("b", buffer)
    net.register_buffer("part", buffer[500:])
    store = CheckpointStore(tmp_path)
    store.save(1, {"model": net})
    store.wait()
    sizes = [memory._memory.numel() for memory in store._memory]
    store.close()
    checkpoint = store.open(1)
    assert checkpoint.manifest.parts["model"].aliases == {"b": "a"}
    assert sizes == [-(-4000 // 64) * 64 + -(-2000 // 64) * 64, 0]
    assert torch.equal(checkpoint.tensors("model")["part"], buffer[500:])


class _Contrast(nn.Module):
    """Two nets, one of which follows the other in the forward pass, through `.data`, as MoCo's does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        for q, k in zip(self.query.parameters(), self.key.parameters(), strict=True):
            k.data.mul_(0.5).add_(q.data, alpha=0.5)
        self.queue.data.copy_(self.key(x))
        out: Tensor = self.query(x) - self.queue
        return out


@pytest.mark.row("S4")
@pytest.mark.parametrize("everything", [True, False], ids=["all parameters", "those that are trained"])
def test_a_momentum_encoder_is_saved_as_it_was(tmp_path: Path, held_copy: threading.Event, everything: bool) -> None:
    """Changes through `.data` are not counted; the net that follows is copied at once, though the optimizer has it."""
    net = _Contrast()
    optimizer = torch.optim.SGD((net if everything else net.query).parameters(), 0.1, momentum=0.9)
    parts = {"model": net, "optimizer": optimizer}
    net(torch.randn(4, 4)).square().sum().backward()
    optimizer.step()
    expected = _at_once(tmp_path / "at once", parts)
    before = net.key.weight.clone()
    store = CheckpointStore(tmp_path / "a")
    store.save(1, parts)
    net(torch.randn(4, 4))
    held_copy.set()
    store.close()
    assert _files(tmp_path / "a", 1) == expected
    assert not torch.equal(net.key.weight, before)


def test_an_average_is_saved_as_it_was(tmp_path: Path, training: _Training, held_copy: threading.Event) -> None:
    """Its owner may change it at any moment, and here does so right after the save."""
    expected = _at_once(tmp_path / "at once", training.parts)
    store = CheckpointStore(tmp_path / "a")
    store.save(1, training.parts)
    for tensor in training.average.parameters():
        tensor.data.zero_()
    training.average.n_averaged += 1
    held_copy.set()
    store.close()
    assert _files(tmp_path / "a", 1) == expected


# --- the same bytes -------------------------------------------------------------------------------------------------


def _channels_last() -> dict[str, Any]:
    training = _Training()
    training.net.to(memory_format=torch.channels_last)
    training.run(1)
    return training.parts


def _one_channel() -> dict[str, Any]:
    net = nn.Conv2d(1, 4, 3).to(memory_format=torch.channels_last)
    frozen = nn.Conv2d(1, 4, 3).to(memory_format=torch.channels_last).requires_grad_(False)
    frozen.weight = nn.Parameter(torch.ones(4, 1, 3, 3).as_strided((4, 1, 3, 3), (9, 1, 3, 1)), requires_grad=False)
    return {"model": nn.ModuleList([net, frozen]), "optimizer": torch.optim.SGD(net.parameters(), 0.1)}


def _tied_weights() -> dict[str, Any]:
    torch.manual_seed(0)
    net = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    net[1].weight = net[0].weight
    net.register_buffer("transposed", net[0].weight.detach().t())
    optimizer = torch.optim.AdamW(net.parameters(), 0.1, amsgrad=True)
    net[1](net[0](torch.ones(1, 4))).sum().backward()
    optimizer.step()
    return {"model": net, "optimizer": optimizer}


def _other_types() -> dict[str, Any]:
    net = nn.Linear(4, 4, dtype=torch.bfloat16)
    for name, dtype in (("c", torch.complex128), ("f8", torch.float8_e4m3fn), ("u", torch.uint16), ("b", torch.bool)):
        net.register_buffer(name, torch.ones(3).to(dtype))
    net.register_buffer("scalar", torch.tensor(3.5))
    net.register_buffer("empty", torch.empty(2, 0))
    net.register_buffer("conjugated", torch.tensor([1 + 2j]).conj())
    return {"model": net, "optimizer": torch.optim.SGD(net.parameters(), 0.1)}


STATES: dict[str, Callable[[], dict[str, Any]]] = {
    "channels last": _channels_last,
    "channels last of one channel": _one_channel,
    "tied weights": _tied_weights,
    "other types": _other_types,
}


@pytest.mark.parametrize("name", STATES)
def test_every_save_of_one_state_has_the_same_bytes(tmp_path: Path, name: str) -> None:
    """The first, the second, and one that defers and copies nothing."""
    parts = STATES[name]()
    expected = _at_once(tmp_path / "at once", parts)
    with CheckpointStore(tmp_path / "a", Last(None)) as store:
        for step in (1, 2, 3):
            store.save(step, parts)
    for step in (1, 2, 3):
        assert _files(tmp_path / "a", step) == expected


def test_channels_last_weights_are_channels_last_again(tmp_path: Path) -> None:
    """Their order in memory comes back too, parameters and slots."""
    parts = _channels_last()
    with CheckpointStore(tmp_path) as store:
        store.save(1, parts)
        store.save(2, parts)
    weight = store.open(2).read("model")["0.weight"]
    assert weight.stride() == parts["model"][0].weight.stride() == (27, 1, 9, 3)
    slots = store.open(2).read("optimizer")["state"]["model.0.weight"]
    assert slots["exp_avg"].stride() == (27, 1, 9, 3)


# --- what cannot be stored ------------------------------------------------------------------------------------------


def _within_itself(optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["extra"] = inside = {}  # type: ignore[var-annotated]
    inside["self"] = inside


def _odd_key(optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["extra"] = {object: 1}


LATER: dict[str, tuple[Callable[[torch.optim.Optimizer], object], str]] = {
    "a function": (lambda o: o.param_groups[0].update(extra=print), r"Saving optimizer\.param_groups\.0\.extra: "),
    "a sparse tensor": (
        lambda o: o.param_groups[0].update(extra=torch.ones(2).to_sparse()),
        r"Saving optimizer\.param_groups\.0\.extra: found a tensor of layout torch\.sparse_coo",
    ),
    "half a character": (
        lambda o: o.param_groups[0].update(extra="\ud800"),
        r"Saving optimizer\.param_groups\.0\.extra: ",
    ),
    "a key that is no value": (_odd_key, r"Saving optimizer\.param_groups\.0\.extra"),
    "a dict within itself": (_within_itself, r"Saving optimizer\.param_groups\.0\.extra\.self: .*contains itself"),
}


@pytest.mark.parametrize("name", LATER)
def test_a_value_that_cannot_be_stored_and_comes_later_is_named(tmp_path: Path, training: _Training, name: str) -> None:
    """The first save went well, so nothing is looked at beforehand: the error is the same, and nothing is published."""
    spoil, message = LATER[name]
    store = CheckpointStore(tmp_path / "a")
    store.save(1, training.parts)
    store.wait()
    before = _files(tmp_path / "a", 1)
    spoil(training.optimizer)
    with pytest.raises(UnsupportedState, match=message):
        _save_and_wait(store, 2, training.parts)
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["step-00000001"]
    assert _files(tmp_path / "a", 1) == before
    del training.optimizer.param_groups[0]["extra"]
    _save_and_wait(store, 2, training.parts)
    assert store.steps() == [1, 2]


def _save_and_wait(store: CheckpointStore, step: int, parts: dict[str, Any]) -> None:
    store.save(step, parts)
    store.wait()


def test_a_part_that_comes_later_is_looked_at_when_it_comes(tmp_path: Path, training: _Training) -> None:
    """A new part's first save is refused before anything is copied or handed over."""
    store = CheckpointStore(tmp_path / "a")
    _save_and_wait(store, 1, {"model": training.net})
    optimizer = training.optimizer
    optimizer.param_groups[0]["extra"] = "\ud800"
    with pytest.raises(UnsupportedState, match=r"Saving optimizer\.param_groups\.0\.extra: "):
        store.save(2, training.parts)
    store.close()
    assert store.steps() == [1]


# --- memory ---------------------------------------------------------------------------------------------------------


def test_both_memories_together_are_one_copy_of_the_state_and_used_again(tmp_path: Path) -> None:
    """At most a twentieth more than the state; the second save takes no other memory, and a changed state no more."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(200, 300), nn.BatchNorm1d(300), nn.Linear(300, 50))
    average, optimizer = torch.optim.swa_utils.AveragedModel(net), torch.optim.Adam(net.parameters())
    parts = {"model": net, "ema": average, "optimizer": optimizer}
    store = CheckpointStore(tmp_path, Last(None))
    places = set()
    for step in (1, 2, 3):
        optimizer.zero_grad()
        net(torch.randn(4, 200)).sum().backward()
        optimizer.step()
        _save_and_wait(store, step, parts)
        places.add(tuple((memory._memory.data_ptr(), memory._memory.numel()) for memory in store._memory))
    trees = state_of(parts)
    size = sum(t.numel() * t.element_size() for part in trees for t in flatten(trees[part], part).tensors.values())
    assert len(places) == 1
    ((_, at_once), (_, later)) = places.pop()
    assert size <= at_once + later <= 1.05 * size
    steady = steady_storages(parts)
    leaves = [one for part in trees if (one := defer(parts[part], trees[part], part, steady)) is not None]
    assert at_once <= 1.05 * sum(t.numel() * t.element_size() for one in leaves for t in one.moving)
    store.close()


def test_a_deferred_state_in_one_snapshot_with_another_lies_where_it_should(training: _Training) -> None:
    """Parts come back in their order, and what was copied at once is not copied again."""
    trees = state_of(training.parts)
    steady = steady_storages(training.parts)
    states = {
        part: defer(training.parts[part], tree, part, steady) or flatten(tree, part) for part, tree in trees.items()
    }
    now, later = SnapshotMemory(), SnapshotMemory()
    taken = Snapshot(states, steady, now, later).states()
    assert list(taken) == list(trees)
    for part, tree in trees.items():
        expected = flatten(tree, part)
        assert (taken[part].skeleton, taken[part].aliases) == (expected.skeleton, expected.aliases)
        for name, tensor in expected.tensors.items():
            found = taken[part].tensors[name]
            assert torch.equal(found, tensor), (part, name)
            moves = part == "ema" or "running" in name or name.endswith("num_batches_tracked")
            assert now.holds(found) == moves, (part, name)
            assert later.holds(found) == (not moves), (part, name)


def test_the_live_tensors_of_a_deferred_part_are_let_go(training: _Training) -> None:
    """Once settled, the snapshot refers to nothing of the net."""
    steady = steady_storages(training.parts)
    one = defer(training.net, state_of({"model": training.net})["model"], "model", steady)
    assert one is not None
    taken = Snapshot({"model": one}, steady, SnapshotMemory())
    taken.settle()
    assert (taken._deferred, taken._later, taken._watched) == ({}, [], [])
    copies = {name: tensor.clone() for name, tensor in taken.states()["model"].tensors.items()}
    training.run(1)
    assert all(torch.equal(tensor, copies[name]) for name, tensor in taken.states()["model"].tensors.items())


def test_a_weight_that_changes_before_its_part_is_taken_apart_fails_the_save(
    tmp_path: Path, training: _Training, held_copy: threading.Event
) -> None:
    """Its version is that of the moment of the save, although nobody had looked at the tensor by name then."""
    store = CheckpointStore(tmp_path / "a")
    store.save(1, training.parts)
    with torch.no_grad():
        training.net[3].weight.add_(1)
    held_copy.set()
    with pytest.raises(snapshot.CheckpointError, match=r"model\.3\.weight changed before it was copied"):
        store.wait()
    assert list((tmp_path / "a").iterdir()) == []


def test_a_copy_of_a_module_shares_nothing_with_its_save(tmp_path: Path, training: _Training) -> None:
    """Saving leaves the parts as they were: the same tensors, the same state."""
    before, addresses = copy.deepcopy(training.net.state_dict()), [p.data_ptr() for p in training.net.parameters()]
    with CheckpointStore(tmp_path) as store:
        store.save(1, training.parts)
        store.save(2, training.parts)
    assert addresses == [p.data_ptr() for p in training.net.parameters()]
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.net.state_dict().items())
    assert deferred.defer(training.net, {"n": 1}, "model", set()) is not None

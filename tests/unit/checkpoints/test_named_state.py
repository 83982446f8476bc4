from __future__ import annotations

import copy
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel

from holdfast.checkpoints import CheckpointStore
from holdfast.checkpoints.named_state import load_into, state_of
from holdfast.checkpoints.random_state import RandomState
from holdfast.errors import CheckpointMismatch, UnsupportedState


def _saved(parts: dict[str, Any]) -> dict[str, Any]:
    """Returns the state as a file would hold it: apart from the live objects."""
    return copy.deepcopy(state_of(parts))


def _again(folder: Path, parts: dict[str, Any], fresh: dict[str, Any]) -> None:
    """Saves `parts` and restores them into `fresh`, through files."""
    store = CheckpointStore(folder)
    store.save(1, parts)
    assert store.restore_latest(fresh) == 1


def test_a_module_is_its_state_dict_and_a_plain_tree_is_itself() -> None:
    """Modules hand out their state, other stateful objects theirs, and trees are taken as they are."""
    net = nn.BatchNorm1d(2)
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(net.parameters()), 3)
    trees = state_of({"net": net, "scheduler": scheduler, "tree": {"a": [1]}})
    assert list(trees["net"]) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert trees["scheduler"]["step_size"] == 3
    assert trees["tree"] == {"a": [1]}


def test_dicts_lists_and_tensors_are_filled_in_place() -> None:
    """The objects that the caller holds are changed, not replaced."""
    counters, history, mean = {"step": 0, "gone": 1}, [1, 2, 3], torch.zeros(2)
    load_into(
        {"counters": counters, "history": history, "mean": mean},
        {"counters": {"step": 5}, "history": [9], "mean": torch.tensor([1.0, 2.0])},
        "here",
    )
    assert (counters, history, mean.tolist()) == ({"step": 5}, [9], [1.0, 2.0])


def test_what_was_saved_and_not_asked_for_is_left_alone() -> None:
    """Restoring some of the parts is allowed."""
    counters: dict[str, int] = {}
    load_into({"counters": counters}, {"counters": {"step": 5}, "other": {"a": 1}}, "here")
    assert counters == {"step": 5}


def _snapshot(parts: dict[str, Any]) -> str:
    return repr(state_of(parts))


def test_loading_fails_with_all_differences_at_once_and_changes_nothing() -> None:
    """Missing, surplus and reshaped tensors, other groups and absent parts are all in one message."""
    saved_net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    saved = state_of({"model": saved_net, "o": torch.optim.SGD(saved_net.parameters()), "counters": {"step": 9}})
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2))
    optimizer = torch.optim.SGD([{"params": net[0].parameters()}, {"params": net[2].parameters()}], lr=1.0)
    parts = {"counters": {"step": 0}, "model": net, "o": optimizer, "ema": {"w": 1}}
    before = _snapshot(parts)
    with pytest.raises(CheckpointMismatch) as caught:
        load_into(parts, saved, "runs/a/step-00000009")
    message = str(caught.value)
    assert message.startswith("Loading runs/a/step-00000009: 14 differences from what was saved:\n")
    for line in (
        "part 'ema' was not saved",
        "model: 1.running_mean is missing in the checkpoint",
        "model: 2.weight is missing in the checkpoint",
        "model: 1.weight is in the checkpoint and not in the model",
        "model: 0.weight was saved with shape [4, 3], the model has [5, 3]",
        "model: 0.bias was saved with shape [4], the model has [5]",
    ):
        assert f"  {line}\n" in message
    assert "  … and 4 more\n" in message
    assert _snapshot(parts) == before


@pytest.mark.parametrize(
    ("part", "saved", "message"),
    [
        (5, 6, "p: a value of type int cannot be restored in place; put it into a dict"),
        ((1,), (2,), "p: a value of type tuple cannot be restored in place; put it into a dict"),
        ("text", "other", "p: a value of type str cannot be restored in place; put it into a dict"),
        ({"a": 1}, [1], "p: was saved as a list, and is a dict now"),
        ([1], {"a": 1}, "p: was saved as a dict, and is a list now"),
        ({1}, [1], "p: was saved as a list, and is a set now"),
        (None, {"a": 1}, "p: was saved as a value of type dict, and is None now"),
        (5, None, "p: was saved as None, and is a value of type int now"),
        (torch.zeros(2), torch.zeros(1), "p: was saved with shape [1], the tensor has [2]"),
        (torch.zeros(2), {"a": 1}, "p: was saved as a value of type dict, the tensor has shape [2]"),
        (
            torch.zeros(2),
            torch.zeros(2).half(),
            "p: was saved as float16, the tensor has float32; convert one of the two first",
        ),
        (np.zeros(2), np.zeros(3, np.int8), "p: was saved as int8 [3], the array is float64 [2]"),
        (np.zeros(2), [1], "p: was saved as a list, the array is float64 [2]"),
        (np.broadcast_to(0.0, 2), np.zeros(2), "p: the array is read-only; give a copy of it"),
        (random.Random(0), 1, "p: found a random.Random, which has no state_dict()"),
        (RandomState(), {}, "p: what was saved is not the state of random generators"),
        (nn.Linear(1, 1), [1], "p: what was saved is a list, not the state of a module"),
        (torch.optim.SGD([torch.zeros(1)]), {"lr": 1}, "p: what was saved is not the state of an optimizer"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_loading_fails_before_any_change_when_a_part_is_of_another_kind(part: Any, saved: Any, message: str) -> None:
    """A part that cannot take what was saved is found before the parts ahead of it are changed."""
    ahead = {"step": 0}
    with pytest.raises(CheckpointMismatch) as caught:
        load_into({"ahead": ahead, "p": part}, {"ahead": {"step": 5}, "p": saved}, "here")
    assert f"  {message}" in str(caught.value)
    assert ahead == {"step": 0}


def test_subclasses_of_dicts_sets_and_arrays_are_filled_in_place(tmp_path: Path) -> None:
    """A default dict, an ordered one, a set and an array stay what they are and take what was saved."""
    parts = {"a": defaultdict(list, x=[1]), "b": OrderedDict(y=2), "c": {3}, "d": np.array([4.0]), "none": None}
    fresh: dict[str, Any] = {
        "a": defaultdict(list), "b": OrderedDict(z=0), "c": {9}, "d": np.zeros(1), "none": None
    }  # fmt: skip
    places = list(fresh.values())
    _again(tmp_path, parts, fresh)
    assert places == [{"x": [1]}, {"y": 2}, {3}, np.array([4.0]), None]
    assert places[0]["new"] == []


def test_a_deque_is_filled_in_place() -> None:
    """The newest values of a bounded queue come back, and the bound stays."""
    place: deque[int] = deque([0], maxlen=3)
    load_into({"p": place}, {"p": deque([1, 2, 3])}, "here")
    place.append(4)
    assert list(place) == [2, 3, 4]


@pytest.mark.row("S6")
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensors_in_plain_values_go_to_the_device_of_those_in_their_places(tmp_path: Path) -> None:
    """What was on a CUDA device is there again, at any depth; what has no place yet is on the CPU."""
    place = {"a": [torch.zeros(2, device="cuda")], "b": {"c": torch.zeros(1)}}
    _again(
        tmp_path, {"p": {"a": [torch.ones(2)], "b": {"c": torch.ones(1).cuda()}, "new": torch.ones(3)}}, {"p": place}
    )
    assert (place["a"][0].device.type, place["b"]["c"].device.type) == ("cuda", "cpu")
    assert (place["a"][0].tolist(), place["new"].device.type) == ([1.0, 1.0], "cpu")


@pytest.mark.row("S7")
@pytest.mark.parametrize("compiled", [False, True], ids=["DataParallel", "torch.compile"])
def test_a_wrapped_submodule_is_stored_under_plain_names_and_restores_both_ways(compiled: bool, tmp_path: Path) -> None:
    """`model.features` wrapped: the file has plain names, the plain model takes it, and takes back what that saved."""

    def build(wrap: bool) -> nn.ModuleDict:
        features: Any = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        if wrap:
            features = torch.compile(features) if compiled else nn.DataParallel(features)
        return nn.ModuleDict({"features": features, "head": nn.Linear(3, 1)})

    wrapped, plain, again = build(True), build(False), build(True)
    _again(tmp_path / "a", {"model": wrapped}, {"model": plain})
    _again(tmp_path / "b", {"model": plain}, {"model": again})
    assert list(CheckpointStore(tmp_path / "a").open(1).tensors()) == list(plain.state_dict())
    values = [list(model.state_dict().values()) for model in (wrapped, plain, again)]
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*values, strict=True))


def test_an_average_restores_with_its_count_and_is_not_taken_for_a_plain_model(tmp_path: Path) -> None:
    """`AveragedModel` goes on averaging; a plain model is told about the count, and changes nothing."""
    net = nn.Linear(2, 1)
    average, fresh = AveragedModel(net), AveragedModel(nn.Linear(2, 1))
    average.update_parameters(net)
    _again(tmp_path, {"ema": average}, {"ema": fresh})
    assert (fresh.n_averaged.item(), fresh.module.weight.tolist()) == (1, net.weight.tolist())
    with pytest.raises(CheckpointMismatch, match=r"ema: n_averaged is in the checkpoint and not in the model"):
        CheckpointStore(tmp_path).restore_latest({"ema": nn.Linear(2, 1)})


class _WithExtra(nn.Module):
    """A module that hands out more than tensors, and changed its ways in version 2."""

    _version = 2

    def __init__(self, extra: Any) -> None:
        super().__init__()
        self.extra = extra
        self.version_read: int | None = None
        self.register_buffer("mean", torch.zeros(1))

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        if state == "bad":
            raise ValueError("not this one")
        self.extra = state

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        self.version_read = local_metadata.get("version")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


@pytest.mark.parametrize("extra", [{"seen": [1, (2, None)]}, torch.ones(3), "text", None], ids=repr)
def test_extra_state_of_modules_comes_back(extra: Any, tmp_path: Path) -> None:
    """What `get_extra_state` returned is handed to `set_extra_state`, at any depth, in a wrapper, of any shape."""
    model = nn.Sequential(nn.DataParallel(_WithExtra(extra)))
    fresh = nn.Sequential(_WithExtra(torch.zeros(7)))
    _again(tmp_path, {"m": model}, {"m": fresh})
    assert torch.equal(fresh[0].extra, extra) if isinstance(extra, Tensor) else fresh[0].extra == extra


def test_a_module_is_told_the_version_of_its_state(tmp_path: Path) -> None:
    """Classes that convert states from before they had versions do not convert their own."""
    fresh = _WithExtra(None)
    _again(tmp_path, {"m": _WithExtra(None)}, {"m": fresh})
    assert fresh.version_read == 2


def test_loading_fails_when_it_would_round() -> None:
    """A checkpoint in float32 for a model in bfloat16 is a difference: cast, it would not be the same run."""
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    saved = _saved({"m": net})
    other = nn.Sequential(nn.Linear(2, 2).bfloat16(), nn.BatchNorm1d(2))
    before = other[0].weight.clone()
    with pytest.raises(CheckpointMismatch) as caught:
        load_into({"m": other}, saved, "here")
    assert str(caught.value).splitlines()[:3] == [
        "Loading here: 2 differences from what was saved:",
        "  m: 0.weight was saved as float32, the model has bfloat16; convert one of the two first",
        "  m: 0.bias was saved as float32, the model has bfloat16; convert one of the two first",
    ]
    assert torch.equal(other[0].weight, before)


def test_lazy_parameters_are_named_when_saving_and_when_loading(tmp_path: Path) -> None:
    """A parameter without a shape is refused with what to do; after one batch it is saved and restored."""
    lazy, other = nn.Sequential(nn.LazyLinear(2)), nn.Sequential(nn.LazyLinear(2))
    with pytest.raises(UnsupportedState, match=r"m\.0\.weight: found a parameter without a shape"):
        CheckpointStore(tmp_path).save(1, {"m": lazy})
    lazy(torch.ones(1, 3))
    with pytest.raises(CheckpointMismatch, match=r"m: 0\.weight has no shape yet in the model \(a lazy module\); run"):
        load_into({"m": other}, _saved({"m": lazy}), "here")
    other(torch.ones(1, 3))
    _again(tmp_path, {"m": lazy}, {"m": other})
    assert torch.equal(lazy[0].weight, other[0].weight)


def test_loading_fails_when_the_model_is_on_the_meta_device() -> None:
    """What holds no values would take none, in silence."""
    saved = _saved({"m": nn.Linear(1, 1)})
    with pytest.raises(
        CheckpointMismatch, match=r"m: weight is on the meta device in the model, which holds no values"
    ):
        load_into({"m": nn.Linear(1, 1, device="meta")}, saved, "here")


@pytest.mark.filterwarnings("ignore")  # torch's own
def test_saving_and_loading_fail_when_tensors_are_spread_over_processes() -> None:
    """Tensors of which each process has a share are refused by name, and the message says how to gather them."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        net = nn.Linear(2, 2)
        saved = _saved({"net": net})
        fully_shard(net, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(UnsupportedState, match=r"net\.weight is spread over processes \(DTensor\); expected whole"):
            state_of({"net": net})
        with pytest.raises(UnsupportedState, match="checkpoints of many processes are not there yet"):
            load_into({"net": net}, saved, "here")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "generator",
    [random.Random(0), np.random.default_rng(0), np.random.RandomState(0), torch.Generator()],
    ids=lambda generator: type(generator).__module__,
)
def test_saving_fails_when_a_part_is_a_bare_generator(generator: Any) -> None:
    """Generators have no state_dict; the message says what has."""
    with pytest.raises(UnsupportedState) as caught:
        state_of({"rng": generator})
    assert str(caught.value).startswith(
        f"Saving rng: found a {type(generator).__module__}.{type(generator).__name__}, "
    )
    assert str(caught.value).endswith('Wrap it: {"rng": holdfast.RandomState(rng=...)}.')


class _Recorded:
    """A stateful object that draws while it saves and loads, notes when it was loaded, and refuses when told to."""

    def __init__(self, log: list[str], name: str, refuses: bool = False) -> None:
        self.log, self.name, self.refuses = log, name, refuses

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": random.random()}

    def load_state_dict(self, _: dict[str, Any]) -> None:
        random.random()
        if self.refuses:
            raise KeyError("drawn")
        self.log.append(self.name)


def test_what_only_an_object_itself_can_check_is_loaded_before_anything_else() -> None:
    """A refusal by an object's own load_state_dict leaves model, optimizer, schedule and plain values as they were."""
    log: list[str] = []

    def build(lr: float, refuses: bool) -> dict[str, Any]:
        net = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr)
        schedule = lr_scheduler.ExponentialLR(optimizer, lr)
        objects = {"first": _Recorded(log, "first"), "late": _Recorded(log, "late", refuses)}
        return {"net": net, "o": optimizer, "s": schedule, "d": {"lr": lr}, "random": RandomState(), **objects}

    saved, fresh = _saved(build(0.5, False)), build(0.1, True)
    before = repr(state_of({name: part for name, part in fresh.items() if name not in ("random", "late", "first")}))
    with pytest.raises(CheckpointMismatch) as caught:
        load_into(fresh, saved, "here")
    assert log == ["first"]
    assert str(caught.value) == (
        "Loading here: part 'late' refused what was saved for it (KeyError: 'drawn'); expected it to take its state "
        "back. Make it as when it was saved, or leave it out of the restore. It and what was loaded before it (first) "
        "may have changed."
    )
    assert before == repr(state_of({name: fresh[name] for name in ("net", "o", "s", "d")}))


def test_random_generators_are_read_and_restored_after_everything_else() -> None:
    """Parts that draw while they save or load, wherever they stand, do not move the generators that come back."""
    parts = {"random": RandomState(), "a": _Recorded([], "a")}
    saved = _saved(parts)
    expected = random.random()
    load_into(parts, saved, "here")
    assert random.random() == expected


def test_a_loss_scaler_comes_back(tmp_path: Path) -> None:
    """The scale and its count go on; a scaler that was switched off does not fit one that is on."""
    scaler, fresh = (torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3) for scale in (2.0**10, 2.0**4))
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight])

    def step(of: torch.amp.GradScaler) -> float:
        of.scale(weight.sum()).backward()
        of.step(optimizer)
        of.update()
        return of.get_scale()

    step(scaler)
    _again(tmp_path, {"scaler": scaler}, {"scaler": fresh})
    assert [step(scaler) for _ in range(5)] == [1024.0, 2048.0, 2048.0, 2048.0, 4096.0]
    assert [step(fresh) for _ in range(5)] == [1024.0, 2048.0, 2048.0, 2048.0, 4096.0]
    off = torch.amp.GradScaler("cpu", enabled=False)
    with pytest.raises(CheckpointMismatch, match=r"part 'scaler' refused what was saved for it \(RuntimeError: "):
        load_into({"scaler": fresh}, _saved({"scaler": off}), "here")


class _Fading:
    """A callable with state of its own, as a learning-rate lambda may be."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: float) -> float:
        self.calls += 1
        return 0.9**self.calls


SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ExponentialLR(o, 0.9), lr_scheduler.MultiStepLR(o, [2, 8])]
    ),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, total_iters=7),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 8),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, mode="exp_range", gamma=0.9),
    "CyclicLR, function": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, scale_fn=lambda x: 0.9**x),
    "CyclicLR, object": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, scale_fn=_Fading()),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, [lambda epoch: 0.9**epoch, _Fading()]),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=8),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 7, 7, 9]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, [lambda _: 0.9, _Fading()]),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, [0.1, 0.2], 20),
    "OneCycleLR, linear": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 20, anneal_strategy="linear", three_phase=True),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 9, 2.0),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1, cooldown=1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.MultiStepLR(o, [4])], [3]
    ),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "SWALR": lambda o: SWALR(o, 0.05, 8),
}


def _scheduled(name: str, lr: float) -> dict[str, Any]:
    net = nn.Linear(2, 2)
    groups = [{"params": [net.weight]}, {"params": [net.bias], "lr": lr / 2}]
    optimizer = torch.optim.SGD(groups, lr, momentum=0.9)
    return {"schedule": SCHEDULES[name](optimizer), "net": net, "o": optimizer}


def _advance(parts: dict[str, Any], steps: range) -> list[list[float]]:
    """Returns learning rate and momentum of both groups after each step."""
    seen = []
    for step in steps:
        parts["o"].step()
        plateau = isinstance(parts["schedule"], lr_scheduler.ReduceLROnPlateau)
        parts["schedule"].step(*([max(3, 6 - step)] if plateau else []))
        seen.append([group[key] for group in parts["o"].param_groups for key in ("lr", "momentum")])
    return seen


def test_every_schedule_of_torch_is_among_those_tested() -> None:
    """A schedule that torch adds has to be added here."""
    kinds = {name for name, kind in vars(lr_scheduler).items() if isinstance(kind, type) and kind is not Counter}
    kinds = {name for name in kinds if issubclass(getattr(lr_scheduler, name), lr_scheduler.LRScheduler)}
    assert kinds - {"LRScheduler", "_LRScheduler"} == {name.partition(",")[0] for name in SCHEDULES} - {"SWALR"}


@pytest.mark.row("S3")
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_of_torch_goes_on_exactly(name: str, tmp_path: Path) -> None:
    """Saved in the middle and restored into a fresh one, each gives the very rates it would have given."""
    parts, fresh = _scheduled(name, 0.1), _scheduled(name, 0.3)
    _advance(parts, range(5))
    kinds = {key: type(value) for key, value in vars(fresh["schedule"]).items()}
    _again(tmp_path, parts, fresh)
    assert {key: type(value) for key, value in vars(fresh["schedule"]).items()} == kinds
    expected = _advance(parts, range(5, 15))
    assert _advance(fresh, range(5, 15)) == expected
    assert len({tuple(rates) for rates in expected}) > 1


@pytest.mark.parametrize(
    ("saved", "own", "message"),
    [
        (
            "StepLR",
            "OneCycleLR",
            r"of schedule than OneCycleLR, which lacks cycle_momentum, total_steps.*, and has gamma",
        ),
        (
            "StepLR",
            "ExponentialLR",
            r"p: was saved by another kind of schedule than ExponentialLR, and has step_size\n",
        ),
        ("ExponentialLR", "StepLR", r"p: was saved by another kind of schedule than StepLR, which lacks step_size\n"),
    ],
)
def test_loading_fails_when_it_was_another_kind_of_schedule(saved: str, own: str, message: str) -> None:
    """torch itself would take the state of any other schedule without a word."""
    part, other = _scheduled(own, 0.1)["schedule"], _scheduled(saved, 0.1)["schedule"]
    before = repr(part.state_dict())
    with pytest.raises(CheckpointMismatch, match=message):
        load_into({"p": part}, {"p": other.state_dict()}, "here")
    assert repr(part.state_dict()) == before


def test_a_schedule_of_the_users_own_may_come_by_its_values_late(tmp_path: Path) -> None:
    """A class that sets a value at its first step is no other kind of schedule before it."""

    class Own(lr_scheduler.LRScheduler):
        def get_lr(self) -> list[float | Tensor]:
            self.asked = getattr(self, "asked", 0) + 1
            return [0.5**self.last_epoch for _ in self.base_lrs]

    optimizer = torch.optim.SGD([torch.zeros(1)])
    schedule, fresh = Own(optimizer), Own(optimizer)
    del fresh.asked
    _again(tmp_path, {"s": schedule}, {"s": fresh})
    assert fresh.asked == 1

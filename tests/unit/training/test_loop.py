from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from holdfast import ArrayPictures, CheckpointStore, Last, Loader, TrainState, train_steps
from holdfast.models import build_model
from holdfast.randomness import derive_seed, seed_generators
from holdfast.training import build_optimizer, build_schedule, evaluate

NUM_STEPS = 7


class _OwnNet(nn.Module):
    """A user's net with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.4)
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.drop(F.relu(self.norm(self.conv(images))).mean((2, 3))))


def _model(name: str) -> nn.Module:
    return _OwnNet() if name == "own" else build_model(name, 3, 1, 16)


def _jitter(image: Tensor) -> Tensor:
    """Draws from all three generators, as users' transforms do."""
    noise = torch.rand(image.shape) + random.random() + float(np.random.rand())
    return image.float() / 255 + 0.1 * noise


def _make(name: str, optimizer: str = "sgd") -> tuple[TrainState, Loader]:
    """Builds a state and a loader over 20 pictures, in batches of 6: three steps an epoch."""
    generator = np.random.default_rng(5)
    pictures = ArrayPictures(generator.integers(0, 256, (20, 16, 16), dtype=np.uint8), np.arange(20) % 3)
    loader = Loader(pictures, batch_size=6, transform=_jitter, seed=3, shuffle=True, drop_last=True)
    torch.manual_seed(11)
    model = _model(name)
    state = TrainState(
        model,
        build_optimizer(model, optimizer, 0.05, weight_decay=0.01),
        F.cross_entropy,
        build_schedule("cosine", 0.05, NUM_STEPS, warmup_steps=2),
        seed=3,
    )
    return state, loader


def _endless(loader: Loader) -> Iterator[Any]:
    while True:
        yield from loader


def _bits(state: TrainState) -> dict[str, Tensor]:
    """Returns copies of every tensor of the model and of the optimizer."""
    found = {f"model.{n}": t.clone() for n, t in state.model.state_dict().items()}
    for number, slots in state.optimizer.state_dict()["state"].items():
        found |= {f"slot.{number}.{k}": v.clone() for k, v in slots.items() if isinstance(v, Tensor)}
    return found


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.row("T1")
@pytest.mark.parametrize("name", ["lenet", "cifar-net", "dynamic", "own"])
def test_equals_a_bare_loop_written_by_hand(name: str) -> None:
    """The loop does what its docstring says and nothing else: a handwritten loop ends on the same bits."""
    state, loader = _make(name)
    bare, batches = _make(name)
    losses = [float(result.loss) for result in train_steps(state, _endless(loader), until=NUM_STEPS)]

    model, optimizer, by_hand = bare.model, bare.optimizer, []
    schedule = build_schedule("cosine", 0.05, NUM_STEPS, warmup_steps=2)
    model.train()
    source = _endless(batches)
    for step in range(NUM_STEPS):
        inputs, targets, _ = next(source)
        seed_generators(derive_seed("step", 3, step, 0))
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        by_hand.append(float(loss.detach()))
    assert losses == by_hand
    assert _same(_bits(state), _bits(bare))


@pytest.mark.row("T1", "M3", "S10")
@pytest.mark.parametrize(
    ("name", "optimizer"), [("lenet", "sgd"), ("lenet", "adamw"), ("dynamic", "sgd"), ("own", "sgd"), ("own", "adam")]
)
def test_stopped_at_any_yield_and_restored_it_ends_on_the_same_bits(tmp_path: Path, name: str, optimizer: str) -> None:
    """Stop at each yield, save, restore into fresh objects, go on: weights, statistics, slots are as uninterrupted."""
    state, loader = _make(name, optimizer)
    store = CheckpointStore(tmp_path / "run", Last(NUM_STEPS))
    losses = []
    for result in train_steps(state, _endless(loader), until=NUM_STEPS):
        losses.append(float(result.loss))
        store.save(result.step, {**state.parts(), "loader": loader})
    expected = _bits(state)
    assert store.steps() == list(range(1, NUM_STEPS + 1))

    for stopped_at in range(1, NUM_STEPS):
        again, batches = _make(name, optimizer)
        random.seed(stopped_at), np.random.seed(stopped_at), torch.manual_seed(stopped_at)
        store.open(stopped_at).restore({**again.parts(), "loader": batches})
        assert again.step == stopped_at
        rest = [float(result.loss) for result in train_steps(again, _endless(batches), until=NUM_STEPS)]
        assert rest == losses[stopped_at:], stopped_at
        assert _same(_bits(again), expected), stopped_at


@pytest.mark.row("T1", "S10")
def test_what_the_caller_does_at_a_yield_changes_nothing() -> None:
    """Evaluating, drawing random numbers and switching modes at every yield leaves the training's bits alone."""
    state, loader = _make("own")
    disturbed, batches = _make("own")
    for _ in train_steps(state, _endless(loader), until=NUM_STEPS):
        pass
    held_out = [(torch.rand(5, 1, 16, 16), torch.arange(5) % 3)]
    for result in train_steps(disturbed, _endless(batches), until=NUM_STEPS):
        evaluate(disturbed.model, held_out)
        disturbed.model.eval()
        random.seed(result.step), np.random.rand(3), torch.rand(7)
    assert _same(_bits(state), _bits(disturbed))


@pytest.mark.row("T1")
def test_yields_once_after_each_step() -> None:
    """Each result has the number of steps made, the loss without its graph, the rate, and the batch itself."""
    state, loader = _make("lenet")
    seen = []
    for result in train_steps(state, loader):
        assert result.step == state.step
        assert result.loss.shape == () and not result.loss.requires_grad
        assert result.lr == state.optimizer.param_groups[0]["lr"]
        assert result.batch.inputs.shape == (6, 1, 16, 16)
        seen.append(result.step)
    assert seen == [1, 2, 3]


@pytest.mark.row("T1")
def test_until_is_reached_without_taking_another_batch() -> None:
    """The batch after the last step is not asked for, so no batch of a stream is lost."""
    state, loader = _make("lenet")
    source = _endless(loader)
    taken: list[int] = []

    def counted() -> Iterator[Any]:
        for number, batch in enumerate(source):
            taken.append(number)
            yield batch

    stream = counted()
    assert [r.step for r in train_steps(state, stream, until=4)] == [1, 2, 3, 4]
    assert taken == [0, 1, 2, 3]
    assert loader.epoch * 3 + loader.batches_delivered == 4
    assert list(train_steps(state, stream, until=4)) == []
    assert taken == [0, 1, 2, 3]
    assert [r.step for r in train_steps(state, stream, until=5)] == [5]


@pytest.mark.row("T1")
def test_without_until_it_ends_with_the_batches() -> None:
    """One pass over a loader is one epoch."""
    state, loader = _make("lenet")
    assert sum(1 for _ in train_steps(state, loader)) == len(loader) == 3


@pytest.mark.row("T1", "D6")
def test_a_plain_dataloader_of_pairs_will_do() -> None:
    """A user's own torch DataLoader of (inputs, targets) is trained on as it is, to the bits of a bare loop."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(12, 4), torch.randint(0, 3, (12,)))
    model = nn.Linear(4, 3)
    bare = copy.deepcopy(model)
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss())
    results = list(train_steps(state, DataLoader(data, batch_size=5)))
    assert [len(r.batch[0]) for r in results] == [5, 5, 2]

    optimizer = torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9)
    for inputs, targets in DataLoader(data, batch_size=5):
        optimizer.zero_grad()
        F.cross_entropy(bare(inputs), targets).backward()
        optimizer.step()
    assert torch.equal(model.weight, bare.weight)


@pytest.mark.row("T3")
def test_targets_that_are_no_tensors_reach_the_loss() -> None:
    """Targets are what the loss wants them to be: a dict is handed on."""
    model = nn.Linear(2, 1)

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return F.mse_loss(outputs, targets["height"])

    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1), loss)
    (result,) = train_steps(state, [(torch.ones(3, 2), {"height": torch.zeros(3, 1)})])
    assert result.step == 1


@pytest.mark.row("T4")
@pytest.mark.parametrize("change_at", [1, 3])
def test_a_rate_may_be_changed_while_training(change_at: int) -> None:
    """Without a schedule the groups' own rates hold, and a change at a yield counts from the next step on."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=1.0), lambda outputs, _: outputs.sum())
    weights = [0.0]
    for result in train_steps(state, [(torch.ones(1, 1), torch.zeros(1))] * 4):
        assert result.lr is None
        weights.append(float(model.weight.detach()))
        if result.step == change_at:
            state.optimizer.param_groups[0]["lr"] = 0.25
    made = [before - after for before, after in pairwise(weights)]
    assert made == [1.0] * change_at + [0.25] * (4 - change_at)


@pytest.mark.row("M6")
def test_the_model_is_in_training_mode_at_every_step() -> None:
    """Whatever mode the caller left it in, each step runs in training mode."""
    modes: list[bool] = []

    class _Watched(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            modes.append(self.training)
            return super().forward(inputs)

    model = _Watched(2, 2).eval()
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1), F.cross_entropy)
    for _ in train_steps(state, [(torch.rand(3, 2), torch.zeros(3, dtype=torch.int64))] * 3):
        model.eval()
    assert modes == [True, True, True]


def _norm_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3), nn.BatchNorm1d(3))


def _train(model: nn.Module, steps: int = 3, at_yield: Callable[[], object] = lambda: None) -> None:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    batches = [(torch.randn(8, 4) + 2, torch.randint(0, 3, (8,))) for _ in range(steps)]
    for _ in train_steps(TrainState(model, optimizer, F.cross_entropy), batches):
        at_yield()


@pytest.mark.row("M6")
def test_frozen_layers_keep_parameters_and_statistics() -> None:
    """Of a frozen backbone neither parameters nor batch-norm statistics move; the rest trains."""
    model = _norm_net()
    for layer in model[:2]:
        layer.requires_grad_(False)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    _train(model)
    moved = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {n for n in before if n.startswith(("3.", "4."))}


@pytest.mark.row("M6")
def test_statistics_of_layers_that_are_not_frozen_move() -> None:
    """Without freezing every parameter and every statistic is another after a step: the test above can fail."""
    model = _norm_net()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    _train(model)
    assert all(not torch.equal(t, before[n]) for n, t in model.state_dict().items())


@pytest.mark.row("M6")
def test_a_layer_put_into_eval_mode_by_hand_stays_there() -> None:
    """While the model itself is in training mode, the caller's choice for a single layer is kept."""
    model = _norm_net()
    model.train()
    model[1].eval()
    mean = model[1].running_mean.clone()
    _train(model)
    assert torch.equal(model[1].running_mean, mean)
    assert not torch.equal(model[4].running_mean, torch.zeros(3))


def test_bf16_trains_in_autocast_and_keeps_weights_in_float32() -> None:
    """With bf16 the forward pass is autocast; weights and loss stay float32."""
    seen: list[torch.dtype] = []
    model = nn.Linear(4, 3)
    model.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1), F.cross_entropy, precision="bf16")
    (result,) = train_steps(state, [(torch.rand(2, 4), torch.zeros(2, dtype=torch.int64))])
    assert seen == [torch.bfloat16]
    assert result.loss.dtype == model.weight.dtype == torch.float32

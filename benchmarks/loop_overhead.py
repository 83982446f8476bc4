"""Microseconds that a training loop adds to a step over the bare handwritten loop.

One linear layer 784 → 10, batch 64 in memory, SGD, cross-entropy: the work of a step is as small as it
gets, so that what the loop adds shows. One thread. By turns, many short rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.options import Options
from benchmarks.spread import summary
from holdfast import TrainState, train_steps
from holdfast.training import build_schedule

STEPS, ROUNDS = 300, 31

Batches = list[tuple[Tensor, Tensor]]


class _Source:
    """An iterable that is not a list: Lightning takes a list for several loaders."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


def _fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(784, 10)
    return model, torch.optim.SGD(model.parameters(), lr=0.01)


def _bare(batches: Batches) -> Callable[[], None]:
    model, optimizer = _fresh()

    def run() -> None:
        model.train()
        for inputs, targets in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()

    return run


def _holdfast(batches: Batches) -> Callable[[], None]:
    model, optimizer = _fresh()

    def run() -> None:
        state = TrainState(model, optimizer, F.cross_entropy, build_schedule("constant", 0.01, STEPS))
        for _ in train_steps(state, batches):
            pass

    return run


def _accelerate(batches: Batches) -> Callable[[], None]:
    from accelerate import Accelerator

    model, optimizer = _fresh()
    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(model, optimizer)

    def run() -> None:
        model.train()
        for inputs, targets in batches:
            with accelerator.accumulate(model):
                optimizer.zero_grad()
                accelerator.backward(F.cross_entropy(model(inputs), targets))
                optimizer.step()

    return run


def _lightning(batches: Batches) -> Callable[[], None]:
    import logging
    import warnings

    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.made = _fresh()

        def training_step(self, batch: tuple[Tensor, Tensor], _number: int) -> Tensor:
            return F.cross_entropy(self.layer(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.made

    module = Module()

    def run() -> None:
        trainer = lightning.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, barebones=False,
        )  # fmt: skip
        trainer.fit(module, _Source(batches))

    return run


def main(options: Options) -> None:
    """Prints microseconds a step, and what each adds to the bare loop."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(64, 784, generator=generator), torch.randint(10, (64,), generator=generator)) for _ in range(STEPS)
    ]
    loops: dict[str, Callable[[], None]] = {}
    for name, make in (("bare", _bare), ("holdfast", _holdfast), ("accelerate", _accelerate)):
        try:
            loops[name] = make(batches)
        except ImportError:
            print(f"{name} is not installed")
    microseconds: dict[str, list[float]] = {name: [] for name in loops}
    for round_number in range(options.turns(ROUNDS) + 2):
        for name, run in loops.items():
            start = time.perf_counter()
            run()
            if round_number >= 2:
                microseconds[name].append((time.perf_counter() - start) / STEPS * 1e6)
    try:
        microseconds["lightning"] = _lightning_steps(batches, options.turns(7))
    except ImportError:
        print("lightning is not installed")
    base = statistics.median(microseconds["bare"])
    for name, values in microseconds.items():
        added = statistics.median(values) - base
        print(f"{name:12} {summary(values, 'µs a step'):>36}   {added:+7.1f} µs")
    torch.set_num_threads(threads)


def _lightning_steps(batches: Batches, rounds: int) -> list[float]:
    """Lightning's microseconds a step: its time for all steps less its time for one, by turns."""
    one, all_steps = _lightning(batches[:1]), _lightning(batches)
    values: list[float] = []
    for round_number in range(rounds + 1):
        times = []
        for run in (one, all_steps):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        if round_number:
            values.append((times[1] - times[0]) / (STEPS - 1) * 1e6)
    return values

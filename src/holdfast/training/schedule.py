"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from holdfast.errors import ConfigError

Schedule = Callable[[int], float]
ScheduleName = Literal["constant", "step", "cosine"]
SCHEDULES: tuple[str, ...] = get_args(ScheduleName)


@dataclass(frozen=True)
class _Curve:
    """The learning rate of step `step` (counted from 0): linear warm-up, then the named curve to `total_steps`."""

    name: str
    lr: float
    total_steps: int
    warmup_steps: int
    step_every: int
    gamma: float
    min_lr: float

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.name == "constant":
            return self.lr
        if self.name == "step":
            return max(self.lr * self.gamma ** (step // self.step_every), self.min_lr)
        share = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return self.min_lr + (self.lr - self.min_lr) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def build_schedule(
    name: str,
    lr: float,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    step_every: int | None = None,
    gamma: float = 0.1,
    min_lr: float = 0.0,
) -> Schedule:
    """Returns a function from step (counted from 0) to learning rate.

    Args:
        name: "constant", "step" (times `gamma` every `step_every` steps) or "cosine" (down to `min_lr` at the end).
        lr: the rate after warm-up.
        total_steps: steps of the whole training.
        warmup_steps: steps of linear warm-up from lr / warmup_steps.
        step_every: by default a third of the training.

    Raises:
        ConfigError: no such schedule, or numbers outside their ranges.

    Source: cosine: Loshchilov & Hutter, SGDR, ICLR 2017, eq. 5, without restarts.
    """
    if name not in SCHEDULES:
        raise ConfigError(f"There is no schedule {name!r}. Choose one of: {', '.join(SCHEDULES)}.")
    if lr <= 0 or warmup_steps < 0 or gamma <= 0 or min_lr < 0:
        raise ConfigError(
            f"A schedule with lr {lr}, {warmup_steps} warm-up steps, gamma {gamma}, min_lr {min_lr}; expected "
            "lr and gamma above 0, the others 0 or more."
        )
    return _Curve(
        name, lr, total_steps, min(warmup_steps, total_steps), step_every or max(total_steps // 3, 1), gamma, min_lr
    )

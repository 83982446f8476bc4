"""Which checkpoints to keep. Never deletes: it answers with a set of steps, and the store deletes the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Retention:
    """Keeps the newest `last` checkpoints and the best one.

    Attributes:
        last: how many of the newest to keep, 1 or more; None keeps all.
        metric: the best by this metric is kept too; None for no such rule.
        direction: "max" when more is better, "min" when less is.
        tie_metric: of equals, the one with the least of this; the earliest where that is equal too.
    """

    last: int | None = 3
    metric: str | None = None
    direction: Literal["max", "min"] = "max"
    tie_metric: str | None = None

    def keep(self, metrics_by_step: Mapping[int, Mapping[str, float]]) -> set[int]:
        """Returns the steps to keep, of those given. The newest is always among them."""
        steps = sorted(metrics_by_step)
        kept = set(steps if self.last is None else steps[-max(self.last, 1) :])
        best = self.best(metrics_by_step)
        return kept if best is None else kept | {best}

    def best(self, metrics_by_step: Mapping[int, Mapping[str, float]]) -> int | None:
        """Returns the step with the best metric; None when none has it."""
        if self.metric is None:
            return None
        sign = 1 if self.direction == "max" else -1
        known = [
            (sign * metrics[self.metric], -metrics.get(self.tie_metric or "", math.inf), -step)
            for step, metrics in metrics_by_step.items()
            if metrics.get(self.metric) is not None
        ]
        return -max(known)[2] if known else None


# How the best of a classifier is chosen wherever we choose it: most right, and of equals the surest.
BEST_CLASSIFIER = Retention(metric="accuracy", direction="max", tie_metric="loss")

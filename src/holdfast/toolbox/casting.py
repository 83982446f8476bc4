"""Floating tensors in another type, and what is lost by it, counted before anything is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.words import count

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
_CHUNK = 1 << 15  # values at once: as float64 they stay in a core's cache
_TINY = 1e-300  # in the place of 0 below a fraction line, where 0 stands above it


@dataclass(frozen=True)
class CastLoss:
    """What became of one tensor's values in a narrower type.

    Attributes:
        name: of the tensor.
        dtype, to: the types, as torch names them.
        num_values: how many there are.
        num_overflowed: finite ones that became infinite.
        num_vanished: ones that became zero.
        max_relative: the largest rounding of the others, as a fraction of the value.
        largest: the largest finite value, absolute.
    """

    name: str
    dtype: str
    to: str
    num_values: int
    num_overflowed: int
    num_vanished: int
    max_relative: float
    largest: float

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return dict(self.__dict__)


def dtype_of(name: str) -> torch.dtype:
    """Returns the floating type of a name. Raises ConfigError for any that is none to cast to."""
    if name not in DTYPES:
        raise ConfigError(f"Casting to {name!r}: expected one of {', '.join(DTYPES)}. Choose one of these.")
    return DTYPES[name]


def is_cast(source: torch.dtype, to: torch.dtype | None) -> bool:
    """Returns whether tensors of a type are changed: floating ones are, integers, truth values and complex are not."""
    return to is not None and source.is_floating_point and source is not to


def is_exact(source: torch.dtype, to: torch.dtype) -> bool:
    """Returns whether every value of one floating type is one of another."""
    a, b = torch.finfo(source), torch.finfo(to)
    return b.eps <= a.eps and b.max >= a.max and b.smallest_normal <= a.smallest_normal


def measure_loss(name: str, tensor: Tensor, to: torch.dtype) -> CastLoss:
    """Returns what a cast would lose, in one pass over the values, a piece at a time."""
    flat = tensor.reshape(-1)
    overflowed, vanished, relative, largest = 0, 0, 0.0, 0.0
    for start in range(0, flat.numel(), _CHUNK):
        piece = flat[start : start + _CHUNK]
        before, after = piece.to(torch.float64), piece.to(to).to(torch.float64)
        loss, size = (after - before).abs_(), before.abs()
        if not math.isfinite(loss.max().item()):  # somewhere there is NaN or infinity, before or after
            finite = before.isfinite()
            over = finite & ~after.isfinite()
            overflowed += int(over.sum())
            if finite.any():
                largest = max(largest, size[finite].max().item())
            kept = finite & ~over
            loss, size, after = (torch.where(kept, values, 0.0) for values in (loss, size, after))
        zero = after == 0
        vanished += int(torch.count_nonzero(zero & (size != 0)))
        relative = max(relative, loss.div_(size.clamp(min=_TINY)).masked_fill_(zero, 0.0).max().item())
        largest = max(largest, size.max().item())
    return CastLoss(name, _word(tensor.dtype), _word(to), tensor.numel(), overflowed, vanished, relative, largest)


def loss_line(losses: list[CastLoss], num_exact: int, to: str) -> str:
    """Returns one line on all tensors that were cast."""
    if not losses:
        return f"cast to {to}: {count(num_exact, 'tensor')}, without loss"
    kinds = "/".join(sorted({loss.dtype for loss in losses}))
    rounded = max(loss.max_relative for loss in losses)
    line = f"cast from {kinds} to {to}: {count(len(losses), 'tensor')}, largest relative change {_percent(rounded)}"
    if rounded > torch.finfo(DTYPES[to]).eps:  # only below the smallest normal number is the grid so coarse
        line += " (in values near 0)"
    if vanished := sum(loss.num_vanished for loss in losses):
        line += f"; {count(vanished, 'value')} became 0"
    if overflowed := sum(loss.num_overflowed for loss in losses):
        line += f"; {count(overflowed, 'value')} became infinite"
    return line + (f"; {num_exact} more without loss" if num_exact else "")


def _percent(share: float) -> str:
    """Returns 0.049 %, 79 %: two digits, never an exponent of ten for what is nearly all."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def overflow_text(losses: list[CastLoss]) -> list[str]:
    """Returns a line for every tensor that holds values too large for the type."""
    return [
        f"{loss.name}: {loss.num_overflowed:,} of {loss.num_values:,} values, up to {loss.largest:.6g} "
        f"(at most {torch.finfo(DTYPES[loss.to]).max:g})"
        for loss in losses
        if loss.num_overflowed
    ]


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

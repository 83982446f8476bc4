"""How the values of two tensors differ, piece by piece in float64; integers exactly, NaN and infinities counted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CHUNK = 1 << 15  # values at once: as float64 they stay in a core's cache
_TINY = 1e-300  # in the place of 0 below a fraction line, where 0 stands above it


@dataclass(frozen=True)
class ValueDifference:
    """How the values of two tensors of one shape differ.

    Attributes:
        num_values: how many there are.
        num_different: how many differ: by more than the tolerance, or in being NaN or infinite.
        same_bits: whether all bytes are the same (types included).
        max_abs: the largest |a − b|, infinite where only one is infinite or NaN; None for types without arithmetic.
        max_rel: the largest |a − b| / max(|a|, |b|) of finite values.
        cosine: similarity of the two as vectors, of finite values; None when one of them is zero or an overflow.
        num_nan: how many are NaN in one of the two only.
    """

    num_values: int
    num_different: int
    same_bits: bool
    max_abs: float | int | None
    max_rel: float | None
    cosine: float | None
    num_nan: int = 0


def compare_values(a: Tensor, b: Tensor, rtol: float = 0.0, atol: float = 0.0) -> ValueDifference:
    """Compares two tensors of one shape, on the CPU.

    Args:
        a, b: of any dtypes and strides. NaN equals NaN, an infinity one of its sign.
        rtol, atol: floating and complex values may differ by atol + rtol · |b|; integers may not differ.
    """
    a, b = (t.detach().resolve_conj().resolve_neg().reshape(-1) for t in (a, b))
    if a.dtype is b.dtype and _same_bytes(a, b):
        return ValueDifference(a.numel(), 0, True, 0, 0.0, 1.0)
    if not (_is_float(a) or _is_float(b)):
        return _compare_integers(a, b)
    return _compare_floats(a, b, rtol, atol)


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    if not a.numel():
        return True
    raw = (t.contiguous().as_strided((t.numel(),), (1,)).view(torch.uint8) for t in (a, b))
    return torch.equal(*raw)


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _compare_integers(a: Tensor, b: Tensor) -> ValueDifference:
    """Compares without rounding: a difference of two 64-bit integers does not fit into one of them."""
    try:
        x, y = a.numpy(), b.numpy()
    except TypeError:  # a type of torch that NumPy has no word for; its bytes are known to differ
        return ValueDifference(a.numel(), a.numel(), False, None, None, None)
    different, largest, relative, angle = 0, 0, 0.0, _Angle()
    for start in range(0, len(x), _CHUNK):
        angle.add(*_wide(a[start : start + _CHUNK], b[start : start + _CHUNK]))
        p, q = x[start : start + _CHUNK], y[start : start + _CHUNK]
        at = np.flatnonzero(p != q)
        different += len(at)
        if len(at):
            gap = _gaps(p[at], q[at])
            largest = max(largest, int(gap.max()))
            size = np.maximum(np.abs(p[at].astype(np.float64)), np.abs(q[at].astype(np.float64)))
            relative = max(relative, float((gap / size).max()))
    return ValueDifference(len(x), different, False, largest, relative, angle.cosine())


def _gaps(p: np.ndarray[Any, Any], q: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns |p − q| of unequal integers as uint64, exactly."""
    if p.dtype != np.uint64 and q.dtype != np.uint64:
        p, q = p.astype(np.int64), q.astype(np.int64)
        with np.errstate(over="ignore"):  # what wraps round is right again as an unsigned number
            wrapped: np.ndarray[Any, Any] = np.where(p > q, p - q, q - p)
            return wrapped.view(np.uint64)
    gaps = [abs(int(u) - int(v)) for u, v in zip(p, q, strict=True)]
    return np.array(gaps, dtype=np.uint64 if max(gaps) < 1 << 64 else np.float64)


def _compare_floats(a: Tensor, b: Tensor, rtol: float, atol: float) -> ValueDifference:
    different, num_nan, max_abs, max_rel, angle = 0, 0, 0.0, 0.0, _Angle()
    for start in range(0, a.numel(), _CHUNK):
        x, y = _wide(a[start : start + _CHUNK], b[start : start + _CHUNK])
        gap = (x - y).abs()
        if not math.isfinite(gap.max().item()):  # somewhere there is NaN or infinity
            nan_x, nan_y = x.isnan(), y.isnan()
            finite = x.isfinite() & y.isfinite()
            odd = ~finite & (x != y) & ~(nan_x & nan_y)
            different, num_nan = different + int(odd.sum()), num_nan + int((nan_x ^ nan_y).sum())
            max_abs = math.inf if odd.any() else max_abs
            x, y, gap = torch.where(finite, x, 0), torch.where(finite, y, 0), torch.where(finite, gap, 0.0)
        allowed = y.abs().mul_(rtol).add_(atol) if rtol or atol else 0.0
        different += int(torch.count_nonzero(gap > allowed))
        max_abs = max(max_abs, gap.max().item())
        max_rel = max(max_rel, (gap / torch.maximum(x.abs(), y.abs()).clamp_(min=_TINY)).max().item())
        angle.add(x, y)
    return ValueDifference(a.numel(), different, False, max_abs, max_rel, angle.cosine(), num_nan)


class _Angle:
    """The angle between two vectors that come piece by piece."""

    def __init__(self) -> None:
        self._dot, self._aa, self._bb = 0.0, 0.0, 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Takes in the next pieces, float64 or complex128, finite."""
        if x.is_complex():
            x, y = torch.view_as_real(x).reshape(-1), torch.view_as_real(y).reshape(-1)
        self._dot += (x @ y).item()
        self._aa += (x @ x).item()
        self._bb += (y @ y).item()

    def cosine(self) -> float | None:
        """Returns the cosine; None when a vector is zero or too long for a float."""
        size = math.sqrt(self._aa) * math.sqrt(self._bb)
        usable = 0 < size < math.inf and math.isfinite(self._dot)
        return max(-1.0, min(1.0, self._dot / size)) if usable else None


def _wide(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both as float64, or as complex128 when one of them is complex."""
    dtype = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
    return a.to(dtype), b.to(dtype)

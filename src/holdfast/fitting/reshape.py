"""Tensors that have another shape in the model than in the file, made to fit where it is known what they mean.

Other input channels, other picture sizes (position embeddings, patch sizes) go through timm's own functions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_POSITIONS = ("pos_embed", "pos_embedding", "position_embedding", "positional_embedding", "position_embeddings")
_RELATIVE = ("relative_position_bias_table",)
_COMPUTED = ("relative_position_index", "attn_mask", "relative_coords_table", "position_ids")


class Reshaped:
    """A tensor that was made to fit, and how, in words."""

    def __init__(self, tensor: Tensor, how: str) -> None:
        self.tensor = tensor
        self.how = how


def reshaped(name: str, value: Tensor, target: Tensor, model: nn.Module, stem: str | None) -> Reshaped | str:
    """Returns a tensor of the target's shape made from `value`, or why there is none.

    Args:
        name: of the tensor in the model.
        value: from the file, of any shape.
        target: the model's.
        model: asked for the sizes that its own modules state.
        stem: the name of the model's first convolution's weight, the only one whose input channels are colours.
    """
    made = _reshaped(name, value, target, model, stem)
    if isinstance(made, Reshaped) and made.tensor.shape != target.shape:
        return f"another shape: {list(value.shape)} in the file, {list(target.shape)} in the model"
    return made


def _reshaped(name: str, value: Tensor, target: Tensor, model: nn.Module, stem: str | None) -> Reshaped | str:
    last = name.rpartition(".")[2]
    words = set(name.split("."))
    other = f"{list(value.shape)} in the file, {list(target.shape)} in the model"
    if last in _COMPUTED:
        return f"follows from the size: {other}"
    if words & set(_POSITIONS) and value.is_floating_point() and value.ndim == target.ndim and value.ndim in (2, 3):
        return _other_positions(value, target, model, other)
    if last in _RELATIVE and value.ndim == target.ndim == 2 and value.shape[1] == target.shape[1]:
        return _other_window(value, target, other)
    if value.shape[1:] == target.shape[1:] and value.ndim == target.ndim:
        return f"another number of outputs: {other}"
    if name == stem and value.ndim == target.ndim == 4 and _same_but(value, target, 1):
        return _other_channels(value, target, other)
    if value.ndim == target.ndim == 4 and value.shape[:2] == target.shape[:2] and name == stem:
        from timm.layers import resample_patch_embed

        made = resample_patch_embed(value.float(), list(target.shape[2:]))
        return Reshaped(made.to(value.dtype), f"patches of another size: {_sizes(value, target)}")
    if value.numel() == target.numel() and _bare(value) == _bare(target):
        return Reshaped(value.reshape(target.shape), f"axes of one value: {_sizes(value, target)}")
    return f"another shape: {other}"


def stem_of(model: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """Returns the name of the weight that the pictures meet first, a convolution over all channels; None without one.

    Args:
        tensors: the model's, by name, in its order.
    """
    grouped = {id(module.weight) for module in model.modules() if isinstance(module, nn.Conv2d) and module.groups > 1}
    first = next((name for name, tensor in tensors.items() if tensor.ndim == 4 and name.endswith("weight")), None)
    return None if first is None or id(tensors[first]) in grouped else first


def rows_by_class(value: Tensor, target: Tensor, theirs: list[str], ours: list[str]) -> tuple[Tensor, int]:
    """Returns the target with the rows of those classes that the file knows, and how many these are.

    Args:
        value: [K', …] from the file, a row for each of the classes `theirs`.
        target: [K, …] of the model, a row for each of the classes `ours`.
    """
    row_of = {name: row for row, name in enumerate(theirs)}
    shared = [(row, row_of[name]) for row, name in enumerate(ours) if name in row_of]
    made = target.detach().to("cpu", copy=True)
    if shared:
        own, their = (torch.tensor(rows) for rows in zip(*shared, strict=True))
        made[own] = value[their].to(made.dtype)
    return made, len(shared)


def _other_channels(value: Tensor, target: Tensor, other: str) -> Reshaped | str:
    from timm.models import adapt_input_conv

    channels = target.shape[1]
    how = f"{value.shape[1]} input channels made {channels}"
    if value.shape[1] == 1:
        # A grey picture has the same value in all channels: shares of the one filter answer as it did.
        return Reshaped((value / channels).expand_as(target), how)
    if value.shape[1] == 3:  # what timm's function takes for granted
        return Reshaped(adapt_input_conv(channels, value).to(value.dtype), how)
    return f"other input channels: {other}"


def _other_positions(value: Tensor, target: Tensor, model: nn.Module, other: str) -> Reshaped | str:
    from timm.layers import resample_abs_pos_embed

    if value.shape[-1] != target.shape[-1] or value.shape[:-2] != target.shape[:-2]:
        return f"another shape: {other}"
    new, old = target.shape[-2], value.shape[-2]
    stated = getattr(model, "num_prefix_tokens", None)
    for prefix in dict.fromkeys([*([stated] if isinstance(stated, int) else []), 1, 0, 2, 5]):
        grid = _grid(model, new - prefix)
        if _is_square(old - prefix) and grid is not None:
            side = math.isqrt(old - prefix)
            whole = value.reshape(1, old, value.shape[-1])
            made = resample_abs_pos_embed(whole, list(grid), num_prefix_tokens=prefix)
            grids = f"{side} × {side} positions made {grid[0]} × {grid[1]}"
            return Reshaped(made.reshape(target.shape).to(value.dtype), grids)
    return f"positions whose grid is not known: {other}"


def _grid(model: nn.Module, count: int) -> tuple[int, int] | None:
    """Returns rows and columns of so many positions: those that the model states, or those of a square."""
    stated = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if isinstance(stated, tuple) and len(stated) == 2 and stated[0] * stated[1] == count:
        return stated
    return (math.isqrt(count), math.isqrt(count)) if _is_square(count) else None


def _other_window(value: Tensor, target: Tensor, other: str) -> Reshaped | str:
    from timm.layers import resize_rel_pos_bias_table

    for extra in (0, 3):  # BEiT has three more rows, for its class token
        old, new = math.isqrt(max(0, value.shape[0] - extra)), math.isqrt(max(0, target.shape[0] - extra))
        if old % 2 and new % 2 and old * old + extra == value.shape[0] and new * new + extra == target.shape[0]:
            window = (new + 1) // 2
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # timm's interpolation warns of its own speed
                made = resize_rel_pos_bias_table(value.float(), (window, window), tuple(target.shape))
            return Reshaped(made.to(value.dtype), f"windows of {(old + 1) // 2} made {window}")
    return f"windows that are no square: {other}"


def _same_but(value: Tensor, target: Tensor, axis: int) -> bool:
    return all(i == axis or a == b for i, (a, b) in enumerate(zip(value.shape, target.shape, strict=True)))


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def _bare(tensor: Tensor) -> list[int]:
    return [extent for extent in tensor.shape if extent != 1]


def _sizes(value: Tensor, target: Tensor) -> str:
    return f"{list(value.shape)} → {list(target.shape)}"

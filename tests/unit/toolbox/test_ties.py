from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from holdfast.formats import open_checkpoint
from holdfast.toolbox.ties import ties_of

Save = Callable[..., Path]


def _ties(save: Save, tensors: dict[str, Tensor]) -> dict[str, str]:
    return ties_of(open_checkpoint(save("a.pt", {"model": tensors})).role())


def test_names_of_one_tensor_are_tied_to_the_first(save: Save) -> None:
    """Two and more names of the same memory have the first as theirs; equal values in other memory do not."""
    shared = torch.arange(6.0)
    tensors = {"a.w": shared, "b.w": shared, "c.w": shared.clone(), "d.w": shared.view(6)}
    assert _ties(save, tensors) == {"b.w": "a.w", "d.w": "a.w"}


def test_other_views_of_the_same_memory_are_not_tied(save: Save) -> None:
    """A transposed, shifted or shortened view shows other values, and is a tensor of its own."""
    square = torch.arange(9.0).reshape(3, 3)
    assert _ties(save, {"a.w": square, "b.w": square.t(), "c.w": square[1:], "d.w": square[:2], "e.w": square[0]}) == {}


def test_tensors_without_values_are_not_tied(save: Save) -> None:
    """Two empty tensors share nothing."""
    assert _ties(save, {"a.w": torch.zeros(0, 2), "b.w": torch.zeros(0, 2), "c.w": torch.ones(1)}) == {}


def test_a_step_that_is_never_taken_makes_no_difference(save: Save) -> None:
    """An axis of one value may have any stride."""
    column = torch.arange(4.0).reshape(4, 1)
    assert _ties(save, {"a.w": column, "b.w": column.as_strided((4, 1), (1, 77))}) == {"b.w": "a.w"}

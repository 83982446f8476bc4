from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from holdfast.fitting.reparametrized import one_form


def _forms(module: nn.Module) -> dict[str, tuple[str, ...]]:
    return one_form({name: tuple(name.split(".")) for name in module.state_dict()})


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("old", "new"), [(weight_norm, parametrizations.weight_norm), (spectral_norm, parametrizations.spectral_norm)]
)
def test_the_old_and_the_new_way_have_one_form(
    old: Callable[[nn.Module], nn.Module], new: Callable[[nn.Module], nn.Module]
) -> None:
    """What torch writes for the same layer in both ways has the same names in one form, and the same shapes."""
    torch.manual_seed(0)
    first, second = nn.Sequential(old(nn.Linear(3, 4))), nn.Sequential(new(nn.Linear(3, 4)))
    ours, theirs = _forms(first), _forms(second)
    assert sorted(ours.values()) == sorted(theirs.values())
    shapes = {theirs[name]: tensor.shape for name, tensor in second.state_dict().items()}
    assert {ours[name]: tensor.shape for name, tensor in first.state_dict().items()} == shapes


def test_a_name_counts_by_what_stands_beside_it() -> None:
    """A lone `weight_v` or `x_g` is a tensor of that name and nothing else."""
    for names in (["weight_v"], ["weight_g"], ["a.weight_v", "b.weight_g"], ["weight_u", "weight_v"], ["_g", "_v"]):
        words = {name: tuple(name.split(".")) for name in names}
        assert one_form(words) == words


def test_two_tensors_never_get_one_name() -> None:
    """A file that has the old names and the new ones keeps all of them as they are."""
    words = {n: tuple(n.split(".")) for n in ["weight_g", "weight_v", "parametrizations.weight.original0"]}
    assert one_form(words) == words

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from holdfast.checkpoints.module_names import named_parameters, plain_names
from holdfast.errors import UnsupportedState


class _Net(nn.Module):
    """A model with a layer called `module`, which is nobody's wrapper, and one called `_orig_mod`."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self._orig_mod = nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._orig_mod(self.module(x))


PLAIN = list(_Net().state_dict())
PARAMETERS = [name for name, _ in _Net().named_parameters()]


@pytest.fixture(scope="module")
def _one_process() -> Iterator[None]:
    """A process group of this process alone, for the wrappers that cannot do without."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def _compiled(module: nn.Module) -> nn.Module:
    compiled = torch.compile(module, backend=_never)
    assert isinstance(compiled, nn.Module)
    return compiled


def _never(*_: Any) -> Any:
    raise AssertionError("the model was compiled")


def _layer_wrapped(module: nn.Module) -> nn.Module:
    """Wraps the layers in place, each in another way."""
    assert isinstance(module, _Net)
    module.module[0] = nn.DataParallel(checkpoint_wrapper(_compiled(module.module[0])))
    module.module = checkpoint_wrapper(nn.DataParallel(module.module))
    module._orig_mod = _compiled(nn.DataParallel(module._orig_mod))
    return module


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "nothing": lambda module: module,
    "DataParallel": nn.DataParallel,
    "twice DataParallel": lambda module: nn.DataParallel(nn.DataParallel(module)),
    "torch.compile": _compiled,
    "checkpoint_wrapper": checkpoint_wrapper,
    "every layer": _layer_wrapped,
    "everything around every layer": lambda m: _compiled(checkpoint_wrapper(nn.DataParallel(_layer_wrapped(m)))),
}


@pytest.mark.row("S7")
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_names_are_those_of_the_plain_model(wrap: Callable[[nn.Module], nn.Module]) -> None:
    """Wrapped at the top, at any depth, and one wrapper in another: the names and their order are the plain model's."""
    model = wrap(_Net())
    names = plain_names(model, model.state_dict())
    assert list(names) == list(model.state_dict())
    assert list(names.values()) == PLAIN
    assert [name for name, _ in named_parameters(model)] == PARAMETERS
    values = model.state_dict()
    by_name = {plain: values[name] for name, plain in names.items()}
    assert all(by_name[name].data_ptr() == parameter.data_ptr() for name, parameter in named_parameters(model))


@pytest.mark.row("S7")
@pytest.mark.parametrize("kind", ["DistributedDataParallel", "FullyShardedDataParallel"])
@pytest.mark.usefixtures("_one_process")
@pytest.mark.filterwarnings("ignore")  # torch's own, on wrapping for one process and on its older sharding
def test_names_of_models_wrapped_for_many_processes_are_plain(kind: str) -> None:
    """DDP, and FSDP of the first kind with layers of their own, give the plain names too."""
    if kind == "DistributedDataParallel":
        model: nn.Module = _compiled(nn.parallel.DistributedDataParallel(_Net()))
    else:
        from torch.distributed.fsdp import FullyShardedDataParallel

        options: dict[str, Any] = {"device_id": torch.device("cpu"), "use_orig_params": True}
        net = _Net()
        net.module = FullyShardedDataParallel(checkpoint_wrapper(net.module), **options)
        model = FullyShardedDataParallel(net, **options)
    assert list(plain_names(model, model.state_dict()).values()) == PLAIN
    assert [name for name, _ in named_parameters(model)] == PARAMETERS


def test_an_averaged_model_keeps_its_count_beside_the_plain_names() -> None:
    """`AveragedModel` loses its word; the number of models it has averaged stays."""
    model = AveragedModel(nn.DataParallel(nn.Linear(2, 1)))
    assert plain_names(model, model.state_dict()) == {
        "n_averaged": "n_averaged",
        "module.module.weight": "weight",
        "module.module.bias": "bias",
    }


@pytest.mark.parametrize("kind", ["ModelEmaV2", "ModelEmaV3"])
def test_timms_averages_have_plain_names(kind: str) -> None:
    """The averages of timm open in the plain model."""
    from timm.utils import model_ema

    model = getattr(model_ema, kind)(nn.Linear(1, 1))
    assert plain_names(model, model.state_dict()) == {"module.weight": "weight", "module.bias": "bias"}


def test_a_wrapper_keeps_its_word_where_names_would_meet() -> None:
    """An average of an average has two counts: the outer wrapper stays in the names, the inner one does not."""
    model = AveragedModel(AveragedModel(nn.Linear(2, 1, bias=False)))
    assert plain_names(model, model.state_dict()) == {
        "n_averaged": "n_averaged",
        "module.n_averaged": "module.n_averaged",
        "module.module.weight": "module.weight",
    }
    assert [name for name, _ in named_parameters(model)] == ["module.weight"]


def test_a_wrapper_of_the_users_own_is_part_of_the_model() -> None:
    """A class that merely looks like a wrapper has the names it always had."""

    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    model = Wrapper(nn.Linear(1, 1))
    assert plain_names(model, model.state_dict()) == {"module.weight": "module.weight", "module.bias": "module.bias"}


def test_tied_parameters_have_all_their_names_the_first_one_first() -> None:
    """A layer that stands in two places, wrapped in one of them, is found under both names."""
    layer = nn.Linear(1, 1, bias=False)
    model = nn.ModuleDict({"a": layer, "b": nn.DataParallel(layer)})
    assert [(name, parameter is layer.weight) for name, parameter in named_parameters(model)] == [
        ("a.weight", True),
        ("b.weight", True),
    ]


def test_modules_that_know_their_model_end_the_walk() -> None:
    """A circle of modules is walked once."""
    model = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False)})
    model["a"].add_module("above", model)
    assert [name for name, _ in named_parameters(model)] == ["a.weight"]


def test_naming_fails_when_a_hook_writes_a_name_that_is_taken() -> None:
    """Two tensors of one name are refused: one of them would be lost."""
    model = nn.DataParallel(nn.Linear(1, 1))
    with pytest.raises(UnsupportedState, match=r"Naming the tensors of a wrapped DataParallel: weight would stand for"):
        plain_names(model, ["module.weight", "weight"])


def test_looking_for_wrappers_does_not_import_the_compiler() -> None:
    """Finding names costs no import: what has not been imported is not in use."""
    code = (
        "import sys, torch; from holdfast.checkpoints.module_names import plain_names\n"
        "print(plain_names(torch.nn.Linear(1, 1), ['weight']), 'torch._dynamo' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "{'weight': 'weight'} False\n"

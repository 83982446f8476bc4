from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from holdfast import open_checkpoint
from holdfast.errors import CheckpointMismatch
from holdfast.fitting.optimizer import PreparedOptimizer
from holdfast.fitting.optimizer_choice import owners_of
from holdfast.fitting.optimizer_source import prepare_from
from holdfast.fitting.source import weights_of


def net() -> nn.Sequential:
    """Vectors of one shape beside each other, whose sorted order is not the model's."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))


def stepped(*models: nn.Module, first: float = 0.0, params: Any = None) -> Optimizer:
    """An Adam whose first moments are all the number of their parameter, counted from `first`."""
    every = [p for model in models for p in model.parameters()]
    optimizer = torch.optim.Adam(params if params is not None else every)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for number, parameter in enumerate(every):
        if parameter in optimizer.state:
            optimizer.state[parameter]["exp_avg"].fill_(first + number)
    return optimizer


def prepared(
    path: Path, model: nn.Module, role: str | None = None, **options: Any
) -> tuple[PreparedOptimizer, Optimizer]:
    """What a file has for an Adam over a model of the same names."""
    weights = weights_of(path, role)
    optimizer = torch.optim.Adam(model.parameters())
    live = model.state_dict()
    pairs = {n: n for n, t in weights.tensors.items() if n in live and t.shape == live[n].shape}
    return prepare_from(weights, optimizer, model, pairs, **options), optimizer


def numbers(path: Path, model: nn.Module, role: str | None = None, **options: Any) -> dict[str, float]:
    """Parameter → the number that its moments hold now."""
    ready, optimizer = prepared(path, model, role, **options)
    ready.apply()
    named = model.named_parameters()
    return {n: float(optimizer.state[p]["exp_avg"].flatten()[0]) for n, p in named if p in optimizer.state}


def save(path: Path, tree: dict[str, Any]) -> Path:
    """Writes states of what is in the tree."""
    state = {k: v.state_dict() if isinstance(v, (nn.Module, Optimizer)) else v for k, v in tree.items()}
    torch.save(state, path / "c.pt")
    return path / "c.pt"


class TestOrder:
    """Whether the names of a role stand in its model's order."""

    @pytest.mark.parametrize("sharded", [False, True])
    def test_a_folder_of_safetensors_gives_each_parameter_its_own_moments(self, tmp_path: Path, sharded: bool) -> None:
        """accelerate's folder: `1.bias` stands before `1.weight` in the file, and behind it in the optimizer."""
        model = net()
        if sharded:  # transformers' older shards, whose index is sorted
            names, shard = sorted(model.state_dict()), "pytorch_model-00001-of-00001.bin"
            table = ", ".join(f'"{name}": "{shard}"' for name in names)
            torch.save(model.state_dict(), tmp_path / shard)
            (tmp_path / "pytorch_model.bin.index.json").write_text(f'{{"weight_map": {{{table}}}}}')
        else:
            save_file(model.state_dict(), tmp_path / "model.safetensors")
        torch.save(stepped(model).state_dict(), tmp_path / "optimizer.bin")
        assert weights_of(tmp_path).keeps_order is False
        assert numbers(tmp_path, net()) == {name: i for i, (name, _) in enumerate(model.named_parameters())}

    def test_a_file_of_torch_keeps_the_order_and_a_sorted_one_does_not(self, tmp_path: Path) -> None:
        """Weights that came out of safetensors and were saved again are sorted still."""
        state = net().state_dict()
        assert weights_of(save(tmp_path, {"model": state})).keeps_order is True
        assert weights_of(save(tmp_path, {"model": dict(sorted(state.items()))})).keeps_order is False


class TestChoice:
    """Several models and optimizers of the same shapes."""

    @pytest.mark.row("S4")
    @pytest.mark.parametrize(
        "names",
        [
            {"model": "optimizer", "critic": "critic_optimizer"},
            {"G": "optim_G", "D": "optim_D"},
            {"generator": "optG", "discriminator": "optD"},
            {"netG_A": "optimizerG_A", "netG_B": "optimizerG_B"},
            {"model": "optimizer", "model_1": "optimizer_1"},
        ],
    )
    def test_each_model_gets_the_optimizer_that_its_name_says(self, tmp_path: Path, names: dict[str, str]) -> None:
        """Shapes say nothing; the shared word, letter or number does."""
        models = {role: nn.Linear(3, 3) for role in names}
        tree: dict[str, Any] = dict(models)
        for number, (role, name) in enumerate(names.items()):
            tree[name] = stepped(models[role], first=10.0 * number)
        path = save(tmp_path, tree)
        for number, role in enumerate(_roles(path)):
            assert numbers(path, nn.Linear(3, 3), role) == {"weight": 10.0 * number, "bias": 10.0 * number + 1}

    def test_another_models_optimizer_is_never_taken(self, tmp_path: Path) -> None:
        """Only the decoder's is there: the encoder gets none, and by name what was asked for."""
        one, other = nn.Linear(3, 3), nn.Linear(3, 3)
        path = save(tmp_path, {"encoder": one, "decoder": other, "optimizer_decoder": stepped(other)})
        message = "Choosing the optimizer of encoder in .*: of optimizer_decoder, none would fit"
        with pytest.raises(CheckpointMismatch, match=message):
            prepared(path, nn.Linear(3, 3), "encoder")
        assert numbers(path, nn.Linear(3, 3), "decoder") == {"weight": 0, "bias": 1}
        assert numbers(path, nn.Linear(3, 3), "encoder", name="optimizer_decoder") == {"weight": 0, "bias": 1}
        with pytest.raises(CheckpointMismatch, match="it has none called 'x'; expected one of optimizer_decoder"):
            prepared(path, nn.Linear(3, 3), "decoder", name="x")

    def test_one_nameless_optimizer_of_two_equal_models_is_not_taken(self, tmp_path: Path) -> None:
        """It may be either's; of models that differ it is the one whose shapes it has."""
        one, other, third = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        path = save(tmp_path, {"G": one, "D": other, "optimizer": stepped(one)})
        with pytest.raises(CheckpointMismatch, match="expected one that is proven to be its own"):
            prepared(path, nn.Linear(3, 3), "G")
        path = save(tmp_path, {"G": one, "D": third, "optimizer": stepped(third)})
        assert numbers(path, nn.Linear(3, 2), "D") == {"weight": 0, "bias": 1}
        with pytest.raises(CheckpointMismatch, match="Choosing the optimizer of G"):
            prepared(path, nn.Linear(3, 3), "G")

    def test_lightnings_two_are_told_by_what_is_wanted_of_them(self, tmp_path: Path) -> None:
        """Their states have no names; only one holds parameters that the live optimizer has."""
        whole = nn.ModuleDict({"net": nn.Linear(3, 4), "aux": nn.Linear(2, 5)})
        states = [stepped(whole["aux"]).state_dict(), stepped(whole["net"], first=7.0).state_dict()]
        tree = {"state_dict": whole.state_dict(), "optimizer_states": states, "pytorch-lightning_version": "2.5"}
        live = nn.ModuleDict({"net": nn.Linear(3, 4)})
        assert numbers(save(tmp_path, tree), live) == {"net.weight": 7, "net.bias": 8}

    def test_a_name_may_carry_the_words_of_several_models(self) -> None:
        """Then it is one of theirs, and nobody else's."""
        found = owners_of(["optim_g", "optimizer", "opt_critic"], ["g_a", "g_b", "critic", "ema"])
        assert found == {"optim_g": {"g_a", "g_b"}, "optimizer": frozenset(), "opt_critic": {"critic"}}


class TestOthers:
    """Parameters in the same optimizer that are not the model's."""

    @pytest.mark.parametrize("loose", [False, True])
    def test_what_may_be_a_criterions_is_not_given_to_the_model(self, tmp_path: Path, loose: bool) -> None:
        """A frozen head, and centers of the head's shape in its place at the end."""
        model, centers = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)), nn.Parameter(torch.zeros(3, 5))
        optimizer = stepped(model, params=[*model[0].parameters(), centers])
        optimizer.state[centers]["exp_avg"].fill_(99.0)
        held = {"centers": centers.data} if loose else {"criterion": {"centers": centers.data, "scale": torch.ones(2)}}
        path = save(tmp_path, {"model": model, "optimizer": optimizer, **held})
        ready, _ = prepared(path, nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)))
        place = "centers (beside the models)" if loose else "centers (criterion)"
        assert ready.report.ambiguous == {"#2": ("1.weight", place)}
        assert list(ready.report.kept) == ["0.weight", "0.bias"]

    def test_layers_from_the_last_to_the_first_are_ambiguous(self, tmp_path: Path) -> None:
        """A part of the model, its layers in reverse: the shapes are those of the right order."""
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
        params = [*model[1].parameters(), *model[0].parameters()]
        path = save(tmp_path, {"model": model, "optimizer": stepped(model, params=params)})
        ready, _ = prepared(path, copy.deepcopy(model))
        assert ready.report.kept == {}
        assert ready.report.ambiguous["#0"] == ("0.weight", "1.weight")


def test_a_prepared_optimizer_is_changed_by_apply_and_restored_by_undo(tmp_path: Path) -> None:
    """Preparing reads and reports; nothing is in the live optimizer before, nor after it was undone."""
    model = nn.Linear(3, 3)
    path = save(tmp_path, {"model": model, "optimizer": stepped(model)})
    ready, optimizer = prepared(path, nn.Linear(3, 3))
    ready.undo()
    before = repr(optimizer.state_dict())
    assert (len(ready.report.kept), len(optimizer.state)) == (2, 0)
    assert ready.apply() is ready.report
    assert len(optimizer.state) == 2
    ready.undo()
    assert repr(optimizer.state_dict()) == before


def _roles(path: Path) -> list[str]:
    return list(open_checkpoint(path).roles)

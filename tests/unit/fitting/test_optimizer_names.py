from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.optim import Optimizer

from holdfast import CheckpointStore, open_checkpoint
from holdfast.errors import CheckpointMismatch
from holdfast.fitting.optimizer import NamedOptimizerState, named_optimizer_state
from holdfast.fitting.optimizer_proof import LiveGroup, never_learned

Shapes = dict[str, tuple[int, ...]]


def shapes_of(model: nn.Module) -> Shapes:
    """Name → shape of all that the model saves."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def stepped(model: nn.Module, groups: Any = None) -> Optimizer:
    """An Adam whose first moments are all the number of their parameter in the model."""
    optimizer = torch.optim.Adam(groups if groups is not None else model.parameters())
    held = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in held:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for number, parameter in enumerate(model.parameters()):
        if parameter in optimizer.state:
            optimizer.state[parameter]["exp_avg"].fill_(float(number))
    return optimizer


def numbers(found: NamedOptimizerState) -> dict[str, float]:
    """Name → the number that its slots hold."""
    values = {name: slots["exp_avg"] for name, slots in found.slots.items()}
    return {n: float((v if isinstance(v, torch.Tensor) else v.to_torch()).flatten()[0]) for n, v in values.items()}


def truth(model: nn.Module) -> dict[str, float]:
    """Name → the number of the parameter."""
    return {name: float(number) for number, (name, _) in enumerate(model.named_parameters())}


def layers(*widths: int) -> nn.Sequential:
    """Linear layers with normalisation between them."""
    parts: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        parts += [nn.Linear(a, b), nn.BatchNorm1d(b)]
    return nn.Sequential(*parts)


class TestForms:
    """States as different programs write them."""

    def test_torchs_own_by_number(self) -> None:
        """Statistics of normalisation stand among the file's tensors and in no optimizer."""
        model = layers(3, 3, 3, 3)
        found = named_optimizer_state(stepped(model).state_dict(), shapes_of(model))
        assert numbers(found) == truth(model)
        assert found.evidence == "shapes and the model's order"
        assert [group.names for group in found.groups] == [tuple(truth(model))]

    def test_torchs_own_with_recorded_names(self) -> None:
        """`param_names` are believed, in any order of the parameters."""
        model = layers(3, 3, 3)
        named = list(model.named_parameters())[::-1]
        found = named_optimizer_state(stepped(model, named).state_dict(), shapes_of(model))
        assert numbers(found) == truth(model)
        assert found.evidence == "names recorded in the file"

    def test_by_addresses_as_torch_before_1_6(self) -> None:
        """Parameters were keyed by where they lay in memory; the order in the groups is the same."""
        model = layers(3, 3, 2)
        state = stepped(model).state_dict()
        state["state"] = {140_000_000_000_000 - 64 * key: slots for key, slots in state["state"].items()}
        state["param_groups"][0]["params"] = [140_000_000_000_000 - 64 * key for key in range(8)]
        assert numbers(named_optimizer_state(state, shapes_of(model))) == truth(model)

    def test_holdfasts_own(self, tmp_path: Path) -> None:
        """Names with the part in front; each of two models takes its own from one optimizer."""
        models = {"first": layers(3, 3), "second": layers(3, 3)}
        both = nn.ModuleDict(models)
        optimizer = stepped(both)
        CheckpointStore(tmp_path, background=False).save(1, {**models, "optimizer": optimizer})
        opened = open_checkpoint(tmp_path / "step-00000001")
        for start, role in ((0, "first"), (4, "second")):
            shapes = {name: tuple(t.shape) for name, t in opened.role(role).items()}
            found = named_optimizer_state(opened.optimizer, shapes, role=role)
            assert numbers(found) == {name: start + number for name, number in truth(models[role]).items()}
            assert len(found.strangers) == 4
        with pytest.raises(CheckpointMismatch, match=r"its parameters first\.\*, second\.\* all fit the model ema"):
            named_optimizer_state(opened.optimizer, shapes, role="ema", source="c.pt")

    @pytest.mark.parametrize("flat", [False, True])
    def test_distributed_checkpoints(self, flat: bool) -> None:
        """By name, nested or in one flat table; groups are found again by their options."""
        model = layers(3, 3, 3)
        own = list(model.parameters())
        optimizer = stepped(model, [{"params": own[4:], "lr": 0.5}, {"params": own[:4]}])
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        found = named_optimizer_state(get_optimizer_state_dict(model, optimizer, options=options), shapes_of(model))
        assert numbers(found) == truth(model)
        assert sorted((group.settings["lr"], len(group.names)) for group in found.groups) == [(0.001, 4), (0.5, 4)]

    def test_fastais_list(self) -> None:
        """One list of slots in the model's order, with flags among them; its groups are stretches of it."""
        model = layers(3, 3, 2)
        slots = [
            {"grad_avg": torch.full(p.shape, float(n)), "sqr_avg": torch.zeros(p.shape), "step": 2, "do_wd": False}
            for n, p in enumerate(model.parameters())
        ]
        slots[2] = {"do_wd": False}  # frozen: never stepped
        state = {"state": slots, "hypers": [{"lr": 0.1, "mom": 0.9}, {"lr": 0.2, "mom": 0.9}]}
        found = named_optimizer_state(state, shapes_of(model))
        expected = {name: number for name, number in truth(model).items() if number != 2}
        assert {n: float(s["grad_avg"].flatten()[0]) for n, s in found.slots.items()} == expected
        assert all(s.keys() == {"grad_avg", "sqr_avg", "step"} for s in found.slots.values())
        assert found.groups[0].settings == {"num_groups": 2, "mom": 0.9}

    def test_a_pickled_optimizer_beside_its_pickled_model(self, tmp_path: Path) -> None:
        """It holds the parameters themselves: they are the model's tensors, in whatever order."""
        model = layers(3, 3, 3)
        optimizer = stepped(model, list(model.parameters())[::-1])
        torch.save({"model": model, "optimizer": optimizer}, tmp_path / "c.pt")
        opened = open_checkpoint(tmp_path / "c.pt")
        shapes = {name: tuple(t.shape) for name, t in opened.role().items()}
        found = named_optimizer_state(opened.optimizer, shapes, tensors=opened.role())
        assert numbers(found) == truth(model)
        assert found.evidence == "names recorded in the file"

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ([1], "a list; expected `state` and `param_groups`"),
            ({"lr": 1, "x": 2}, "the entries lr, x; expected"),
            ({"state": {}, "param_groups": [{"lr": 1}]}, "a group 0 that does not list its parameters"),
            ({"state": {}, "param_groups": [{"params": [0, [1]]}]}, "a group 0 that does not list its parameters"),
            ({"state": {}, "param_groups": [{"params": [0, 0]}]}, "a parameter that stands in its groups twice"),
        ],
    )
    def test_what_is_no_state_is_refused(self, state: Any, message: str) -> None:
        """What was found is named."""
        with pytest.raises(CheckpointMismatch, match=rf"Reading the optimizer in c\.pt: it is {message}"):
            named_optimizer_state(state, {"w": (2,)}, source="c.pt")


class TestProof:
    """What is proven by shapes, order and settings, and what is not."""

    def test_layer_decay_of_timm_is_proven_without_a_live_optimizer(self) -> None:
        """Blocks of equal shapes, two groups for each layer: `lr_scale` says which comes first."""
        make = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 4, "num_heads": 2, "num_classes": 3}
        model = timm.create_model("vit_tiny_patch16_224", **make)
        groups = param_groups_layer_decay(model, weight_decay=0.1, layer_decay=0.7)
        assert len(groups) == 12
        found = named_optimizer_state(stepped(model, groups[::-1]).state_dict(), shapes_of(model))
        assert numbers(found) == truth(model)
        assert found.ambiguous == {}

    def test_blocks_with_settings_alike_are_ambiguous(self) -> None:
        """A group for each of three equal blocks: only what differs by shape is proven."""
        model = layers(3, 3, 3, 3, 2)
        groups = [{"params": list(model[i].parameters()) + list(model[i + 1].parameters())} for i in (4, 0, 2, 6)]
        found = named_optimizer_state(stepped(model, groups).state_dict(), shapes_of(model))
        assert numbers(found) == {name: n for name, n in truth(model).items() if name[0] in "67"}
        assert found.ambiguous["#0"] == ("0.weight", "2.weight", "4.weight")
        assert found.why == "other ways to deal out the model's tensors fit as well"

    def test_many_groups_with_rates_of_their_own_are_the_live_ones(self) -> None:
        """Layer-wise rates without `lr_scale`: nine equal layers are told apart by nine rates, as they are live."""
        model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(9)])
        rates = [0.1 * 0.5**depth for depth in range(9)]
        groups = [{"params": model[8 - d].parameters(), "lr": rate} for d, rate in enumerate(rates)]
        state = stepped(model, groups).state_dict()
        live = [
            LiveGroup((f"{8 - d}.weight", f"{8 - d}.bias"), {**state["param_groups"][d], "lr": rate})
            for d, rate in enumerate(rates)
        ]
        found = named_optimizer_state(state, shapes_of(model), live=live)
        assert numbers(found) == truth(model)
        assert found.evidence == "the live optimizer's order"
        for group in state["param_groups"]:  # a schedule has halved them since; it notes what they were
            group["initial_lr"], group["lr"] = group["lr"], group["lr"] / 2
        assert numbers(named_optimizer_state(state, shapes_of(model), live=live)) == truth(model)
        live[0], live[1] = live[1]._replace(settings=live[0].settings), live[0]
        assert named_optimizer_state(state, shapes_of(model), live=live).slots == {}

    def test_a_few_groups_with_rates_of_their_own_may_have_changed_places(self) -> None:
        """Two equal layers, two rates: the live order is no proof, for the layers may have been exchanged."""
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        groups = [{"params": model[i].parameters(), "lr": rate} for i, rate in ((1, 0.1), (0, 0.2))]
        live = [LiveGroup((f"{i}.weight", f"{i}.bias"), {"lr": rate}) for i, rate in ((0, 0.1), (1, 0.2))]
        found = named_optimizer_state(stepped(model, groups).state_dict(), shapes_of(model), live=live)
        assert found.slots == {}
        assert found.ambiguous["#1"] == ("0.bias", "1.bias")

    def test_a_promised_order_must_fit(self) -> None:
        """same_order with other sizes or shapes is refused by the sizes of the groups."""
        model = layers(3, 2)
        state = stepped(model).state_dict()
        own = tuple(truth(model))
        for live in ([LiveGroup(own[:3], {})], [LiveGroup(own[::-1], {})], None):
            with pytest.raises(CheckpointMismatch, match=r"its groups hold \[4\] parameters, the live ones \["):
                named_optimizer_state(state, shapes_of(model), live=live, same_order=True)

    def test_another_models_state_proves_nothing(self) -> None:
        """More parameters than the model has, or other shapes: everything is ambiguous, and fits nothing."""
        model = layers(3, 3)
        for other in (layers(3, 3, 3), layers(5, 7)):
            found = named_optimizer_state(stepped(other).state_dict(), shapes_of(model))
            assert found.slots == {}
            assert len(found.ambiguous) == len(list(other.parameters()))
            assert found.why == "no way to deal out the model's tensors in their order fits"

    def test_known_buffers_and_tied_names_are_left_out(self, tmp_path: Path) -> None:
        """A file of a whole module says what is a buffer; memory says what is tied; types, what is never learned."""
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
        model[1].weight = model[0].weight
        model[0].register_buffer("mean", torch.ones(3))
        model[0].register_buffer("count", torch.zeros(3, dtype=torch.int64))
        torch.save({"model": model, "optimizer": stepped(model).state_dict()}, tmp_path / "c.pt")
        opened = open_checkpoint(tmp_path / "c.pt")
        shapes = {name: tuple(tensor.shape) for name, tensor in opened.role().items()}
        assert list(named_optimizer_state(opened.optimizer, shapes).ambiguous) == ["#1", "#2", "#3", "#4"]
        found = named_optimizer_state(opened.optimizer, shapes, tensors=opened.role())
        assert numbers(found) == truth(model)
        statistics = {"2.running_mean", "2.running_var", "2.num_batches_tracked"}
        assert never_learned(shapes, opened.role()) == statistics | {"1.weight", "0.mean", "0.count"}
        assert never_learned(shapes, model.state_dict()) == statistics | {"1.weight", "0.count"}
        assert never_learned(shapes, {}) == statistics
        assert never_learned({"a.running_mean": (3,), "running_var": (3,)}, {}) == set()

    def test_a_state_that_was_never_stepped_has_nothing(self) -> None:
        """No slots, nothing ambiguous."""
        model = layers(3, 3)
        found = named_optimizer_state(torch.optim.Adam(model.parameters()).state_dict(), shapes_of(model))
        assert (found.slots, found.ambiguous, found.why) == ({}, {}, "")

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import timm.optim
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast import open_checkpoint
from holdfast.errors import CheckpointMismatch
from holdfast.fitting.optimizer import OptimizerReport, choose_optimizer, load_optimizer

Make = Callable[[Any], Optimizer]

TORCH: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 0.01),
    "AdamW amsgrad": lambda p: torch.optim.AdamW(p, 0.01, amsgrad=True),
    "RMSprop centered": lambda p: torch.optim.RMSprop(p, 0.001, centered=True, momentum=0.9),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.1),
    "Adadelta": torch.optim.Adadelta,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
    "ASGD": lambda p: torch.optim.ASGD(p, 0.1, t0=2),
    "Rprop": torch.optim.Rprop,
    "Adafactor": torch.optim.Adafactor,
}
TIMM = [
    "adabelief", "adafactor", "adafactorbv", "adamp", "adan", "adopt", "cadamw", "lamb", "laprop", "larc", "lion",
    "lookahead_adamw", "lookahead_sgd", "madgrad", "mars", "muon", "nadamw", "novograd", "radam", "rmsproptf", "sgdp",
    "sgdw",
]  # fmt: skip
KRON = pytest.param("kron", marks=pytest.mark.slow)  # it compiles itself


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Nets this small are done sooner by one thread."""
    torch.set_num_threads(1)


def of_timm(name: str) -> Make:
    """timm's optimizer of a name."""
    return lambda p: timm.optim.create_optimizer_v2(p, name, lr=0.01, momentum=0.9)


class Net(nn.Module):
    """Convolutions with normalisation; three tensors of one shape beside each other, and buffers between them."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Conv2d(4, 4, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(torch.relu(self.norm2(self.body(x))).mean((2, 3)))


def net(seed: int, num_classes: int = 3) -> Net:
    """A net with weights of its own."""
    torch.manual_seed(seed)
    return Net(num_classes)


def train(model: nn.Module, optimizer: Optimizer, first: int, last: int, double: bool = False) -> None:
    """Trains from one step to another; what a step draws is a function of its number."""
    for step in range(first, last):
        torch.manual_seed(step)
        x, y = torch.randn(8, 1, 6, 6), torch.randint(0, 3, (8,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x.double() if double else x), y).backward()
        optimizer.step()


def decayed(model: nn.Module) -> list[dict[str, Any]]:
    """Two groups that interleave: vectors without weight decay, the rest with it."""
    own = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0},
        {"params": [p for p in own if p.ndim > 1], "weight_decay": 0.05},
    ]


def saved(path: Path, model: nn.Module, optimizer: Optimizer) -> Path:
    """Writes what most programs write; returns the file."""
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path / "c.pt")
    return path / "c.pt"


def taken(
    optimizer: Optimizer, model: nn.Module, path: Path, pairs: Iterable[str] | None = None, **options: Any
) -> OptimizerReport:
    """Loads weights of the same name and shape and the optimizer's slots, from the file."""
    opened = open_checkpoint(path)
    found, live = opened.role(), model.state_dict()
    same = [name for name in live if name in found and found[name].shape == tuple(live[name].shape)]
    names = list(pairs) if pairs is not None else same
    model.load_state_dict({name: found[name].to_torch() for name in names}, strict=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    options.setdefault("tensors", found)
    return load_optimizer(
        optimizer, model, opened.optimizer, {n: n for n in names}, shapes, source=str(path), **options
    )


def equal(one: nn.Module, other: nn.Module) -> bool:
    """Whether all weights and buffers are the same."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def moments(model: nn.Module, optimizer: Optimizer, slot: str = "exp_avg") -> dict[str, list[float]]:
    """One slot by parameter name."""
    return {
        name: optimizer.state[p][slot].flatten().tolist()
        for name, p in model.named_parameters()
        if p in optimizer.state
    }


class TestResumingFromAPlainFile:
    """What torch.save wrote, taken up again."""

    @pytest.mark.parametrize("make", TORCH.values(), ids=TORCH.keys())
    def test_training_goes_on_bit_for_bit_with_every_optimizer_of_torch(self, tmp_path: Path, make: Make) -> None:
        """Weights after resuming equal those of the run that never stopped; all slots are kept."""
        self._check(tmp_path, make)

    @pytest.mark.parametrize("name", [*TIMM, KRON])
    @pytest.mark.filterwarnings("ignore:It is highly recommended to have 'opt_einsum':UserWarning")
    def test_training_goes_on_bit_for_bit_with_the_optimizers_of_timm(self, tmp_path: Path, name: str) -> None:
        """Counters in groups and random states beside the slots come along."""
        self._check(tmp_path, of_timm(name))

    @pytest.mark.parametrize("make", [TORCH["ASGD"], TORCH["NAdam"]], ids=["ASGD", "NAdam"])
    def test_float64_weights_keep_the_float32_counters_beside_them(self, tmp_path: Path, make: Make) -> None:
        """Figures that are kept in another type on purpose are not cast to the weights' type."""
        self._check(tmp_path, make, double=True)

    def _check(self, folder: Path, make: Make, double: bool = False) -> None:
        one = net(0).double() if double else net(0)
        optimizer = make(decayed(one))
        train(one, optimizer, 0, 4, double)
        path = saved(folder, one, optimizer)
        train(one, optimizer, 4, 8, double)
        other = net(1).double() if double else net(1)
        resumed = make(decayed(other))
        report = taken(resumed, other, path)
        assert report.evidence == "shapes and the model's order"
        assert (len(report.kept), report.fresh, report.dropped, report.ambiguous) == (10, {}, {}, {})
        assert report.fraction == 1.0
        train(other, resumed, 4, 8, double)
        assert equal(one, other)

    def test_a_state_of_an_old_torch_is_taken(self, tmp_path: Path) -> None:
        """Steps that are plain numbers, and groups that lack newer options, as before torch 1.12."""
        one = net(0)
        optimizer = torch.optim.Adam(one.parameters())
        train(one, optimizer, 0, 3)
        state = copy.deepcopy(optimizer.state_dict())
        for slots in state["state"].values():
            slots["step"] = int(slots["step"])
        keep = ("lr", "betas", "eps", "weight_decay", "amsgrad", "params")
        state["param_groups"] = [{k: group[k] for k in keep} for group in state["param_groups"]]
        torch.save({"model": one.state_dict(), "optimizer": state}, tmp_path / "c.pt")
        train(one, optimizer, 3, 6)
        other = net(1)
        resumed = torch.optim.Adam(other.parameters())
        assert len(taken(resumed, other, tmp_path / "c.pt").kept) == 10
        train(other, resumed, 3, 6)
        assert equal(one, other)

    def test_a_model_in_a_wrapper_takes_the_slots_by_plain_names(self, tmp_path: Path) -> None:
        """DataParallel's word is looked through."""
        one = net(0)
        optimizer = torch.optim.Adam(one.parameters())
        train(one, optimizer, 0, 3)
        path = saved(tmp_path, one, optimizer)
        inner = net(1)
        wrapped = nn.DataParallel(inner)
        resumed = torch.optim.Adam(wrapped.parameters())
        opened = open_checkpoint(path)
        shapes = {name: tuple(tensor.shape) for name, tensor in opened.role().items()}
        report = load_optimizer(resumed, wrapped, opened.optimizer, {n: n for n in shapes}, shapes)
        assert report.fresh == {}
        assert moments(inner, resumed) == moments(one, optimizer)


class TestOtherLayouts:
    """Frozen and unfrozen layers, other groups, a new head."""

    def test_reordered_and_regrouped_parameters_get_their_own_moments(self, tmp_path: Path) -> None:
        """From one group in the model's order into three in another."""
        one = net(0)
        optimizer = torch.optim.Adam(one.parameters())
        train(one, optimizer, 0, 3)
        path = saved(tmp_path, one, optimizer)
        other = net(1)
        groups = [
            {"params": list(other.head.parameters())[::-1], "lr": 0.5},
            {"params": [*other.body.parameters(), *other.norm2.parameters()]},
            {"params": [*other.norm.parameters(), *other.stem.parameters()]},
        ]
        resumed = torch.optim.Adam(groups)
        report = taken(resumed, other, path)
        assert report.fresh == {}
        assert moments(other, resumed) == moments(one, optimizer)
        assert [group["lr"] for group in resumed.param_groups] == [0.5, 0.001, 0.001]

    def test_a_layer_that_was_frozen_starts_fresh_when_it_is_trained(self, tmp_path: Path) -> None:
        """Two tensors were frozen; the others keep their moments, and training goes on."""
        one = net(0)
        one.stem.requires_grad_(False)
        optimizer = torch.optim.Adam(p for p in one.parameters() if p.requires_grad)
        train(one, optimizer, 0, 3)
        path = saved(tmp_path, one, optimizer)
        other = net(1)
        resumed = torch.optim.Adam(other.parameters())
        report = taken(resumed, other, path)
        # Before the body two vectors of 4 in the optimizer, three in the model: which is missing, no shape tells.
        assert sorted(report.kept) == [
            "body.bias", "body.weight", "head.bias", "head.weight", "norm2.bias", "norm2.weight",
        ]  # fmt: skip
        assert report.fresh == {
            "stem.weight": "the file has no slots for stem.weight",
            "stem.bias": "it is not proven which slots are those of stem.bias",
            "norm.weight": "it is not proven which slots are those of norm.weight",
            "norm.bias": "it is not proven which slots are those of norm.bias",
        }
        assert report.ambiguous == {"#0": ("norm.weight", "stem.bias"), "#1": ("norm.bias", "norm.weight")}
        for name, own in moments(other, resumed).items():
            assert own == moments(one, optimizer)[name]
        train(other, resumed, 3, 5)

    def test_a_layer_that_is_frozen_now_leaves_its_slots_behind(self, tmp_path: Path) -> None:
        """They are listed as dropped, the others kept."""
        one = net(0)
        optimizer = torch.optim.SGD(one.parameters(), 0.1, momentum=0.9)
        train(one, optimizer, 0, 3)
        path = saved(tmp_path, one, optimizer)
        other = net(1)
        resumed = torch.optim.SGD([*other.body.parameters(), *other.head.parameters()], 0.1, momentum=0.9)
        report = taken(resumed, other, path)
        assert list(report.kept) == ["body.weight", "body.bias", "head.weight", "head.bias"]
        assert sorted(report.dropped) == [
            "norm.bias", "norm.weight", "norm2.bias", "norm2.weight", "stem.bias", "stem.weight",
        ]  # fmt: skip
        assert set(report.dropped.values()) == {"the live optimizer holds no parameter taken from it"}
        assert moments(other, resumed, "momentum_buffer").items() <= moments(one, optimizer, "momentum_buffer").items()

    @pytest.mark.row("S5")
    def test_a_new_head_starts_fresh_and_the_rest_keeps_its_moments(self, tmp_path: Path) -> None:
        """Another class count: the head's moments are left behind, its new ones begin at the next step."""
        one = net(0)
        optimizer = torch.optim.Adam(one.parameters())
        train(one, optimizer, 0, 3)
        path = saved(tmp_path, one, optimizer)
        other = net(1, num_classes=5)
        resumed = torch.optim.Adam(other.parameters())
        report = taken(resumed, other, path)
        assert report.fresh == dict.fromkeys(
            ["head.weight", "head.bias"], "its weight was not taken from the file unchanged"
        )
        assert report.dropped == dict.fromkeys(
            ["head.weight", "head.bias"], "the live optimizer holds no parameter taken from it"
        )
        assert (report.num_values, report.num_kept) == (229, 204)
        train(other, resumed, 3, 4)
        steps = [int(resumed.state[p]["step"]) for p in other.parameters()]
        assert steps == [4, 4, 4, 4, 4, 4, 4, 4, 1, 1]

    def test_a_group_in_another_order_than_the_models_is_not_taken_for_the_models(self, tmp_path: Path) -> None:
        """The same script, with an order of its own: nothing is given to the wrong layer; by promise all is kept."""

        def own_order(model: Net) -> Optimizer:
            layers = (model.norm2, model.norm, model.head, model.body, model.stem)
            return torch.optim.Adam([p for layer in layers for p in layer.parameters()])

        one = net(0)
        optimizer = own_order(one)
        train(one, optimizer, 0, 3)
        path = saved(tmp_path, one, optimizer)
        other = net(1)
        resumed = own_order(other)
        report = taken(resumed, other, path)
        assert sorted(report.kept) == ["body.weight", "head.bias", "head.weight", "stem.weight"]
        assert report.evidence == "shapes that occur once"
        assert "same_order=True" in str(report)
        assert taken(resumed, other, path, same_order=True).evidence == "the live optimizer's order"
        assert moments(other, resumed) == moments(one, optimizer)

    def test_two_layers_that_changed_places_are_ambiguous_and_dropped(self, tmp_path: Path) -> None:
        """Groups of equal shapes and settings could have changed places; neither gets the other's moments."""
        one = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        optimizer = torch.optim.Adam([{"params": one[1].parameters()}, {"params": one[0].parameters()}])
        sum(p.pow(2).sum() for p in one.parameters()).backward()
        optimizer.step()
        path = saved(tmp_path, one, optimizer)
        other = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        resumed = torch.optim.Adam([{"params": other[0].parameters()}, {"params": other[1].parameters()}])
        report = taken(resumed, other, path)
        assert report.kept == {}
        assert report.ambiguous["#0"] == ("0.weight", "1.weight")
        assert report.ambiguous["#3"] == ("0.bias", "1.bias")
        assert not resumed.state

    def test_sorted_names_take_the_order_of_the_live_model(self, tmp_path: Path) -> None:
        """A file that sorts its names does not lend its order to the optimizer."""
        one = net(0)
        optimizer = torch.optim.Adam(one.parameters())
        train(one, optimizer, 0, 3)
        state = {"model": dict(sorted(one.state_dict().items())), "optimizer": optimizer.state_dict()}
        torch.save(state, tmp_path / "c.pt")
        other = net(1)
        resumed = torch.optim.Adam(other.parameters())
        assert taken(resumed, other, tmp_path / "c.pt", ordered=False).fresh == {}
        assert moments(other, resumed) == moments(one, optimizer)

    def test_tied_weights_are_one_parameter(self, tmp_path: Path) -> None:
        """The second name of a tied tensor is no place in the optimizer; untied now, it starts fresh."""
        one = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
        one[1].weight = one[0].weight
        optimizer = torch.optim.Adam(one.parameters())
        one(torch.ones(1, 3)).pow(2).sum().backward()
        optimizer.step()
        path = saved(tmp_path, one, optimizer)
        other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
        resumed = torch.optim.Adam(other.parameters())
        report = taken(resumed, other, path)
        assert report.fresh == {"1.weight": "the file has no slots for 1.weight"}
        assert moments(other, resumed)["2.weight"] == moments(one, optimizer)["2.weight"]


class TestRefusals:
    """What is not the state of this optimizer changes nothing."""

    @pytest.mark.parametrize(
        ("was", "now", "message"),
        [
            (TORCH["Adam"], TORCH["SGD"], r"it was saved with the options amsgrad, betas, .* instead"),
            (TORCH["Adam"], TORCH["NAdam"], "momentum_decay"),
            (
                torch.optim.Adam,
                lambda p: torch.optim.Adam(p, amsgrad=True),
                "it was saved with amsgrad=False, now it is True\n",
            ),
            (
                lambda p: torch.optim.Adam(p, amsgrad=True),
                torch.optim.Adam,
                "stem.weight has the slots max_exp_avg_sq, and Adam as it is set up has nothing instead",
            ),
            (
                lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
                lambda p: torch.optim.SGD(p, 0.1),
                r"it was saved with momentum=0.9, now it is 0\n",
            ),
            (
                lambda p: torch.optim.RMSprop(p, 0.1),
                lambda p: torch.optim.RMSprop(p, 0.1, centered=True),
                "stem.weight has the slots nothing, and RMSprop as it is set up has grad_avg instead",
            ),
            (of_timm("lookahead_adamw"), of_timm("lamb"), "Lamb has .*grad_averaging"),
        ],
    )
    def test_another_kind_is_refused_by_what_differs(self, tmp_path: Path, was: Make, now: Make, message: str) -> None:
        """Options or slots that do not belong are named, and the live optimizer stays as it was."""
        one, other = net(0), net(1)
        optimizer, resumed = was(one.parameters()), now(other.parameters())
        train(one, optimizer, 0, 7)
        path = saved(tmp_path, one, optimizer)
        train(other, resumed, 0, 1)
        before = copy.deepcopy(resumed.state_dict())
        with pytest.raises(CheckpointMismatch, match=message) as caught:
            taken(resumed, other, path)
        assert str(path) in str(caught.value)
        assert repr(resumed.state_dict()) == repr(before)

    def test_lbfgs_is_refused(self, tmp_path: Path) -> None:
        """Its vectors run over all parameters: they belong to none."""
        one = nn.Linear(2, 2)
        optimizer = torch.optim.LBFGS(one.parameters())

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = one(torch.ones(1, 2)).pow(2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        with pytest.raises(CheckpointMismatch, match="it is L-BFGS, whose vectors run over all parameters"):
            taken(torch.optim.LBFGS(one.parameters()), one, saved(tmp_path, one, optimizer))

    def test_an_optimizer_that_refuses_is_left_as_it_was(self, tmp_path: Path) -> None:
        """A load_state_dict that fails half-way: slots and groups are put back."""

        class Picky(torch.optim.SGD):
            def load_state_dict(self, state_dict: dict[str, Any]) -> None:
                super().load_state_dict({**state_dict, "param_groups": [{**state_dict["param_groups"][0], "lr": 9.0}]})
                raise ValueError("not today")

        one = nn.Linear(2, 2)
        optimizer = Picky(one.parameters(), 0.5, momentum=0.9)
        one(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        path = saved(tmp_path, one, optimizer)
        optimizer.step()
        before = copy.deepcopy(optimizer.state_dict())
        with pytest.raises(CheckpointMismatch, match=r"Picky refused the slots \(ValueError: not today\)"):
            taken(optimizer, one, path)
        assert repr(optimizer.state_dict()) == repr(before)

    def test_groups_at_different_counts_are_not_merged(self, tmp_path: Path) -> None:
        """Lamb counts its steps in the groups: one group cannot go on from two of them."""
        one = net(0)
        optimizer = of_timm("lamb")(decayed(one))
        train(one, optimizer, 0, 2)
        optimizer.param_groups[1]["step"] += 5
        path = saved(tmp_path, one, optimizer)
        resumed = of_timm("lamb")(one.parameters())
        with pytest.raises(CheckpointMismatch, match=r"group 0 takes parameters of groups whose step is 7\.0 and 2\.0"):
            taken(resumed, one, path)

    def test_parameters_without_memory_are_refused(self, tmp_path: Path) -> None:
        """An optimizer over meta tensors would keep its slots for parameters that are replaced."""
        one = nn.Linear(2, 2)
        path = saved(tmp_path, one, torch.optim.Adam(one.parameters()))
        other = nn.Linear(2, 2, device="meta")
        with pytest.raises(CheckpointMismatch, match=r"weight and 1 more have no memory yet \(meta\)"):
            taken(torch.optim.Adam(other.parameters()), other, path, pairs=[])


class TestValues:
    """Types, devices, layouts and settings."""

    @pytest.mark.row("S6")
    def test_moments_take_the_type_and_layout_of_the_live_parameter(self, tmp_path: Path) -> None:
        """As torch's own loading: bfloat16 weights have bfloat16 moments, and steps stay float32; channels last."""
        one = net(0)
        optimizer = torch.optim.Adam(one.parameters())
        train(one, optimizer, 0, 2)
        path = saved(tmp_path, one, optimizer)
        other = net(1).to(torch.bfloat16).to(memory_format=torch.channels_last)
        resumed = torch.optim.Adam(other.parameters())
        assert taken(resumed, other, path).fresh == {}
        slots = resumed.state[other.body.weight]
        assert (slots["exp_avg"].dtype, slots["step"].dtype) == (torch.bfloat16, torch.float32)
        assert slots["exp_avg"].stride() == other.body.weight.stride() == (36, 1, 12, 4)
        assert torch.equal(slots["exp_avg"], optimizer.state[one.body.weight]["exp_avg"].to(torch.bfloat16))

    def test_a_fused_step_counts_beside_its_parameter_in_float32(self, tmp_path: Path) -> None:
        """Whatever type the count was saved in; an unfused one stays as it is."""
        one = nn.Linear(2, 2)
        optimizer = torch.optim.Adam(one.parameters())
        one(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        for slots in optimizer.state.values():
            slots["step"] = slots["step"].double()
        path = saved(tmp_path, one, optimizer)
        for fused, dtype in ((True, torch.float32), (False, torch.float64)):
            resumed = torch.optim.Adam(one.parameters(), fused=fused)
            taken(resumed, one, path)
            assert [slots["step"].dtype for slots in resumed.state.values()] == [dtype] * 2

    @pytest.mark.gpu
    @pytest.mark.row("S6")
    @pytest.mark.parametrize("options", [{}, {"fused": True}, {"capturable": True}], ids=str)
    def test_slots_come_to_the_device_of_the_live_parameter(self, tmp_path: Path, options: dict[str, bool]) -> None:
        """From the CPU to a GPU and back: moments beside the weights, counts where this kind of step wants them."""
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        one = nn.Linear(2, 2)
        optimizer = torch.optim.Adam(one.parameters())
        one(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        path = saved(tmp_path, one, optimizer)
        other = nn.Linear(2, 2).cuda()
        resumed = torch.optim.Adam(other.parameters(), **options)
        assert taken(resumed, other, path).fresh == {}
        slots = resumed.state[other.weight]
        assert (slots["exp_avg"].is_cuda, slots["step"].is_cuda) == (True, bool(options))
        other(torch.ones(1, 2).cuda()).sum().backward()
        resumed.step()
        back = torch.optim.Adam(one.parameters())
        taken(back, one, saved(tmp_path, other, resumed))
        assert back.state[one.weight]["exp_avg"].device.type == "cpu"
        assert torch.equal(back.state[one.weight]["exp_avg"], slots["exp_avg"].cpu())
        one(torch.ones(1, 2)).sum().backward()
        back.step()

    def test_moments_that_were_kept_in_another_type_stay_so(self, tmp_path: Path) -> None:
        """The file's weight has the type it has now: nothing is to be cast, as little as in the run that was saved."""
        one = nn.Linear(2, 2).to(torch.bfloat16)
        optimizer = torch.optim.Adam(one.parameters())
        one(torch.ones(1, 2, dtype=torch.bfloat16)).sum().backward()
        optimizer.step()
        for slots in optimizer.state.values():
            slots["exp_avg"] = slots["exp_avg"].float() + 1e-4
            slots["codes"] = torch.arange(3, dtype=torch.uint8)
        path = saved(tmp_path, one, optimizer)

        class WithCodes(torch.optim.Adam):
            """Keeps what nobody knows."""

        resumed = WithCodes(one.parameters())
        taken(resumed, one, path)
        held = resumed.state[one.weight]
        assert torch.equal(held["exp_avg"], optimizer.state[one.weight]["exp_avg"])
        assert (held["exp_avg"].dtype, held["codes"].dtype) == (torch.float32, torch.uint8)

    def test_slots_share_no_memory_with_what_they_came_from(self) -> None:
        """A step after loading changes the live slots alone."""
        one = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(one.parameters(), 0.1, momentum=0.9)
        one(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        state = optimizer.state_dict()
        shapes = {"weight": (2, 2), "bias": (2,)}
        resumed = torch.optim.SGD(one.parameters(), 0.1, momentum=0.9)
        load_optimizer(resumed, one, state, {n: n for n in shapes}, shapes)
        before = state["state"][0]["momentum_buffer"].clone()
        resumed.step()
        assert torch.equal(state["state"][0]["momentum_buffer"], before)

    def test_settings_stay_live_unless_they_are_asked_for(self, tmp_path: Path) -> None:
        """`settings=True` takes rates and decays of the groups that correspond, not how steps are carried out."""
        one = net(0)
        optimizer = torch.optim.AdamW(decayed(one), lr=0.03, betas=(0.8, 0.95), foreach=True)
        train(one, optimizer, 0, 2)
        path = saved(tmp_path, one, optimizer)
        other = net(1)
        rate = torch.tensor(0.5)
        resumed = torch.optim.AdamW(decayed(other)[::-1], lr=rate, foreach=False)
        report = taken(resumed, other, path)
        assert report.settings == "live"
        assert all(group["lr"] is rate and group["betas"] == (0.9, 0.999) for group in resumed.param_groups)
        report = taken(resumed, other, path, settings=True)
        assert report.settings == "saved"
        found = [(float(g["lr"]), g["betas"], g["weight_decay"], g["foreach"]) for g in resumed.param_groups]
        lr = float(torch.tensor(0.03))
        assert found == [(lr, (0.8, 0.95), 0.05, False), (lr, (0.8, 0.95), 0.0, False)]

    def test_a_schedule_goes_on_counting_the_live_optimizers_steps(self, tmp_path: Path) -> None:
        """Looking at what slots an optimizer makes takes no step of it: no warning, no count, no change."""
        one = net(0)
        optimizer = torch.optim.Adam(one.parameters())
        train(one, optimizer, 0, 2)
        path = saved(tmp_path, one, optimizer)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        calls: list[int] = []
        optimizer.register_step_pre_hook(lambda *_: calls.append(1))
        weights = [p.clone() for p in one.parameters()]
        taken(optimizer, one, path)
        assert calls == []
        assert all(torch.equal(a, b) for a, b in zip(weights, one.parameters(), strict=True))
        train(one, optimizer, 2, 3)
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)

    def test_parameters_spread_over_a_mesh_get_their_share(self, tmp_path: Path) -> None:
        """DTensor parameters have DTensor moments, placed alike."""
        from torch.distributed.tensor import DTensor, Shard, distribute_tensor, init_device_mesh

        one = nn.Linear(4, 4)
        optimizer = torch.optim.Adam(one.parameters())
        one(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        path = saved(tmp_path, one, optimizer)
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
        try:
            mesh = init_device_mesh("cpu", (1,))
            other = nn.Linear(4, 4)
            other.weight = nn.Parameter(distribute_tensor(other.weight.data, mesh, [Shard(0)]))
            resumed = torch.optim.Adam(other.parameters())
            opened = open_checkpoint(path)
            shapes = {"weight": (4, 4), "bias": (4,)}
            load_optimizer(resumed, other, opened.optimizer, {n: n for n in shapes}, shapes)
            found = resumed.state[other.weight]["exp_avg"]
            assert isinstance(found, DTensor)
            assert found.placements == (Shard(0),)
            assert torch.equal(found.full_tensor(), optimizer.state[one.weight]["exp_avg"])
        finally:
            torch.distributed.destroy_process_group()


@pytest.mark.row("S4")
class TestSeveralOptimizers:
    """Several models and optimizers in one file."""

    def test_the_optimizer_of_each_model_is_found_by_its_shapes(self, tmp_path: Path) -> None:
        """A GAN: each optimizer holds just the parameters of one of the two."""
        torch.manual_seed(0)
        models = {"generator": nn.Linear(2, 5), "discriminator": nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1))}
        optimizers = {}
        for name, model in models.items():
            optimizers[name] = torch.optim.Adam(model.parameters())
            model(torch.ones(1, next(model.parameters()).shape[1])).sum().backward()
            optimizers[name].step()
        tree = {name: model.state_dict() for name, model in models.items()}
        tree |= {"optimizer_d": optimizers["discriminator"].state_dict()}
        torch.save(tree | {"optimizer_g": optimizers["generator"].state_dict()}, tmp_path / "c.pt")
        opened = open_checkpoint(tmp_path / "c.pt")
        for role, name in (("generator", "optimizer_g"), ("discriminator", "optimizer_d")):
            shapes = {n: tuple(t.shape) for n, t in opened.role(role).items()}
            assert choose_optimizer(opened.optimizers, shapes, role=role) == name
            resumed = torch.optim.Adam(models[role].parameters())
            pairs = {n: n for n in shapes}
            report = load_optimizer(resumed, models[role], opened.optimizers[name], pairs, shapes, role=role)
            assert report.fresh == {}
            assert moments(models[role], resumed) == moments(models[role], optimizers[role])

    def test_optimizers_that_all_fit_are_not_chosen_from(self) -> None:
        """Two models of the same shapes: the message names both optimizers."""
        net, other = nn.Linear(2, 2), nn.Linear(3, 3)
        states = {}
        for name in ("first", "second"):
            optimizer = torch.optim.Adam(net.parameters())
            net(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            states[name] = optimizer.state_dict()
        shapes = {n: tuple(p.shape) for n, p in net.named_parameters()}
        message = "of first, second, first, second would fit; expected one"
        with pytest.raises(CheckpointMismatch, match=message):
            choose_optimizer(states, shapes)
        with pytest.raises(CheckpointMismatch, match="of first, second, none would fit"):
            choose_optimizer(states, {n: tuple(p.shape) for n, p in other.named_parameters()})
        assert choose_optimizer({"first": states["first"]}, shapes) == "first"

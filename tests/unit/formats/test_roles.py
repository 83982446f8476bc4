from __future__ import annotations

import pickle
import sys
import types
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from holdfast import OpenedCheckpoint, open_checkpoint
from holdfast.errors import CheckpointError, CheckpointMismatch
from holdfast.formats.roles import find_roles

NET = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
SGD = torch.optim.SGD(NET.parameters(), lr=0.1, momentum=0.9).state_dict()


def weights(start: float = 0.0) -> dict[str, torch.Tensor]:
    """Weights that can be told apart by their bias."""
    return {"fc.weight": torch.ones(2, 2), "fc.bias": torch.full((2,), start)}


def _under(prefix: str, start: float) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in weights(start).items()}


def _both() -> dict[str, torch.Tensor]:
    """A model and its average in one state dict, as ema-pytorch keeps them."""
    counters = {"initted": torch.tensor(True), "step": torch.tensor(3)}
    return {**_under("online_model.", 1), **_under("ema_model.", 2), **counters}


class OfItsOwn(dict[str, Any]):
    """A subclass of dict."""


class OrderedOfItsOwn(OrderedDict[str, Any]):
    """A subclass of OrderedDict."""


class WithAttributes(dict[str, Any]):
    """A dict whose keys are attributes too, as EasyDict and AttrDict are."""

    def __init__(self, **held: Any) -> None:
        super().__init__(held)
        self.__dict__.update(held)


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    """Saves a tree and opens it."""

    def write_and_open(tree: Any) -> OpenedCheckpoint:
        torch.save(tree, tmp_path / "c.pt")
        return open_checkpoint(tmp_path / "c.pt")

    return write_and_open


def _torchvision() -> dict[str, Any]:
    return {
        "model": weights(), "optimizer": SGD, "lr_scheduler": {"last_epoch": 2, "_step_count": 3, "base_lrs": [0.1]},
        "epoch": 2, "args": Namespace(model="resnet18", lr=0.1),
        "model_ema": {"n_averaged": torch.tensor(3), **weights(9)},
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
    }  # fmt: skip


CASES: dict[str, tuple[Any, dict[str, Any], list[str], Any, Any]] = {
    # tree, role → first value of its bias, optimizers, metadata, made by
    "bare": (weights(1), {"model": 1}, [], {}, None),
    "usual": (
        {"epoch": 3, "model_state_dict": weights(1), "optimizer_state_dict": SGD, "loss": 0.5},
        {"model": 1}, ["optimizer_state_dict"], {"epoch": 3, "loss": 0.5}, None,
    ),
    "net": ({"net": weights(2), "optimizer": SGD, "epoch": 1}, {"model": 2}, ["optimizer"], {"epoch": 1}, None),
    "imagenet": (
        {"epoch": 9, "arch": "resnet18", "state_dict": weights(3), "best_acc1": torch.tensor(61.5), "optimizer": SGD},
        {"model": 3}, ["optimizer"], ..., "PyTorch ImageNet example",
    ),
    "timm": (
        {"epoch": 1, "arch": "x", "state_dict": weights(1), "optimizer": SGD, "version": 2, "args": Namespace(lr=1),
         "state_dict_ema": weights(2), "metric": 50.0},
        {"model": 1, "ema": 2}, ["optimizer"],
        {"epoch": 1, "arch": "x", "version": 2, "args": {"lr": 1}, "metric": 50.0}, "timm",
    ),
    "torchvision": (
        _torchvision(), {"model": 0, "ema": 9}, ["optimizer"],
        {"epoch": 2, "args": {"model": "resnet18", "lr": 0.1}, "scaler": {"scale": 65536.0, "growth_factor": 2.0}},
        "torchvision references",
    ),
    "lightning": (
        {"epoch": 0, "global_step": 5, "pytorch-lightning_version": "2.6.0", "state_dict": weights(1),
         "optimizer_states": [SGD], "lr_schedulers": [], "hyper_parameters": {"lr": 0.1}},
        {"model": 1}, ["optimizer_states"],
        {"epoch": 0, "global_step": 5, "pytorch-lightning_version": "2.6.0", "lr_schedulers": [],
         "hyper_parameters": {"lr": 0.1}}, "PyTorch Lightning 2.6.0",
    ),
    "gan": (
        {"netG": weights(1), "netD": weights(2), "optG": SGD, "optD": SGD, "iter": 7},
        {"netG": 1, "netD": 2}, ["optG", "optD"], {"iter": 7}, None,
    ),
    "an optimizer of a form of its own": (
        {"model": weights(1), "optimizer": {"fast_state": {0: {"exp_avg": torch.ones(2)}}, "slow_state": weights(2)}},
        {"model": 1}, [], ..., None,
    ),
    "an order of samples": (
        {"model": weights(1), "sampler": {"order": torch.arange(4), "seen": torch.ones(4, dtype=torch.bool)}},
        {"model": 1}, [], ..., None,
    ),
    "words apart": ({"model state": weights(1), "optimizer state": SGD}, {"model": 1}, ["optimizer state"], {}, None),
    "ensemble": ([weights(1), weights(2)], {"0": 1, "1": 2}, [], {}, None),
    "ensemble by name": ({"nets": [weights(1), weights(2)]}, {"nets.0": 1, "nets.1": 2}, [], {}, None),
    "one of a list": ([weights(1)], {"model": 1}, [], {}, None),
    "around the model": ({"app": {"model": weights(1), "optim": SGD}}, {"model": 1}, ["optim"], {}, None),
    "around the average": ({"ema": {"model": weights(1)}}, {"ema": 1}, [], {}, None),
    "arrays": (
        {"model": {name: tensor.numpy() for name, tensor in weights(3).items()}, "mean": np.ones(3)},
        {"model": 3}, [], ..., None,
    ),
    "halves": (
        {"named_parameters": weights(6), "named_buffers": {"norm.mean": torch.ones(2)}}, {"model": 6}, [], {}, None,
    ),
    "two of one name, one below": ({"net": weights(1), "callback": {"net": weights(2)}}, {"model": 1, "callback": 2},
        [], {}, None),
    "composer, average swapped in": (
        {"state": {"model": weights(1), "algorithms": [("EMA", {"ema_weights_active": True, "ema_model": weights(2)})]},
         "rng": []},
        {"model": 1, "trained": 2}, [], ..., "Composer",
    ),
    "composer, average beside": (
        {"state": {"model": weights(1), "algorithms": [("EMA", {"ema_weights_active": 0, "ema_model": weights(2)})]},
         "rng": []},
        {"model": 1, "ema": 2}, [], ..., "Composer",
    ),
    "fastai": (
        {"model": weights(1), "opt": {"state": [{}], "hypers": [{"lr": 0.1}]}}, {"model": 1}, ["opt"], {}, "fastai",
    ),
    "ignite": (
        {"model": weights(1), "optimizer": SGD, "trainer": {"epoch_length": 4, "max_epochs": 2, "iteration": 8}},
        {"model": 1}, ["optimizer"], {"trainer": {"epoch_length": 4, "max_epochs": 2, "iteration": 8}}, "Ignite",
    ),
    "composer": (
        {"state": {"model": weights(1), "optimizers": {"SGD": SGD}, "run_name": "x"}, "rng": [{"python": 1}]},
        {"model": 1}, ["SGD"], {"state": {"run_name": "x"}, "rng": [{"python": 1}]}, "Composer",
    ),
    "mmlab": (
        {"meta": {"mmengine_version": "0.10"}, "state_dict": weights(1), "message_hub": {}},
        {"model": 1}, [], {"meta": {"mmengine_version": "0.10"}, "message_hub": {}}, "OpenMMLab",
    ),
    "mixed": ({**weights(4), "epoch": 3}, {"model": 4}, [], {"epoch": 3}, None),
    "average beside what it is of": (
        {"model": weights(1), "ema": _both(), "step": 3},
        {"model": 1, "online_model": 1, "ema": 2}, [], {"step": 3}, None,
    ),
    "average beside what it is of, alone": (_both(), {"model": 1, "ema": 2}, [], {}, None),
    "average in a Lightning module": (
        {"state_dict": {**_under("model.", 1), **_under("model_ema.", 2)},
         "pytorch-lightning_version": "2.6"},
        {"model": 1, "ema": 2}, [], ..., ...,
    ),
    "average of mmengine": (
        {"state_dict": weights(1), "ema_state_dict": {**_under("module.", 2), "steps": torch.tensor(3)}},
        {"model": 1, "ema": 2}, [], {}, None,
    ),
    "no average: other tensors under its word": (
        {"state_dict": {**_under("model.", 1), "ema.scale": torch.ones(3)}, "epoch": 1},
        {"model": ...}, [], {"epoch": 1}, None,
    ),
    "records beside one model": (
        {"resnet": weights(1), "metrics": {"cm": torch.ones(3, 3)}, "val_history": {"acc": torch.ones(5)}},
        {"resnet": 1}, [], ..., None,
    ),
    "records with the names of a layer": (
        {"resnet": weights(1), "eval": {"fc.bias": torch.full((2,), 4.0)}}, {"resnet": 1, "eval": 4}, [], {}, None,
    ),
    "settings beside one model": (
        {"model": weights(1), "args": Namespace(state_dict=weights(2)), "config": {"init": weights(3)}},
        {"model": 1}, [], ..., None,
    ),
    "settings alone": ({"config": {"net": weights(3)}}, {"model": 3}, [], {}, None),
    "a dictionary of a class of its own": (
        {"model": OfItsOwn(weights(1)), "epoch": 1}, {"model": 1}, [], {"epoch": 1}, None,
    ),
    "an ordered one": (OrderedOfItsOwn(weights(1)), {"model": 1}, [], {}, None),
    "one with attributes around it": (
        WithAttributes(model=weights(1), epoch=2), {"model": 1}, [], {"epoch": 2}, None,
    ),
    "pairs": (list(weights(1).items()), {"model": 1}, [], {}, None),
    "pairs by name": ({"params": list(weights(1).items()), "epoch": 1}, {"model": 1}, [], {"epoch": 1}, None),
    "random": (
        {"model": weights(1), "rng_state": {"cpu": torch.get_rng_state()}, "loss": torch.tensor(0.5)},
        {"model": 1}, [], ..., None,
    ),
}  # fmt: skip


@pytest.mark.row("S4", "S11")
@pytest.mark.parametrize("name", CASES)
def test_the_parts_of_a_checkpoint_are_recognised(opened: Any, name: str) -> None:
    """Weights by role, optimizers, the rest as plain values, and who wrote it."""
    tree, roles, optimizers, metadata, maker = CASES[name]
    found = opened(tree)
    assert found.roles.keys() == roles.keys()
    first = {role: float(found.weights(role)["fc.bias"][0]) for role, value in roles.items() if value is not ...}
    assert first == {role: value for role, value in roles.items() if value is not ...}
    assert list(found.optimizers) == optimizers
    assert metadata is ... or found.metadata == metadata
    assert maker is ... or found.made_by == maker


def test_every_schedule_of_torch_is_recognised(opened: Any) -> None:
    """Chained, sequential, plateau and plain ones are schedules; their inner ones are not schedules of their own."""
    optimizer = torch.optim.SGD(NET.parameters(), lr=0.1)
    kinds = torch.optim.lr_scheduler
    inner = [kinds.LinearLR(optimizer), kinds.CosineAnnealingLR(optimizer, 5)]
    made = {
        "sequential": kinds.SequentialLR(optimizer, inner, milestones=[2]),
        "plateau": kinds.ReduceLROnPlateau(optimizer),
        "cycle": kinds.OneCycleLR(optimizer, 0.1, total_steps=9),
    }
    found = opened({"model": weights(), **{name: schedule.state_dict() for name, schedule in made.items()}})
    assert list(found.schedules) == list(made)
    assert found.metadata == {}


def test_tensors_without_names_are_numbered(opened: Any) -> None:
    """A list of parameters, and one tensor, have names of our own; a generator's state stays what it is."""
    assert {n: t.tolist() for n, t in opened([torch.ones(2), torch.zeros(1)]).weights().items()} == {
        "0": [1, 1],
        "1": [0],
    }
    assert list(opened(torch.ones(2)).weights()) == ["tensor"]
    assert opened(torch.get_rng_state()).roles == {}


@pytest.mark.parametrize(
    ("tree", "role"),
    [
        ({"model": weights(), "ema": {"shadow_params": [torch.ones(2), torch.zeros(1)], "decay": 0.9}}, "ema"),
        ({"params": [torch.ones(2), torch.zeros(1)], "epoch": 1}, "model"),
        ({"model": {0: torch.ones(2), 1: torch.zeros(1)}}, "model"),
        ({0: torch.ones(2), 1: torch.zeros(1)}, "model"),
        ([np.ones(2, "f4"), np.zeros(1, "f4")], "model"),
    ],
)
def test_rows_of_tensors_are_weights_where_weights_are_expected(opened: Any, tree: Any, role: str) -> None:
    """torch_ema's averages, bare parameters, numbers for names: "0", "1" … in their order."""
    found = opened(tree).weights(role)
    assert {n: t.tolist() for n, t in found.items()} == {"0": [1, 1], "1": [0]}


def test_rows_of_tensors_elsewhere_are_no_weights(opened: Any) -> None:
    """A list of vectors that is not called so stays with the metadata, and so does a list of losses."""
    found = opened(
        {"model": weights(), "queue": [torch.ones(2)], "losses": [torch.ones(())], "seen": {3: torch.ones(2)}}
    )
    assert (list(found.roles), list(found.metadata)) == (["model"], ["queue", "losses", "seen"])


SINGLE = {"a": torch.tensor(1.5), "b": torch.tensor(2.5)}
NAMED_SINGLE = [SINGLE, {"model_state_dict": SINGLE, "epoch": 1}, {"model": SINGLE}, {"weights": SINGLE}]


@pytest.mark.parametrize(
    "tree", [SINGLE, {"model_state_dict": SINGLE, "epoch": 1}, {"model": SINGLE}, {"weights": SINGLE}]
)
def test_parameters_without_axes_are_weights_where_weights_are_expected(opened: Any, tree: Any) -> None:
    """A model of single numbers is one when its place is called so, or when it is the whole file."""
    assert {n: float(t) for n, t in opened(tree).weights().items()} == {"a": 1.5, "b": 2.5}


@pytest.mark.parametrize(
    "tree",
    [
        {"scaler_state_dict": SINGLE},
        {"state": SINGLE},
        {"loss": torch.tensor(0.5), "val_acc": torch.tensor(0.5)},
        {"epoch": torch.tensor(3), "a": torch.tensor(0.5)},
        {"model": {"a": torch.tensor(0.5), "note": "text"}},
    ],
)
def test_single_figures_elsewhere_are_no_weights(opened: Any, tree: Any) -> None:
    """A loss scale, losses, whole numbers and what stands beside text are figures."""
    assert opened(tree).roles == {}


def test_a_single_parameter_among_weights_is_one_of_them(opened: Any) -> None:
    """CLIP's scale, saved among the weights with its settings, is a weight; a loss and a counter there are none."""
    found = opened({**weights(1), "logit_scale": torch.tensor(4.5), "input_resolution": 224, "loss": torch.tensor(0.5),
                    "step": torch.tensor(3)})  # fmt: skip
    assert list(found.weights()) == ["fc.weight", "fc.bias", "logit_scale"]
    assert list(found.metadata) == ["input_resolution", "loss", "step"]


def test_weights_without_dots_among_plain_values_are_the_file(opened: Any) -> None:
    """One layer's weights with a counter are weights; with a model beside them they are figures of the training."""
    layer = {"weight": torch.ones(2, 2), "bias": torch.ones(2), "rng_state": torch.get_rng_state()}
    assert list(opened({**layer, "epoch": 1, "names": ["a"]}).weights()) == ["weight", "bias"]
    assert list(opened({"mean": torch.ones(3), "nets": [weights(1)]}).roles) == ["nets"]


@pytest.mark.parametrize("tree", [{"w1": 0, "b1": 1}, {"blobs": {"w1": 0, "b1": 1}, "lr": 0.1}])
def test_arrays_without_dots_are_weights_where_weights_are_expected(tmp_path: Path, tree: dict[str, Any]) -> None:
    """A pickle of NumPy arrays, bare and as Caffe2 wrote it; beside other values in a file they are data."""
    arrays = {"w1": np.ones((2, 2), "f4"), "b1": np.zeros(2, "f4")}
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({**tree, "blobs": arrays} if "blobs" in tree else arrays))
    found = open_checkpoint(tmp_path / "c.pkl").weights()
    assert {n: t.tolist() for n, t in found.items()} == {"w1": [[1, 1], [1, 1]], "b1": [0, 0]}
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"data": arrays["w1"], "labels": [1, 2]}))
    assert open_checkpoint(tmp_path / "d.pkl").roles == {}


def test_what_is_no_model_stays_with_the_metadata(opened: Any) -> None:
    """Tensors among records and settings are not lost by not being weights."""
    found = opened({"resnet": weights(1), "metrics": {"cm": torch.ones(1, 2)}, "args": {"init": weights(7)}})
    assert found.metadata["metrics"]["cm"].to_torch().tolist() == [[1, 1]]
    assert found.metadata["args"]["init"]["fc.bias"].to_torch().tolist() == [7, 7]


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: {"model": net, "epoch": 1}])
def test_a_long_list_of_models_is_as_many_roles(opened: Any, wrap: Any) -> None:
    """Seventy models are seventy roles; a long list of numbers and mappings is a history."""
    found = opened([wrap(weights(i)) for i in range(70)])
    assert len(found.roles) == 70
    assert {float(found.role(role)["fc.bias"].to_torch()[0]) for role in found.roles} == set(range(70))
    assert list(opened({"model": weights(), "history": [{"loss": 0.5}] * 70}).roles) == ["model"]


def test_more_models_than_anyone_has_are_refused(opened: Any) -> None:
    """The error says how many there may be and what to do."""
    with pytest.raises(CheckpointError, match=r"more than 256 models and optimizers; expected no more\. Save"):
        opened([weights()] * 257)


def test_parts_whose_paths_read_alike_are_both_kept(opened: Any) -> None:
    """A key with a dot in it does not hide another part."""
    found = opened({"a": {"b": {"nets": weights(1)}}, "a.b": {"nets": weights(2)}, "c": {"d": {"nets": weights(3)}}})
    assert sorted(float(found.role(role)["fc.bias"].to_torch()[0]) for role in found.roles) == [1.0, 2.0, 3.0]


def test_roles_of_whole_modules_are_told(tmp_path: Path) -> None:
    """Where every word of a name is a module's own, the roles say so; a state dict does not know."""
    torch.save({"net": NET, "ema": NET.state_dict()}, tmp_path / "c.pt")
    tree = open_checkpoint(tmp_path / "c.pt").tree
    assert find_roles(tree, "c.pt").modules == {"model"}


def test_the_models_of_a_lightning_gan_are_roles_of_their_own(opened: Any) -> None:
    """One state dict with the names of two models gives the whole and both."""
    names = {f"{part}.{n}": t for part, at in (("generator", 1), ("discriminator", 2)) for n, t in weights(at).items()}
    found = opened({"state_dict": names, "pytorch-lightning_version": "2.6", "epoch": 1})
    assert sorted(found.roles) == ["discriminator", "generator", "model"]
    assert found.weights("discriminator")["fc.bias"].tolist() == [2.0, 2.0]
    assert list(found.roles["model"]) == list(names)


def test_nothing_is_guessed_when_several_models_could_be_meant(opened: Any) -> None:
    """Two models and no obvious one: the error lists them, for the optimizers too."""
    found = opened({"netG": weights(), "netD": weights(), "optG": SGD, "optD": SGD})
    with pytest.raises(CheckpointMismatch, match=r"several weights and none that is obvious; it has netD, netG\."):
        found.weights()
    with pytest.raises(CheckpointMismatch, match=r"it holds no weights called 'netX'; it has netD, netG\."):
        found.weights("netX")
    with pytest.raises(CheckpointMismatch, match=r"holds several optimizers: optG, optD\."):
        _ = found.optimizer


def test_one_model_under_two_names_is_two_roles_over_one_memory(opened: Any) -> None:
    """The same object saved twice is found twice, and shares its storages."""
    shared = weights(5)
    found = opened({"model": shared, "teacher": shared})
    model, teacher = found.weights("model"), found.weights("teacher")
    assert model["fc.bias"].data_ptr() == teacher["fc.bias"].data_ptr()


def test_random_states_and_losses_are_no_weights(opened: Any) -> None:
    """Tensors that are figures or generators' states stay with the metadata."""
    found = opened(CASES["random"][0])
    assert list(found.metadata) == ["rng_state", "loss"]
    assert float(found.metadata["loss"].to_torch()) == 0.5


def test_a_whole_optimizer_is_one(opened: Any) -> None:
    """An optimizer that was pickled as an object gives its groups."""
    optimizer = torch.optim.SGD(NET.parameters(), lr=0.25)
    found = opened({"opt": optimizer, "model": weights()})
    assert found.optimizer is not None
    assert found.optimizer["param_groups"][0]["lr"] == 0.25


def test_the_answer_can_be_read(opened: Any) -> None:
    """repr says what it is and what it holds."""
    assert repr(opened(weights())).endswith("c.pt', torch zip, model (2 tensors))")


@pytest.mark.parametrize(
    ("module", "name", "maker"), [("fastai.learner", "Learner", "fastai export"), ("skorch.net", "NeuralNet", "skorch")]
)
def test_models_within_pickled_learners_are_found(
    opened: Any, monkeypatch: pytest.MonkeyPatch, module: str, name: str, maker: str
) -> None:
    """An exported learner is an object of a class that is not there; its model and settings are read."""
    home = types.ModuleType(module)
    kind = type(name, (), {"__module__": module})
    setattr(home, name, kind)
    monkeypatch.setitem(sys.modules, module, home)
    monkeypatch.setitem(sys.modules, module.split(".")[0], types.ModuleType(module.split(".")[0]))
    learner = kind()
    learner.model, learner.lr, learner.opt = NET, 0.1, SGD
    found = opened(learner)
    assert found.made_by == maker
    assert list(found.roles) == ["model"]
    assert {n: t.tolist() for n, t in found.weights().items()} == {n: t.tolist() for n, t in NET.state_dict().items()}
    assert found.optimizer["param_groups"] == SGD["param_groups"]
    assert found.metadata == {"class": f"{module}.{name}"}


@pytest.mark.parametrize("front", ["model_ema.module.", "ema.module.", "ema_model.module._orig_mod."])
def test_an_average_with_a_wrapper_of_its_own_is_an_average(front: str, opened: Any) -> None:
    """timm's ModelEmaV2 and torch's AveragedModel as parts of a module: `module.` stands in their names alone."""
    count = {f"{front.partition('.')[0]}.n_averaged": torch.tensor(3)}
    found = opened({"state_dict": {**_under("net.", 1), **_under(front, 2), **count, "loss.weight": torch.ones(5)}})
    assert sorted(found.roles) == ["ema", "model"]
    assert found.weights("ema")["fc.bias"].tolist() == [2, 2]
    assert sorted(found.roles["model"]) == ["loss.weight", "net.fc.bias", "net.fc.weight"]

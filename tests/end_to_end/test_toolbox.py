"""inspect, diff, convert and average as a user calls them, on files of a real training."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

Cli = Callable[..., Any]


@pytest.fixture
def gan(tmp_path: Path) -> Path:
    """A generator and a discriminator with batch norm, both wrapped, with optimizers that have stepped."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    discriminator = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
    state: dict[str, Any] = {"epoch": 7, "args": {"lr": 0.5}}
    for name, net, width in (("generator", generator, 4), ("discriminator", discriminator, 2)):
        optimizer = torch.optim.SGD(net.parameters(), 0.5, momentum=0.5)
        net(torch.rand(3, width)).sum().backward()
        optimizer.step()
        state[name] = {f"module.{key}": value for key, value in net.state_dict().items()}
        state[f"opt_{name}"] = optimizer.state_dict()
    torch.save(state, tmp_path / "gan.pt")
    return tmp_path / "gan.pt"


@pytest.mark.row("S4", "S7", "S11")
def test_one_of_several_models_goes_from_tool_to_tool(gan: Path, holdfast: Cli, tmp_path: Path) -> None:
    """Inspected, refused without a role, converted there and back, equal at the end, different when changed."""
    said = holdfast("inspect", gan, "--json")
    assert list(json.loads(said.out)["parts"]) == ["generator", "discriminator", "opt_generator", "opt_discriminator"]
    said = holdfast("convert", gan, "g.safetensors")
    assert (said.code, said.out) == (1, "")
    assert "none that is obvious; it has discriminator, generator" in said.err
    said = holdfast("convert", gan, "g.safetensors", "--role", "generator")
    assert (said.code, said.err) == (0, "")
    assert "  9 names changed: module.0.weight → 0.weight …" in said.out.splitlines()
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    net.load_state_dict(safetensors.torch.load_file(tmp_path / "g.safetensors"))
    assert holdfast("convert", "g.safetensors", "g", "--rename", "^=>module.", "--keep-names").code == 0
    assert holdfast("verify", "g").code == 0
    assert holdfast("convert", "g", "g.npz").code == 0
    with np.load(tmp_path / "g.npz") as arrays:
        assert np.array_equal(arrays["module.0.weight"], net[0].weight.detach().numpy())
    said = holdfast("diff", gan, "g.npz", "--role", "generator=model", "--weights-only", "--keep-names")
    assert (said.code, said.out.splitlines()[-1]) == (0, "equal")
    with torch.no_grad():
        net[2].bias += 0.25
    torch.save(net.state_dict(), tmp_path / "moved.pth")
    said = holdfast("diff", gan, "moved.pth", "--role", "generator=model", "--weights-only", "--json")
    table = json.loads(said.out)
    assert (said.code, table["equal"]) == (4, False)
    (group,) = table["tensors"].values()
    assert (group["num_tensors"], group["num_same"], group["max_abs_name"]) == (9, 8, "2.bias")
    assert holdfast("diff", gan, "moved.pth", "--role", "generator=model", "--weights-only", "--atol", "0.3").code == 0


@pytest.mark.row("S11")
def test_a_run_is_averaged_converted_and_used(holdfast: Cli, tmp_path: Path) -> None:
    """Two steps of a real run make a model file that `val` takes, with the run's classes and preprocessing."""
    said = holdfast(
        "train", "digits", "--model", "mlp", "--epochs", "1", "--out", "run", "--save-every", "10", "--keep", "all"
    )
    assert said.code == 0, said.err
    steps = sorted(int(p.name[5:]) for p in (tmp_path / "run" / "checkpoints").glob("step-*"))
    said = holdfast("diff", f"run@{steps[-2]}", f"run@{steps[-1]}")
    assert said.code == 4
    assert "beside the tensors" in said.out and "optimizer optimizer" in said.out
    said = holdfast("average", f"run@{steps[-2]}", f"run@{steps[-1]}", "soup.safetensors", "--weights", "1,3", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["weights"] == [0.25, 0.75]
    said = holdfast("val", "soup.safetensors", "digits", "--json")
    assert (said.code, json.loads(said.out)["num_samples"] > 0) == (0, True), said.err
    assert holdfast("convert", "run@last", "half.safetensors", "--dtype", "bfloat16").code == 0
    assert "classes" in json.loads(holdfast("inspect", "half.safetensors", "--json").out)
    said = holdfast("inspect", "run")
    assert said.code == 0 and "slot " in said.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["diff", "gone", "gone"], 1, "Opening gone: No such file or directory. Check the path."),
        (["diff", "page.html", "page.html"], 1, "it is a web page; expected a checkpoint"),
        (["diff", "a.pt", "a.pt", "--rtol", "x"], 2, "'x' is not a valid float"),
        (["convert", "gone", "out.pth"], 1, "Opening gone: No such file"),
        (["convert", "a.pt", "a.pt"], 2, "it is there already. Choose another name, or replace it with --force."),
        (["convert", "a.pt", "out.pth", "--dtype", "int8"], 2, "'int8' is not one of"),
        (["convert", "a.pt", "out.pth", "--rename", "x"], 2, "expected 'regex=>replacement'"),
        (["convert", "a.pt", "out.pth", "--ema", "--role", "model"], 2, "--ema and --role model contradict each other"),
        (["convert", "a.pt", "out.pth", "--ema"], 1, "it holds no weights called 'ema'; it has model"),
        (["convert", "a.pt", "out.pth", "--partial"], 2, "--partial goes with --like"),
        (["convert", "a.pt", "out.pth", "--allow-overflow"], 2, "--allow-overflow goes with --dtype"),
        (["convert", "a.pt", "out.pth", "--shard-size", "2GB"], 2, "which has no shards"),
        (["convert", "a.pt", "nowhere/out.pth"], 2, "there is no folder nowhere"),
        (["average", "a.pt"], 2, "Missing OUT"),
        (
            ["average", "a.pt", "out.pth"],
            2,
            "found one checkpoint and an OUT; expected two or more and OUT. Is OUT missing?",
        ),
        (["convert", "a.pt", "a.onnx"], 2, ".onnx is no kind of file that is written"),
        (["convert", "a.pt", "a.safetensor"], 2, "Did you mean 'a.safetensors'?"),
        (["average", "a.pt", "a.pt", "out.pth", "--weights", "half"], 2, "expected numbers with commas between them"),
        (["inspect", "a.pt", "--part", "ema"], 1, "it has no part 'ema'; it holds model"),
        (["inspect", "a.pt", "--depth", "0"], 2, "found depth 0; expected 1 or more"),
        (["inspect", "page.html"], 1, "it is a web page"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_the_right_code(
    holdfast: Cli, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    """Bad input ends with a message on stderr, no traceback, nothing on stdout, and nothing written."""
    torch.save({"a.w": torch.ones(2)}, tmp_path / "a.pt")
    (tmp_path / "page.html").write_text("<!doctype html><html>log in</html>")
    said = holdfast(*arguments)
    assert (said.code, said.out) == (code, "")
    assert message in " ".join(said.err.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "page.html"]


def test_no_class_of_a_file_is_run_by_any_tool(holdfast: Cli, tmp_path: Path) -> None:
    """A pickle that would write a file when it is loaded does not, whichever tool takes it."""

    class Trap:
        def __reduce__(self) -> Any:
            return shutil.copy, (str(tmp_path / "t.pt"), str(tmp_path / "canary"))

    torch.save(
        {"model": {"a.w": torch.ones(2)}, "optimizer": {"state": {}, "param_groups": [{"x": Trap(), "params": []}]}},
        tmp_path / "t.pt",
    )
    assert holdfast("inspect", "t.pt").code == 0
    assert holdfast("diff", "t.pt", "t.pt").code == 0
    done = holdfast("convert", "t.pt", "out")
    assert done.code == 1 and "--strip-optimizer" in done.err
    assert holdfast("convert", "t.pt", "out.pth").code == 0
    assert holdfast("average", "t.pt", "t.pt", "mean.pth").code == 0
    assert not (tmp_path / "canary").exists()


def test_a_call_in_a_file_is_shown_with_its_name(holdfast: Cli, tmp_path: Path) -> None:
    """`inspect` says what a hostile file wanted to be run, as a call, in text and in JSON; nothing is run."""

    class Trap:
        def __reduce__(self) -> Any:
            return os.system, ("touch canary",)

    torch.save({"model": {"a.w": torch.ones(2)}, "note": Trap()}, tmp_path / "t.pt")
    name = f"{os.system.__module__}.system('touch canary')  (a call, not made)"
    assert f"  note: {name}" in holdfast("inspect", "t.pt").out.splitlines()
    assert json.loads(holdfast("inspect", "t.pt", "--json").out)["metadata"]["note"] == name
    assert not (tmp_path / "canary").exists()

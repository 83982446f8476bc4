from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from holdfast.errors import CheckpointMismatch, ConfigError
from holdfast.toolbox import inspect_path

Save = Callable[..., Path]


@pytest.fixture
def training(save: Save, tied: nn.Module) -> Path:
    """A file as training scripts write it: a wrapped model with tied weights, optimizer, schedule, counters."""
    optimizer = torch.optim.Adam(
        [{"params": [tied.first.weight], "lr": 0.25}, {"params": list(tied.norm.parameters())}]
    )
    tied(torch.rand(3, 4)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    state = {f"module.{name}": value for name, value in tied.state_dict().items()}
    return save(
        "a.pt",
        {
            "model": state,
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": schedule.state_dict(),
            "epoch": 3,
            "args": {"lr": 0.5},
        },
    )


@pytest.mark.row("S11")
def test_a_file_of_torch_tells_its_tensors_by_the_names_in_it(training: Path) -> None:
    """Names, types, shapes, numbers and bytes are those of the file; tied names are marked and counted once."""
    model = inspect_path(training).to_json()["parts"]["model"]
    by_name = {t["name"]: t for t in model["tensors"]}
    assert by_name["module.first.weight"] == {
        "name": "module.first.weight", "dtype": "float32", "shape": [4, 4], "num_values": 16, "num_bytes": 64,
    }  # fmt: skip
    assert by_name["module.last.weight"]["alias_of"] == "module.first.weight"
    assert by_name["module.last.weight"]["num_bytes"] == 0
    assert by_name["module.norm.num_batches_tracked"]["dtype"] == "int64"
    assert (model["num_tensors"], model["num_values"]) == (9, 16 + 4 + 4 * 4 + 1 + 4)
    assert model["num_bytes"] == 4 * (16 + 4 + 4 * 4 + 4) + 8


@pytest.mark.row("S11", "M5")
def test_a_file_of_torch_tells_groups_and_slots_of_its_optimizer(training: Path) -> None:
    """Every slot has its tensors, types and bytes, every group its settings and parameters by number."""
    optimizer = inspect_path(training).to_json("optimizer")["parts"]["optimizer"]
    assert optimizer["slots"] == [
        {"name": "step", "dtypes": ["float32"], "num_tensors": 3, "num_bytes": 12},
        {"name": "exp_avg", "dtypes": ["float32"], "num_tensors": 3, "num_bytes": 96},
        {"name": "exp_avg_sq", "dtypes": ["float32"], "num_tensors": 3, "num_bytes": 96},
    ]
    groups = optimizer["values"]["param_groups"]
    assert [(g["lr"], g["params"], g["betas"]) for g in groups] == [
        (0.25, [0], [0.9, 0.999]),
        (0.001, [1, 2], [0.9, 0.999]),
    ]


@pytest.mark.row("S11")
def test_what_stands_beside_the_weights_is_told(training: Path) -> None:
    """Counters, arguments and schedules are shown, in JSON as they are, and as an outline."""
    report = inspect_path(training)
    table = report.to_json()
    assert (table["kind"], table["saved_from"]) == ("torch zip", ["cpu"])
    assert (table["metadata"]["epoch"], table["metadata"]["args"]) == (3, {"lr": 0.5})
    assert table["metadata"]["schedules"]["lr_scheduler"]["step_size"] == 3
    json.dumps(table, allow_nan=False)
    lines = list(report.lines())
    assert lines[:4] == [f"{training}  (torch zip)", "  saved from: cpu", "\nbeside the weights:", "  epoch: 3"]
    assert "    step_size: 3" not in lines and "      step_size: 3" in lines
    assert "  slot exp_avg: float32, 3 tensors, 96 bytes" in lines
    assert any(line.startswith("  group 0: 1 parameter; lr 0.25, betas 0.9, 0.999, eps 1e-08") for line in lines)


@pytest.mark.row("S6", "S11")
def test_the_device_a_file_was_saved_from_is_told(save: Save) -> None:
    """A file that was saved on a graphics card says so, on a machine that has none."""
    path = save("legacy.pt", {"w.x": torch.ones(2, 2)}, _use_new_zipfile_serialization=False)
    changed = path.read_bytes().replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:1")
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    assert inspect_path(path).facts["saved_from"] == ["cuda:1"]
    assert "  saved from: cuda:1" in list(inspect_path(path).lines())


def test_a_file_that_does_not_know_its_device_claims_none(tmp_path: Path) -> None:
    """safetensors keeps no devices, so nothing is said of them."""
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    assert "saved_from" not in inspect_path(tmp_path / "a.safetensors").facts


def test_several_models_are_parts_of_their_own(save: Save) -> None:
    """Generator and discriminator are listed by role, each with its optimizer."""
    net = nn.Linear(2, 1)
    state = {"generator": net.state_dict(), "discriminator": nn.Linear(1, 1).state_dict()}
    state |= {"opt_g": torch.optim.SGD(net.parameters(), 0.5).state_dict()}
    report = inspect_path(save("gan.pt", state))
    assert {name: part.kind for name, part in report.parts.items()} == {
        "generator": "weights",
        "discriminator": "weights",
        "opt_g": "optimizer",
    }
    assert list(report.to_json("generator")["parts"]) == ["generator"]
    with pytest.raises(CheckpointMismatch, match="it has no part 'ema'; it holds generator, discriminator, opt_g"):
        report.to_json("ema")


def test_a_module_whose_class_is_gone_is_told_by_its_tensors(save: Save) -> None:
    """A whole pickled module lists what its state_dict would."""
    report = inspect_path(save("whole.pt", nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))))
    assert [t.name for t in report.parts["model"].tensors][:3] == ["0.weight", "0.bias", "1.weight"]


def test_a_quantised_tensor_has_its_type_and_shape(save: Save) -> None:
    """What cannot be made without torch's quantised types is listed all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to remove quantised types one day
        value = torch.quantize_per_tensor(torch.ones(2, 3), 0.5, 1, torch.quint8)
    (line,) = inspect_path(save("q.pt", {"a.w": value, "a.b": torch.ones(1)})).parts["model"].tensors[:1]
    assert (line.dtype, line.shape, line.num_bytes) == ("quint8", (2, 3), 6)


def test_a_compressed_file_is_inspected(training: Path, tmp_path: Path) -> None:
    """gzip around a file changes its kind and nothing else."""
    (tmp_path / "a.pt.gz").write_bytes(gzip.compress(training.read_bytes()))
    report = inspect_path(tmp_path / "a.pt.gz")
    assert report.kind == "torch zip in gzip"
    assert report.parts == inspect_path(training).parts


def test_tensors_can_be_summed_up_by_module(training: Path) -> None:
    """With a depth there is a line for each module, whose sums are those of its tensors."""
    report = inspect_path(training)
    modules = report.to_json("model", depth=2)["parts"]["model"]["modules"]
    assert modules[1] == {
        "name": "module.norm.*",
        "dtypes": ["float32", "int64"],
        "num_tensors": 5,
        "num_values": 17,
        "num_bytes": 72,
    }
    assert [m["name"] for m in modules] == ["module.first.*", "module.norm.*", "module.last.*"]
    assert sum(m["num_values"] for m in modules) == report.parts["model"].num_values
    slots = report.to_json("optimizer", depth=1)["parts"]["optimizer"]["modules"]
    assert [(m["name"], m["num_tensors"]) for m in slots] == [("state.*", 9)]
    assert any(line.split()[:1] == ["module.norm.*"] for line in report.lines("model", 2))
    with pytest.raises(ConfigError, match="found depth 0; expected 1 or more"):
        report.to_json(depth=0)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_nothing_is_wider_than_the_terminal(save: Save, width: int) -> None:
    """Lines are cut, sizes left out and long names shortened in the middle until every line fits."""
    tensors = {
        f"backbone.layer{n}.attention.query_projection.{'deep.' * n}weight": torch.zeros(3, n + 1) for n in range(9)
    }
    lines = list(
        inspect_path(save("long.pt", {"model": tensors, "args": {"path": "x" * 300, "b": 1}})).lines(width=width)
    )
    assert max(len(line.strip("\n")) for line in lines[1:]) <= width  # the first is the path, as it was given
    assert sum("float32" in line for line in lines) == 9
    assert all("…" not in line for line in inspect_path(save("short.pt", {"a.b": torch.ones(1)})).lines(width=width))


def test_terminal_commands_in_names_are_escaped(save: Save) -> None:
    """A hostile name is text in the report, and whole in its JSON."""
    name = "a.\x1b[31mw\n"
    report = inspect_path(save("evil.pt", {name: torch.ones(1)}))
    assert not any("\x1b" in line for line in report.lines())
    assert report.to_json()["parts"]["model"]["tensors"][0]["name"] == name


_WATCHED = """
import os, resource, sys
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from holdfast.cli import main
try:
    main(["inspect", sys.argv[1]])
except SystemExit as ended:
    assert not ended.code
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
loaded = sorted({"torch", "numpy", "click", "rich", "yaml", "dataclasses", "pathlib"} & set(sys.modules))
print(after - before, loaded, file=sys.stderr)
"""


@pytest.mark.row("S11")
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_two_gigabytes_are_inspected_without_torch_and_in_little_memory(tmp_path: Path, kind: str) -> None:
    """Of a file of 2 GB only headers and pickle are read: no torch, no command-line library, under 50 MB."""
    path = tmp_path / f"big.{kind}"
    if kind == "pt":
        with torch.serialization.skip_data():  # the file has its size and its directory, and holes for values
            torch.save({"model": {f"layer{n}.weight": torch.empty(1024, 1024) for n in range(500)}}, path)
    else:
        each = 4 << 20
        table = {
            f"layer{n}.weight": {"dtype": "F32", "shape": [1024, 1024], "data_offsets": [n * each, (n + 1) * each]}
            for n in range(500)
        }
        header = json.dumps(table).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        os.truncate(path, 8 + len(header) + 500 * each)
    assert path.stat().st_size > 2_000_000_000
    done = subprocess.run([sys.executable, "-c", _WATCHED, str(path)], capture_output=True, text=True, check=True)
    assert "model: 500 tensors, 524,288,000 values, 2.10 GB" in done.stdout
    grown, loaded = done.stderr.strip().split(" ", 1)
    assert loaded == "[]"
    assert int(grown) < 50_000

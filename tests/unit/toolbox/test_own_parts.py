from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from holdfast.checkpoints import CheckpointStore, Last, write_single_file
from holdfast.checkpoints.files import write_durably
from holdfast.checkpoints.tensors import write_tensors
from holdfast.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch
from holdfast.toolbox import inspect_path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three checkpoints of a tied model and its optimizer; the second is the best."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    optimizer = torch.optim.Adam([{"params": model[0].parameters(), "lr": 0.25}, {"params": model[1].parameters()}])
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    store = CheckpointStore(tmp_path / "run" / "checkpoints", Last(None))
    for step, accuracy in ((10, 0.5), (20, 0.75), (30, 0.625)):
        parts = {"model": model, "optimizer": optimizer, "counters": {"epoch": step // 10}}
        store.save(step, parts, {"accuracy": accuracy}, {"classes": ["ants", "bees"], "epoch": step // 10})
    return tmp_path / "run"


@pytest.mark.row("S11")
@pytest.mark.parametrize(("which", "step"), [("", 30), ("@last", 30), ("@best", 20), ("@10", 10)])
def test_a_run_is_inspected_by_its_newest_best_or_a_step(run: Path, which: str, step: int) -> None:
    """A run by itself is its newest checkpoint; `@best` and `@<step>` choose others."""
    report = inspect_path(f"{run}{which}")
    assert report.facts["step"] == step
    assert report.path.endswith(f"step-{step:08d}")


@pytest.mark.row("S11")
def test_names_types_shapes_and_sizes_of_a_model_are_told(run: Path) -> None:
    """Every tensor has its line, tied ones with the name they share, and the sums count them once."""
    model = inspect_path(str(run)).to_json()["parts"]["model"]
    by_name = {tensor["name"]: tensor for tensor in model["tensors"]}
    assert by_name["0.weight"] == {
        "name": "0.weight", "dtype": "float32", "shape": [3, 3], "num_values": 9, "num_bytes": 36,
    }  # fmt: skip
    assert by_name["2.weight"] == {
        "name": "2.weight", "dtype": "float32", "shape": [3, 3], "num_values": 9, "num_bytes": 0,
        "alias_of": "0.weight",
    }  # fmt: skip
    assert by_name["1.num_batches_tracked"]["dtype"] == "int64"
    assert by_name["1.num_batches_tracked"]["num_bytes"] == 8
    assert model["num_tensors"] == 9
    assert model["num_values"] == 9 + 3 + 3 * 4 + 1 + 3
    assert model["num_bytes"] == 4 * (9 + 3 + 3 * 4 + 3) + 8


@pytest.mark.row("S11")
def test_the_state_and_groups_of_an_optimizer_are_told(run: Path) -> None:
    """Slots are listed under the names of their parameters, and the groups with their settings."""
    optimizer = inspect_path(str(run)).to_json("optimizer")["parts"]["optimizer"]
    names = [tensor["name"] for tensor in optimizer["tensors"]]
    assert "state.model.0.weight.exp_avg" in names
    groups = optimizer["values"]["param_groups"]
    assert [(group["lr"], group["params"]) for group in groups] == [
        (0.25, ["model.0.weight", "model.0.bias"]),
        (0.001, ["model.1.weight", "model.1.bias"]),
    ]


def test_facts_about_the_checkpoint_are_told(run: Path) -> None:
    """Format version, metrics and the saver's metadata head the report, and values are shown."""
    table = inspect_path(f"{run}@20").to_json()
    assert (table["kind"], table["format_version"], table["metrics"], table["classes"], table["epoch"]) == (
        "Holdfast checkpoint",
        2,
        {"accuracy": 0.75},
        ["ants", "bees"],
        2,
    )
    assert table["parts"]["counters"]["values"] == {"epoch": 2}
    json.dumps(table, allow_nan=False)


def test_the_report_reads_as_text(run: Path) -> None:
    """The text has a head, a line a part, a line a tensor and a line a group."""
    lines = list(inspect_path(f"{run}@20").lines())
    assert lines[0].endswith("step-00000020  (Holdfast checkpoint)")
    assert "  metrics: accuracy 0.75" in lines
    assert "  classes: ants, bees" in lines
    assert "\nmodel: 9 tensors, 28 values, 116 bytes" in lines
    assert any(line.split() == ["2.weight", "float32", "[3,", "3]", "=", "0.weight"] for line in lines)
    assert any(line.startswith("  group 0: 2 parameters; lr 0.25, betas 0.9, 0.999, eps ") for line in lines)
    assert "  epoch: 2" in lines


def test_one_part_can_be_asked_for(run: Path) -> None:
    """With a part, only that part is in the report."""
    report = inspect_path(str(run))
    assert list(report.to_json("counters")["parts"]) == ["counters"]
    assert not any("weight" in line for line in report.lines("counters"))


def test_asking_fails_when_there_is_no_such_part(run: Path) -> None:
    """An unknown part is answered with the known ones."""
    report = inspect_path(str(run))
    with pytest.raises(CheckpointMismatch, match=r"it has no part 'ema'; it holds model, optimizer, counters\. Choose"):
        report.to_json("ema")
    with pytest.raises(CheckpointMismatch, match="has no part 'ema'"):
        list(report.lines("ema"))


def test_a_checkpoint_directory_is_inspected_by_itself(run: Path) -> None:
    """A checkpoint that was copied elsewhere needs no run around it."""
    report = inspect_path(str(run / "checkpoints" / "step-00000010"))
    assert report.facts["step"] == 10


@pytest.mark.row("S11")
def test_a_model_file_tells_its_metadata_and_tensors(tmp_path: Path) -> None:
    """A file of ours shows classes and tensors, and keeps its digests to itself."""
    write_single_file(tmp_path / "best.safetensors", {"w": torch.zeros(1000, 3)}, {"classes": ["a", "b"], "step": 3})
    table = inspect_path(str(tmp_path / "best.safetensors")).to_json()
    assert (table["kind"], table["classes"], table["step"]) == ("Holdfast model file", ["a", "b"], 3)
    assert "digest" not in table
    assert table["parts"]["model"]["num_bytes"] == 12_000
    assert "\nmodel: 1 tensor, 3,000 values, 12.0 KB" in inspect_path(str(tmp_path / "best.safetensors")).lines()


@pytest.mark.row("S11")
def test_a_file_of_another_tool_is_inspected(tmp_path: Path) -> None:
    """Any safetensors file shows its tensors, and the text of its header beside them."""
    safetensors.torch.save_file({"w": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "a.safetensors", {"by": "me"})
    table = inspect_path(str(tmp_path / "a.safetensors")).to_json()
    assert (table["kind"], table["metadata"]) == ("safetensors", {"by": "me"})
    assert table["parts"]["model"]["tensors"][0]["dtype"] == "bfloat16"


def test_a_path_with_an_at_sign_is_a_path_first(tmp_path: Path) -> None:
    """A file whose name has an @ is found under its own name."""
    write_single_file(tmp_path / "me@home.safetensors", {}, {"step": 1})
    assert inspect_path(str(tmp_path / "me@home.safetensors")).facts["step"] == 1


@pytest.mark.parametrize("which", ["11", "worst", "-1"])
def test_inspecting_fails_when_the_run_has_no_such_step(run: Path, which: str) -> None:
    """What can be asked for is listed."""
    with pytest.raises(CheckpointError, match=rf"no checkpoint '{which}'. Ask for best, last, or a step: 10, 20, 30"):
        inspect_path(f"{run}@{which}")


def test_inspecting_fails_when_there_is_nothing(tmp_path: Path) -> None:
    """An empty place, a strange folder and a run without checkpoints each say what was found."""
    with pytest.raises(CheckpointError, match=r"gone: No such file or directory\. Check the path\."):
        inspect_path(str(tmp_path / "gone"))
    with pytest.raises(
        CheckpointError, match=r"Inspecting .*gone@best: found nothing at .*gone; expected a run before"
    ):
        inspect_path(f"{tmp_path / 'gone'}@best")
    with pytest.raises(CheckpointError, match="it is an empty folder; expected a checkpoint"):
        inspect_path(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=r"it has no checkpoint yet; expected at least one\. Wait for"):
        inspect_path(str(tmp_path))


def test_inspecting_fails_when_no_checkpoint_was_evaluated(tmp_path: Path) -> None:
    """Without metrics there is no best; the steps that can be asked for are listed."""
    with CheckpointStore(tmp_path / "run" / "checkpoints") as store:
        store.save(7, {"model": {"w": torch.ones(2)}})
    with pytest.raises(CheckpointError, match=r"no checkpoint of it has been evaluated yet.* a step: 7"):
        inspect_path(f"{tmp_path / 'run'}@best")


def test_inspecting_fails_when_the_file_is_something_else(tmp_path: Path) -> None:
    """A file that is no checkpoint, and one whose own metadata are damaged, are refused."""
    (tmp_path / "a.txt").write_text("hello, this is a text")
    with pytest.raises(CheckpointError, match=r"a\.txt: it is plain text; expected a checkpoint"):
        inspect_path(str(tmp_path / "a.txt"))
    write_tensors(partial(write_durably, tmp_path / "b.safetensors"), {}, {"holdfast": "{"})
    with pytest.raises(CheckpointError, match="its Holdfast metadata are damaged"):
        inspect_path(str(tmp_path / "b.safetensors"))
    (tmp_path / "c.safetensors").write_bytes((99).to_bytes(8, "little") + b'{"a":{"dtype":"F32"')
    with pytest.raises(CheckpointCorrupt, match=r"c\.safetensors"):
        inspect_path(str(tmp_path / "c.safetensors"))

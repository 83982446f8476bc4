from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from holdfast.checkpoints import CheckpointStore
from holdfast.errors import CheckpointMismatch, ConfigError
from holdfast.formats import open_checkpoint
from holdfast.toolbox import average
from holdfast.toolbox.averaging import mean_of

Save = Callable[..., Path]
INF = float("inf")


def _net(value: float, count: int = 1, **more: Tensor) -> dict[str, Any]:
    tensors = {"fc.w": torch.full((2, 3), value), "bn.running_mean": torch.full((3,), value * 2)}
    return {**tensors, "bn.num_batches_tracked": torch.tensor(count), **more}


def test_the_mean_is_that_of_all_files(save: Save, tmp_path: Path) -> None:
    """Uniform weights give the plain mean; integers are the first's, running statistics averaged, and both are said."""
    paths = [save(f"{n}.pt", _net(value, n)) for n, value in enumerate((1.0, 2.0, 6.0))]
    done = average(paths, tmp_path / "out.pth")
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    assert torch.equal(found["fc.w"], torch.full((2, 3), 3.0))
    assert torch.equal(found["bn.running_mean"], torch.full((3,), 6.0))
    assert found["bn.num_batches_tracked"] == 0
    assert (done.num_averaged, done.taken, done.taken_differ) == (
        2,
        ["bn.num_batches_tracked"],
        ["bn.num_batches_tracked"],
    )
    assert done.running == ["bn.running_mean"]
    lines = list(done.lines())
    assert lines[0] == f"  0.3333  {paths[0]}"
    assert "  1 integer tensor taken from the first; they differ: bn.num_batches_tracked" in lines
    assert any(line.startswith("  1 running statistic of batch norm averaged, which is approximate") for line in lines)


def test_weights_are_shares_of_their_sum(save: Save, tmp_path: Path) -> None:
    """3 and 1 count as three quarters and one; a file of weight 0 counts for nothing, whatever is in it."""
    paths = [save("a.pt", _net(1.0)), save("b.pt", _net(5.0)), save("c.pt", _net(INF))]
    done = average(paths, tmp_path / "out.pth", weights=[3, 1, 0])
    assert done.weights == [0.75, 0.25, 0.0]
    assert torch.equal(torch.load(tmp_path / "out.pth", weights_only=True)["fc.w"], torch.full((2, 3), 2.0))


def test_the_mean_is_computed_in_float64() -> None:
    """Half-precision values whose sum is too large for their type have the right mean, and small ones are not lost."""
    large = torch.tensor([60000.0], dtype=torch.float16)
    assert mean_of(iter([large] * 3), [1 / 3] * 3).to(torch.float16).item() == 60000.0
    values = [torch.tensor([1.0]), torch.tensor([2.0**-30])]
    assert mean_of(iter(values), [0.5, 0.5]).item() == 0.5 + 2.0**-31
    assert mean_of(iter([torch.tensor([1 + 1j]), torch.tensor([3 - 1j])]), [0.5, 0.5]).item() == 2 + 0j


def test_what_is_the_same_everywhere_stays_to_the_bit() -> None:
    """The mean of equal values is that value: irrational, largest, infinite or not a number."""
    value = torch.tensor([0.1, 1.7e308, -INF, 5e-324, float("nan")], dtype=torch.float64)
    mean = mean_of(iter([value] * 7), [1 / 7] * 7)
    assert torch.equal(mean[:4], value[:4])
    assert mean[4].isnan()


def test_the_result_has_the_types_of_the_first_file(save: Save, tmp_path: Path) -> None:
    """A half and a float make a half, and that is said."""
    a = save("a.pt", {"a.w": torch.ones(2).half()})
    done = average([a, save("b.pt", {"a.w": torch.full((2,), 2.0)})], tmp_path / "out.safetensors")
    assert open_checkpoint(tmp_path / "out.safetensors").weights()["a.w"].dtype is torch.float16
    assert done.notes == ["the files' types differ (float16, float32); the result has those of the first"]


def test_tied_tensors_stay_tied(save: Save, tied: nn.Module, tmp_path: Path) -> None:
    """A tied weight is averaged once and is one memory in the result."""
    done = average([save("a.pt", tied.state_dict()), save("b.pt", tied.state_dict())], tmp_path / "out.pth")
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    assert found["last.weight"].data_ptr() == found["first.weight"].data_ptr()
    assert torch.equal(found["last.weight"], tied.state_dict()["last.weight"])
    assert done.num_averaged == 7


def _run(root: Path, classes: list[str]) -> Path:
    with CheckpointStore(root / "checkpoints") as store:
        for step in (1, 2, 3):
            parts = {"model": {"w": torch.full((2,), float(step))}}
            store.save(step, parts, {"accuracy": 0.5}, {"classes": classes, "preprocessing": {"size": 8}})
    return root


@pytest.mark.parametrize("out", ["soup.safetensors", "soup"])
def test_steps_of_a_run_are_averaged_into_a_model_of_ours(tmp_path: Path, out: str) -> None:
    """Classes and preprocessing go along, metrics do not, and the step is the last one's."""
    run = _run(tmp_path / "run", ["a", "b"])
    average([f"{run}@1", f"{run}@3"], tmp_path / out)
    opened = open_checkpoint(tmp_path / out)
    assert torch.equal(opened.weights()["w"], torch.full((2,), 2.0))
    assert (opened.metadata["classes"], opened.metadata["step"]) == (["a", "b"], 3)
    assert opened.metadata["metrics"] == {}
    assert opened.metadata["averaged_from"] == [["run@1", 0.5], ["run@3", 0.5]]


def test_averaging_fails_when_the_files_are_not_of_one_model(save: Save, tmp_path: Path) -> None:
    """Missing, extra and re-shaped tensors and other types are all told at once, and nothing is written."""
    a = save("a.pt", _net(1.0, x=torch.ones(2), t=torch.ones(2)))
    b = save("b.pt", _net(1.0, y=torch.ones(2), t=torch.tensor([1, 2])) | {"fc.w": torch.ones(3, 2)})
    with pytest.raises(CheckpointMismatch) as error:
        average([a, b], tmp_path / "out.pth")
    text = str(error.value)
    assert "found 4 differences" in text
    for line in ("x: not in ", "y: only in ", "fc.w: [2, 3], in ", "t: float32, in "):
        assert f"\n  {line}" in text
    assert not (tmp_path / "out.pth").exists()


def test_averaging_fails_when_the_classes_differ(tmp_path: Path) -> None:
    """Two models that mean other classes by their outputs have no average."""
    one, two = _run(tmp_path / "one", ["a", "b"]), _run(tmp_path / "two", ["b", "a"])
    with pytest.raises(CheckpointMismatch, match=r"classes: \['a', 'b'\], in .*two \['b', 'a'\]"):
        average([one, two], tmp_path / "out.pth")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "found 1 number for 2 checkpoints; expected one for each"),
        ([1.0, -1.0], "--weights 1, -1: expected numbers from 0 on, not all of them 0"),
        ([0.0, 0.0], "not all of them 0"),
        ([float("nan"), 1.0], "expected numbers from 0 on"),
        ([1e308, 1e308], "expected numbers from 0 on"),
    ],
)
def test_averaging_fails_when_weights_are_none(save: Save, tmp_path: Path, weights: list[float], message: str) -> None:
    """Too few, negative, endless and vanishing weights are refused."""
    paths = [save("a.pt", _net(1.0)), save("b.pt", _net(1.0))]
    with pytest.raises(ConfigError, match=message):
        average(paths, tmp_path / "out.pth", weights=weights)


def test_averaging_fails_when_there_is_one_file(save: Save, tmp_path: Path) -> None:
    """The average of one file is a copy."""
    with pytest.raises(ConfigError, match=r"Averaging 1 checkpoint: expected two or more\. To copy one, use"):
        average([save("a.pt", _net(1.0))], tmp_path / "out.pth")


def test_averaging_fails_when_there_is_no_tensor(tmp_path: Path) -> None:
    """Models without a single tensor have no average, and nothing is written."""
    empty = tmp_path / "empty.safetensors"
    safetensors.torch.save_file({}, empty)
    with pytest.raises(CheckpointMismatch, match="found no tensor in them; expected one at least"):
        average([empty, empty], tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()

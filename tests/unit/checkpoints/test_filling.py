from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.checkpoints import filling
from holdfast.checkpoints.files import write_durably
from holdfast.checkpoints.filling import copies, fill_from, load_module
from holdfast.checkpoints.tensors import TensorFile, write_tensors


class Net(nn.Module):
    """A convolution, batch norm with a counter, a scalar, an empty tensor, and tied layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.rand(()))
        self.register_buffer("none", torch.empty(0, 3))


def saved(path: Path, module: nn.Module, **changed: Tensor) -> tuple[TensorFile, dict[str, Any]]:
    """Writes the module's tensors, tied ones once; returns the file and the state as a checkpoint hands it over."""
    state = {**module.state_dict(), **changed}
    seen: dict[int, str] = {}
    first = {name: seen.setdefault(t.data_ptr() or id(t), name) for name, t in state.items()}
    write_tensors(partial(write_durably, path), {n: state[n] for n in dict.fromkeys(first.values())})
    file = TensorFile(path)
    tensors = {name: file.tensor(name) for name in file.entries}
    return file, {name: tensors[first[name]] for name in state}


def filled_names(file: TensorFile, seen: set[Any]) -> Any:
    """Returns what fills, and notes in `seen` what it was asked for and filled."""
    inner = fill_from([file])

    def fill(pairs: Any) -> set[Any]:
        found = inner(pairs)
        seen.update(found)
        return found

    return fill


def assert_equal_state(one: nn.Module, other: nn.Module) -> None:
    """Compares every tensor, bit for bit."""
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_plain_module_is_filled_in_its_own_memory(tmp_path: Path) -> None:
    """Values are those that were saved, no tensor is another object or elsewhere, and every change is counted."""
    torch.manual_seed(0)
    source, net = Net(), Net()
    file, state = saved(tmp_path / "a", source)
    before = {name: (id(t), t.data_ptr(), t._version) for name, t in net.named_parameters()}
    seen: set[str] = set()
    load_module(net, dict(state), filled_names(file, seen))
    assert_equal_state(net, source)
    for name, tensor in net.named_parameters():
        assert (id(tensor), tensor.data_ptr()) == before[name][:2]
        assert tensor._version > before[name][2]
    assert seen == set(state) - {"none", "second.weight", "norm.num_batches_tracked"}  # the last: not aligned


def test_other_layouts_devices_and_kinds_are_left_to_the_module(tmp_path: Path) -> None:
    """Channels-last weights, and views with gaps, hold the same values as when torch copies them."""
    source, net = Net(), Net()
    file, state = saved(tmp_path / "a", source)
    net.conv.to(memory_format=torch.channels_last)
    net.norm.running_mean = torch.zeros(8)[::2]
    seen: set[str] = set()
    load_module(net, dict(state), filled_names(file, seen))
    assert_equal_state(net, source)
    assert net.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not seen & {"conv.weight", "norm.running_mean"}
    assert "conv.bias" in seen


@pytest.mark.parametrize("how", ["tied to what was not", "overlapping"])
def test_memory_that_several_tensors_share_holds_what_torch_would_leave_there(tmp_path: Path, how: str) -> None:
    """Where saved values differ and live memory is one, the last one loaded wins, never a mixture."""
    torch.manual_seed(1)
    source = Net()
    source.second.weight = nn.Parameter(torch.rand(4, 4))
    file, state = saved(tmp_path / "a", source)
    net, expected = Net(), Net()
    for one in (net, expected) if how == "overlapping" else ():
        memory = torch.zeros(20)
        one.first.weight = nn.Parameter(memory[:16].view(4, 4))
        one.second.weight = nn.Parameter(memory[4:].view(4, 4))
    expected.load_state_dict(source.state_dict())
    seen: set[str] = set()
    load_module(net, dict(state), filled_names(file, seen))
    assert_equal_state(net, expected)
    assert not seen & {"first.weight", "second.weight"}


def test_a_module_with_a_say_in_its_loading_is_not_written_to_before(tmp_path: Path) -> None:
    """One that refuses what was saved keeps its own values: in an override, in a submodule's, or in a hook."""

    class Refusing(Net):
        def load_state_dict(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("no")

    class RefusingInside(Net):
        def _load_from_state_dict(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("no")

    def refuse(*_: Any) -> None:
        raise RuntimeError("no")

    hooked = Net()
    hooked.register_load_state_dict_pre_hook(refuse)
    replaced = Net()
    replaced.load_state_dict = refuse  # type: ignore[assignment, method-assign]
    file, state = saved(tmp_path / "a", Net())
    for module in (Refusing(), nn.Sequential(RefusingInside()), hooked, replaced):
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        prefix = "0." if isinstance(module, nn.Sequential) else ""
        with pytest.raises(RuntimeError):
            load_module(module, {f"{prefix}{name}": t for name, t in state.items()}, fill_from([file]))
        assert all(torch.equal(module.state_dict()[name], before[name]) for name in before)


def test_values_of_no_file_are_copied_by_the_module(tmp_path: Path) -> None:
    """A state in memory, and one that is only partly of the file, load as ever."""
    source, net = Net(), Net()
    file, state = saved(tmp_path / "a", source)
    load_module(net, dict(source.state_dict()), fill_from([file]))
    assert_equal_state(net, source)
    other = Net()
    load_module(other, {**state, "conv.weight": state["conv.weight"].clone()}, fill_from([]))
    assert_equal_state(other, source)


@pytest.mark.parametrize("threshold", [1, 1 << 30], ids=["huge pages", "ordinary pages"])
def test_copies_are_the_file_s_values_in_memory_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threshold: int
) -> None:
    """Nothing of the file is changed when they are; scalars and empty tensors are among them, and all are aligned."""
    monkeypatch.setattr(filling, "_WORTH_HUGE_PAGES", threshold)
    source = Net()
    file, state = saved(tmp_path / "a", source)
    made = copies(file)
    assert all(torch.equal(made[name], state[name]) and made[name].shape == state[name].shape for name in made)
    for tensor in made.values():
        assert tensor.data_ptr() % 64 == 0
        tensor.zero_()
    assert all(torch.equal(TensorFile(tmp_path / "a").tensor(name), state[name]) for name in made)
    assert all(file.position(tensor) is None for tensor in made.values())

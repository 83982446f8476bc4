from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from holdfast.errors import CheckpointMismatch
from holdfast.toolbox.naming import new_names
from holdfast.toolbox.source import open_any, select_model

Save = Callable[..., Path]
WEIGHTS = {"conv.w": torch.ones(3, 2), "conv.b": torch.ones(3), "fc.w": torch.ones(5, 3)}


def test_names_stay_without_a_rule(save: Save) -> None:
    """Each plain name is its own new one."""
    source = select_model(open_any(save("a.pt", WEIGHTS)))
    assert new_names(source, None, False, []).pairs == {name: name for name in WEIGHTS}


def test_names_are_those_of_the_other_file(save: Save) -> None:
    """The other's names, words of wrappers too, in the other's order."""
    source = select_model(open_any(save("a.pt", WEIGHTS)))
    other = save("b.pt", {f"module.net.{name}": value for name, value in reversed(WEIGHTS.items())})
    assert new_names(source, other, False, []).pairs == {name: f"module.net.{name}" for name in reversed(WEIGHTS)}


def test_rules_come_before_the_other_file(save: Save) -> None:
    """What no wrapper explains is renamed first, and then paired."""
    source = select_model(open_any(save("a.pt", WEIGHTS)))
    other = save("b.pt", {f"head.{n}" if n == "fc.w" else n: v for n, v in WEIGHTS.items()})
    assert new_names(source, other, False, ["^fc=>head.fc"]).pairs["fc.w"] == "head.fc.w"


def test_naming_fails_when_something_is_left_over(save: Save) -> None:
    """Names without a partner on either side and other shapes are all told; with `partial` the rest is paired."""
    source = select_model(open_any(save("a.pt", {**WEIGHTS, "mine.w": torch.ones(9, 9)})))
    other = save("b.pt", {**WEIGHTS, "fc.w": torch.ones(7, 3), "theirs.bias": torch.ones(4)})
    with pytest.raises(CheckpointMismatch) as error:
        new_names(source, other, False, [])
    text = str(error.value)
    assert "2 tensors fit, 3 are left over" in text
    assert "  theirs.bias: nothing in " in text and "  mine.w: nothing in " in text
    assert "  fc.w [5, 3]: fc.w is [7, 3]" in text and "--partial" in text
    found = new_names(source, other, True, [])
    assert found.pairs == {"conv.w": "conv.w", "conv.b": "conv.b"}
    assert [what.split(" ", 2)[0] for what in found.left_out] == ["2", "2"]
    assert found.left_out[0].endswith(": fc.w, mine.w") and found.left_out[1].endswith(": fc.w, theirs.bias")

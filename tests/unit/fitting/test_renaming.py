from __future__ import annotations

import pytest

from holdfast.errors import CheckpointMismatch, ConfigError
from holdfast.fitting.renaming import rename


def test_rules_apply_one_after_another() -> None:
    """Each rule sees what the one before it made; groups can be used; names that do not fit stay."""
    names = ["backbone.0.weight", "backbone.1.weight", "head.bias"]
    rules = [r"^backbone\.=>", r"^(\d)\.=>layer\1."]
    assert rename(names, rules, "a.pt") == {
        "backbone.0.weight": "layer0.weight",
        "backbone.1.weight": "layer1.weight",
        "head.bias": "head.bias",
    }


def test_every_place_in_a_name_is_replaced() -> None:
    """A rule is not done after the first place, and may leave nothing of it."""
    assert rename(["a.block.block.w"], [r"block\.=>"], "a.pt") == {"a.block.block.w": "a.w"}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("backbone", r"--rename 'backbone': expected 'regex=>replacement'"),
        ("=>x", r"--rename '=>x': expected 'regex=>replacement'"),
        ("(=>x", r"'\(' is no regular expression"),
        (r"a=>\1", r"found invalid group reference 1 at position 1; expected a replacement whose"),
        ("zzz=>x", r"none of the 1 names of a\.pt contains it; expected one at least\. They are like a\.w"),
    ],
)
def test_renaming_fails_when_a_rule_is_none(rule: str, message: str) -> None:
    """What is wrong with a rule is said, with what is expected."""
    with pytest.raises(ConfigError, match=message):
        rename(["a.w"], [rule], "a.pt")


def test_renaming_fails_when_names_clash() -> None:
    """Two names that become one, and one that vanishes, are all told at once."""
    with pytest.raises(CheckpointMismatch, match=r"(?s)a\.w and b\.w both become w.*Change the rules"):
        rename(["a.w", "b.w"], [r"^[ab]\.=>"], "a.pt")
    with pytest.raises(CheckpointMismatch, match=r"w becomes empty"):
        rename(["w"], ["w=>"], "a.pt")

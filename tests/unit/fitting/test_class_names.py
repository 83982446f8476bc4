from __future__ import annotations

from typing import Any

import pytest

from holdfast.fitting.class_names import class_names


@pytest.mark.parametrize(
    "metadata",
    [
        {"classes": ["a", "b"]},
        {"class_names": ("a", "b")},
        {"label_names": ["a", "b"]},
        {"pretrained_cfg": {"label_names": ["a", "b"]}},
        {"class_to_idx": {"b": 1, "a": 0}},
        {"names": {0: "a", 1: "b"}},
        {"id2label": {"0": "a", "1": "b"}},
        {"meta": {"dataset_meta": {"CLASSES": ("a", "b")}}},
        {"hyper_parameters": {"lr": 0.1, "label2id": {"a": 0, "b": 1}}},
        {"names": ["a", "a"], "config": {"labels": ["a", "b"]}},
    ],
)
def test_the_ways_of_saying_it_agree(metadata: dict[str, Any]) -> None:
    """A list, a table either way round, JSON's numbers as text, at the top or where programs put their settings."""
    assert class_names(metadata) == ["a", "b"]


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"classes": 10},
        {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}},
        {"classes": "abc"},
        {"classes": []},
        {"classes": ["a", 1]},
        {"classes": ["a", "a"]},
        {"class_to_idx": {"a": 1, "b": 2}},
        {"class_to_idx": {"a": 0, "b": 0}},
        {"names": {"first": "a"}},
        {"names": {0: ["a"]}},
    ],
)
def test_what_names_no_classes_is_none(metadata: Any) -> None:
    """A count, a word, names twice, numbers with gaps: nothing is guessed from them."""
    assert class_names(metadata) is None

"""The classes a file's model tells apart, where the file says so: in our own way or in that of others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_LISTS = ("classes", "class_names", "CLASSES", "names", "label_names", "labels", "categories")
_TO_INDEX = ("class_to_idx", "label2id", "cls_to_idx")
_FROM_INDEX = ("id2label", "idx_to_class", "names")
_WITHIN = ("dataset_meta", "meta", "hyper_parameters", "hparams", "config", "pretrained_cfg", "args", "metadata")
_MAX_CLASSES = 1_000_000
_PLACEHOLDER = re.compile(r"LABEL_\d+")  # what transformers writes where nobody named the classes


def class_names(metadata: Any) -> list[str] | None:
    """Returns the names of the classes in the order of the model's outputs; None when nothing says.

    Args:
        metadata: what a file holds beside its weights, as plain values.
    """
    if not isinstance(metadata, Mapping):
        return None
    for key in _LISTS:
        if (found := _listed(metadata.get(key))) is not None:
            return found
    for key in _TO_INDEX:
        value = metadata.get(key)
        if isinstance(value, Mapping) and len(set(map(str, value.values()))) == len(value):
            found = _by_index({number: name for name, number in value.items()})
            if found is not None:
                return found
    for key in _FROM_INDEX:
        value = metadata.get(key)
        if isinstance(value, Mapping) and (found := _by_index(value)) is not None:
            return found
    inside = (class_names(metadata.get(key)) for key in _WITHIN if isinstance(metadata.get(key), Mapping))
    return next((found for found in inside if found is not None), None)


def _listed(value: Any) -> list[str] | None:
    if isinstance(value, Sequence) and not isinstance(value, str) and 0 < len(value) <= _MAX_CLASSES:
        texts = all(isinstance(name, str) for name in value)
        if texts and len(set(value)) == len(value) and not all(map(_PLACEHOLDER.fullmatch, value)):
            return list(value)
    return None


def _by_index(value: Mapping[Any, Any]) -> list[str] | None:
    """Returns names by their numbers 0, 1, 2 …; None when these are others. JSON makes numbers to text."""
    if not 0 < len(value) <= _MAX_CLASSES:
        return None
    try:
        numbered = {int(number): name for number, name in value.items()}
    except (TypeError, ValueError):
        return None
    if set(numbered) != set(range(len(value))):
        return None
    return _listed([numbered[number] for number in range(len(numbered))])

from __future__ import annotations

import math

from holdfast.toolbox.difference import Difference, PlainDifference, TensorDifference
from holdfast.toolbox.tensor_difference import ValueDifference


def _tensor(name: str, status: str, max_abs: float = 0.0) -> TensorDifference:
    values = ValueDifference(4, int(max_abs > 0), max_abs == 0, max_abs, max_abs / 2, 0.5)
    return TensorDifference(name, status, ("float32", "float32"), ((2, 2), (2, 2)), None, values)


def _difference(*tensors: TensorDifference, values: list[PlainDifference] | None = None) -> Difference:
    return Difference("a.pt", "b.pt", 0.0, 0.0, {"model": list(tensors)}, values or [], 3)


def test_equality_needs_every_tensor_and_every_value() -> None:
    """One tensor or one value that differs is enough."""
    assert _difference(_tensor("a", "same")).equal
    assert not _difference(_tensor("a", "same"), _tensor("b", "different", 1.0)).equal
    assert not _difference(_tensor("a", "same"), values=[PlainDifference("epoch", 1, 2)]).equal


def test_what_is_infinite_is_text_in_json() -> None:
    """JSON has no word for infinity."""
    table = _difference(_tensor("a", "different", math.inf)).to_json()
    assert table["tensors"]["model"]["max_abs"] == "inf"
    assert table["tensors"]["model"]["tensors"][0]["max_abs"] == "inf"


def test_the_table_fits_the_terminal() -> None:
    """Counts become shares and long names lose their middle; the numbers stay."""
    name = "backbone." + "very_long_name." * 8 + "weight"
    lines = list(_difference(_tensor(name, "different", 0.5)).lines(80))
    assert max(len(line.strip("\n")) for line in lines[4:]) <= 80
    assert lines[4].split()[-5:] == ["float32", "0.5", "0.25", "0.500000", "25.0%"]
    assert lines[4].split()[0].endswith("name.weight")


def test_values_beside_the_tensors_are_shown_side_by_side() -> None:
    """A line a value, counted against all that were compared; hostile text is escaped."""
    lines = list(_difference(values=[PlainDifference("args.\x1b", "x\n", None)]).lines())
    assert lines[-3:] == ["\nbeside the tensors: 1 of 3 values differ", "  args.\\x1b: x\\n | None", "\ndifferent"]


def test_endless_lists_of_values_are_cut() -> None:
    """After a thousand lines the rest is counted."""
    values = [PlainDifference(str(n), n, n + 1) for n in range(1500)]
    lines = list(_difference(values=values).lines())
    assert "  … and 500 more (--json has them)" in lines
    assert len(lines) < 1010


def test_models_without_a_name_in_common_are_said_so_first() -> None:
    """A sentence on how many of no tensors differ would say nothing."""
    only = [TensorDifference("a", "missing", ("float32", None), ((1,), None))]
    only += [TensorDifference("b", "extra", (None, "float32"), (None, (1,)))]
    assert list(_difference(*only).lines())[2:4] == [
        "\nmodel: no name in common",
        "  1 missing in b, 1 only in b",
    ]


def test_equal_weights_are_said_when_only_the_rest_differs() -> None:
    """The last line says so, and only where something else differs."""
    values = [PlainDifference("epoch", 1, 2)]
    found = Difference("a", "b", 0.0, 0.0, {"model": [_tensor("a", "same")]}, values, 1, weights_equal=True)
    assert list(found.lines())[-2:] == ["\ndifferent", "weights are equal; --weights-only compares these alone"]
    assert found.to_json()["weights_equal"] is True
    assert list(Difference("a", "b", 0.0, 0.0, found.tensors, values, 1).lines())[-1] == "\ndifferent"
    same = Difference("a", "b", 0.0, 0.0, found.tensors, [], 1, weights_equal=True)
    assert list(same.lines())[-1] == "\nequal"

from __future__ import annotations

import json

from holdfast.fitting.optimizer_report import OptimizerReport


def report() -> OptimizerReport:
    """Two of four parameters kept."""
    return OptimizerReport(
        optimizer="Adam",
        source="c.pt",
        evidence="shapes and the model's order",
        kept={"a": "m.a", "b": "m.b"},
        fresh={"head": "its weight was not taken from the file unchanged", "x": "the file has no slots for m.x"},
        dropped={"m.head": "the live optimizer holds no parameter taken from it"},
        ambiguous={"#3": ("m.c", "m.d"), "#4": ("1", "2", "3", "4", "5"), "#5": ()},
        why_ambiguous="other ways fit as well",
        num_values=40,
        num_kept=30,
    )


def test_the_text_counts_and_names() -> None:
    """Numbers first, then what is not as it was, each with its reason."""
    head = (
        "Adam: 2 of 4 parameters (75.0% of the values) go on with their saved slots, known by shapes and the model's "
        "order; the options are those of the live optimizer"
    )
    assert str(report()).splitlines() == [
        head,
        "  fresh head: its weight was not taken from the file unchanged",
        "  fresh x: the file has no slots for m.x",
        "  dropped m.head: the live optimizer holds no parameter taken from it",
        "  ambiguous #3: m.c or m.d",
        "  ambiguous #4: 1 or 2 or 3 or 2 others",
        "  ambiguous #5: no parameter of this model",
        "  not proven, because other ways fit as well; pass same_order=True if the same code made this optimizer",
    ]


def test_long_lists_are_cut() -> None:
    """What is not shown is counted."""
    lines = report().lines(limit=1)
    assert lines[2] == "  … and 1 more fresh"
    assert lines[5] == "  … and 2 more ambiguous"


def test_the_json_says_the_same() -> None:
    """Everything, as values that JSON has."""
    found = json.loads(json.dumps(report().to_json()))
    assert (found["num_parameters"], found["num_kept_parameters"], found["fraction"]) == (4, 2, 0.75)
    assert found["ambiguous"]["#3"] == ["m.c", "m.d"]
    assert found["kept"] == {"a": "m.a", "b": "m.b"}
    assert OptimizerReport("SGD", "c.pt", "").fraction == 1.0

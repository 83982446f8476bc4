"""docs/seed-systems.md is true: every row has a way, an example and a marked test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    *(f"D{n}" for n in range(1, 10)),
    *(f"M{n}" for n in range(1, 7)),
    *(f"T{n}" for n in range(1, 9)),
    *(f"S{n}" for n in range(1, 12)),
    *(f"U{n}" for n in range(1, 4)),
]


def _tables() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Rows that are done and rows that are not, by id, as the cells of their lines."""
    done, _, missing = (ROOT / "docs/seed-systems.md").read_text(encoding="utf-8").partition("## Not there yet")
    tables = []
    for text in (done, missing):
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
        tables.append({row[0]: row for row in cells if row[0] in ROWS})
    return tables[0], tables[1]


def _marked_rows(path: Path, test: str) -> set[str]:
    """The ids in the `row` marks of one test and of the class it stands in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for place in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))):
        for node in place.body:
            if isinstance(node, ast.FunctionDef) and node.name == test:
                decorators = [*node.decorator_list, *getattr(place, "decorator_list", [])]
                calls = [d for d in decorators if isinstance(d, ast.Call) and ast.unparse(d.func).endswith("mark.row")]
                return {str(ast.literal_eval(argument)) for call in calls for argument in call.args}
    raise AssertionError(f"there is no test {test} in {path}")


def test_every_row_is_either_done_or_said_to_be_missing() -> None:
    """No row of the mission is forgotten, and none stands twice."""
    done, missing = _tables()
    assert sorted([*done, *missing]) == sorted(ROWS)


@pytest.mark.parametrize("row", sorted(_tables()[0]))
def test_a_row_that_is_done_has_a_way_an_example_and_a_marked_test(row: str) -> None:
    """The example is a file, and the test exists and carries the row's id."""
    _, _, way, example, proof = _tables()[0][row]
    assert way
    assert example.startswith("– (") or (ROOT / example).is_file(), example
    path, _, test = proof.partition("::")
    assert row in _marked_rows(ROOT / path, test), f"{proof} is not marked with row {row}"


def test_the_examples_are_run_by_a_test() -> None:
    """Every file in examples/ stands in a test that runs the real thing."""
    runner = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/end_to_end").glob("test_*.py"))
    for path in (ROOT / "examples").iterdir():
        if path.suffix in (".py", ".sh"):
            assert re.search(rf"\b{path.name}\b", runner), f"no test runs {path.name}"

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.paths import PathTable

_PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=6)
_PATHS = st.lists(st.lists(_PARTS, min_size=1, max_size=3).map("/".join), max_size=12)


@given(_PATHS)
def test_a_table_is_the_list_it_was_made_of(paths: list[str]) -> None:
    """Length, order, every index, every slice, membership and equality are those of the list of texts."""
    table = PathTable.of(paths)
    assert list(table) == paths
    assert table == paths and paths == table
    assert not table != paths  # noqa: SIM202  # what is claimed
    assert [table[i] for i in range(-len(paths), len(paths))] == paths * 2
    assert table[1:7:2] == paths[1:7:2] and table[::-1] == paths[::-1]
    assert all(path in table for path in paths)
    assert table != [*paths, "x"] and table != 3


def test_an_index_beyond_the_end_fails() -> None:
    """As a list, on both sides."""
    table = PathTable.of(["a/1.png", "a/2.png"])
    for index in (2, -3):
        with pytest.raises(IndexError):
            table[index]


def test_a_path_takes_little_memory() -> None:
    """The folder's name is held once: a path of 59 characters takes its name's bytes, and eight."""
    paths = [f"train/a-class-with-a-very-long-name-of-its-own/{i:08d}.jpg" for i in range(1000)]
    table = PathTable.of(paths)
    assert table.num_bytes <= 1000 * (12 + 8) + 100
    assert table == paths


@given(_PATHS)
def test_a_copy_by_pickle_is_equal(paths: list[str]) -> None:
    """What a worker process receives holds the same paths."""
    assert pickle.loads(pickle.dumps(PathTable.of(paths))) == paths


def _compare(table: PathTable, paths: list[str], answers: object) -> None:
    shared = all(tensor.is_shared() for tensor in vars(table).values())
    answers.put((list(table) == paths, shared))  # type: ignore[attr-defined]


def test_a_spawned_process_shares_the_memory() -> None:
    """The table travels as a handle to memory that both processes see, and stays usable here."""
    paths = [f"c{i % 3}/é {i}\n.png" for i in range(50)]
    table = PathTable.of(paths)
    context = torch.multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_compare, args=(table, paths, answers))
    process.start()
    assert answers.get() == (True, True)
    process.join()
    assert table == paths


def test_a_table_is_taken_as_it_is(tmp_path: Path) -> None:
    """Making a table of a table copies nothing, and its text shows the first paths."""
    table = PathTable.of([str(i) for i in range(5)])
    assert PathTable.of(table) is table
    assert repr(table) == "PathTable(['0', '1', '2', …], 5 paths)"

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.data.folders.listing import names_of
from holdfast.data.folders.natural import natural_key, natural_order, natural_sorted, order_in_folders

_NUMBER = st.integers(0, 2000)
_ALIKE = st.tuples(
    st.sampled_from(["img", "x1y", "a-0", "٣", "é", ""]), st.sampled_from([".png", "_7.JPEG", "٣", "", "é.jpg"])
)


def in_order(names: list[str]) -> list[str]:
    """The names as `natural_order` sorts them."""
    table = names_of([name.encode() for name in names], np.zeros(len(names), np.uint8))
    return [names[i] for i in natural_order(table)]


@given(_ALIKE, st.sets(_NUMBER, min_size=33, max_size=50), st.sampled_from(["{}", "{:03d}", "{:06d}"]))
def test_names_that_differ_in_one_number_are_in_natural_order(
    around: tuple[str, str], numbers: set[int], form: str
) -> None:
    """Whatever stands before and after the number, digits of any script among it, the order is that of the keys."""
    names = [around[0] + form.format(number) + around[1] for number in numbers]
    assert in_order(names) == sorted(names, key=natural_key)


@given(st.sets(st.text("019ab. é٣\n", min_size=1, max_size=6), min_size=33, max_size=50))
@example({"7", "007", "07", *(f"{i:03d}" for i in range(20)), *(str(i) for i in range(15))})
def test_any_names_are_in_natural_order(names: set[str]) -> None:
    """Leading zeros, several numbers, other scripts and ties included."""
    listed = list(names)
    assert in_order(listed) == sorted(listed, key=natural_key)


@pytest.mark.parametrize("names", [[], ["a"], ["10", "9"], ["b", "a2", "a10", "a1"]])
def test_few_names_are_in_natural_order(names: list[str]) -> None:
    """A folder of none, one or a few."""
    assert in_order(names) == sorted(names, key=natural_key)


def test_numbers_of_many_digits_keep_their_order() -> None:
    """A number that no float holds exactly is compared as a whole."""
    names = [f"{9007199254740993 + i * (-1) ** i}.png" for i in range(40)]
    assert in_order(names) == sorted(names, key=natural_key)


_STEM = st.sampled_from(["img", "x1y", "a-0", "٣", "é", "", "n01440764_"])
_FOLDER = st.one_of(
    st.tuples(_STEM, st.sets(_NUMBER, min_size=1, max_size=8), st.sampled_from(["{}", "{:03d}", "{:017d}"])).map(
        lambda parts: {f"{parts[0]}{parts[2].format(number)}.png" for number in parts[1]}
    ),
    st.sets(st.text("019ab. é٣\n", min_size=1, max_size=20), min_size=1, max_size=5),
)


@given(st.lists(_FOLDER, min_size=1, max_size=8))
@example([{"7", "007"}, {"1", "2"}])
@example([{f"{i * 10**11}.png" for i in range(1, 2000)}, *({str(i)} for i in range(6000))])  # beyond 64 bits together
def test_names_of_many_folders_are_sorted_within_each(folders: list[set[str]]) -> None:
    """The order of every folder that is called sure is that of the keys, and no name leaves its folder."""
    names = [name for folder in folders for name in folder]
    table = names_of([name.encode() for name in names], np.zeros(len(names), np.uint8))
    firsts = np.cumsum([0, *map(len, folders)])
    order, sure = order_in_folders(table, firsts)
    for place, folder in enumerate(folders):
        found = [names[i] for i in order[firsts[place] : firsts[place + 1]]]
        assert set(found) == folder
        assert not sure[place] or found == sorted(folder, key=natural_key)


@given(_STEM, st.sets(_NUMBER, min_size=2, max_size=50))
def test_names_that_differ_in_one_number_are_sure(stem: str, numbers: set[int]) -> None:
    """Plain names never fall back to a key a name, however many folders there are; digits of other scripts may."""
    names = [f"{stem}{number}.png" for number in sorted(numbers)]
    table = names_of([name.encode() for name in names * 2], np.zeros(2 * len(names), np.uint8))
    _, sure = order_in_folders(table, np.array([0, len(names), 2 * len(names)]))
    assert sure.all() or not stem.isascii()


@given(st.sets(st.text("019ab. é٣\n", max_size=6), max_size=50))
def test_texts_are_in_natural_order(texts: set[str]) -> None:
    """As `sorted` by the keys gives it."""
    assert natural_sorted(texts) == sorted(texts, key=natural_key)

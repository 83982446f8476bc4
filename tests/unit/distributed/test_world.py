import pytest

from holdfast.distributed import World, current_world
from holdfast.errors import ConfigError


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("global_batch", [0, 1, 2, 5, 16, 63, 64])
def test_shares_are_disjoint_and_cover_the_global_batch(global_batch: int, world_size: int) -> None:
    """The shares of all ranks, one after the other, are the batch; their sizes differ by one at most."""
    batch = list(range(global_batch))
    shares = [batch[World(rank, world_size).share(global_batch)] for rank in range(world_size)]
    assert [sample for share in shares for sample in share] == batch
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_one_process_has_the_whole_batch() -> None:
    """Without other processes the share is everything."""
    assert World().share(10) == slice(0, 10)


def test_the_environment_of_torchrun_is_read() -> None:
    """RANK, WORLD_SIZE and LOCAL_RANK make the world."""
    assert current_world({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == World(5, 8, 1)


def test_an_empty_environment_is_one_process() -> None:
    """Nothing set means the only process of the run."""
    assert current_world({}) == World(rank=0, world_size=1, local_rank=0)


def test_the_environment_of_this_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the process's own environment counts."""
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert current_world() == World(1, 2, 1)


def test_reading_the_world_fails_when_a_value_is_no_number() -> None:
    """The message shows the value that is not a number."""
    with pytest.raises(ConfigError, match=r"Reading RANK, WORLD_SIZE and LOCAL_RANK from the environment: .*'one'"):
        current_world({"RANK": "one"})


@pytest.mark.parametrize(("rank", "world_size"), [("2", "2"), ("-1", "2"), ("0", "0"), ("3", "1")])
def test_reading_the_world_fails_when_the_rank_lies_outside(rank: str, world_size: str) -> None:
    """A rank must be from 0 to the size of the world, less one."""
    with pytest.raises(ConfigError) as caught:
        current_world({"RANK": rank, "WORLD_SIZE": world_size})
    assert str(caught.value) == f"RANK is {rank} and WORLD_SIZE is {world_size}; expected 0 <= RANK < WORLD_SIZE."

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.data.speed.advice import advise
from holdfast.data.speed.timing import Rate, Room, Sampled, Stage, Timing

GB = 10**9
DISK = Stage("read the file (from memory)", "disk", 0.001, "worker")
DECODE = Stage("decode", "decode", 0.007, "worker")
CROP = Stage("crop and resize (RandomResizedCrop)", "transform", 0.001, "worker")
NORMALISE = Stage("normalise", "finish", 0.001, "main")


def timing(*stages: Stage, **changes: object) -> Timing:
    """Two workers on four cores, decoding 0.7 of the time."""
    made = Timing(
        data="x",
        task="classification",
        img_size=224,
        augment="crop+flip",
        decode_size=None,
        batch_size=64,
        workers=2,
        cores=4,
        device="cpu",
        sampled=Sampled(100, 1000, 200_000, 2000, 12.0, cold=False),
        stages=list(stages or (DISK, DECODE, CROP, NORMALISE)),
        rates=[Rate(1, 100), Rate(2, 190), Rate(3, 191)],
        room=Room(GB, 14 * GB, 50 * GB),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_cache_is_advised_with_what_it_saves_and_takes() -> None:
    """Of 10 ms, reading and decoding are 8: a fifth is left. In memory where half of it is enough, else on disk,
    else it is said that there is no room."""
    assert (
        "80% of a later epoch: --cache ram would make it about 5.0 × faster (needs 1.0 GB, 14.0 GB are free)"
        in (advise(timing())[0])
    )
    assert "--cache disk" in advise(timing(room=Room(10 * GB, 14 * GB, 50 * GB)))[0]
    assert "more than is free" in advise(timing(room=Room(100 * GB, 14 * GB, 50 * GB)))[0]
    assert not any("cache" in line for line in advise(timing(room=None)))
    assert not any(
        "cache" in line for line in advise(timing(replace(DISK, seconds=0.0001), replace(DECODE, seconds=0.0001), CROP))
    )


def test_a_cache_saves_no_slow_reading_that_memory_saves_anyway() -> None:
    """After a cold disk, what a second reading takes is counted: 10 ms become 0.1."""
    cold = replace(DISK, name="read the file (from the disk)", seconds=0.01)
    again = replace(DISK, name="read it again (from memory)", seconds=0.0001, place="")
    said = advise(timing(cold, again, replace(DECODE, seconds=0.0019), CROP, NORMALISE))
    assert "50% of a later epoch" in said[0] and "2.0 × faster" in said[0]


def test_a_slow_disk_is_said_only_when_it_was_read() -> None:
    """200 kB in 10 ms are 20 MB/s; from memory there is nothing to say of it."""
    slow = replace(DISK, seconds=0.01)
    cold = replace(timing().sampled, cold=True)
    assert any("20 MB/s, 100 pictures/s" in line for line in advise(timing(slow, DECODE, CROP, sampled=cold)))
    assert not any("MB/s" in line for line in advise(timing(slow, DECODE, CROP)))


def test_a_smaller_decoding_is_advised_where_it_was_quicker() -> None:
    """Only when it was measured, and saves a fifth at least."""
    other = Stage("decode for --decode-size 448", "decode", 0.003, "")
    said = advise(timing(DISK, DECODE, other, CROP))
    assert any("12.0 MP: --decode-size 448 decodes one in 3.0 ms, not 7.0" in line for line in said)
    for nothing in (timing(), timing(DISK, DECODE, replace(other, seconds=0.006), CROP)):
        assert not any("--decode-size" in line for line in advise(nothing))


def test_a_dear_augmentation_is_named() -> None:
    """The crop is needed, and so is what counts points from the edge; a step that takes a quarter is not."""
    jitter = Stage("ColorJitter", "transform", 0.009, "worker")
    assert any("ColorJitter takes 47%" in line for line in advise(timing(DISK, DECODE, CROP, jitter, NORMALISE)))
    for needed in (CROP, replace(CROP, name="points (FromEdge)")):
        assert not any(" takes " in line for line in advise(timing(DISK, replace(needed, seconds=1.0))))


@pytest.mark.parametrize(
    ("rates", "workers", "part"),
    [
        ({1: 100, 2: 190, 3: 260}, 2, "one worker more gives 260 pictures/s instead of 190: --workers 3"),
        ({1: 188, 2: 190, 3: 191}, 2, "one worker fewer gives 188 pictures/s, as it is 190: --workers 1"),
        ({4: 150, 5: 190, 6: 150}, 5, "more workers than cores do not help: 5 workers, 4 cores"),
        ({1: 100, 2: 190, 3: 191}, 2, "fewer than 191 pictures/s does not wait"),
    ],
)
def test_numbers_of_workers_are_judged_by_their_rates(rates: dict[int, float], workers: int, part: str) -> None:
    """Each of the four things that can be said of them."""
    said = advise(timing(rates=[Rate(*pair) for pair in rates.items()], workers=workers))
    assert any(part in line for line in said), said


def test_a_main_process_that_is_the_limit_is_said() -> None:
    """Its part is alone; that of the workers is divided among them."""
    assert any(
        "main process finishes 100 pictures/s" in line for line in advise(timing(replace(NORMALISE, seconds=0.01)))
    )
    assert not any("main process" in line for line in advise(timing()))


def test_nothing_to_gain_is_said_too() -> None:
    """One line, and no empty list."""
    assert advise(timing(replace(CROP, seconds=0.001), rates=[], room=None)) == [
        "nothing stands out: no single thing here would make it much faster"
    ]

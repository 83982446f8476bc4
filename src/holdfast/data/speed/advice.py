"""What would make the pictures come faster, derived from what was measured. A pure function of it."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.data.cache.choice import gigabytes
from holdfast.data.speed.stages import AGAIN
from holdfast.data.speed.timing import Stage, Timing
from holdfast.words import count

_MUCH = 0.25  # a share that is worth a word
_AS_FAST = 0.95  # rates of two runs differ by so much without a reason
_NEEDED = ("crop and resize", "points (")  # steps that every augmentation has
_SHARE_OF_MEMORY = 0.5  # what `--cache auto` would take at most


def advise(timing: Timing) -> list[str]:
    """Returns what would help, the most first; nothing to gain is said too."""
    advice = [*_keep(timing), *_decode(timing), *_disk(timing), *_transform(timing), *_main(timing), *_workers(timing)]
    return advice or ["nothing stands out: no single thing here would make it much faster"]


def _keep(t: Timing) -> Iterator[str]:
    """The cache: what it would save is what it does away with. A second reading is from the system's memory, too."""
    again = _named(t, AGAIN)
    reading = again.seconds if again is not None else t.of("disk")
    spared, rest, room = reading + t.of("decode"), t.seconds - t.of("disk", "decode"), t.room
    if room is None or spared < _MUCH * (spared + rest) or not rest > 0:
        return
    gain = f"reading and decoding are {spared / (spared + rest):.0%} of a later epoch"
    times = f"would make it about {(spared + rest) / rest:.1f} × faster"
    if room.needed <= room.memory * _SHARE_OF_MEMORY:
        yield f"{gain}: --cache ram {times} (needs {gigabytes(room.needed)}, {gigabytes(room.memory)} are free)"
    elif room.needed <= room.disk:
        yield f"{gain}: --cache disk {times} at most (needs {gigabytes(room.needed)}, {gigabytes(room.disk)} are free)"
    else:
        yield f"{gain}, but decoded the pictures take {gigabytes(room.needed)}, more than is free in memory or on disk"


def _decode(t: Timing) -> Iterator[str]:
    """A smaller decoding, where it was measured to be quicker."""
    now = _named(t, "decode")
    other = next((stage for stage in t.stages if stage.name.startswith("decode for")), None)
    if now is None or other is None or other.seconds > 0.8 * now.seconds:
        return
    side = int(other.name.split()[-1])
    yield (
        f"pictures of {t.sampled.megapixels:.1f} MP: --decode-size {side} decodes one in {other.seconds * 1e3:.1f} ms, "
        f"not {now.seconds * 1e3:.1f} (it is part of the recipe: what follows is done to smaller pictures)"
    )


def _disk(t: Timing) -> Iterator[str]:
    s, seconds = t.sampled, t.of("disk")
    if s.cold and seconds >= _MUCH * t.seconds:
        yield (
            f"the disk gives one reader {s.file_bytes / seconds / 1e6:,.0f} MB/s, {1 / seconds:,.0f} pictures/s: copy "
            "DATA to a faster one; more workers read side by side"
        )


def _transform(t: Timing) -> Iterator[str]:
    for stage in t.stages:
        if stage.kind != "transform" or stage.name.startswith(_NEEDED):
            continue
        if stage.seconds >= _MUCH * t.seconds:
            yield f"{stage.name} takes {stage.seconds / t.seconds:.0%} of the time: another --augment may do without it"


def _main(t: Timing) -> Iterator[str]:
    """The main process does its part alone, however many workers there are."""
    main = sum(stage.seconds for stage in t.stages if stage.place == "main")
    if t.workers and main > (t.seconds - main) / t.workers:
        yield (
            f"the main process finishes {1 / main:,.0f} pictures/s, and "
            f"{count(t.workers, 'worker prepares', 'workers prepare')} more: fewer do as well; on an "
            "accelerator the last steps cost it less"
        )


def _workers(t: Timing) -> Iterator[str]:
    rates = {rate.workers: rate.pictures_per_second for rate in t.rates}
    here, more, fewer = (rates.get(t.workers + step) for step in (0, 1, -1))
    if here is None:
        return
    if fewer is not None and fewer >= max(rates.values()) * _AS_FAST:
        yield f"one worker fewer gives {fewer:,.0f} pictures/s, as it is {here:,.0f}: --workers {t.workers - 1} will do"
    elif more is not None and more * _AS_FAST > here:
        yield f"one worker more gives {more:,.0f} pictures/s instead of {here:,.0f}: --workers {t.workers + 1}"
    if t.workers > t.cores:
        yield f"more workers than cores do not help: {count(t.workers, 'worker')}, {count(t.cores, 'core')}"
    yield f"a network that trains fewer than {max(rates.values()):,.0f} pictures/s does not wait for them"


def _named(t: Timing, name: str) -> Stage | None:
    return next((stage for stage in t.stages if stage.name == name), None)

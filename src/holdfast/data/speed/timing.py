"""Where the time of a training's pictures goes: what was measured, as a table and as JSON. Measures nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from holdfast.data.cache.choice import gigabytes
from holdfast.data.targets import Task
from holdfast.words import count

Kind = Literal["disk", "decode", "transform", "hand-over", "finish"]
Place = Literal["worker", "main", ""]


@dataclass(frozen=True)
class Stage:
    """One thing that is done to every picture.

    Attributes:
        name: for a person.
        kind: what it is part of.
        seconds: a picture, on the average.
        place: "worker" or "main", the process that does it; "" for what a training does not do, measured to compare.
    """

    name: str
    kind: Kind
    seconds: float
    place: Place


@dataclass(frozen=True)
class Rate:
    """What the whole loader delivers.

    Attributes:
        workers: processes that prepare pictures; 0 for none.
        pictures_per_second: from the start of an epoch to its end, files in the system's memory.
    """

    workers: int
    pictures_per_second: float


@dataclass(frozen=True)
class Sampled:
    """The pictures that were measured.

    Attributes:
        num: how many.
        num_all: of how many.
        file_bytes: of a file, on the average; 0 for pictures in memory.
        short_side: median, pixels.
        megapixels: on the average.
        cold: whether files were read from the disk; otherwise from the system's memory.
    """

    num: int
    num_all: int
    file_bytes: float
    short_side: float
    megapixels: float
    cold: bool


@dataclass(frozen=True)
class Room:
    """What keeping the decoded pictures would take, and what there is; bytes, estimated from the headers of some."""

    needed: int
    memory: int
    disk: int


@dataclass(frozen=True)
class Timing:
    """What was measured.

    Attributes:
        data: as the user named it.
        task: what is learned of a picture.
        img_size, augment, decode_size, batch_size: of the training that was measured; `decode_size` None for pictures
            as they are.
        workers: as asked; `cores` that this process may use.
        device: where batches go.
        room: for a cache; None for pictures that are in memory already.
    """

    data: str
    task: Task
    img_size: int
    augment: str
    decode_size: int | None
    batch_size: int
    workers: int
    cores: int
    device: str
    sampled: Sampled
    stages: list[Stage]
    rates: list[Rate]
    room: Room | None

    @property
    def seconds(self) -> float:
        """Of all that a training does to one picture, in all processes together."""
        return sum(stage.seconds for stage in self.stages if stage.place)

    def of(self, *kinds: Kind) -> float:
        """Returns the seconds of the stages of these kinds that a training has."""
        return sum(stage.seconds for stage in self.stages if stage.place and stage.kind in kinds)

    def to_json(self, advice: list[str]) -> dict[str, Any]:
        """Returns all of it as JSON values; counts are `num_…`, and units stand in the names."""
        room, s = self.room, self.sampled
        return {
            "data": self.data,
            "task": self.task,
            "num_pictures": s.num_all,
            "img_size": self.img_size,
            "augment": self.augment,
            "decode_size": self.decode_size,
            "batch_size": self.batch_size,
            "workers": self.workers,
            "num_cores": self.cores,
            "device": self.device,
            "sampled": {
                "num_pictures": s.num,
                "file_bytes": s.file_bytes,
                "short_side": s.short_side,
                "megapixels": s.megapixels,
                "cold": s.cold,
            },
            "seconds_per_picture": self.seconds,
            "stages": [
                {
                    "name": stage.name,
                    "kind": stage.kind,
                    "place": stage.place,
                    "seconds_per_picture": stage.seconds,
                    "share": stage.seconds / self.seconds if stage.place else None,
                }
                for stage in self.stages
            ],
            "rates": [asdict(rate) for rate in self.rates],
            "room": room and {f"{name}_bytes": number for name, number in asdict(room).items()},
            "advice": advice,
        }

    def lines(self) -> Iterator[str]:
        """Yields the table, in 80 columns; what stands above and below it may be longer."""
        s = self.sampled
        files = f", {s.file_bytes / 1e3:,.0f} kB" if s.file_bytes else ""
        yield f"{s.num:,} of {s.num_all:,} pictures, picked at random: {s.megapixels:,.2f} megapixels{files} each"
        decode = f", --decode-size {self.decode_size}" if self.decode_size else ""
        task = "" if self.task == "classification" else f"--task {self.task} "
        yield f"{task}--img-size {self.img_size} --augment {self.augment}{decode}, on one thread"
        yield ""
        yield f"{'':35} {'ms each':>9} {'share':>6} {'pictures/s a core':>17}"
        for stage in self.stages:
            share = f"{stage.seconds / self.seconds:6.0%}" if stage.place else f"{'–':>6}"
            note = {"main": "  main", "worker": "", "": "  compared"}[stage.place]
            yield f"{stage.name:35} {stage.seconds * 1e3:9.3f} {share} {_rate(stage.seconds):>17}{note}"
        yield f"{'all together':35} {self.seconds * 1e3:9.3f} {1:6.0%} {_rate(self.seconds):>17}"
        places = {stage.place for stage in self.stages}
        legend = {"main": "main: in the main process", "": "compared: no part of a training"}
        if noted := [text for place, text in legend.items() if place in places]:
            yield f"({'; '.join(noted)})"
        yield ""
        for rate in self.rates:
            asked = "  (as asked)" if rate.workers == self.workers else ""
            yield f"the loader, {count(rate.workers, 'worker')}: {rate.pictures_per_second:,.0f} pictures/s{asked}"
        if self.room is not None:
            room = (gigabytes(n) for n in (self.room.needed, self.room.memory, self.room.disk))
            yield "decoded, train and val are about {}; free: {} memory, {} disk".format(*room)


def _rate(seconds: float) -> str:
    return f"{1 / seconds:,.0f}" if seconds else "–"

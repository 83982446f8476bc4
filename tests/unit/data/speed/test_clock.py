from __future__ import annotations

from functools import partial

import pytest

from holdfast.data.speed.clock import Clock


def test_work_is_done_once_and_stages_stand_in_the_order_they_were_met() -> None:
    """Each stage once, however often it was timed, in seconds of one picture; what the work returns is given back."""
    clock, done = Clock(), list[str]()

    def work(name: str) -> str:
        done.append(name)
        return name

    for name in ("decode", "crop", "decode"):
        assert clock.time(name, "decode", partial(work, name)) == name
    assert done == ["decode", "crop", "decode"]
    stages = clock.stages(2)
    assert [(stage.name, stage.place) for stage in stages] == [("decode", "worker"), ("crop", "worker")]
    assert [stage.seconds * 2 for stage in stages] == list(clock.seconds.values())


def test_a_comparison_is_of_all_pictures() -> None:
    """Where there is no other way, the stage's own time counts, or few large pictures would make the other way look
    quicker; where there was none for any picture, nothing is said."""
    clock = Clock()
    for number in range(3):
        clock.time("decode", "decode", lambda: sum(range(1000)))
        clock.compare("in full", "decode", (lambda: sum(range(2000))) if number == 2 else None)
        clock.compare("the same", "decode", None)
    decode, in_full = clock.stages(3)
    assert (in_full.name, in_full.place) == ("in full", "")
    same = clock.seconds["the same", "decode", ""]
    assert decode.seconds == pytest.approx(same / 3) and same > 0

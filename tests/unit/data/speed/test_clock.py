from __future__ import annotations

from holdfast.data.speed.clock import Clock


def test_work_is_done_once_and_stages_stand_in_the_order_they_were_met() -> None:
    """Each stage once, however often it was timed, in seconds of one picture; what the work returns is given back."""
    clock, done = Clock(), list[str]()
    for name in ("decode", "crop", "decode"):
        assert clock.time(name, "decode", lambda name=name: done.append(name) or name) == name  # type: ignore[func-returns-value,misc]
    clock.time("in full", "decode", lambda: None, "")
    assert done == ["decode", "crop", "decode"]
    stages = clock.stages(2)
    assert [(stage.name, stage.place) for stage in stages] == [
        ("decode", "worker"),
        ("crop", "worker"),
        ("in full", ""),
    ]
    assert [stage.seconds * 2 for stage in stages] == list(clock.seconds.values())

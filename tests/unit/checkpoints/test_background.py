from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

import pytest

from holdfast.checkpoints.background import Background


def _failing(error: BaseException) -> Callable[[], None]:
    def job() -> None:
        raise error

    return job


@pytest.fixture
def lane() -> Background:
    """A lane of its own, on which nothing has happened."""
    return Background()


def test_no_thread_is_made_before_there_is_a_job(lane: Background) -> None:
    """A store that never saves costs nothing, and waiting for nothing returns."""
    before = set(threading.enumerate())
    lane.wait()
    assert (set(threading.enumerate()) - before, lane.take_failure()) == (set(), None)


def test_jobs_are_done_one_after_another_in_the_order_they_came(lane: Background) -> None:
    """What was handed over first is done first, however many hand over, and never two at once."""
    done: list[tuple[int, int]] = []
    at_once: list[int] = []

    def hand_over(giver: int) -> None:
        for number in range(50):

            def job(number: int = number) -> None:
                at_once.append(1)
                done.append((giver, number))
                assert at_once.pop() == 1 and not at_once

            lane.submit(job)

    givers = [threading.Thread(target=hand_over, args=(giver,)) for giver in range(4)]
    for giver in givers:
        giver.start()
    for giver in givers:
        giver.join()
    lane.wait()
    assert lane.take_failure() is None
    assert sorted(done) == [(giver, number) for giver in range(4) for number in range(50)]
    assert all([n for g, n in done if g == giver] == list(range(50)) for giver in range(4))


def test_waiting_waits_for_the_job_that_is_being_done(lane: Background) -> None:
    """An empty queue is not enough: the job on the thread counts."""
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def job() -> None:
        begun.set()
        assert go_on.wait(60)
        done.append("job")

    lane.submit(job)
    assert begun.wait(60)
    waiting = threading.Thread(target=lambda: (lane.wait(), done.append("waited")))
    waiting.start()
    waiting.join(0.05)
    assert done == []
    go_on.set()
    waiting.join(60)
    assert done == ["job", "waited"]


def test_failures_are_kept_in_their_order_and_each_is_given_once(lane: Background) -> None:
    """A job that fails stops none behind it, and its failure waits until it is asked for."""
    first, second = OSError("first"), ValueError("second")
    done: list[int] = []
    for job in (_failing(first), lambda: done.append(1), _failing(second)):
        lane.submit(job)
    lane.wait()
    assert done == [1]
    assert [lane.take_failure(), lane.take_failure(), lane.take_failure()] == [first, second, None]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_no_failure_ends_the_thread(lane: Background, error: BaseException) -> None:
    """Whatever a job raises is kept, and the next job is done: who waits is not left waiting."""
    done: list[int] = []
    lane.submit(_failing(error))
    lane.submit(lambda: done.append(1))
    lane.wait()
    assert (lane.take_failure(), done) == (error, [1])


def test_a_job_that_waits_does_not_wait_for_itself(lane: Background) -> None:
    """Within a job, waiting returns at once."""
    done: list[int] = []
    lane.submit(lambda: (lane.wait(), done.append(1))[1])
    lane.wait()
    assert done == [1]


def test_a_job_that_is_done_is_forgotten(lane: Background) -> None:
    """What a job held, such as the state it saved, is given back as soon as it is done."""

    class State:
        def save(self) -> None:
            pass

    state = State()
    gone = weakref.ref(state)
    lane.submit(state.save)
    del state
    lane.wait()
    assert gone() is None


def test_the_thread_ends_when_it_is_let_and_a_later_job_starts_another(lane: Background) -> None:
    """Nobody's lane keeps a thread for ever, and what is in the queue is done before the thread ends."""
    threads: list[threading.Thread] = []
    for _ in range(3):
        lane.submit(lambda: threads.append(threading.current_thread()))
    lane.end()
    lane.wait()
    threads[0].join(60)
    assert not threads[0].is_alive()
    assert set(threads) == {threads[0]}
    lane.submit(lambda: threads.append(threading.current_thread()))
    lane.wait()
    assert threads[3] is not threads[0]
    lane.end()
    threads[3].join(60)
    assert not threads[3].is_alive()


def test_where_no_thread_can_be_started_a_job_is_done_at_once(
    lane: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the interpreter a job is done where it is handed over; its failure is kept all the same."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[threading.Thread] = []
    error = OSError("full")
    lane.submit(lambda: done.append(threading.current_thread()))
    lane.submit(_failing(error))
    assert done == [threading.current_thread()]
    lane.wait()
    assert lane.take_failure() is error


def test_the_thread_has_the_priority_of_any_other(lane: Background) -> None:
    """On a busy machine a thread of lower priority would starve, and the next save would wait for it."""
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    found: list[int] = []
    lane.submit(lambda: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    lane.wait()
    assert found == [own]


def _in_a_child(check: Callable[[], bool]) -> bool:
    """Returns what `check` says in a forked process; False as well when it raises or takes a minute."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            threading.Thread(target=lambda: (threading.Event().wait(60), os._exit(2)), daemon=True).start()
            code = 0 if check() else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_begins_with_an_empty_lane_of_its_own(lane: Background) -> None:
    """Jobs and failures from before the fork are the parent's; the child waits for none, and its own jobs are done."""
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []
    lane.submit(_failing(OSError("the parent's")))
    lane.submit(lambda: (begun.set(), go_on.wait(60), done.append("parent"))[2])
    assert begun.wait(60)

    def check() -> bool:
        lane.wait()
        if lane.take_failure() is not None or done:
            return False
        lane.submit(lambda: done.append("child"))
        lane.wait()
        return done == ["child"]

    assert _in_a_child(check)
    go_on.set()
    lane.wait()
    assert done == ["parent"]
    assert str(lane.take_failure()) == "the parent's"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_lock_that_was_held_at_the_fork_stops_no_child(lane: Background) -> None:
    """A fork in the middle of another thread's bookkeeping leaves the child a lane that works."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lane._changed:
            held.set()
            go_on.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    assert _in_a_child(lambda: (lane.wait(), lane.take_failure())[1] is None)
    go_on.set()
    holder.join()

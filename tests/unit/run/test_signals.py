from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from holdfast.run.signals import StopRequest, process_seconds


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_a_signal_is_noted_and_nothing_else_happens(number: signal.Signals, exit_code: int) -> None:
    """Each of the three sets the flag, is announced once, and decides the exit code; the process goes on."""
    said: list[str] = []
    with StopRequest(said.append) as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert (stop.signal_number, stop.exit_code) == (number, exit_code)
    assert len(said) == 1
    assert said[0].startswith(f"{number.name}: finishing this step, then saving")
    assert ("Ctrl-C again" in said[0]) == (number == signal.SIGINT)


def test_a_second_signal_that_is_no_ctrl_c_changes_nothing() -> None:
    """The first signal decides; SLURM's repeated SIGTERM is not announced again."""
    said: list[str] = []
    with StopRequest(said.append) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal_number == signal.SIGUSR1
    assert len(said) == 1


def test_the_handlers_before_it_come_back() -> None:
    """After the block signals mean what they meant before."""
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with StopRequest(lambda _: None):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


def test_outside_the_main_thread_the_callers_handlers_stay() -> None:
    """In a thread, where no handler may be installed, the block works and changes nothing."""
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with StopRequest(lambda _: None) as stop:
            seen.extend([bool(stop), signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, before]


def test_a_second_ctrl_c_ends_the_process_at_once() -> None:
    """After the second SIGINT nothing more runs, and the exit code is 130."""
    program = (
        "import importlib.util, os, signal, sys\n"
        "spec = importlib.util.spec_from_file_location('signals', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "with module.StopRequest(lambda text: print(text, flush=True)):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('not any more', flush=True)\n"
    )
    import holdfast.run.signals as module

    done = subprocess.run([sys.executable, "-c", program, module.__file__], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stdout.splitlines() == [
        "SIGINT: finishing this step, then saving (Ctrl-C again to stop now, without saving)",
        "still here",
    ]


def test_a_time_budget_asks_for_a_stop_early_enough_for_the_save() -> None:
    """The flag is set once what is left is no more than what a stop takes, and it is said once."""
    said: list[str] = []
    stop = StopRequest(said.append, budget_seconds=process_seconds() + 1000)
    stop.has_worked = True
    stop.reserve_seconds = 900
    assert not stop and 990 < stop.seconds_left() <= 1000
    stop.reserve_seconds = 1001
    assert stop and stop
    assert said == ["the time budget is almost used up: stopping, and saving"]
    assert stop.exit_code == 143


def test_a_time_budget_that_is_used_up_leaves_time_for_one_step() -> None:
    """A process that has got nowhere is not stopped: the next start would get nowhere either."""
    stop = StopRequest(lambda _: None, budget_seconds=0.001)
    assert not stop
    stop.has_worked = True
    assert stop


def test_after_a_signal_the_grace_time_runs() -> None:
    """What is left is the system's grace from the signal on; before it, all of it."""
    with StopRequest(lambda _: None, grace_seconds=20) as stop:
        assert stop.seconds_left() == 20
        os.kill(os.getpid(), signal.SIGTERM)
        assert 15 < stop.seconds_left() < 20


def test_the_age_of_this_process_is_that_of_the_system() -> None:
    """A process started now is younger than this one, and both are some seconds old at most apart from their start."""
    code = "from holdfast.run.signals import process_seconds; print(process_seconds())"
    child = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert child > 0
    assert process_seconds() > child

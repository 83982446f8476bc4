"""A process that goes over a run's steps again, at its caller's word, and says after each what all tensors hold.

The caller speaks one line at a time and waits for the answer: several replays stand still at the same step while they
are compared, and never compute at once. A replay writes nothing but what it is told to save.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from holdfast import errors
from holdfast.checkpoints import CheckpointStore
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.named_state import state_of
from holdfast.checkpoints.tensors import tensor_bytes
from holdfast.errors import HoldfastError, RunError
from holdfast.run.build import Workbench, build, set_up_torch
from holdfast.run.directory import RunDirectory
from holdfast.run.division import divide
from holdfast.run.fingerprint import fingerprint
from holdfast.run.first_weights import load_first_weights
from holdfast.run.hidden_state import hidden_state
from holdfast.run.prepare import open_collection, prepare_again
from holdfast.run.recipe import summarize
from holdfast.run.session import group_settings, put_back
from holdfast.run.step_record import Ready, StepRecord, record_of
from holdfast.training import StepResult, train_steps

# The caller's own sys.path, before anything is imported: a user's `package.module:Class` means the same module here.
# What libraries and users' code print goes where errors go; the answers have the pipe to themselves.
_BEGINNING = """\
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
answers = os.dup(1)
os.dup2(2, 1)
from holdfast.run.replay import serve
serve(answers)
"""
# Of a folder for temporary files: workers make sockets in it, whose whole path the system allows some 103 characters.
_MOST_CHARACTERS = 64
_SHOWN_LINES = 5  # of what a process said before it died


class Replay:
    """One such process. It is started at once, and does nothing before `begin`.

    Args:
        run: the run directory; it is only read.
        log: a new file for all that the process prints. What it leaves when it is killed, temporary
            files of multiprocessing, lies beside it, where that path is not too long for sockets.
    """

    def __init__(self, run: Path, log: Path) -> None:
        self._run, self._log, self._is_gone = run, log, False
        command = [sys.executable, "-c", _BEGINNING, json.dumps(sys.path)]
        beside = str(log.parent.absolute())
        environment = {**os.environ, "TMPDIR": beside} if len(beside) <= _MOST_CHARACTERS else None
        with log.open("xb") as file:
            # A session of its own: Ctrl-C is the caller's matter, and a kill reaches the worker processes too.
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and our own text
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=environment,
                text=True,
                start_new_session=True,
            )

    def begin(self, *, restore: Path | None, device: str | None = None, workers: int | None = None) -> None:
        """Has it build the run and restore it; returns at once, `ready` waits for it.

        Args:
            restore: the folder of a checkpoint store whose newest checkpoint it begins from; None for the run's first
                weights.
            device, workers: None for the run's own.
        """
        self._say(
            {"run": str(self._run), "restore": str(restore) if restore else None, "device": device, "workers": workers}
        )

    def ready(self) -> Ready:
        """Waits until it is built. Raises what building raised: HoldfastErrors as they are, others as RunError."""
        answer = self._answer()
        return Ready(**{**answer, "record": StepRecord(**answer["record"])})

    def step(self) -> StepRecord:
        """Has it make one step, and returns what it then holds. Raises as `ready` does."""
        self._say({"do": "step"})
        return StepRecord(**self._answer())

    def save(self, root: Path) -> None:
        """Has it save a checkpoint into the store at `root`. Raises as `ready` does."""
        self._say({"do": "save", "root": str(root)})
        self._answer()

    def kill(self) -> None:
        """Ends it and its worker processes by SIGKILL: no warning, no clean-up. Once; then it is gone."""
        if self._is_gone:
            return  # its number may be another's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group that is gone
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._is_gone = True
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # a pipe may hold a line that nobody took
                if pipe is not None:
                    pipe.close()

    def _say(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        # When it is gone, reading its answer says why.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        answer: dict[str, Any] = json.loads(line)
        if "error" not in answer:
            return answer
        kind = getattr(errors, answer["error"], None)
        if isinstance(kind, type) and issubclass(kind, HoldfastError):
            raise kind(answer["message"])
        raise RunError(f"Replaying the run failed: {answer['message']}. --traceback shows where.") from _RaisedThere(
            answer["traceback"]
        )

    def _death(self) -> RunError:
        code = self._process.wait()
        self.kill()  # its workers
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        said = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:]
        last = "".join(f"\n  {line}" for line in said) or " nothing"
        return RunError(
            f"Replaying the run: the process {how}; expected it to answer. It is often memory that ran out: two copies "
            f"of the training are held at a time. Its last words:{last}"
        )


class _RaisedThere(Exception):
    """The traceback of an exception in the other process."""


def serve(answers: int) -> None:
    """Is the process: builds what the first line asks for, then does what each line says, until there is none.

    Args:
        answers: descriptor that one JSON line goes to after each.
    """
    with os.fdopen(answers, "w", encoding="utf-8") as out:
        try:
            for answer in _answers():
                out.write(json.dumps(answer) + "\n")
                out.flush()
        except BrokenPipeError:
            os._exit(1)  # the caller is gone, and nobody is left to tell
        except HoldfastError as error:
            out.write(json.dumps({"error": type(error).__name__, "message": str(error)}) + "\n")
        except Exception as error:  # a user's code may raise anything
            text = f"{type(error).__name__}: {error}"
            out.write(json.dumps({"error": "", "message": text, "traceback": traceback.format_exc()}) + "\n")


def _answers() -> Iterator[dict[str, Any]]:
    first = sys.stdin.readline()
    if not first:
        return
    bench, ready = _build(json.loads(first))
    try:
        yield asdict(ready)
        steps = _steps(bench)
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "save":
                with CheckpointStore(command["root"]) as store:
                    store.save(bench.state.step, _parts(bench))
                yield {}
            else:
                yield asdict(_taken(bench, next(steps)))
    finally:
        bench.loader.close()


def _build(request: dict[str, Any]) -> tuple[Workbench, Ready]:
    directory = RunDirectory(request["run"])  # not entered: the run may be under way, and is only read
    asked = {name: request[name] for name in ("device", "workers") if request[name] is not None}
    config = directory.config().replace(**asked)
    collection = open_collection(config)
    data = prepare_again(config, collection, directory)
    gone = config.split is not None and not Path(config.split).exists()
    summary = summarize(collection.pictures, data.sets if gone else divide(config, collection)[0].sets)
    device = set_up_torch(config)
    bench = build(config, data, summary, device)
    if request["restore"] is None:
        load_first_weights(bench)
    else:
        _restore(bench, CheckpointStore(request["restore"]))
    record = record_of(bench.state.step, state_of(_parts(bench)))
    return bench, Ready(
        replace(record, hidden=hidden_state(bench.state.model, bench.state.loss_fn)),
        bench.steps_per_epoch,
        bench.total_steps,
        bench.workers,
        config.deterministic,
        bench.metadata()["fingerprints"]["recipe"],
        fingerprint(device, config.precision),
    )


def _restore(bench: Workbench, store: CheckpointStore) -> None:
    settings = group_settings(bench.state.optimizer)
    store.open(store.steps()[-1]).restore(_parts(bench))
    put_back(bench.state.optimizer, settings)  # as a run does: the settings are the recipe's, not the checkpoint's


def _parts(bench: Workbench) -> dict[str, Any]:
    return {**bench.state.parts(), "loader": bench.loader}


def _steps(bench: Workbench) -> Iterator[StepResult]:
    while bench.state.step < bench.total_steps:  # a loader gives one epoch at a time
        yield from train_steps(bench.state, bench.loader, until=bench.total_steps)


def _taken(bench: Workbench, result: StepResult) -> StepRecord:
    return replace(
        record_of(result.step, state_of(_parts(bench))),
        batch={name: digest_of(tensor_bytes(value)) for name, value in result.batch._asdict().items()},
        loss=float(result.loss).hex(),
        hidden=hidden_state(bench.state.model, bench.state.loss_fn),
    )

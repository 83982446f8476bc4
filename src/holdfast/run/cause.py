"""Why two replays of the same steps differ, as far as the evidence goes.

One goes through, one is killed on the way and goes on in a fresh process. Where they part says much: before the
kill, the same steps gave other bits in two processes that nothing disturbed; just after it, something was lost with
the process.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from holdfast.run.step_record import Ready, StepRecord
from holdfast.run.stretch import Stretch

CauseKind = Literal[
    "first weights", "restore", "order", "inputs", "hidden state", "settings", "nondeterminism",
    "optimizer", "recipe", "machine", "unknown",
]  # fmt: skip
_NOT_IN_CHECKPOINT = "register it as a buffer (register_buffer) or return it from get_extra_state()"


@dataclass(frozen=True)
class Cause:
    """What most likely made the bits differ: its kind, and one sentence."""

    kind: CauseKind
    text: str


def cause_between_replays(
    stretch: Stretch,
    before: tuple[StepRecord, StepRecord],
    after: tuple[StepRecord, StepRecord],
    *,
    deterministic: bool,
    restless: Set[str] = frozenset(),
) -> Cause:
    """Returns why two replays that agreed before a step differ after it, as far as the evidence goes.

    Args:
        before: both replays before the step, equal in every tensor: the uninterrupted one first. For a difference
            that is there before any step was made (in both, or after the restore), the same as `after`.
        after: both after it.
        deterministic: whether the run asked for deterministic algorithms only.
        restless: hidden state that differed all along and harmed nothing (the time of day, an id).
    """
    (first, second), step = after, after[0].step
    if not second.batch:
        return _cause_without_a_step(stretch, step)
    if cause := _cause_in_the_batch(stretch, first, second):
        return cause
    just_after_kill = step == stretch.kill + 1
    # Compared before the step: what differs only after it may be the consequence.
    hidden = [name for name in hidden_differences(*before) if name not in restless]
    if hidden and step > stretch.kill:
        name = hidden[0]
        more = f" (and {len(hidden) - 1} more)" if len(hidden) > 1 else ""
        return Cause(
            "hidden state",
            f"hidden state: before that step {name}{more} was {before[0].hidden[name]} without the kill and "
            f"{before[1].hidden.get(name, 'not there')} after it, and no checkpoint holds it; {_NOT_IN_CHECKPOINT}",
        )
    same_loss = first.loss == second.loss
    if just_after_kill and same_loss:
        return Cause(
            "optimizer",
            "inputs, weights and loss agree up to there; the optimizer or a hook of the model keeps "
            "something that is not in its state_dict() and was lost with the process",
        )
    if just_after_kill:
        return Cause(
            "hidden state",
            "hidden state: inputs and weights agree and the loss does not, from the first step after "
            "the kill on; the model or the loss keeps something that no checkpoint holds (a plain attribute, a global, "
            f"a generator of its own); {_NOT_IN_CHECKPOINT}",
        )
    where = "inputs and weights agree before, " + (
        "and so does the loss; the new weights do not" if same_loss else "the loss does not"
    )
    if not deterministic:
        return Cause(
            "settings", f"deterministic algorithms are off in the run's settings (--no-deterministic); {where}"
        )
    own = "the optimizer or the backward pass" if same_loss else "the model or the loss"
    return Cause(
        "nondeterminism",
        f"a nondeterministic operation: {where}; {own} draws from a generator of its own, "
        "reads the clock, or calls code that adds numbers up in changing order",
    )


def cause_against_run(ready: Ready, changed: list[str], recipe_then: str | None, start: int) -> Cause:
    """Returns why the run's own checkpoint may differ from replays that agree with each other.

    Args:
        changed: what the run says it ran on and is not so here (`fingerprint.differences`).
        recipe_then: the recipe's fingerprint in the run's checkpoint.
        start: the step the replays began from.
    """
    if recipe_then is not None and recipe_then != ready.recipe:
        return Cause(
            "recipe",
            "the run's recipe was changed since that checkpoint (--epochs, --force); here "
            "the replays follow the present one, and agree",
        )
    if changed:
        return Cause(
            "machine",
            f"not what the run began on ({'; '.join(changed)}), and bits may differ under others; here the "
            "replays agree",
        )
    if not ready.deterministic:
        return Cause("settings", "deterministic algorithms are off in the run's settings (--no-deterministic)")
    first = "a fork, whose first weights are another run's; " if start == 0 else ""
    return Cause(
        "unknown",
        f"the replays agree with each other, the run did otherwise then: {first}the code of the model, "
        "transform or loss was changed since; the run was resumed under other threads or libraries on the way; or the "
        "model keeps something that no checkpoint holds and evaluation at an epoch's end changes",
    )


def hidden_differences(first: StepRecord, second: StepRecord) -> list[str]:
    """Returns the names of hidden state that is another in the second, or not there."""
    return [name for name, text in first.hidden.items() if second.hidden.get(name) != text]


def _cause_without_a_step(stretch: Stretch, step: int) -> Cause:
    if step == stretch.start == 0:
        return Cause(
            "first weights",
            "the model's first weights are not decided by the seed: its constructor draws from a "
            "generator of its own; use torch's, Python's or NumPy's global one",
        )
    return Cause(
        "restore",
        "the state does not survive saving and restoring: what load_state_dict() puts back is not what "
        "state_dict() gave (a hook that changes it, or another dtype)",
    )


def _cause_in_the_batch(stretch: Stretch, first: StepRecord, second: StepRecord) -> Cause | None:
    differ = [name for name in first.batch if first.batch[name] != second.batch.get(name)]
    if not differ:
        return None
    if "indices" in differ:
        return Cause(
            "order",
            "the order of the samples differs (their indices do): a sampler that is not decided by seed and epoch",
        )
    if first.step <= stretch.kill:
        why = "the transform draws from a generator of its own that has no seed, or reads the clock"
    else:
        why = (
            "the transform keeps something from call to call (a generator of its own, a counter), which a kill or "
            "another number of workers changes"
        )
    return Cause(
        "inputs",
        f"inputs: the same samples gave other {' and '.join(differ)}; {why}. Draw from random, np.random or "
        "torch's global generator: they are seeded for every sample",
    )

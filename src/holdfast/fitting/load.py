"""`load_into`: weights of any file into any model, as far as they fit, with a report of every tensor.

Everything is read and proven before the first value of the model is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from torch.optim import Optimizer

from holdfast.errors import CheckpointMismatch, TooLittleMatched
from holdfast.fitting.live import LiveTensors
from holdfast.fitting.optimizer import OptimizerReport, load_optimizer
from holdfast.fitting.plan import Plan
from holdfast.fitting.report import LoadReport, percent
from holdfast.fitting.resolve import resolve_names
from holdfast.fitting.source import Source, Weights, weights_of


def load_into(
    model: nn.Module,
    source: Source,
    *,
    optimizer: Optimizer | None = None,
    role: str | None = None,
    rename: Sequence[str] = (),
    prefix: str = "",
    classes: Sequence[str] | None = None,
    min_matched: float = 0.0,
) -> LoadReport:
    """Loads the weights of a file into a model, as far as they fit: names are resolved, shapes adapted, types cast.

    Wrappers on either side (DataParallel, DDP, FSDP, compiled, averaged …) are looked through. A head for another
    number of classes keeps its fresh values, but for the rows of classes that both sides know by name.

    Args:
        model: on any device; FSDP's sharded parameters and meta tensors too.
        source: a path, what `open_checkpoint` returned, or name → tensor.
        optimizer: gets the file's state of every parameter whose weight was taken unchanged; its settings stay.
        role: which model of several ("model", "ema" …); the obvious one without it.
        rename: rules `regex=>replacement` for the file's names.
        prefix: only the file's tensors whose names begin so, and without it.
        classes: of the model, in the order of its outputs.
        min_matched: the part of the parameters' values that must come from the file, 0..1.

    Returns:
        What became of every tensor.

    Raises:
        TooLittleMatched: less than `min_matched` fits, or nothing at all. Nothing has been changed.
        CheckpointMismatch: several models fit equally well, or there is no such role. Nothing has been changed.
        CheckpointCorrupt, CheckpointError: the file is damaged or cannot be read. Nothing has been changed.
    """
    weights = weights_of(source, role, rename, prefix)
    live = LiveTensors(model)
    matching = resolve_names(weights.shapes, live.shapes)
    if matching.ambiguous:
        raise CheckpointMismatch(
            f"Loading {weights.where}: its parts {', '.join(matching.ambiguous)} fit the model equally well; expected "
            f"one model. Say which is meant: prefix={matching.ambiguous[0]!r} (--prefix {matching.ambiguous[0]})."
        )
    plan = Plan(live, weights, matching, list(classes) if classes is not None else None)
    report = plan.report()
    if report.fraction < min_matched or all(tensor.outcome == "fresh" for tensor in report.tensors):
        raise _too_little(report, weights, live, min_matched)
    values = plan.values()
    if optimizer is not None:
        report = replace(report, optimizer=_optimizer_of(weights, optimizer, model, plan))
    live.put(values)
    return report


def _optimizer_of(weights: Weights, optimizer: Optimizer, model: nn.Module, plan: Plan) -> OptimizerReport:
    """Loads the file's optimizer state for what the plan takes unchanged."""
    return load_optimizer(
        optimizer,
        model,
        weights.optimizer_state(),
        {name: weights.file_names[own] for name, own in plan.exact_pairs().items()},
        {name: tuple(tensor.shape) for name, tensor in weights.all_tensors.items()},
        tensors=weights.all_tensors,
        ordered=weights.keeps_order,
        role=weights.role,
        source=weights.where,
    )


def _too_little(report: LoadReport, weights: Weights, live: LiveTensors, min_matched: float) -> TooLittleMatched:
    expected = f"{min_matched:.0%} at least" if min_matched else "some"
    theirs, ours = (", ".join(list(names)[:3]) or "nowhere" for names in (weights.tensors, live.tensors))
    return TooLittleMatched(
        f"Loading {report.source}: {percent(report.fraction)} of the model's {report.num_values:,} parameters fit; "
        f"expected {expected}. Is it the right file? Its names begin {theirs}; the model's {ours}. "
        "Names can be changed (--rename), and less accepted (--min-matched).\n"
        + "\n".join(list(report.lines(limit=3))[1:])
    )

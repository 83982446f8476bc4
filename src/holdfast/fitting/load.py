"""`load_into`: weights of any file into any model, as far as they fit, with a report of every tensor.

It goes through the file twice. First everything that is to be loaded is proven and nothing of it kept; only then the
first value of the model is changed, and the file read into the model's own memory. So there is never a second copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast.errors import CheckpointError, CheckpointMismatch, TooLittleMatched
from holdfast.fitting.direct import check_types
from holdfast.fitting.live import LiveTensors
from holdfast.fitting.optimizer_source import prepare_from
from holdfast.fitting.plan import Plan
from holdfast.fitting.report import LoadReport, percent
from holdfast.fitting.resolve import resolve_names
from holdfast.fitting.source import Source, Weights, weights_of
from holdfast.formats import LazyTensor
from holdfast.formats.proving import prove


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
    optimizer_name: str | None = None,
    same_order: bool = False,
    settings: bool = False,
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
        optimizer_name: which optimizer of several; the one of the role without it.
        same_order: the same code made both optimizers, so that numbers without names stand for the same parameters.
        settings: take the saved learning rates and options of the optimizer's groups, too.

    Returns:
        What became of every tensor.

    Raises:
        TooLittleMatched: less than `min_matched` fits, or nothing at all. Nothing has been changed.
        CheckpointMismatch: several models fit equally well, or there is no such role. Nothing has been changed.
        CheckpointCorrupt, CheckpointError: the file is damaged or cannot be read. Nothing has been changed.
    """
    weights = weights_of(source, role, rename, prefix)
    live = LiveTensors(model)
    plan, report = _planned(weights, live, classes, min_matched)
    values = plan.values()
    _prove(values, weights)
    check_types(values, live.tensors)
    if optimizer is None:
        _put(live, values)
        return report
    options = {"name": optimizer_name, "settings": settings, "same_order": same_order}
    prepared = prepare_from(weights, optimizer, model, plan.exact_pairs(), **options)  # type: ignore[arg-type]
    applied = prepared.apply()
    try:
        _put(live, values)
    except BaseException:
        prepared.undo()
        raise
    return replace(report, optimizer=applied)


def _planned(
    weights: Weights, live: LiveTensors, classes: Sequence[str] | None, min_matched: float
) -> tuple[Plan, LoadReport]:
    """Decides what becomes of every tensor. Raises when it is not clear which model is meant, or too little fits."""
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
    return plan, report


def _prove(values: Mapping[str, Tensor | LazyTensor], weights: Weights) -> None:
    """Proves what is to be loaded, in the order in which it lies in the file: many small ones are read at once."""
    wanted = {id(value) for value in values.values()}
    prove(t for t in weights.all_tensors.values() if isinstance(t, LazyTensor) and id(t) in wanted)


def _put(live: LiveTensors, values: Mapping[str, Tensor | LazyTensor]) -> None:
    try:
        live.put(values)
    except CheckpointError as error:
        raise type(error)(
            f"{error} It was whole when it was checked a moment before, so the model has a part of it now: load the "
            "model once more, from a file that nobody changes meanwhile."
        ) from error


def _too_little(report: LoadReport, weights: Weights, live: LiveTensors, min_matched: float) -> TooLittleMatched:
    expected = f"{min_matched:.4g} of them at least" if 0.99 < min_matched < 1 else f"{min_matched:.0%} at least"
    expected = expected if min_matched else "some"
    theirs, ours = (", ".join(list(names)[:3]) or "nowhere" for names in (weights.tensors, live.tensors))
    return TooLittleMatched(
        f"Loading {report.source}: {percent(report.fraction)} of the model's {report.num_values:,} parameters fit; "
        f"expected {expected}. Is it the right file? Its names begin {theirs}; the model's {ours}. "
        "Names can be changed (--rename), and less accepted (--min-matched).\n"
        + "\n".join(list(report.lines(limit=3))[1:])
    )

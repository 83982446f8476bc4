"""What became of a conversion, as a record, JSON and text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from holdfast.toolbox.casting import CastLoss, loss_line
from holdfast.toolbox.text import printable, size_text
from holdfast.words import count


@dataclass(frozen=True)
class Conversion:
    """What was written, and how it differs from its source.

    Attributes:
        source, source_kind: what was opened.
        path, kind: what was written.
        models: part → name of the model in the source.
        num_tensors, num_bytes: of the weights, tied tensors once.
        renamed: new name → name in the source, where they differ; of a model that is not called "model", with its part
            in front.
        ties: name → the name it shares its tensor with.
        tied_as: what became of tied names: "tied", "noted" (written once, the others noted in the header), "repeated".
        losses: a tensor each that was cast to a narrower type.
        num_exact: how many tensors were cast without loss.
        optimizers: parts that hold the state of an optimizer.
        left_out: what the source has and the result has not, in words.
        notes: what to know of the source: that it is one shard of several.
    """

    source: str
    source_kind: str
    path: str
    kind: str
    models: dict[str, str]
    num_tensors: int
    num_bytes: int
    renamed: dict[str, str] = field(default_factory=dict)
    ties: dict[str, str] = field(default_factory=dict)
    tied_as: str = "tied"
    losses: list[CastLoss] = field(default_factory=list)
    num_exact: int = 0
    dtype: str | None = None
    optimizers: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {**self.__dict__, "losses": [loss.to_json() for loss in self.losses]}

    def lines(self) -> Iterator[str]:
        """Yields it as text."""
        roles = ", ".join(printable(role) for role in self.models.values())
        yield f"{printable(self.source)}  ({self.source_kind}; {roles})"
        size = f"{count(self.num_tensors, 'tensor')}, {size_text(self.num_bytes)}"
        yield f"→ {printable(self.path)}  ({self.kind}; {size})"
        if self.renamed:
            new, old = next(iter(self.renamed.items()))
            yield f"  {count(len(self.renamed), 'name')} changed: {printable(old)} → {printable(new)} …"
        words = {"tied": "tied", "noted": "written once, noted in the header", "repeated": "written under each name"}
        for alias, kept in self.ties.items():
            yield f"  {words[self.tied_as]}: {printable(alias)} = {printable(kept)}"
        if self.dtype and (self.losses or self.num_exact):
            yield f"  {loss_line(self.losses, self.num_exact, self.dtype)}"
        if self.optimizers:
            yield f"  optimizer states: {', '.join(map(printable, self.optimizers))}"
        for note in self.notes:
            yield f"  note: {printable(note)}"
        for what in self.left_out:
            yield f"  left out: {printable(what)}"

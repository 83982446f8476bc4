"""What became of an optimizer's state: which parameters kept their moments, which did not, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_SHOWN = 10


@dataclass
class OptimizerReport:
    """What `load_optimizer` took.

    Attributes:
        optimizer: the live one's class.
        source: where its state came from.
        evidence: how the parameters' names were known.
        kept: live parameter → its name in the file, for those that go on with the saved slots.
        fresh: live parameter → why it starts without slots.
        dropped: name in the file → why its slots were not taken.
        ambiguous: parameter of the file (`#3`) → the names it may have; its slots were not taken.
        why_ambiguous: one sentence; empty when none is.
        settings: whose options the groups have now: "live", or "saved" where they have a counterpart there.
        num_values, num_kept: values in the live optimizer's parameters, and in those that kept their slots.
    """

    optimizer: str
    source: str
    evidence: str
    kept: dict[str, str] = field(default_factory=dict)
    fresh: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict)
    why_ambiguous: str = ""
    settings: str = "live"
    num_values: int = 0
    num_kept: int = 0

    @property
    def fraction(self) -> float:
        """Share of the values in the optimizer's parameters whose slots were kept, 0 to 1; 1 for an empty optimizer."""
        return self.num_kept / self.num_values if self.num_values else 1.0

    def to_json(self) -> dict[str, Any]:
        """Returns everything as JSON."""
        return {
            "optimizer": self.optimizer,
            "source": self.source,
            "evidence": self.evidence,
            "settings": self.settings,
            "num_parameters": len(self.kept) + len(self.fresh),
            "num_kept_parameters": len(self.kept),
            "num_values": self.num_values,
            "num_kept_values": self.num_kept,
            "fraction": self.fraction,
            "kept": dict(self.kept),
            "fresh": dict(self.fresh),
            "dropped": dict(self.dropped),
            "ambiguous": {label: list(names) for label, names in self.ambiguous.items()},
            "why_ambiguous": self.why_ambiguous,
        }

    def lines(self, limit: int = _SHOWN) -> list[str]:
        """Returns the report as lines of text, the first `limit` parameters of each kind."""
        total = len(self.kept) + len(self.fresh)
        head = (
            f"{self.optimizer}: {len(self.kept)} of {total} parameters ({self.fraction:.1%} of the values) go on with "
            f"their saved slots, known by {self.evidence}; the options are those of the {self.settings} optimizer"
        )
        found = [head]
        for word, table in (("fresh", self.fresh), ("dropped", self.dropped)):
            found += [f"  {word} {name}: {reason}" for name, reason in list(table.items())[:limit]]
            found += [f"  … and {len(table) - limit} more {word}"] if len(table) > limit else []
        for label, names in list(self.ambiguous.items())[:limit]:
            found.append(f"  ambiguous {label}: {_some(names)}")
        if len(self.ambiguous) > limit:
            found.append(f"  … and {len(self.ambiguous) - limit} more ambiguous")
        if self.why_ambiguous:
            found.append(
                f"  not proven, because {self.why_ambiguous}; pass same_order=True if the same code made this optimizer"
            )
        return found

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _some(names: tuple[str, ...]) -> str:
    if not names:
        return "no parameter of this model"
    return " or ".join(names[:3]) + (f" or {len(names) - 3} others" if len(names) > 3 else "")

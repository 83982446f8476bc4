"""What the check found: how bad it is, what it is, which pictures show it, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Item:
    """One case of a finding: a line of text, and the pictures it is about, by index (none for a class or a row)."""

    text: str
    pictures: tuple[int, ...] = ()


@dataclass
class Finding:
    """Something to know about the data.

    Attributes:
        severity: "error" (training would fail or learn from contradictions), "warning" or "note".
        code: its name for programs, such as "damaged"; `docs/cli.md` lists them.
        title: what was found, in a sentence without a stop.
        advice: what to do, in a sentence; may be empty.
        items: every case.
    """

    severity: Severity
    code: str
    title: str
    advice: str = ""
    items: list[Item] = field(default_factory=list)

    def to_json(self, names: list[str]) -> dict[str, Any]:
        """Returns it as JSON values. Args: `names`, what each picture is called."""
        return {
            "severity": self.severity,
            "code": self.code,
            "title": self.title,
            "advice": self.advice,
            "items": [{"text": item.text, "pictures": [names[i] for i in item.pictures]} for item in self.items],
        }


def shown(name: str) -> str:
    """Returns a name as one line of text holds it: line breaks, controls and what is no text are escaped."""
    return name if name.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)

"""How often and how long, as a person writes it: `500`, `10min`, `1epoch`, `8h`, `1:30:00`."""

from __future__ import annotations

import math
import re
from typing import Literal

from holdfast.errors import ConfigError

SaveUnit = Literal["steps", "minutes", "epochs"]


_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "d": 86400}


def parse_save_every(text: str) -> tuple[float, SaveUnit]:
    """Reads `500` (steps), `1epoch`, or a time: `30s`, `10min`, `1h`, given in minutes.

    Raises:
        ConfigError: it is none of these.
    """
    found = re.fullmatch(r"([0-9]+\.?[0-9]*)\s*(|steps?|epochs?|s|sec|min|h|d)", text.strip().lower())
    value, unit = (float(found[1]), found[2]) if found else (0.0, "")
    if not 0 < value < math.inf or (unit not in _SECONDS and not value.is_integer()):
        raise ConfigError(
            f"save_every is {text!r}; expected a number of steps (500), a time (30s, 10min, 1h) or epochs (1epoch)."
        )
    if unit in _SECONDS:
        return value * _SECONDS[unit] / 60, "minutes"
    return value, "epochs" if unit.startswith("epoch") else "steps"


def parse_duration(text: str, setting: str) -> float:
    """Reads `45s`, `90min`, `8h`, `2d` or `1:30:00` (hours:minutes:seconds) and returns seconds, above 0.

    Raises:
        ConfigError: it is none of these; `setting` is named.
    """
    words = re.fullmatch(r"(\d+\.?\d*)\s*(s|sec|min|h|d)", text.strip().lower())
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]?\d)(?::([0-5]?\d))?", text.strip())
    seconds = 0.0
    if words:
        seconds = float(words[1]) * _SECONDS[words[2]]
    elif clock:  # as SLURM writes it
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        seconds = days * 86400 + hours * 3600 + minutes * 60 + rest
    if not seconds > 0:
        raise ConfigError(f"{setting} is {text!r}; expected a duration such as 45s, 90min, 8h or 1:30:00.")
    return seconds

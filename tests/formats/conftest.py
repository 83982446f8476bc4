"""Lets the tests import the zoo as a package of its own: libraries that install a package `tests` would hide ours."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

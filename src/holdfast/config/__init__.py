"""The settings of a run: defaults < file < environment < flags. Imports no torch, so that `--help` is quick.

Config stops at the hallway: rooms take plain arguments.
"""

from holdfast.config.durations import SaveUnit, parse_duration, parse_save_every
from holdfast.config.loading import load_config, nearest
from holdfast.config.settings import FIELDS, Config

__all__ = ["FIELDS", "Config", "SaveUnit", "load_config", "nearest", "parse_duration", "parse_save_every"]

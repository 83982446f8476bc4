"""From a file, the environment, flags and `--set` to one `Config`; every value is checked where it comes from."""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from holdfast.config.settings import FIELDS, Config
from holdfast.errors import ConfigError

ENVIRONMENT_PREFIX = "HOLDFAST_"
OTHER_VARIABLES = frozenset({"HOLDFAST_TEST_DATA", "HOLDFAST_CACHE"})  # ours, and no settings
_EXPONENT = re.compile(r"[-+]?\d+\.?\d*[eE][-+]?\d+")
_TYPES = typing.get_type_hints(Config)


def load_config(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Iterable[str] = (),
) -> Config:
    """Builds the settings: defaults < file < environment < flags < `--set` assignments.

    Args:
        file: YAML with the names of the settings as keys.
        environ: HOLDFAST_EPOCHS=20 and the like; by default the process's environment. HOLDFAST_TEST_DATA is no setting
            and is left alone.
        flags: setting → value, None for a flag that was not given.
        assignments: texts such as `lr=0.1` and `model_args.dropout=0.5`.

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a value of the wrong kind; the place is named.
    """
    values: dict[str, Any] = {}
    if file is not None:
        _merge(values, _read_file(file), f"in {file}")
    for name, text in (os.environ if environ is None else environ).items():
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in OTHER_VARIABLES:
            _merge(values, {key: text}, f"in the environment ({name})")
    _merge(values, {k: v for k, v in (flags or {}).items() if v is not None}, "on the command line")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: expected KEY=VALUE, such as --set lr=0.1.")
        _merge(values, _nested(key.strip(), _parse_scalar(text)), f"in --set {assignment}")
    return Config(**values)


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'?`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def _merge(values: dict[str, Any], more: Mapping[str, Any], where: str) -> None:
    for key, value in more.items():
        name = str(key).replace("-", "_")
        if name not in FIELDS:
            raise ConfigError(f"Unknown setting {key!r} {where}.{nearest(name, FIELDS)}")
        checked = _checked(name, value, where)
        values[name] = {**values.get(name, {}), **checked} if isinstance(checked, dict) else checked


def _checked(name: str, value: Any, where: str) -> Any:
    """Returns `value` as the setting's type, or raises naming the setting, the value and the place."""
    wanted = _TYPES[name]
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    choices = FIELDS[name].metadata["choices"]
    try:
        result = _convert(value, kind)
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{name} is {value!r} {where}; expected {_describe(kind)}.") from error
    if choices and result not in choices:
        raise ConfigError(
            f"{name} is {value!r} {where}; expected one of {', '.join(choices)}.{nearest(str(value), choices)}"
        )
    return result


def _convert(value: Any, kind: Any) -> Any:
    origin = typing.get_origin(kind) or kind
    if kind is bool:
        word = str(value).lower()
        if word not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
            raise ValueError
        return word in ("true", "1", "yes", "on")
    if kind in (int, float) and isinstance(value, bool):
        raise ValueError
    if kind is int and isinstance(value, (int, str, float)):
        number = int(value) if str(value).strip().lstrip("+-").isdecimal() else float(value)
        if number != number // 1 or abs(number) >= 2**63:
            raise ValueError
        return int(number)
    if (kind is str and isinstance(value, (list, dict))) or (origin is list and isinstance(value, dict)):
        raise ValueError
    if origin is list:
        entry = typing.get_args(kind)[0]
        entries = value.split(",") if isinstance(value, str) else value
        return [str(v).strip() if entry is str else _convert(v, entry) for v in entries]
    if origin is dict:
        table = dict(yaml.safe_load(value) if isinstance(value, str) else value)
        return {str(name): _convert_entry(entry, typing.get_args(kind)[1]) for name, entry in table.items()}
    return kind(value)


def _convert_entry(value: Any, kind: Any) -> Any:
    if kind is not Any:
        return _convert(value, kind)
    # YAML 1.1 takes 1e-8 for text; nobody means that.
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _describe(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(
        kind, {list: "a list", dict: "a table of names and values"}.get(typing.get_origin(kind) or kind, str(kind))
    )


def _nested(key: str, value: Any) -> dict[str, Any]:
    """`model_args.dropout` sets one entry of a table; further dots belong to its name (`lr_scales.layer4.1`)."""
    name, dot, entry = key.partition(".")
    return {name: {entry: value}} if dot else {name: value}


def _parse_scalar(text: str) -> Any:
    try:
        return float(text) if "e" in text.lower() and text.strip()[0] in "0123456789.-+" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return text


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"Reading the settings in {path}: {' '.join(str(error).split())}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"Reading the settings in {path}: found a {type(values).__name__}; expected lines of `key: value`."
        )
    return values

"""Writes docs/formats.md from `zoo.json`: what opens, by which program and version it was proven, what comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs/formats.md"
HEAD = HERE / "formats-head.md"
_TITLES = {
    "make_torch_layouts": "torch.save: every layout",
    "make_torch_trees": "torch.save: what scripts put into it",
    "make_torch_modules": "torch.save: whole modules and wrapped ones",
    "make_torch_programs": "TorchScript, torch.export, torch.distributed.checkpoint",
    "make_archives": "torch.save: within archives",
    "make_others": "What is no checkpoint",
}
_LAST = ("make_onnx", "make_h5py", "make_others")


def render() -> str:
    """Returns the page."""
    zoo: dict[str, Any] = json.loads((HERE / "zoo.json").read_text(encoding="utf-8"))
    order = sorted(zoo, key=lambda m: (m in _LAST, not m.startswith("make_torch_"), m))
    count = sum(len(made["specimens"]) for made in zoo.values())
    programs = sorted({f"{made['program']} {made['version']}" for made in zoo.values()})
    head = HEAD.read_text(encoding="utf-8").replace("{count}", str(count)).replace("{programs}", ", ".join(programs))
    return head + "".join("\n" + _section(module, zoo[module]) for module in order)


def _section(module: str, made: dict[str, Any]) -> str:
    title = _TITLES.get(module, made["program"])
    opened = {n: s for n, s in made["specimens"].items() if "refusal" not in s}
    refused = {n: s for n, s in made["specimens"].items() if "refusal" in s}
    lines = [f"## {title}", ""]
    if module != "make_others":
        lines += [f"Tested with {made['program']} {made['version']}.", ""]
    if opened:
        lines += ["| file | kind | made by | weights | optimizers | schedules |", "|---|---|---|---|---|---|"]
        lines += [_row(s) for s in opened.values()] + [""]
    if refused:
        lines += ["| refused | what is said |", "|---|---|"]
        lines += [f"| {_cell(s['what'])} | {_cell(s['refusal'].replace('.*', '… '))} |" for s in refused.values()] + [
            ""
        ]
    return "\n".join(lines)


def _row(told: dict[str, Any]) -> str:
    cells = [
        told["what"],
        told["kind"],
        told["made_by"],
        *(", ".join(told[k]) for k in ("roles", "optimizers", "schedules")),
    ]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

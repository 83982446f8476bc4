"""The documents say what the code does."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_of_commands_has_not_drifted() -> None:
    """docs/cli.md is what docs/make_cli.py writes."""
    render = runpy.run_path(str(ROOT / "docs/make_cli.py"))["render"]
    assert (ROOT / "docs/cli.md").read_text(encoding="utf-8") == render(), "run `python docs/make_cli.py`"


def test_the_three_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """README's Python block works as it stands."""
    from holdfast import CheckpointStore

    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    model = nn.Linear(2, 2)
    names = {"CheckpointStore": CheckpointStore, "parts": {"model": model}, "step": 7}
    exec(block, names)  # noqa: S102  # our own README
    assert names["start"] == 0
    saved = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.zero_()
    exec(block.replace("store.save(step, parts)", "pass"), names)  # noqa: S102
    assert names["start"] == 7 and torch.equal(model.weight, saved)


def test_every_link_between_documents_leads_somewhere() -> None:
    """Relative links in Markdown files name files that are there."""
    pages = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for page in pages.split():
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_every_setting_stands_in_the_page_of_commands() -> None:
    """A setting with a flag is found in docs/cli.md by every one of its names."""
    from holdfast.config import FIELDS

    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    for field in FIELDS.values():
        for flag in field.metadata["flags"]:
            assert all(part in page for part in flag.split("/")), flag

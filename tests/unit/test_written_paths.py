"""What the texts say of the tree, held against the tree: files, modules and links that are named are there."""

from __future__ import annotations

import contextlib
import importlib
import re
from pathlib import Path

import pytest

import holdfast

PACKAGE = Path(holdfast.__file__).parent
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
CODE = sorted(PACKAGE.rglob("*.py"))

# Folders whose first word in a path says that the path is one of ours.
OURS = {"src", "tests", "docs", "examples", "benchmarks"} | {p.name for p in PACKAGE.iterdir() if p.is_dir()}
IN_ARCHIVES = {"weights"}  # `data/weights/…` is a name inside torch's files
FILES = {
    f"/{path.relative_to(ROOT).as_posix()}"
    for folder in ("src", "tests", "docs", "examples", "benchmarks")
    for path in (ROOT / folder).rglob("*")
    if "__pycache__" not in path.parts
} | {f"/{path.name}" for path in ROOT.iterdir()}
PATH = re.compile(r"`(?:python )?([\w.-]+(?:/[\w.-]+)*/?)(?:: ?\w+)?`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
DOTTED = re.compile(r"\bholdfast((?:\.[a-z]\w*)+)")


def _is_there(path: str) -> bool:
    """Whether some file or folder of the tree ends on `path`, counted in whole names."""
    ending = "/" + path.strip("/")
    return any(file.endswith(ending) for file in FILES)


def _is_a_path_of_ours(word: str) -> bool:
    """A source file by its bare name, or anything below a folder that we have."""
    first, *rest = word.split("/")
    return bool(rest[:1] and rest[0] and first in OURS and rest[0] not in IN_ARCHIVES) or word.endswith(".py")


def _missing(text: str) -> list[str]:
    """Returns the paths that a text names and the tree lacks."""
    return [word for word in PATH.findall(text) if _is_a_path_of_ours(word) and not _is_there(word)]


def _first_wrong_name(dotted: str) -> str | None:
    """Returns the first part of `.data.loader` that is neither a module nor in one; None when all are there."""
    here: object = holdfast
    for number, name in enumerate(parts := dotted.strip(".").split(".")):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(".".join(["holdfast", *parts[: number + 1]]))
        if not hasattr(here, name):
            return name
        here = getattr(here, name)
    return None


@pytest.mark.parametrize("page", PAGES + CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_is_written_is_there(page: Path) -> None:
    """No page, docstring or comment names a file, a folder or a dotted name of ours that the tree does not have."""
    text = page.read_text(encoding="utf-8")
    assert _missing(text) == []
    assert [f"holdfast{dotted}" for dotted in DOTTED.findall(text) if _first_wrong_name(dotted)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link to a file, seen from the page it stands on, has that file at its end."""
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_module_is_on_the_map() -> None:
    """ARCHITECTURE.md lists every module; of `run` and `cli`, which have `…` there, every one it lists exists."""
    block = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    words = set(re.findall(r"[a-z][a-z0-9_]+", block))
    rooms = {path: path.relative_to(PACKAGE).parts[0] for path in CODE if not path.stem.startswith("__")}
    assert [str(path) for path, room in rooms.items() if path.stem not in words and room not in ("run", "cli")] == []
    # A word with an underscore is no English: it is a module.
    assert {word for word in words if "_" in word} <= {path.stem for path in CODE}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("see `data/order.py`", ["data/order.py"]),
        ("see `data/loading/order.py: shuffled`", []),
        ("run `python docs/make_it.py`", ["docs/make_it.py"]),
        ("in `tests/nowhere/`", ["tests/nowhere/"]),
        ("`loops.py` and `loop.py`", ["loops.py"]),
        ("`train/` and `val/` folders, `runs/x`, 1/2", []),
    ],
)
def test_a_path_that_is_not_there_is_seen(text: str, missing: list[str]) -> None:
    """The search finds what it should: a moved module, not a folder of somebody's pictures."""
    assert _missing(text) == missing
    assert _first_wrong_name(".data.loader") == "loader"
    assert _first_wrong_name(".data.loading.loader.Loader") is None

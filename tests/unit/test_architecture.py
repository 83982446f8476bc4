"""The house plan, held against the imports that are really there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import holdfast

ROOT = Path(holdfast.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# What anybody may import: it imports nothing but other parts of the cellar.
CELLAR = {"errors", "stateful", "randomness", "inference", "metrics", "words"}
# Room → the rooms it may import, besides the cellar and itself.
MAY_IMPORT: dict[str, set[str]] = {
    "distributed": set(),
    "models": set(),
    "data": {"distributed"},
    "checkpoints": {"distributed"},
    "formats": {"checkpoints"},
    "fitting": {"formats", "checkpoints"},
    "toolbox": {"fitting", "formats", "checkpoints"},
    "training": {"distributed"},
    "config": set(),
    "serve": {"models", "data", "checkpoints", "config"},
    "run": {"distributed", "models", "data", "checkpoints", "formats", "fitting", "training", "config"},
    "cli": {"run", "serve", "checkpoints", "formats", "fitting", "toolbox", "data", "models", "config"},
}


def _room(path: Path) -> str:
    """Returns the room a file belongs to: the folder below the package, or the module itself."""
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else path.stem


def _imports(path: Path) -> list[tuple[int, str]]:
    """Returns (line, dotted name below `holdfast`) of every import of our own, at any depth in the file."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            if node.module == "holdfast":
                found += [(node.lineno, f"holdfast.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, node.module or ""))
    return [(line, name.removeprefix("holdfast.")) for line, name in found if name.split(".")[0] == "holdfast"]


def _arrows() -> list[tuple[str, str, str]]:
    """Returns (importing room, imported room, place) for every import of our own between files."""
    return [
        (_room(path), name.split(".")[0], f"{path.relative_to(ROOT)}:{line}")
        for path in FILES
        for line, name in _imports(path)
    ]


def _definitions(path: Path) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Returns every function and class of a file with its dotted name."""

    def walk(node: ast.AST, prefix: str) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
        found: list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]] = []
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.append((f"{prefix}{child.name}", child))
                found += walk(child, f"{prefix}{child.name}.")
            else:
                found += walk(child, prefix)
        return found

    return walk(ast.parse(path.read_text(encoding="utf-8")), "")


def test_the_plan_knows_every_room() -> None:
    """A new room or module has to be put on the plan before it may be used."""
    rooms = {_room(path) for path in FILES} - {"__init__", "__main__"}
    assert rooms == CELLAR | set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_the_plan_allows(room: str) -> None:
    """Every import of a room leads to itself, the cellar, or a room it may know."""
    allowed = MAY_IMPORT[room] | CELLAR | {room}
    assert [
        f"{place} imports {target}" for source, target, place in _arrows() if source == room and target not in allowed
    ] == []


def test_the_cellar_rests_on_nothing() -> None:
    """Errors, stateful, randomness and the one forward pass import nothing of ours but each other."""
    assert [place for source, target, place in _arrows() if source in CELLAR and target not in CELLAR] == []


def test_what_is_private_stays_in_its_file() -> None:
    """No name that begins with an underscore is imported from another file of ours."""
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in FILES
        for line, name in _imported_names(path)
        if name.startswith("_")
    ]
    assert found == []


def _imported_names(path: Path) -> list[tuple[int, str]]:
    return [
        (node.lineno, alias.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("holdfast")
        for alias in node.names
    ]


def test_training_and_checkpoints_do_not_know_each_other() -> None:
    """The rule that matters most: neither imports the other, data or models, directly or through another room."""
    reach = {room: set(targets) for room, targets in MAY_IMPORT.items()}
    for source, target, _ in _arrows():
        reach.setdefault(source, set()).add(target)
    for room in ("training", "checkpoints"):
        seen: set[str] = set()
        waiting = [room]
        while waiting:
            new = reach.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        assert not seen & ({"training", "checkpoints", "data", "models", "run", "serve", "cli"} - {room}), (room, seen)


def test_the_plan_has_no_circles() -> None:
    """Rooms can be put in an order in which each imports only those before it."""
    left = {room: set(targets) for room, targets in MAY_IMPORT.items()}
    while left:
        free = {room for room, targets in left.items() if not targets & set(left)}
        assert free, f"a circle among {sorted(left)}"
        left = {room: targets for room, targets in left.items() if room not in free}


def test_the_front_door_imports_rooms_for_type_checkers_only() -> None:
    """`holdfast/__init__.py` imports its rooms under TYPE_CHECKING, and `__main__` the command line alone."""
    module = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    names = [n.module for n in module.body if isinstance(n, ast.ImportFrom)]
    assert not [name for name in names if name and name.startswith("holdfast")]
    assert {target for source, target, _ in _arrows() if source == "__main__"} == {"cli"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    """No file has more than 400 lines, and no function more than 60."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    long = {
        name: (node.end_lineno or 0) - node.lineno + 1
        for name, node in _definitions(path)
        if not isinstance(node, ast.ClassDef) and (node.end_lineno or 0) - node.lineno + 1 > 60
    }
    assert long == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_name_has_a_docstring(path: Path) -> None:
    """Every module, public class, function and method says what it gives."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    missing = [
        name
        for name, node in _definitions(path)
        if not any(part.startswith("_") for part in name.split("."))
        and not ast.get_docstring(node)
        and not _is_inside_a_function(path, name)
    ]
    assert missing == []


def _is_inside_a_function(path: Path, name: str) -> bool:
    outer = name.rpartition(".")[0]
    return any(n == outer and not isinstance(node, ast.ClassDef) for n, node in _definitions(path))


@pytest.mark.parametrize("word", ["Manager", "Handler", "Helper", "Utils", "Engine"])
def test_names_say_what_they_keep(word: str) -> None:
    """No class or module is called by a word that says nothing."""
    assert [n for path in FILES for n, _ in _definitions(path) if word in n] == []
    assert [path for path in FILES if word.lower() in path.stem] == []


def test_pickle_is_never_imported() -> None:
    """Neither pickle nor anything that reads it without being asked for tensors only is imported anywhere."""
    forbidden = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and forbidden & {a.name.split(".")[0] for a in node.names})
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in forbidden)
    ]
    assert found == []


def test_the_reader_of_foreign_files_imports_no_torch_until_a_tensor_is_asked_for() -> None:
    """No file of the room `formats` imports torch, NumPy or checkpoints when it is imported itself."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        if _room(path) == "formats"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.split(".")[0] in ("torch", "numpy", "safetensors") or name.startswith("holdfast.checkpoints")
    ]
    assert found == []

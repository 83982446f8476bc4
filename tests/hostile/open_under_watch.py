"""Opens one file while watching what Python does, and prints how that ended. Run in a process of its own.

    python open_under_watch.py HARMLESS HOSTILE [weights]

A harmless file is opened first, so that nothing has to be imported any more. Then every event that means that something
is run, written or sent ends the process with code 66.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import resource
import sys

_FORBIDDEN = (
    "exec", "compile", "import", "subprocess.", "socket.", "os.system", "os.exec", "os.posix_spawn", "os.spawn",
    "os.fork", "os.remove", "os.rename", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.putenv", "shutil.",
    "ctypes.",
    "pickle.find_class", "marshal.", "code.__new__", "urllib.", "tempfile.", "sys.settrace", "builtins.input",
)  # fmt: skip
_SECONDS, _BYTES = 20, 1500 << 20


def watch(event: str, args: tuple[object, ...]) -> None:
    """Ends the process at an event that opening a file has no business with."""
    writes = event == "open" and (
        (isinstance(args[1], str) and set(args[1]) & set("wax+")) or (isinstance(args[2], int) and args[2] & 3)
    )
    if writes or event.startswith(_FORBIDDEN):
        os.write(2, f"FORBIDDEN {event} {args!r:.300}\n".encode())
        os._exit(66)


def look(path: str, weights: bool) -> str:
    """Opens a file, walks over what it holds, and returns what came of it."""
    import holdfast.formats
    from holdfast.errors import CheckpointError
    from holdfast.formats import open_checkpoint

    for module in pkgutil.iter_modules(holdfast.formats.__path__):  # our own, some imported only when they are needed
        importlib.import_module(f"holdfast.formats.{module.name}")

    try:
        opened = open_checkpoint(path)
        shapes = {role: [getattr(t, "shape", repr(t)) for t in found.values()] for role, found in opened.roles.items()}
        said = f"{opened!r} {shapes} {opened.made_by} {len(opened.metadata)} {len(opened.optimizers)}"
        if weights:
            for role in opened.roles:
                opened.weights(role)
        return f"opened {said[:2000]}"
    except CheckpointError as error:
        return f"refused {error}"


def main() -> None:
    """Runs the program."""
    harmless, hostile, *rest = sys.argv[1:]
    look(harmless, bool(rest))
    if not rest:
        resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    sys.addaudithook(watch)
    print(look(hostile, bool(rest)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()

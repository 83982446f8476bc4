"""Pillow without its warnings, and without what libtiff prints through it, in any number of threads."""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from PIL import _imaging

_lock = threading.Lock()
_depth = 0
_saved: warnings.catch_warnings | None = None
_handler: int | None = None  # what prints libtiff's errors outside


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow warns of odd metadata and of large pictures; what it cannot decode it raises, and pixels we count.

    `warnings.catch_warnings` alone is not safe where several threads decode: the first to enter saves what the last to
    leave restores. libtiff prints what is wrong with a file on stderr, from C, and Pillow raises it as well; its
    handler is taken away for as long as anybody is quiet.
    """
    global _depth, _saved, _handler
    with _lock:
        _depth += 1
        if _depth == 1:
            _saved = warnings.catch_warnings()
            _saved.__enter__()
            warnings.simplefilter("ignore")
            if (set_handler := _set_libtiff_handler()) is not None:
                _handler = set_handler(None)
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _saved is not None:
                _saved.__exit__(None, None, None)
                _saved = None
                if (set_handler := _set_libtiff_handler()) is not None:
                    set_handler(_handler)


@cache
def _set_libtiff_handler() -> Callable[[int | None], int | None] | None:
    """Returns libtiff's own function for this, of the libtiff that Pillow has loaded; None where it cannot be had."""
    try:
        # Looked for in Pillow's module, a name is found in the libraries that it was linked to.
        function = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError, TypeError):  # linked into the module, or left out of this build
        return None
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
    return function

"""Pillow without its warnings, and with what libtiff says of a file told to us instead of printed; in any thread."""

from __future__ import annotations

import ctypes
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import _imaging

# Python prints errors that are logged where nobody listens; what is wrong with a file, we say once ourselves.
logging.getLogger("PIL").addHandler(logging.NullHandler())
_lock = threading.Lock()
_depth = 0
_saved: warnings.catch_warnings | None = None
_handler: int | None = None  # what prints libtiff's errors outside
_told: dict[int, list[str]] = {}  # by thread: what libtiff said of the file that it decodes
_LINE = 300  # bytes of a message, at most


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Pillow warns of odd metadata and of large pictures; what it cannot decode it raises, and pixels we count.

    Yields what libtiff says is wrong while it decodes in this thread: of a damaged fax it fills in what it has, and
    tells nobody but its handler of errors, which is ours for as long as anybody is quiet.

    `warnings.catch_warnings` alone is not safe where several threads decode: the first to enter saves what the last to
    leave restores.
    """
    global _depth, _saved, _handler
    thread, complaints = threading.get_ident(), list[str]()
    with _lock:
        _depth += 1
        if _depth == 1:
            _saved = warnings.catch_warnings()
            _saved.__enter__()
            warnings.simplefilter("ignore")
            if (set_handler := _set_libtiff_handler()) is not None:
                _handler = set_handler(ctypes.cast(_OUR_HANDLER, ctypes.c_void_p).value)
        outer, _told[thread] = _told.get(thread), complaints
    try:
        yield complaints
    finally:
        with _lock:
            _depth -= 1
            if outer is None:
                del _told[thread]
            else:
                _told[thread] = outer
            if _depth == 0 and _saved is not None:
                _saved.__exit__(None, None, None)
                _saved = None
                if (set_handler := _set_libtiff_handler()) is not None:
                    set_handler(_handler)


def _note(module: bytes | None, form: bytes | None, values: int | None) -> None:
    """libtiff's handler of errors: the function, a format of printf's, and a va_list of the values for it."""
    text = ctypes.create_string_buffer(_LINE)
    _vsnprintf()(text, _LINE, form or b"", values)
    complaints = _told.get(threading.get_ident())
    if complaints is not None:
        complaints.append(f"{(module or b'libtiff').decode(errors='replace')}: {text.value.decode(errors='replace')}")


_OUR_HANDLER: Any = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_note)


@cache
def _vsnprintf() -> Any:
    function = ctypes.CDLL(None).vsnprintf
    # A va_list is an array, or a pointer, or goes by reference: in each case one pointer is passed.
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]
    return function


@cache
def _set_libtiff_handler() -> Callable[[int | None], int | None] | None:
    """Returns libtiff's own function for this, of the libtiff that Pillow has loaded; None where it cannot be had."""
    try:
        # Looked for in Pillow's module, a name is found in the libraries that it was linked to.
        function = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        _vsnprintf()
    except (OSError, AttributeError, TypeError):  # linked into the module, or left out of this build; Windows
        return None
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
    return function

"""A file read from the disk and not from the system's memory, where the system can be asked for that.

Nothing is written: the file's pages are let go of, and whether they went is asked too.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from holdfast.data.decoding.image_file import read_image_file


def let_go(path: Path) -> bool:
    """Asks the system to forget a file's contents; returns whether a read now has to ask the disk.

    False where it cannot be asked or does not say: other systems than Linux, files in memory, some networks' disks.
    """
    if not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"):
        return False
    read_image_file(path)  # what cannot be read, and what would hold us up, is refused in its usual words
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:  # it would have to wait for the disk
            return True
        finally:
            os.close(file)
    return False

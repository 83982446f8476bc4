"""A process that reads pictures through a cache on disk, over and over, until it is killed; says when it has begun."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import torch

from holdfast.data import ImageFolder
from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.cache.folder import disk_store
from holdfast.data.cache.key import Prefix, read_content_digests

SIDES = (None, 40)


def collections(root: Path, folder: Path, max_bytes: int | None = None) -> list[CachedPictures]:
    """The same pictures after two prefixes, from one store."""
    pictures = ImageFolder(root)
    digests = read_content_digests(pictures)
    bare = [CachedPictures(pictures, Prefix(side), None, digests) for side in SIDES]
    keys = [key for cached in bare for i in range(len(pictures)) if (key := cached.key(i)) is not None]
    store = disk_store(folder, keys, 20_000, max_bytes)
    return [CachedPictures(pictures, Prefix(side), store, digests) for side in SIDES]


def main() -> None:
    """Reads at random places; a picture that is not its fresh decode ends it with exit code 9."""
    torch.set_num_threads(1)
    random.seed(int(sys.argv[3]))
    everybody = collections(Path(sys.argv[1]), Path(sys.argv[2]))
    print("begun", flush=True)
    while True:
        cached = random.choice(everybody)
        index = random.randrange(len(cached))
        if not torch.equal(cached.read(index), cached.prefix(cached.pictures.read(index))):
            sys.exit(9)


if __name__ == "__main__":
    main()

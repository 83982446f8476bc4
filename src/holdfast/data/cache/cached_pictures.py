"""A collection that remembers its pictures: decoded once, then a view of mapped memory.

It is a collection itself, so loaders and transforms do not know of it. With a store, without one and with one that is
full or failing, it gives the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.data.cache.key import ContentDigests, Prefix, content_digest, picture_key, recipe_bytes
from holdfast.data.cache.store import PictureStore
from holdfast.data.files import FilePictures
from holdfast.data.preprocessing.encoded import Encoded, decoded, open_picture
from holdfast.data.sample import Indices, Pictures
from holdfast.data.targets import Targets, targets_of
from holdfast.errors import DataError


class CachedPictures:
    """The pictures of a collection after a fixed prefix, from a store where it has them.

    Args:
        pictures: the collection; uint8 pictures are stored, others are passed on.
        prefix: what is done to every picture after decoding.
        store: where to keep them; None keeps nothing.
        digests: `[N, 16]` uint8, what each file held (`read_content_digests`). A file that holds something else by now
            is decoded every time and not stored. None goes by the picture's place, which is for a
            store in memory alone.
        copy: gives copies, for transforms that write into their input.

    Raises:
        DataError: there are not as many digests as pictures.
    """

    def __init__(
        self,
        pictures: Pictures,
        prefix: Prefix | None = None,
        store: PictureStore | None = None,
        digests: ContentDigests | None = None,
        *,
        copy: bool = False,
    ) -> None:
        if digests is not None and digests.shape != (len(pictures), 16):
            raise DataError(
                f"Caching {len(pictures):,} pictures: found digests of shape {list(digests.shape)}; expected "
                f"[{len(pictures)}, 16]. Take them from the same collection."
            )
        self.pictures, self.prefix, self.store = pictures, prefix or Prefix(), store
        self._digests, self._copy = digests, copy
        decoder, channels = getattr(pictures, "decoder", ""), getattr(pictures, "channels", 0)
        self._recipe = recipe_bytes(self.prefix, decoder, channels)

    @property
    def classes(self) -> list[str]:
        """Class names; a label is an index into this list."""
        return self.pictures.classes

    @property
    def labels(self) -> Indices:
        """`[N]` int64."""
        return self.pictures.labels

    @property
    def targets(self) -> Targets:
        """The collection's targets."""
        return targets_of(self.pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        """Returns the picture's name in the collection."""
        return self.pictures.name(index)

    def fingerprint(self) -> str:
        """Returns the collection's digest: a cache does not change the data."""
        return self.pictures.fingerprint()

    def read(self, index: int) -> Tensor:
        """Returns the picture after the prefix, `[C, H, W]` uint8, channels last in memory: do not write into it.

        Raises:
            DataError: it is not in the store and cannot be read.
        """
        key = self.key(index) if self.store is not None else None
        if self.store is not None and key is not None:
            found = self.store.find(key)
            if found is not None:
                return found.clone() if self._copy else found
        picture = self.prefix.of(open_picture(self.pictures, index))
        if picture.dtype != torch.uint8 or picture.ndim != 3:
            return picture
        # One layout whether it was stored or not: what follows may take other paths through other layouts.
        picture = picture.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        if self.store is not None and key is not None and self._is_what_it_was(index):
            self.store.add(key, picture)
        return picture

    def open(self, index: int) -> Encoded:
        """Returns the picture after the prefix: decoded, whatever it is asked for. Raises DataError."""
        return decoded(self.read(index))

    def key(self, index: int) -> bytes | None:
        """Returns the picture's key in the store; None when its contents are not known."""
        if self._digests is None:
            return picture_key(index.to_bytes(16, "little"), self._recipe)
        content = self._digests[index].tobytes()
        return picture_key(content, self._recipe) if any(content) else None

    def _is_what_it_was(self, index: int) -> bool:
        """Whether the file still holds what its key says: a changed one must not be found under the old contents."""
        if self._digests is None or not isinstance(self.pictures, FilePictures):
            return True
        return content_digest(self.pictures, index) == bytes(self._digests[index].tobytes())

"""Measures what is done to a picture before anything random, whatever is learned of it: decoding, and one resize."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from holdfast.data.cache.key import Prefix
from holdfast.data.preprocessing.encoded import Encoded
from holdfast.data.speed.clock import Clock


def decode_in_stages(
    clock: Clock,
    encoded: Encoded,
    opened: Callable[[], Encoded] | None,
    prefix: Prefix,
    reduced: float,
    other_side: int | None,
) -> Tensor:
    """Returns the picture after the prefix, `[C, H, W]`, each step timed.

    Args:
        opened: opens the picture anew, as a training does; None for one that is pixels already.
        reduced: by how much each side may be smaller, 1 or more.
        other_side: measures too, to compare, decoding no larger than needed for this short side.
    """
    if opened is None:
        picture = encoded.decode(1.0)
    else:
        picture = clock.time("decode", "decode", lambda: opened().decode(reduced))
        # JPEGs may come out smaller from a half on.
        clock.compare("decode in full", "decode", (lambda: opened().decode(1.0)) if reduced >= 2 else None)
        if other_side is not None:
            other = Prefix.before_crops(other_side, scaled=True)
            clock.compare(f"decode for --decode-size {other_side}", "decode", lambda: other.of(opened()))
    if prefix.side is None:
        return picture
    size = f"{prefix.side} × {prefix.side}" if prefix.square else f"a short side of {prefix.side}"
    return clock.time(f"resize to {size}", "decode", lambda: prefix(picture))

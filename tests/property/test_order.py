import hashlib
import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.loading.order import epoch_order, name_keys

seeds = st.integers(-(2**63), 2**63 - 1)
epochs = st.integers(0, 10**6)
_MASK = 2**64 - 1


def order_by_hand(seed: int, epoch: int, n: int) -> list[int]:
    """The order in Python's own integers: blake2b for the key, SplitMix64 for each position."""
    digest = hashlib.blake2b(struct.pack("<2q", seed, epoch), digest_size=8, person=b"order").digest()
    key = int.from_bytes(digest, "little") >> 1

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        return x ^ (x >> 31)

    return sorted(range(n), key=lambda i: mix(((i + 1) * 0x9E3779B97F4A7C15 + key) & _MASK))


@given(seed=seeds, epoch=epochs, n=st.integers(0, 3000))
def test_an_order_is_a_permutation(seed: int, epoch: int, n: int) -> None:
    """Every epoch visits every sample once, whatever the seed, epoch and size."""
    assert sorted(epoch_order(seed, epoch, n).tolist()) == list(range(n))


@given(seed=seeds, epoch=epochs, n=st.integers(0, 200))
def test_an_order_is_what_plain_arithmetic_gives(seed: int, epoch: int, n: int) -> None:
    """NumPy's 64-bit words give what Python's unbounded integers give, so no version of NumPy changes an order."""
    assert epoch_order(seed, epoch, n).tolist() == order_by_hand(seed, epoch, n)


@given(seed=seeds, epoch=epochs, n=st.integers(64, 300))
def test_another_epoch_or_seed_is_another_order(seed: int, epoch: int, n: int) -> None:
    """Neighbouring epochs and seeds visit the samples differently."""
    here = epoch_order(seed, epoch, n).tolist()
    assert epoch_order(seed, epoch + 1, n).tolist() != here
    assert epoch_order(seed ^ 1, epoch, n).tolist() != here


@given(seed=seeds, names=st.lists(st.text(max_size=5), unique=True, max_size=60), more=st.text(min_size=6))
def test_a_name_s_place_depends_on_no_other_name(seed: int, names: list[str], more: str) -> None:
    """However names are listed, and when one comes in, all others are dealt out in the same order."""
    order = [names[i] for i in np.argsort(name_keys(seed, names))]
    shuffled = sorted(names, key=lambda name: name[::-1])
    assert [shuffled[i] for i in np.argsort(name_keys(seed, shuffled))] == order
    longer = [more, *names]
    assert [name for i in np.argsort(name_keys(seed, longer)) if (name := longer[i]) != more] == order

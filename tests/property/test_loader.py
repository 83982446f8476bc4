import random

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast.data import ArrayPictures, Batch, Loader
from holdfast.distributed import World


def noisy(image: Tensor) -> Tensor:
    """Adds noise from each of the three global generators."""
    return image.float() + random.random() + float(np.random.rand()) + torch.rand(image.shape)


def plain(batch: Batch) -> tuple[list[int], list[int], bytes]:
    """A batch as values that compare."""
    return batch.indices.tolist(), batch.targets.tolist(), batch.inputs.numpy().tobytes()


@st.composite
def loader_settings(draw: st.DrawFn) -> dict[str, object]:
    """Any set, batch size, seed, order and treatment of the last batch."""
    n = draw(st.integers(1, 24))
    pixels = (np.arange(n * 4) % 251).astype(np.uint8).reshape(n, 2, 2)
    members = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=24))
    drop_last = draw(st.booleans())
    return {
        "pictures": ArrayPictures(pixels, [i % 3 for i in range(n)], ["a", "b", "c"]),
        "indices": np.array(members),
        "batch_size": draw(st.integers(1, len(members) if drop_last else 30)),
        "seed": draw(st.integers(0, 2**40)),
        "shuffle": draw(st.booleans()),
        "drop_last": drop_last,
        "transform": noisy,
    }


@given(options=loader_settings())
def test_an_epoch_visits_every_member_once(options: dict[str, object]) -> None:
    """Every member of the set is delivered once an epoch, less those of a dropped last batch, in whole batches."""
    loader = Loader(**options)
    members = sorted(options["indices"].tolist())
    for _ in range(2):
        batches = [batch.indices.tolist() for batch in loader]
        seen = sorted(index for batch in batches for index in batch)
        assert len(batches) == len(loader)
        assert all(len(batch) == options["batch_size"] for batch in batches[:-1])
        if options["drop_last"]:
            assert len(seen) == len(members) // options["batch_size"] * options["batch_size"]
            assert all(seen.count(index) <= members.count(index) for index in seen)
        else:
            assert seen == members


@settings(max_examples=50)
@given(options=loader_settings(), data=st.data())
def test_from_any_step_the_rest_is_the_tail_of_the_whole(options: dict[str, object], data: st.DataObject) -> None:
    """Stop after any batch and restore elsewhere, or seek there: what follows has the bits of the uninterrupted run."""
    loader = Loader(**options)
    whole, states = [], [loader.state_dict()]
    for _ in range(3):
        for batch in loader:
            whole.append(plain(batch))
            states.append(loader.state_dict())
    step = data.draw(st.integers(0, len(whole)), label="step")
    restored, sought = Loader(**options), Loader(**options)
    restored.load_state_dict(states[step])
    sought.seek(step)
    for other in (restored, sought):
        rest = []
        while len(rest) < len(whole) - step:
            rest += [plain(batch) for batch in other]
        assert rest[: len(whole) - step] == whole[step:]


@given(options=loader_settings(), world_size=st.integers(1, 5), epoch=st.integers(0, 50))
def test_the_shares_of_all_ranks_are_the_global_batch(options: dict[str, object], world_size: int, epoch: int) -> None:
    """Joined in the order of ranks the shares are the batch, whatever its size and the number of ranks."""
    alone = Loader(**options)
    ranks = [Loader(**options, world=World(rank, world_size)) for rank in range(world_size)]
    for batch in range(len(alone)):
        shares = [rank.batch_indices(epoch, batch) for rank in ranks]
        assert np.concatenate(shares).tolist() == alone.batch_indices(epoch, batch).tolist()
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=50)
@given(options=loader_settings())
def test_a_picture_has_one_augmentation_an_epoch(options: dict[str, object]) -> None:
    """A picture's augmented bits depend on seed, epoch and picture alone, not on batch size, order or company."""
    loader, alone = Loader(**options), Loader(**{**options, "batch_size": 1, "shuffle": False, "drop_last": False})
    expected = {int(batch.indices): batch.inputs[0] for batch in alone}
    for batch in loader:
        for pixels, index in zip(batch.inputs, batch.indices.tolist(), strict=True):
            assert torch.equal(pixels, expected[index])

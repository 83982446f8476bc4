import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, WeightedRandomSampler

from holdfast.data import ArrayPictures, Batch, ImageFolder, Loader, Weighted, epoch_order
from holdfast.data.preprocessing.transforms import Preprocessing, train_transform
from holdfast.distributed import World
from holdfast.errors import CheckpointMismatch, ConfigError, DataError

pytestmark = pytest.mark.row("D6")

Seen = list[tuple[list[int], list[int], bytes]]


class Noise:
    """Adds noise from Python's, NumPy's and torch's global generators, in amounts that depend on what came before."""

    def __call__(self, image: Tensor) -> Tensor:
        """Returns `image` as float32 with noise."""
        noisy = image.float() + random.random()
        noisy += torch.from_numpy(np.random.standard_normal(image.shape).astype(np.float32))
        if torch.rand(()) < 0.5:
            noisy += torch.rand(image.shape)
        return noisy + random.choice([10.0, 20.0])


def pictures_of(n: int = 23) -> ArrayPictures:
    """So many small pictures, in three classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 1, 4, 4), dtype=np.uint8)
    return ArrayPictures(pixels, [i % 3 for i in range(n)], ["a", "b", "c"])


def plain(batch: Batch) -> tuple[list[int], list[int], bytes]:
    """A batch as values that compare: indices, targets, and the bits of the inputs."""
    return batch.indices.tolist(), batch.targets.tolist(), batch.inputs.numpy().tobytes()


def epochs(loader: Loader, num: int = 1) -> list[Seen]:
    """What so many epochs deliver."""
    return [[plain(batch) for batch in loader] for _ in range(num)]


def noisy_loader(num_workers: int = 0, **options: object) -> Loader:
    """A shuffling loader with random augmentation."""
    settings = {"batch_size": 4, "transform": Noise(), "seed": 3, "shuffle": True, **options}
    return Loader(pictures_of(), num_workers=num_workers, **settings)


class TestBatches:
    """What a batch holds."""

    def test_a_batch_is_inputs_targets_and_indices(self) -> None:
        """Inputs are stacked; each target and index belongs to its input."""
        pictures = pictures_of()
        batch = next(iter(Loader(pictures, batch_size=5, shuffle=True, seed=1)))
        assert (batch.inputs.shape, batch.inputs.dtype) == ((5, 1, 4, 4), torch.uint8)
        assert (batch.targets.dtype, batch.indices.dtype) == (torch.int64, torch.int64)
        for pixels, target, index in zip(*batch, strict=True):
            assert torch.equal(pixels, pictures.read(int(index)))
            assert target == pictures.labels[index]

    def test_without_shuffling_the_order_is_that_of_the_set(self) -> None:
        """Every epoch visits the indices as they were given."""
        loader = Loader(pictures_of(), np.array([20, 3, 7, 7, 1]), batch_size=2)
        for _ in range(2):
            assert [batch.indices.tolist() for batch in loader] == [[20, 3], [7, 7], [1]]

    def test_shuffling_follows_the_order_of_the_epoch(self) -> None:
        """Epoch after epoch the members of the set come in `epoch_order`, under the seed."""
        members = np.arange(5, 20)
        loader = Loader(pictures_of(), members, batch_size=4, shuffle=True, seed=9)
        for epoch in range(3):
            seen = [index for batch in loader for index in batch.indices.tolist()]
            assert seen == members[epoch_order(9, epoch, 15)].tolist()

    @pytest.mark.parametrize(("drop_last", "sizes"), [(False, [10, 10, 3]), (True, [10, 10])])
    def test_the_last_batch_is_kept_or_dropped(self, drop_last: bool, sizes: list[int]) -> None:
        """23 pictures in tens leave three, which drop_last leaves out; len says how many batches there are."""
        loader = Loader(pictures_of(), batch_size=10, drop_last=drop_last)
        assert [len(batch.indices) for batch in loader] == sizes
        assert len(loader) == loader.steps_per_epoch == len(sizes)

    def test_the_whole_collection_is_the_default_set(self) -> None:
        """Without indices every picture is visited once."""
        assert sorted(
            i for batch in Loader(pictures_of(), batch_size=4, shuffle=True) for i in plain(batch)[0]
        ) == list(range(23))

    def test_real_pictures_of_any_size_are_brought_to_one(self, real_data: Path) -> None:
        """Ants and bees of all sizes make batches `[B, 3, 32, 32]` float32, equal with and without a worker."""
        folder = ImageFolder(real_data / "hymenoptera_data")
        transform = train_transform(Preprocessing(32, 36, (0.5,) * 3, (0.25,) * 3), "crop+flip+color")
        seen = []
        for num_workers in (0, 1):
            loader = Loader(
                folder,
                folder.sets["val"][::20],
                batch_size=4,
                transform=transform,
                shuffle=True,
                num_workers=num_workers,
            )
            assert next(iter(Loader(folder, batch_size=2, transform=transform))).inputs.shape == (2, 3, 32, 32)
            seen.append(epochs(loader))
        assert seen[0] == seen[1]

    def test_pinning_is_passed_over_where_there_is_no_accelerator(self) -> None:
        """pin_memory=True changes nothing on a machine without one, in this process as with workers."""
        for num_workers in (0, 1):
            loader = Loader(pictures_of(), batch_size=4, pin_memory=True, num_workers=num_workers)
            assert next(iter(loader)).inputs.is_pinned() == torch.accelerator.is_available()

    @pytest.mark.parametrize(
        ("n", "options", "message"),
        [
            (5, {"batch_size": 0}, "batch_size is 0; expected 1 or more"),
            (5, {"batch_size": 2, "timeout": -1}, "timeout is -1; expected seconds, or 0 to wait for ever"),
            (5, {"batch_size": 2, "timeout": float("nan"), "num_workers": 1}, "timeout is nan"),
            (5, {"batch_size": 2, "num_workers": -1}, "num_workers is -1; expected 0 or more"),
            (5, {"batch_size": 2, "epochs": 0}, "epochs is 0; expected 1 or more"),
            (5, {"batch_size": 2, "num_workers": 1, "prefetch_factor": 0}, "prefetch_factor is 0"),
            (5, {"batch_size": 2, "multiprocessing_context": "thread"}, "'thread'; expected one of fork"),
            (5, {"batch_size": 0, "num_workers": 1, "timeout": -1}, "(?s)batch_size is 0.*timeout is -1"),
            (5, {"batch_size": 6, "drop_last": True}, "No batch can be made of 5 samples with batch size 6"),
            (0, {"batch_size": 2}, "No batch can be made of 0 samples"),
        ],
    )
    def test_a_loader_fails_when_no_batch_can_be_made(self, n: int, options: dict[str, object], message: str) -> None:
        """A batch size below one, drop_last that leaves nothing and an empty set are refused at once."""
        with pytest.raises(ConfigError, match=message):
            Loader(pictures_of(), np.arange(n), **options)


class TestWorkers:
    """Workers change speed and nothing else."""

    @pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # on two cores
    def test_any_number_of_workers_delivers_the_same_bits(self) -> None:
        """0, 1, 2 and 3 workers give equal inputs, targets and indices over two epochs, random augmentation and all."""
        expected = epochs(noisy_loader(), 2)
        assert expected[0] != expected[1]
        for num_workers in (1, 2, 3):
            assert epochs(noisy_loader(num_workers), 2) == expected

    def test_augmentation_does_not_depend_on_what_was_drawn_before(self) -> None:
        """Numbers that the caller draws between batches change no batch."""
        expected = epochs(noisy_loader())[0]
        seen = []
        for batch in noisy_loader():
            seen.append(plain(batch))
            random.seed(len(seen))
            np.random.rand(len(seen))
            torch.rand(100)
        assert seen == expected

    def test_a_picture_is_augmented_anew_each_epoch_and_under_each_seed(self) -> None:
        """The same picture differs from epoch to epoch and from seed to seed, and repeats under both."""
        loader = Loader(pictures_of(), [4], batch_size=1, transform=Noise(), seed=1)
        first, second = epochs(loader, 2)
        other = epochs(Loader(pictures_of(), [4], batch_size=1, transform=Noise(), seed=2))[0]
        again = epochs(Loader(pictures_of(), [4], batch_size=1, transform=Noise(), seed=1))[0]
        assert len({first[0][2], second[0][2], other[0][2]}) == 3
        assert again == first

    def test_augmentation_does_not_depend_on_the_company(self) -> None:
        """A picture's augmentation is the same in any batch size and any set."""
        alone = Loader(pictures_of(), [4], batch_size=1, transform=Noise(), seed=1)
        among = Loader(pictures_of(), [9, 4, 2], batch_size=3, transform=Noise(), seed=1)
        assert torch.equal(next(iter(alone)).inputs[0], next(iter(among)).inputs[1])

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_transforms_run_on_one_thread(self, num_workers: int) -> None:
        """torch has one thread in a transform, here as in workers, and the caller's setting is put back."""
        torch.set_num_threads(2)
        loader = Loader(
            pictures_of(),
            batch_size=4,
            num_workers=num_workers,
            transform=lambda _: torch.tensor(torch.get_num_threads()),
        )
        for batch in loader:
            assert batch.inputs.tolist() == [1] * len(batch.inputs)
            assert torch.get_num_threads() == 2

    def test_workers_are_kept_from_epoch_to_epoch(self) -> None:
        """The same processes serve the second epoch."""
        loader = Loader(pictures_of(), batch_size=4, num_workers=2, transform=lambda _: torch.tensor(os.getpid()))
        pids = [{pid for batch in loader for pid in batch.inputs.tolist()} for _ in range(2)]
        assert pids[0] == pids[1]
        assert len(pids[0]) == 2
        assert os.getpid() not in pids[0]

    @pytest.mark.parametrize("after", [1, 3])
    def test_kept_workers_go_on_rightly_after_a_break(self, after: int) -> None:
        """Batches that were prefetched when the loop broke off are dropped, and the next ones are those that follow."""
        expected = [batch for epoch in epochs(noisy_loader(), 3) for batch in epoch]
        loader = noisy_loader(2)
        seen = []
        while len(seen) < len(expected):
            for count, batch in enumerate(loader, 1):
                seen.append(plain(batch))
                if count == after:
                    break
        assert seen == expected

    def test_a_signal_to_the_process_group_does_not_end_a_worker(self) -> None:
        """SIGINT, SIGUSR1, and SIGTERM from anyone but the main process, leave the workers at work."""
        expected = epochs(noisy_loader())[0]
        loader = noisy_loader(2)
        seen = []
        for batch in loader:
            if not seen:
                pids = [child.pid for child in multiprocessing.active_children()]
                for name in ("INT", "USR1", "TERM"):
                    subprocess.run(["bash", "-c", f"kill -{name} {' '.join(map(str, pids))}"], check=True)
            seen.append(plain(batch))
        assert seen == expected
        assert {child.pid for child in multiprocessing.active_children()} >= set(pids)

    @pytest.mark.parametrize("how", ["whole", "broken off"])
    def test_workers_end_with_their_loader(self, how: str) -> None:
        """A loader that nobody holds any more is freed at once, with its processes, not by the collector."""
        gc.collect()
        gc.disable()
        try:
            before = set(multiprocessing.active_children())
            loader = noisy_loader(2)
            for _ in loader:
                if how == "broken off":
                    break
            assert len(set(multiprocessing.active_children()) - before) == 2
            reference = weakref.ref(loader)
            del loader
            assert reference() is None
            assert set(multiprocessing.active_children()) <= before
        finally:
            gc.enable()

    def test_closing_ends_the_workers_and_the_loader_can_go_on(self) -> None:
        """After close() no worker is left; the next iteration starts new ones at the cursor."""
        expected = epochs(noisy_loader())[0]
        before = set(multiprocessing.active_children())
        loader = noisy_loader(1)
        seen = []
        for batch in loader:
            seen.append(plain(batch))
            if len(seen) == 2:
                break
        loader.close()
        assert set(multiprocessing.active_children()) <= before
        assert seen + epochs(loader)[0] == expected
        Loader(pictures_of(), batch_size=4).close()

    def test_a_script_ends_though_its_loader_is_alive(self) -> None:
        """A loop that broke off in a script of its own leaves no process that keeps it from ending."""
        script = (
            "import numpy as np\nfrom holdfast.data import ArrayPictures, Loader\n"
            "loader = Loader(ArrayPictures(np.zeros((9, 4, 4), np.uint8), [0] * 9), batch_size=2, num_workers=2)\n"
            "loader.itself = loader\n"
            "for batch in loader:\n    break\n"
            "print('done')\n"
        )
        finished = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
        )
        assert (finished.returncode, finished.stdout, finished.stderr) == (0, "done\n", "")

    def test_a_script_ends_though_a_worker_is_stuck(self, long_form: bool) -> None:
        """A transform that never returns does not keep an interrupted script alive for ever."""
        if not long_form:
            pytest.skip("torch waits ten seconds for a stuck worker; run with --long")
        script = (
            "import threading, _thread\nimport numpy as np\nfrom holdfast.data import ArrayPictures, Loader\n"
            "loader = Loader(ArrayPictures(np.zeros((9, 4, 4), np.uint8), [0] * 9), batch_size=2, num_workers=1,\n"
            "                transform=lambda image: threading.Event().wait())\n"
            "threading.Timer(1, _thread.interrupt_main).start()\n"
            "try:\n    next(iter(loader))\nexcept KeyboardInterrupt:\n    print('stopped')\n"
        )
        finished = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=90, check=False
        )
        assert (finished.returncode, finished.stdout) == (0, "stopped\n")


class TestCursor:
    """The place in the data."""

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_the_cursor_counts_batches_delivered_and_not_prefetched(self, num_workers: int) -> None:
        """While the loop is at its k-th batch the cursor says k, however many workers have read ahead."""
        loader = noisy_loader(num_workers)
        for epoch in range(2):
            for delivered, _ in enumerate(loader, 1):
                state = loader.state_dict()
                assert (state["epoch"], state["batches_delivered"]) == (epoch, delivered)

    @pytest.mark.parametrize("stop", [1, 3, 5, 6, 8, 12])
    def test_a_new_loader_goes_on_where_the_state_was_saved(self, stop: int) -> None:
        """Break within an epoch or at its end with workers, restore into a new loader, and the rest is what it would
        have been, whatever the number of workers was or is."""
        expected = [batch for epoch in epochs(noisy_loader(), 3) for batch in epoch]
        first = noisy_loader(2)
        seen: Seen = []
        while len(seen) < stop:
            for batch in first:
                seen.append(plain(batch))
                if len(seen) == stop:
                    break
        state = first.state_dict()
        for num_workers in (0, 1):
            loader = noisy_loader(num_workers)
            loader.load_state_dict(state)
            rest: Seen = []
            while len(seen) + len(rest) < len(expected):
                rest += [plain(batch) for batch in loader]
            assert seen + rest == expected

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_seeking_gives_the_tail_of_the_whole(self, num_workers: int) -> None:
        """From any step the batches are those that follow in an uninterrupted run."""
        whole = [batch for epoch in epochs(noisy_loader(), 3) for batch in epoch]
        loader = noisy_loader(num_workers)
        for step in (0, 1, 4, 5, 6, 7, 11, 13):
            loader.seek(step)
            assert epochs(loader)[0] == whole[step : (step // 6 + 1) * 6]

    def test_the_indices_of_any_batch_are_known_without_reading_it(self) -> None:
        """batch_indices names what an iteration delivers, at once and without moving the cursor."""
        loader = noisy_loader()
        known = [[loader.batch_indices(epoch, batch).tolist() for batch in range(6)] for epoch in range(2)]
        assert loader.state_dict()["batches_delivered"] == 0
        assert [[batch[0] for batch in epoch] for epoch in epochs(loader, 2)] == known

    def test_the_state_is_plain_values(self) -> None:
        """The cursor, and what it was counted in, are integers that JSON holds."""
        loader = noisy_loader()
        loader.seek(8)
        assert loader.state_dict() == {
            "epoch": 1, "batches_delivered": 2, "batch_size": 4, "num_samples": 23, "seed": 3,
        }  # fmt: skip

    def test_restoring_fails_when_the_batches_were_counted_otherwise(self) -> None:
        """Another batch size, set or seed is refused, all differences named, and the cursor stays where it was."""
        loader = Loader(pictures_of(), np.arange(20), batch_size=5, seed=4)
        loader.seek(3)
        with pytest.raises(CheckpointMismatch) as caught:
            loader.load_state_dict(noisy_loader().state_dict())
        assert str(caught.value) == (
            "The data loader's place in the data means nothing here (batch_size: saved 4, here 5; "
            "num_samples: saved 23, here 20; seed: saved 3, here 4)."
        )
        assert loader.batches_delivered == 3


class SamplerWithEpochs:
    """A sampler as torch's distributed one: its order depends on the epoch it is told."""

    def __init__(self, n: int) -> None:
        self.n, self.told = n, list[int]()

    def set_epoch(self, epoch: int) -> None:
        """Is told the epoch."""
        self.told.append(epoch)

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        return iter(np.roll(np.arange(self.n), self.told[-1]).tolist())


class TestSamplers:
    """Orders of the user's own."""

    def test_a_plain_list_is_an_order(self) -> None:
        """Positions in the set, as often and in the order given; they decide the length of the epoch."""
        loader = Loader(pictures_of(), np.arange(10, 20), batch_size=2, sampler=[3, 3, 0, 9, 1])
        assert len(loader) == 3
        for _ in range(2):
            assert [batch.indices.tolist() for batch in loader] == [[13, 13], [10, 19], [11]]

    @pytest.mark.parametrize("kind", ["random", "weighted"])
    def test_torchs_own_samplers_repeat_under_the_seed(self, kind: str) -> None:
        """A sampler that draws from the global generator gives one order per epoch and seed, for any number of workers,
        after seeking, and whatever was drawn before."""

        def loader(num_workers: int = 0, seed: int = 3) -> Loader:
            members = range(12)
            sampler = RandomSampler(members) if kind == "random" else WeightedRandomSampler([1.0] * 12, 12)
            return noisy_loader(num_workers, sampler=sampler, indices=np.arange(12), shuffle=False, seed=seed)

        expected = epochs(loader(), 2)
        assert [batch[0] for batch in expected[0]] != [batch[0] for batch in expected[1]]
        torch.rand(7)
        assert epochs(loader(1), 2) == expected
        late = loader()
        late.seek(4)
        assert epochs(late)[0] == expected[1][1:]
        assert epochs(loader(seed=4))[0] != expected[0]

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_sampler_is_told_the_epoch(self, num_workers: int) -> None:
        """set_epoch is called before each epoch's order is asked for, after seeking too."""
        sampler = SamplerWithEpochs(4)
        loader = Loader(pictures_of(), [5, 6, 7, 8], batch_size=4, sampler=sampler, num_workers=num_workers)
        assert [plain(batch)[0] for _ in range(2) for batch in loader] == [[5, 6, 7, 8], [8, 5, 6, 7]]
        loader.seek(3)
        assert [plain(batch)[0] for batch in loader] == [[6, 7, 8, 5]]
        assert sampler.told == [0, 1, 3]

    def test_drop_last_counts_what_the_sampler_gives(self) -> None:
        """Five of a sampler's positions in twos are two batches when the last is dropped."""
        loader = Loader(pictures_of(), batch_size=2, sampler=[1, 2, 3, 4, 5], drop_last=True)
        assert [batch.indices.tolist() for batch in loader] == [[1, 2], [3, 4]]


class TestSamplersThatCannotBeUsed:
    """Each is refused with what to do, before or at the first batch."""

    def test_one_without_a_length_is_refused(self) -> None:
        """An endless order has no epochs to resume in."""

        class Endless:
            def __iter__(self) -> Iterator[int]:
                return iter(range(10**9))

        with pytest.raises(ConfigError, match=r"The sampler \(Endless\) has no len\(\)"):
            Loader(pictures_of(), batch_size=4, sampler=Endless())  # type: ignore[arg-type]

    def test_one_of_batches_is_refused(self) -> None:
        """What it was made of, and batch_size, do the same."""
        loader = Loader(pictures_of(), batch_size=4, sampler=BatchSampler(range(8), 4, False))  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"\(BatchSampler\) gave a list; expected positions"):
            next(iter(loader))

    def test_one_that_shares_out_itself_is_refused(self) -> None:
        """Ranks would share out a share."""
        sampler: DistributedSampler[int] = DistributedSampler(range(8), num_replicas=2, rank=0)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="the loader shares every batch out among the ranks itself"):
            Loader(pictures_of(), batch_size=4, sampler=sampler)
        whole: DistributedSampler[int] = DistributedSampler(range(8), num_replicas=1, rank=0)  # type: ignore[arg-type]
        assert len(Loader(pictures_of(), batch_size=4, sampler=whole)) == 2

    @pytest.mark.parametrize("count", [3, 5])
    def test_one_that_gives_more_or_fewer_than_its_length_is_refused(self, count: int) -> None:
        """The cursor would point at batches that are not there."""

        class Liar(SamplerWithEpochs):
            def __iter__(self) -> Iterator[int]:
                return iter(range(count))

        with pytest.raises(ConfigError, match=r"positions in an epoch, and its len\(\) is 4"):
            next(iter(Loader(pictures_of(), batch_size=2, sampler=Liar(4))))

    @pytest.mark.parametrize("positions", [[0, 23], [-1, 3]])
    def test_one_that_points_outside_the_set_is_refused(self, positions: list[int]) -> None:
        """A negative position never counts from the end."""
        with pytest.raises(ConfigError, match=r"gave positions from .*; expected 0 … 22"):
            next(iter(Loader(pictures_of(), batch_size=2, sampler=positions)))

    def test_one_beside_sampling_is_refused(self) -> None:
        """Two orders at once."""
        with pytest.raises(ConfigError, match="Both sampler"):
            Loader(pictures_of(), batch_size=2, sampler=[1, 2], sampling="balanced")


UNEVEN = np.array([0, 3, 6, 9, 12, 15, 18, 21, 1, 4, 2])  # eight of class 0, two of 1, one of 2


class TestSampling:
    """Balanced and weighted epochs."""

    def test_balanced_sees_every_class_equally_often(self) -> None:
        """Of eleven samples an epoch, three or four are of each of three classes."""
        loader = Loader(pictures_of(), UNEVEN, batch_size=4, sampling="balanced")
        for _ in range(5):
            targets = [target for batch in loader for target in batch.targets.tolist()]
            assert sorted(np.bincount(targets).tolist()) in ([3, 4, 4], [3, 3, 5]) and len(targets) == 11

    @pytest.mark.parametrize("sampling", ["balanced", "sqrt", Weighted(np.arange(11.0), 7)])
    def test_workers_seeking_and_resuming_change_nothing(self, sampling: object) -> None:
        """Any number of workers, any starting step, and a restored cursor give the bits of the uninterrupted epochs."""
        options = {"indices": UNEVEN, "sampling": sampling, "shuffle": False}
        whole = [batch for epoch in epochs(noisy_loader(**options), 3) for batch in epoch]
        per_epoch = len(whole) // 3
        assert [batch for epoch in epochs(noisy_loader(2, **options), 3) for batch in epoch] == whole
        for step in range(len(whole)):
            loader = noisy_loader(**options)
            loader.seek(step)
            other = noisy_loader(**options)
            other.load_state_dict(loader.state_dict())
            assert epochs(other)[0] == whole[step : (step // per_epoch + 1) * per_epoch]

    def test_ranks_share_out_a_balanced_batch(self) -> None:
        """The ranks' shares, joined, are the one process's batch."""
        whole = noisy_loader(indices=UNEVEN, sampling="balanced").batch_indices(2, 1).tolist()
        shares = [
            noisy_loader(indices=UNEVEN, sampling="balanced", world=World(r, 3)).batch_indices(2, 1) for r in range(3)
        ]
        assert np.concatenate(shares).tolist() == whole

    def test_restoring_fails_when_the_sampling_differs(self) -> None:
        """A place in one order means nothing in another; the two are named."""
        state = noisy_loader(sampling="balanced").state_dict()
        with pytest.raises(CheckpointMismatch, match="sampling: saved balanced, here None"):
            noisy_loader().load_state_dict(state)
        with pytest.raises(CheckpointMismatch, match="sampling: saved balanced, here sqrt"):
            noisy_loader(sampling="sqrt").load_state_dict(state)

    def test_the_number_of_samples_decides_the_length_of_the_epoch(self) -> None:
        """Weighted sampling may take more or fewer than the set has."""
        assert len(Loader(pictures_of(), batch_size=4, sampling=Weighted(np.ones(23), 41))) == 11


class TestStarting:
    """How worker processes start, wait and end."""

    @pytest.mark.parametrize("method", ["spawn", "forkserver"])
    def test_processes_that_are_not_forked_deliver_the_same_bits(self, tmp_path: Path, method: str) -> None:
        """Files and paths that they never saw before, random augmentation and all, over two epochs."""
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            for number in range(5):
                Image.new("RGB", (4, 4), (number * 40, 0, 0)).save(tmp_path / name / f"{number}.png")
        folder = ImageFolder(tmp_path)
        settings = {"batch_size": 4, "transform": Noise(), "seed": 3, "shuffle": True}
        expected = epochs(Loader(folder, **settings), 2)
        loader = Loader(folder, num_workers=1, multiprocessing_context=method, **settings)
        assert epochs(loader, 2) == expected
        loader.close()

    def test_what_cannot_be_sent_is_named(self) -> None:
        """A lambda is refused at once where processes are not forked, with what to do."""
        with pytest.raises(ConfigError, match=r"the transform cannot be sent to them .* not as a lambda"):
            Loader(pictures_of(), batch_size=4, num_workers=1, transform=lambda x: x, multiprocessing_context="spawn")
        with pytest.raises(ConfigError, match="the collate_fn cannot be sent"):
            Loader(pictures_of(), batch_size=4, num_workers=1, collate_fn=lambda x: x, multiprocessing_context="spawn")

    def test_workers_end_with_the_epoch_when_they_are_not_kept(self) -> None:
        """persistent_workers=False starts new ones every epoch, and changes no bit."""
        before = set(multiprocessing.active_children())
        loader = noisy_loader(1, persistent_workers=False)
        seen = []
        for _ in range(2):
            seen += epochs(loader)
            assert set(multiprocessing.active_children()) <= before
        assert seen == epochs(noisy_loader(), 2)

    def test_a_batch_that_does_not_come_in_time_is_an_error(self) -> None:
        """timeout ends the wait for a stuck worker, says so, and ends the worker."""

        def slow(image: Tensor) -> Tensor:
            time.sleep(3)
            return image

        loader = Loader(pictures_of(), batch_size=1, num_workers=1, transform=slow, timeout=0.3)
        with pytest.raises(DataError, match="No batch came from the workers in time"):
            next(iter(loader))

    def test_prefetching_changes_nothing(self) -> None:
        """However far ahead the workers read."""
        assert epochs(noisy_loader(1, prefetch_factor=5)) == epochs(noisy_loader())


class TestCollating:
    """Batches of the user's own making, and pictures that do not fit together."""

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_collate_function_of_ones_own_makes_the_batch(self, num_workers: int) -> None:
        """It receives (input, target, index) and what it returns is delivered as it is."""
        loader = Loader(
            pictures_of(), batch_size=2, num_workers=num_workers, collate_fn=lambda items: [item[1:] for item in items]
        )
        assert next(iter(loader)) == [(0, 0), (1, 1)]

    def test_a_collate_function_of_ones_own_may_take_any_shapes(self, tmp_path: Path) -> None:
        """Pictures of different sizes are no failure when the user's function takes them."""
        folder = pictures_of_two_sizes(tmp_path)
        loader = Loader(folder, batch_size=2, collate_fn=lambda items: [tuple(item[0].shape) for item in items])
        assert next(iter(loader)) == [(3, 4, 4), (3, 6, 4)]

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_batch_fails_when_shapes_differ_and_names_both_pictures(self, tmp_path: Path, num_workers: int) -> None:
        """Both pictures, both shapes and two ways out are in the message, which is the same from a worker."""
        loader = Loader(pictures_of_two_sizes(tmp_path), batch_size=2, num_workers=num_workers)
        with pytest.raises(DataError) as caught:
            next(iter(loader))
        assert str(caught.value) == (
            "Making a batch: a/1.png has shape [3, 4, 4] and b/1.png [3, 6, 4] after the transform; expected one "
            "shape. Let the transform resize or crop, or give a collate_fn."
        )


def pictures_of_two_sizes(root: Path) -> ImageFolder:
    """One picture of 4 × 4 and one of 4 × 6."""
    for name, size in (("a", (4, 4)), ("b", (4, 6))):
        (root / name).mkdir()
        Image.new("RGB", size).save(root / name / "1.png")
    return ImageFolder(root)


class TestFailures:
    """Pictures and transforms that fail."""

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_an_unreadable_picture_is_named(self, picture_folder: Path, num_workers: int) -> None:
        """The batches before it are delivered; then the message is the picture's, with no traceback in it."""
        folder = ImageFolder(picture_folder)
        folder.path(13).write_bytes(b"")
        loader = Loader(folder, batch_size=4, num_workers=num_workers)
        with pytest.raises(DataError) as caught:
            list(loader)
        assert str(caught.value) == f"{folder.path(13)}: the file is empty (0 bytes)."
        assert loader.batches_delivered == 3

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_loader_can_go_on_after_a_failure(self, picture_folder: Path, num_workers: int) -> None:
        """Once the picture is mended, the same loader delivers the batch that failed and those after it."""
        folder = ImageFolder(picture_folder)
        good = folder.path(5).read_bytes()
        folder.path(5).write_bytes(b"")
        loader = Loader(folder, batch_size=4, num_workers=num_workers)
        with pytest.raises(DataError, match=r"blue/5\.jpg"):
            list(loader)
        folder.path(5).write_bytes(good)
        assert [batch.indices[0].item() for batch in loader] == [4, 8, 12, 16, 20]

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_transform_that_raises_names_the_picture(self, picture_folder: Path, num_workers: int) -> None:
        """Whatever the user's code raises becomes a DataError with the picture, the kind of error and its text."""

        def fragile(image: Tensor) -> Tensor:
            raise KeyError("no such key")

        with pytest.raises(DataError) as caught:
            next(
                iter(Loader(ImageFolder(picture_folder), [9], batch_size=1, transform=fragile, num_workers=num_workers))
            )
        assert str(caught.value) == "Transforming green/1.jpg: KeyError: 'no such key'"

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_collate_function_that_raises_names_the_pictures(self, num_workers: int) -> None:
        """The first pictures of the batch, the kind of error and its text."""

        def fragile(items: list[object]) -> object:
            raise ValueError("no")

        loader = Loader(pictures_of(), batch_size=5, collate_fn=fragile, num_workers=num_workers)
        with pytest.raises(DataError, match=r"^Making a batch of #0, #1, #2 …: ValueError: no$"):
            next(iter(loader))

    def test_a_collection_that_raises_names_the_picture(self) -> None:
        """Whatever the reading of a collection of the user's own raises."""

        class Fragile(ArrayPictures):
            def read(self, index: int) -> Tensor:
                raise OSError(f"the tape is torn at {index}")

        loader = Loader(Fragile(np.zeros((2, 4, 4), np.uint8), [0, 1]), batch_size=2)
        with pytest.raises(DataError, match=r"^Reading #0: OSError: the tape is torn at 0$"):
            next(iter(loader))

    def test_a_worker_that_dies_is_told_with_what_to_do(self) -> None:
        """A killed worker (memory that ran out) is a DataError, not torch's RuntimeError."""

        def deadly(image: Tensor) -> Tensor:
            if image.sum() >= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return image

        with pytest.raises(
            DataError, match=r"A worker process that prepares pictures died .*fewer --workers or a smaller"
        ):
            list(Loader(pictures_of(), batch_size=4, num_workers=1, transform=deadly))


class TestShares:
    """Several processes."""

    @pytest.mark.parametrize("world_size", [2, 3, 4])
    def test_ranks_share_out_the_global_batch(self, world_size: int) -> None:
        """The ranks' batches, joined, are the one process's batches, to the bit."""
        whole = epochs(noisy_loader(batch_size=8, drop_last=True), 2)
        ranks = [
            epochs(noisy_loader(batch_size=8, drop_last=True, world=World(rank, world_size)), 2)
            for rank in range(world_size)
        ]
        for epoch in range(2):
            for batch in range(2):
                shares = [rank[epoch][batch] for rank in ranks]
                assert [index for share in shares for index in share[0]] == whole[epoch][batch][0]
                assert [target for share in shares for target in share[1]] == whole[epoch][batch][1]
                assert b"".join(share[2] for share in shares) == whole[epoch][batch][2]

    def test_all_ranks_agree_on_a_random_sampler(self) -> None:
        """Ranks that ask torch's sampler for themselves get the same order, so their shares are disjoint and cover."""
        seen = []
        for rank in range(2):
            torch.rand(rank + 1)
            loader = Loader(pictures_of(8), batch_size=8, sampler=RandomSampler(range(8)), world=World(rank, 2), seed=5)
            seen += next(iter(loader)).indices.tolist()
        assert sorted(seen) == list(range(8))

    def test_a_state_moves_to_another_number_of_processes(self) -> None:
        """The cursor counts global batches: saved by one of two ranks it is good for a single process."""
        two = noisy_loader(batch_size=6, world=World(1, 2))
        next(iter(two))
        one = noisy_loader(batch_size=6)
        one.load_state_dict(two.state_dict())
        assert epochs(one)[0] == epochs(noisy_loader(batch_size=6))[0][1:]


def test_a_transform_that_makes_no_tensor_fails_and_names_the_picture() -> None:
    """An array or a PIL picture is not quietly guessed at."""
    loader = Loader(ArrayPictures(np.zeros((2, 8, 8), np.uint8), [0, 1]), batch_size=2, transform=lambda x: x.numpy())  # type: ignore[arg-type,return-value]
    with pytest.raises(DataError, match=r"the transform made a ndarray of #0; expected a tensor"):
        next(iter(loader))

from __future__ import annotations

import copy
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from holdfast.checkpoints import CheckpointStore
from holdfast.checkpoints.random_state import RandomState
from holdfast.errors import CheckpointMismatch, UnsupportedState

ANOTHER_VERSION = "another version of its library wrote it"
BIT_GENERATORS = ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"]


@pytest.fixture(autouse=True)
def _leave_the_global_generators_as_they_were() -> Iterator[None]:
    """Puts the process's generators back after each test."""
    state = RandomState().state_dict()
    yield
    RandomState().load_state_dict(state)


def _generators(seed: int) -> dict[str, Any]:
    """Returns one generator of every kind there is."""
    return {
        "torch": torch.Generator().manual_seed(seed),
        "legacy": np.random.RandomState(seed),
        "python": random.Random(seed),
        **{name: np.random.Generator(getattr(np.random, name)(seed)) for name in BIT_GENERATORS},
    }


def _draw(generators: dict[str, Any]) -> list[Any]:
    """Draws from all generators in turns, in ways that leave half of a pair or a word behind."""
    drawn: list[Any] = [random.gauss(0, 1), np.random.randn(), torch.randn(3).tolist(), random.random()]
    for generator in generators.values():
        if isinstance(generator, torch.Generator):
            drawn += [torch.randn(5, generator=generator).tolist(), torch.randperm(9, generator=generator).tolist()]
        elif isinstance(generator, np.random.Generator):
            drawn += [generator.random(), generator.integers(0, 9, 3, dtype=np.uint32).tolist(), generator.normal()]
        elif isinstance(generator, np.random.RandomState):
            drawn += [generator.randn(), generator.permutation(9).tolist()]
        else:
            drawn += [generator.gauss(0, 1), generator.getrandbits(70)]
    return drawn


@pytest.mark.row("S10")
def test_every_generator_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    """Through a real checkpoint, generators of every kind and the global ones draw again what they drew after it."""
    generators = _generators(1)
    store = CheckpointStore(tmp_path)
    _draw(generators)
    store.save(1, {"random": RandomState(**generators)})
    expected = [_draw(generators) for _ in range(3)]
    fresh = _generators(2)
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    assert store.restore_latest({"random": RandomState(**fresh)}) == 1
    assert [_draw(fresh) for _ in range(3)] == expected


def test_saving_draws_nothing_and_starts_no_cuda(tmp_path: Path) -> None:
    """Reading the generators leaves them where they are, and a process without CUDA stays without."""
    generators = _generators(3)
    before = RandomState(**generators).state_dict()
    CheckpointStore(tmp_path).save(1, {"random": RandomState(**generators)})
    after = RandomState(**generators).state_dict()
    assert before["generators"]["PCG64"] == after["generators"]["PCG64"]
    assert torch.equal(before["torch"]["state"], after["torch"]["state"])
    assert after["cuda"] is None


def test_the_state_holds_for_a_default_device_and_names_that_are_taken(tmp_path: Path) -> None:
    """A generator may be called like a global one; each keeps its own place."""
    own = {"python": random.Random(1), "numpy": np.random.default_rng(1), "cuda": torch.Generator().manual_seed(1)}
    state = RandomState(**own)
    CheckpointStore(tmp_path).save(1, {"r": state})
    expected = own["python"].random(), own["numpy"].random(), random.random()
    CheckpointStore(tmp_path).restore_latest({"r": state})
    assert (own["python"].random(), own["numpy"].random(), random.random()) == expected


def test_it_restores_in_another_process(tmp_path: Path) -> None:
    """What one process saved, another one goes on with."""
    store = CheckpointStore(tmp_path)
    rng = np.random.default_rng(5)
    store.save(1, {"random": RandomState(rng=rng)})
    code = (
        "import random, sys, numpy, torch; from holdfast.checkpoints import CheckpointStore\n"
        "from holdfast.checkpoints.random_state import RandomState\n"
        "rng = numpy.random.default_rng()\n"
        "CheckpointStore(sys.argv[1]).restore_latest({'random': RandomState(rng=rng)})\n"
        "print([random.random(), numpy.random.rand(), torch.rand(1).item(), rng.random()])\n"
    )
    said = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert said == f"{[random.random(), np.random.rand(), torch.rand(1).item(), rng.random()]}\n"


def _refused(parts: RandomState, state: Any) -> list[str]:
    """Returns the lines of the refusal, after checking that no generator has moved."""
    before = repr(parts.state_dict())
    with pytest.raises(CheckpointMismatch) as caught:
        parts.load_state_dict(state)
    assert repr(parts.state_dict()) == before
    return str(caught.value).splitlines()


def test_restoring_fails_with_every_generator_that_is_missing_or_of_another_kind() -> None:
    """All differences are named at once, and no generator is touched, those that fit included."""
    saved = RandomState(a=random.Random(1), b=np.random.default_rng(1), c=torch.Generator(), gone=random.Random(2))
    state = saved.state_dict()
    random.random()
    now = RandomState(
        a=np.random.RandomState(1), b=np.random.Generator(np.random.SFC64(1)), c=torch.Generator(), new=random.Random()
    )
    *found, advice = _refused(now, state)
    assert found == [
        "Restoring the random generators: 4 differences from what was saved:",
        "  generator 'new' was not saved",
        "  generator 'gone' was saved and is not given now",
        "  a: was saved from a random.Random, and is a numpy.random.RandomState over MT19937 now",
        "  b: was saved from a numpy.random.Generator over PCG64, and is a numpy.random.Generator over SFC64 now",
    ]
    assert advice == (
        "Name the same generators, on the same devices, as when it was saved; or leave this part out: training then "
        "goes on with random numbers of its own."
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda s: s.pop("mps"), "  what was saved is not the state of random generators"),
        (lambda s: s["torch"].pop("kind"), "  torch: what was saved is not the state of a generator"),
        (
            lambda s: s["torch"].update(state=torch.zeros(16, dtype=torch.uint8)),
            "  torch: the saved state of the torch.Generator on cpu has another form; " + ANOTHER_VERSION,
        ),
        (
            lambda s: s["numpy"]["state"]["state"].update(key=np.zeros(3, np.uint32)),
            "  numpy: the saved state of the numpy.random.RandomState over MT19937 has another form; "
            + ANOTHER_VERSION,
        ),
        (
            lambda s: s["python"]["state"].update(version="3"),
            "  python: the saved state of the random.Random has another form; " + ANOTHER_VERSION,
        ),
        (
            lambda s: s.update(cuda=[torch.zeros(16, dtype=torch.uint8)] * 64),
            f"  cuda: the generators of 64 devices were saved, and there are {torch.cuda.device_count()} here",
        ),
    ],
    ids=["no state", "no generator", "torch", "numpy", "python", "cuda"],
)
def test_restoring_fails_when_a_state_cannot_be_set(change: Callable[[Any], Any], line: str) -> None:
    """A state of another form is found before the first generator is set."""
    state = copy.deepcopy(RandomState().state_dict())
    random.random()
    change(state)
    assert _refused(RandomState(), state)[1] == line


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an MPS device")
def test_restoring_fails_when_there_is_no_mps_device() -> None:
    """The state of an Apple GPU's generator has nowhere to go."""
    state = RandomState().state_dict() | {"mps": torch.zeros(44, dtype=torch.uint8)}
    assert _refused(RandomState(), state)[1] == "  mps: its generator was saved, and there is none here"


class _Own(random.Random):
    """A generator that keeps its state in a way of its own."""

    def getstate(self) -> tuple[Any, ...]:
        return ()


@pytest.mark.parametrize(
    ("generator", "found"),
    [
        (random.SystemRandom(), "random.SystemRandom"),
        (7, "builtins.int"),
        (np.random, "builtins.module"),
        (np.random.PCG64(1), "numpy.random._pcg64.PCG64"),
        (_Own(), f"{__name__}._Own"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_keeps_no_state_is_refused_at_once(generator: Any, found: str) -> None:
    """The mistake shows when the part is made, not at the first save."""
    with pytest.raises(UnsupportedState) as caught:
        RandomState(seed=generator)
    assert str(caught.value).startswith(f"RandomState(seed=…): found a {found}; expected a torch.Generator, ")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_generators_go_on_where_they_were_saved(tmp_path: Path) -> None:
    """The generators of all CUDA devices and one of the user's own on a device draw again what they drew."""
    generator = torch.Generator("cuda").manual_seed(3)
    state = RandomState(generator=generator)
    torch.rand(5, device="cuda")
    CheckpointStore(tmp_path).save(1, {"random": state})

    def draw() -> list[Any]:
        return [torch.rand(3, device="cuda").tolist(), torch.randn(3, device="cuda", generator=generator).tolist()]

    expected = draw(), draw()
    torch.cuda.manual_seed_all(0)
    CheckpointStore(tmp_path).restore_latest({"random": state})
    assert (draw(), draw()) == expected
    with pytest.raises(
        CheckpointMismatch, match=r"generator: was saved from a torch.Generator on cuda, and is a torch"
    ):
        RandomState(generator=torch.Generator()).load_state_dict(state.state_dict())

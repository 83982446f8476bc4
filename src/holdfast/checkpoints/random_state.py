"""The random number generators of a process as one saved part, for loops that draw from them as they go.

Holdfast's own loop needs none of this: it seeds every generator from its position (`randomness.py`). A loop of your
own that shuffles with a plain `DataLoader`, or drops out, resumes exactly only if the generators go on where they were.
What is saved is numbers and arrays; no generator is ever pickled.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import CheckpointMismatch, UnsupportedState, first_of
from holdfast.words import count

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
GENERATOR_TYPES = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


class RandomState:
    """Python's, NumPy's and torch's global generators, and any of your own, as a part of a checkpoint.

        rng = np.random.default_rng(0)
        parts = {"model": model, "optimizer": optimizer, "random": RandomState(rng=rng)}

    Covered are `random`, NumPy's legacy functions (`np.random.rand` …), torch on the CPU, on every visible CUDA device
    and on MPS. The CUDA devices are saved only where CUDA is in use, so that saving never starts it. The store reads
    the generators after all other parts, and restores them after all others, so nothing draws in between.

    Not covered: generators inside worker processes (they are seeded from torch's when an epoch begins), and how many
    children `np.random.Generator.spawn` has given out.

    Args:
        generators: name → generator to save besides the global ones: `torch.Generator` on any device,
            `numpy.random.Generator` over any of NumPy's bit generators, `numpy.random.RandomState`, `random.Random`.

    Raises:
        UnsupportedState: one of them is something else, or keeps no state (`random.SystemRandom`).
    """

    def __init__(self, **generators: Generator) -> None:
        for name, generator in generators.items():
            subclass = isinstance(generator, random.Random) and type(generator).getstate is not random.Random.getstate
            if not isinstance(generator, GENERATOR_TYPES) or subclass:
                raise UnsupportedState(
                    f"RandomState({name}=…): found a {type(generator).__module__}.{type(generator).__qualname__}; "
                    "expected a torch.Generator, numpy.random.Generator, numpy.random.RandomState or random.Random. "
                    "Give an object of its own state_dict() and load_state_dict() as a part by itself."
                )
        self._generators = dict(generators)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of every generator: integers, lists, tensors and arrays."""
        return {
            **{name: generator_state(generator) for name, generator in _global_generators().items()},
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None,
            "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
            "generators": {name: generator_state(generator) for name, generator in self._generators.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Puts every generator back to where it was; CUDA and MPS only if they were in use where it was saved.

        Raises:
            CheckpointMismatch: generators are missing on one side, or are of another kind, or the number of CUDA
                devices is another one. All differences at once; nothing has been changed then.
        """
        if problems := self.differences(state_dict):
            raise CheckpointMismatch(
                f"Restoring the random generators: {count(len(problems), 'difference')} from what was saved:\n"
                f"{first_of(problems)}\nName the same generators, on the same devices, as when it was saved; or leave "
                "this part out: training then goes on with random numbers of its own."
            )
        for name, generator in _global_generators().items():
            set_generator(generator, state_dict[name])
        for name, generator in self._generators.items():
            set_generator(generator, state_dict["generators"][name])
        if state_dict["cuda"] is not None:
            torch.cuda.set_rng_state_all(state_dict["cuda"])
        if state_dict["mps"] is not None:
            torch.mps.set_rng_state(state_dict["mps"])

    def differences(self, state_dict: Any) -> list[str]:
        """Returns why the generators cannot take `state_dict`, one line for each reason; nothing is changed."""
        expected = {*_global_generators(), "cuda", "mps", "generators"}
        if not isinstance(state_dict, dict) or state_dict.keys() != expected:
            return ["what was saved is not the state of random generators"]
        saved, own = state_dict["generators"], self._generators
        problems = [f"generator {name!r} was not saved" for name in own if name not in saved]
        problems += [f"generator {name!r} was saved and is not given now" for name in saved if name not in own]
        pairs = [(name, generator, state_dict[name]) for name, generator in _global_generators().items()]
        pairs += [(name, generator, saved[name]) for name, generator in own.items() if name in saved]
        problems += [line for name, generator, state in pairs if (line := generator_difference(name, generator, state))]
        cuda, num_devices = state_dict["cuda"], torch.cuda.device_count()
        if cuda is not None and len(cuda) != num_devices:
            problems.append(f"cuda: the generators of {len(cuda)} devices were saved, and there are {num_devices} here")
        if state_dict["mps"] is not None and not torch.backends.mps.is_available():
            problems.append("mps: its generator was saved, and there is none here")
        return problems


def _global_generators() -> dict[str, Generator]:
    # The objects behind the functions of these modules. They have no public name; scikit-learn takes NumPy's this way.
    return {"python": random._inst, "numpy": np.random.mtrand._rand, "torch": torch.default_generator}


def _kind(generator: Generator) -> str:
    """Returns what a state must come from to fit this generator."""
    if isinstance(generator, torch.Generator):
        return f"torch.Generator on {generator.device.type}"
    if isinstance(generator, np.random.Generator):
        return f"numpy.random.Generator over {type(generator.bit_generator).__name__}"
    if isinstance(generator, np.random.RandomState):
        return f"numpy.random.RandomState over {generator.get_state(legacy=False)['bit_generator']}"
    return "random.Random"


def generator_state(generator: Generator) -> dict[str, Any]:
    """Returns where one generator is, and of what kind it is."""
    state: Any
    if isinstance(generator, torch.Generator):
        state = generator.get_state()
    elif isinstance(generator, np.random.Generator):
        state = generator.bit_generator.state
    elif isinstance(generator, np.random.RandomState):
        state = generator.get_state(legacy=False)
    else:
        version, words, gauss = generator.getstate()
        state = {"version": version, "words": np.array(words, np.uint32), "gauss": gauss}
    return {"kind": _kind(generator), "state": state}


def set_generator(generator: Generator, saved: dict[str, Any]) -> None:
    """Puts a generator where the one was that `generator_state` returned `saved` for; see `generator_difference`."""
    state = saved["state"]
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate((state["version"], tuple(state["words"].tolist()), state["gauss"]))


def generator_difference(name: str, generator: Generator, saved: Any) -> str | None:
    """Returns why a generator cannot be put into the state `saved`, or None if it can."""
    own = generator_state(generator)
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        return f"{name}: what was saved is not the state of a generator"
    if saved["kind"] != own["kind"]:
        return f"{name}: was saved from a {saved['kind']}, and is a {own['kind']} now"
    if not _same_form(saved["state"], own["state"]):
        return f"{name}: the saved state of the {own['kind']} has another form; another version of its library wrote it"
    return None


def _same_form(saved: Any, own: Any) -> bool:
    """Whether a state can be set: then no generator is changed before another one refuses."""
    if isinstance(own, dict):
        alike = isinstance(saved, dict) and saved.keys() == own.keys()
        return alike and all(_same_form(saved[key], own[key]) for key in own)
    if isinstance(own, (Tensor, np.ndarray)):
        return type(saved) is type(own) and (saved.dtype, saved.shape) == (own.dtype, own.shape)
    if own is None or isinstance(own, float):
        return saved is None or isinstance(saved, float)  # the second of a pair of normal numbers, or none
    return type(saved) is type(own)

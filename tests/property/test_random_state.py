from __future__ import annotations

import random
import tempfile
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.checkpoints import CheckpointStore
from holdfast.checkpoints.random_state import RandomState

KINDS = ["python", "numpy", "torch", "own torch", "own python", "own legacy", "MT19937", "PCG64", "Philox", "SFC64"]
draws = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 700)), max_size=25)


def _own(seed: int) -> dict[str, Any]:
    return {
        "own_torch": torch.Generator().manual_seed(seed),
        "own_python": random.Random(seed),
        "own_legacy": np.random.RandomState(seed),
        **{
            name: np.random.Generator(getattr(np.random, name)(seed))
            for name in ("MT19937", "PCG64", "Philox", "SFC64")
        },
    }


def _draw(own: dict[str, Any], kind: str, count: int) -> list[float]:
    """Draws `count` normal numbers, and for some counts a word or half a pair more."""
    match kind:
        case "python" | "own python":
            source: Any = random if kind == "python" else own["own_python"]
            return [source.gauss(0, 1) for _ in range(count)] + [source.random()] * (count % 2)
        case "numpy" | "own legacy":
            source = np.random if kind == "numpy" else own["own_legacy"]
            return [*source.standard_normal(count).tolist(), source.randint(9)]
        case "torch" | "own torch":
            return torch.randn(count, generator=own["own_torch"] if kind != "torch" else None).tolist()
    return [*own[kind].standard_normal(count).tolist(), *own[kind].integers(0, 9, count % 3, dtype=np.uint32).tolist()]


@settings(deadline=None, max_examples=40, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), before=draws, after=draws)
def test_restored_generators_draw_what_they_drew(seed: int, before: Any, after: Any) -> None:
    """Save, draw, restore into other objects, draw: the same numbers, whatever is drawn in whatever order."""
    kept = RandomState().state_dict()
    own = _own(seed)
    for kind, count in before:
        _draw(own, kind, count)
    with tempfile.TemporaryDirectory() as folder:
        CheckpointStore(folder).save(1, {"random": RandomState(**own)})
        expected = [_draw(own, kind, count) for kind, count in after]
        fresh = _own(0)
        CheckpointStore(folder).restore_latest({"random": RandomState(**fresh)})
    assert [_draw(fresh, kind, count) for kind, count in after] == expected
    RandomState().load_state_dict(kept)

"""A live model's tensors under their plain names, whatever it is wrapped in, and how values get into them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from holdfast.checkpoints.module_names import plain_names
from holdfast.errors import CheckpointMismatch


class LiveTensors:
    """The parameters and saved buffers of a model.

    Attributes:
        tensors: plain name → tensor, in the model's order.
        tied: plain name → the first name of the same tensor, for the others.
        parameters: the names that are parameters.

    Raises:
        CheckpointMismatch: its parameters have no shapes yet.
        UnsupportedState: two names would become one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._own = model.state_dict(keep_vars=True)
        plain = plain_names(model, self._own)
        self._saved = {plain[name]: name for name in self._own}
        self.tensors = {plain[name]: t for name, t in self._own.items() if isinstance(t, Tensor)}
        if lazy := [name for name, tensor in self.tensors.items() if is_lazy(tensor)]:
            raise CheckpointMismatch(
                f"Loading into a {type(model).__name__}: {lazy[0]} has no shape yet; expected a model whose layers "
                "know their sizes. Run one batch through it first."
            )
        self.parameters = {name for name, tensor in self.tensors.items() if isinstance(tensor, nn.Parameter)}
        first: dict[int, str] = {}
        self.tied = {
            name: first[id(tensor)]
            for name, tensor in self.tensors.items()
            if first.setdefault(id(tensor), name) != name
        }

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Plain name → extents; of the whole tensor where each process holds a share of it."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def put(self, values: Mapping[str, Tensor]) -> None:
        """Copies values into the model: to its devices, types and shares; a meta tensor becomes a real one.

        Args:
            values: plain name → tensor of the same shape.
        """
        for on_meta in (False, True):
            chosen = {name: v for name, v in values.items() if self.tensors[name].is_meta == on_meta}
            if not chosen:
                continue
            loadable = OrderedDict(
                (self._saved[name], _as_live(value, self.tensors[name], own_memory=on_meta))
                for name, value in chosen.items()
            )
            # The versions of the live classes: a class takes a state without them for one from before it had any.
            loadable._metadata = getattr(self._own, "_metadata", None)  # type: ignore[attr-defined]  # torch's own place
            self.model.load_state_dict(loadable, strict=False, assign=on_meta)


def _as_live(value: Tensor, live: Tensor, *, own_memory: bool) -> Tensor:
    """Returns a value that `live` can copy: shared out like it, and with memory of its own where it is to stay."""
    if own_memory:
        return value.to(live.dtype, copy=True)
    mesh, placements = getattr(live, "device_mesh", None), getattr(live, "placements", None)
    if mesh is None or placements is None:
        return value
    from torch.distributed.tensor import distribute_tensor

    # Every process has read the whole of it and keeps its share: nothing is sent.
    return distribute_tensor(value.to(mesh.device_type, live.dtype), mesh, placements, src_data_rank=None)


def cast_note(value: torch.dtype, live: torch.dtype) -> str:
    """Returns "float16 → float32" where a value changes its type on the way, else ""."""
    return "" if value == live else f"{str(value).removeprefix('torch.')} → {str(live).removeprefix('torch.')}"

"""A live model's tensors under their plain names, whatever it is wrapped in, and how values get into them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from holdfast.checkpoints.module_names import plain_names
from holdfast.errors import CheckpointMismatch
from holdfast.fitting.direct import Value, copy_all
from holdfast.formats import LazyTensor

_PORTION = 64 << 20  # bytes of a model that processes share, loaded at once


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

    def put(self, values: Mapping[str, Value]) -> None:
        """Copies values into the model: to its devices, types and shares; a meta tensor becomes a real one.

        Where a module has a way of its own to take a state (a hook, a method), it is taken; everything else is read
        from the file into the model's own memory.

        Args:
            values: plain name → value of the same shape; what is in a file must have been proven.

        Raises:
            CheckpointCorrupt: the file was cut since then.
        """
        direct = self._written_to_directly()
        on_meta = {name for name in values if self.tensors[name].is_meta}
        made = {name: torch.empty_like(self.tensors[name], device="cpu", requires_grad=False) for name in on_meta}
        plain = {n: v for n, v in values.items() if n in on_meta or (n in direct and _is_plain(v))}
        copy_all(plain, self.tensors | made)
        if made:
            self._assign(made)
        self._by_modules({name: value for name, value in values.items() if name not in plain})

    def _assign(self, made: Mapping[str, Tensor]) -> None:
        """Puts real tensors in the place of those on the meta device; tied ones stay tied."""
        first = {name: self.tied.get(name, name) for name in self.tensors}
        real = {
            name: nn.Parameter(tensor, self.tensors[name].requires_grad) if name in self.parameters else tensor
            for name, tensor in made.items()
        }
        self._load({name: real[of] for name, of in first.items() if of in real}, assign=True)

    def _by_modules(self, values: Mapping[str, Value]) -> None:
        """Loads values by `load_state_dict`: all at once; those that processes share out, some at a time."""
        shared = {name: v for name, v in values.items() if hasattr(self.tensors[name], "device_mesh")}
        portions: list[dict[str, Value]] = [{name: v for name, v in values.items() if name not in shared}, {}]
        size = 0
        for name, value in shared.items():
            if size > _PORTION:
                portions.append({})
                size = 0
            portions[-1][name] = value
            size += self.tensors[name].numel() * self.tensors[name].element_size()
        for portion in filter(None, portions):
            unread = [v.storage.data for v in portion.values() if isinstance(v, LazyTensor)]
            unread = [data for data in unread if not data.is_read]
            self._load({n: _shared_out(_in_memory(v), self.tensors[n]) for n, v in portion.items()}, assign=False)
            for data in unread:
                data.forget()

    def _load(self, values: Mapping[str, Tensor], *, assign: bool) -> None:
        loadable = OrderedDict((self._saved[name], value) for name, value in values.items())
        # The versions of the live classes: a class takes a state without them for one from before it had any.
        loadable._metadata = getattr(self._own, "_metadata", None)  # type: ignore[attr-defined]  # torch's own place
        if loadable:
            self.model.load_state_dict(loadable, strict=False, assign=assign)

    def _written_to_directly(self) -> set[str]:
        """Returns the names of which `load_state_dict` would do nothing but copy values into the tensor."""
        if type(self.model).load_state_dict is not nn.Module.load_state_dict:
            return set()
        if torch.__future__.get_swap_module_params_on_conversion():
            return set()
        own_ways = tuple(
            f"{name}." if name else ""
            for name, module in self.model.named_modules(remove_duplicate=False)
            if _has_own_way(module)
        )
        # A hook may have put a copy into the state.
        real = {id(tensor) for tensor in (*self.model.parameters(), *self.model.buffers())}
        return {
            name
            for name, tensor in self.tensors.items()
            if id(tensor) in real and _is_plain(tensor.data) and not self._saved[name].startswith(own_ways)
        }


def _has_own_way(module: nn.Module) -> bool:
    """Returns whether a module does more than to copy values when it takes a state. Batch norm only adds a counter."""
    if module._load_state_dict_pre_hooks or module._load_state_dict_post_hooks:
        return True
    return type(module)._load_from_state_dict not in (
        nn.Module._load_from_state_dict,
        nn.BatchNorm2d._load_from_state_dict,
    )


def _is_plain(value: Value) -> bool:
    """Returns whether it is a tensor that torch itself copies, or one in a file."""
    if isinstance(value, LazyTensor):
        return True
    return type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided and not value.is_quantized


def _in_memory(value: Value) -> Tensor:
    return value.to_torch() if isinstance(value, LazyTensor) else value


def _shared_out(value: Tensor, live: Tensor) -> Tensor:
    """Returns a value that `live` can copy: shared out over processes like it."""
    mesh, placements = getattr(live, "device_mesh", None), getattr(live, "placements", None)
    if mesh is None or placements is None:
        return value
    from torch.distributed.tensor import distribute_tensor

    # Every process has read the whole of it and keeps its share: nothing is sent.
    return distribute_tensor(value.to(mesh.device_type, live.dtype), mesh, placements, src_data_rank=None)


def cast_note(value: torch.dtype, live: torch.dtype) -> str:
    """Returns "float16 → float32" where a value changes its type on the way, else ""."""
    return "" if value == live else f"{str(value).removeprefix('torch.')} → {str(live).removeprefix('torch.')}"

"""The one thing the checkpoint store asks of an object: that it can hand out its state and take it back."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Stateful(Protocol):
    """Whatever has `state_dict` and `load_state_dict`: modules, optimizers, schedulers, loaders, your own objects."""

    def state_dict(self) -> dict[str, Any]:
        """Returns a tree of dicts, lists, tensors and JSON values that is all of the object's state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Puts the object back into the state that `state_dict` was taken from."""
        ...

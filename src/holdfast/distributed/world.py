"""This process's place among the processes of a run, as torchrun tells it through the environment.

Nothing here starts processes or opens connections. Order, seeds and the global batch are written for any number of
processes; the launcher is torchrun.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.errors import ConfigError


@dataclass(frozen=True)
class World:
    """`rank` in [0, world_size), and `local_rank` on this machine, as torch names them."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def share(self, global_batch: int) -> slice:
        """Returns the slice of a global batch of `global_batch` samples that this rank works on.

        The shares of all ranks are disjoint and cover the batch; their sizes differ by one at most.
        """
        start = global_batch * self.rank // self.world_size
        stop = global_batch * (self.rank + 1) // self.world_size
        return slice(start, stop)


def current_world(environ: Mapping[str, str] = os.environ) -> World:
    """Reads RANK, WORLD_SIZE and LOCAL_RANK; without them this is the only process.

    Raises:
        ConfigError: a value is not a number, or the rank lies outside the world.
    """
    try:
        world = World(int(environ.get("RANK", 0)), int(environ.get("WORLD_SIZE", 1)), int(environ.get("LOCAL_RANK", 0)))
    except ValueError as error:
        raise ConfigError(f"Reading RANK, WORLD_SIZE and LOCAL_RANK from the environment: {error}.") from error
    if not 0 <= world.rank < world.world_size:
        raise ConfigError(
            f"RANK is {world.rank} and WORLD_SIZE is {world.world_size}; expected 0 <= RANK < WORLD_SIZE."
        )
    return world

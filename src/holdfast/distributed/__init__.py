"""Who am I among the processes of this run?"""

from holdfast.distributed.world import World, current_world

__all__ = ["World", "current_world"]

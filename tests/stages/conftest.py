from tests.stages.started import world, world_and_start

__all__ = ["world", "world_and_start"]

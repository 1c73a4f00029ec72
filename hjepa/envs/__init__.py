"""MiniGrid environments: ids, batches that can be resumed exactly, seeds, and a toy for tests."""

from hjepa.envs.make import check_env_id, env_ids, env_spec, make_env
from hjepa.envs.seeds import held_out_seed, training_seed
from hjepa.envs.vector import Record, VectorEnv

__all__ = [
    "Record",
    "VectorEnv",
    "check_env_id",
    "env_ids",
    "env_spec",
    "held_out_seed",
    "make_env",
    "training_seed",
]

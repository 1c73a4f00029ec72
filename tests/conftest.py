"""Before any test: no display, one thread a worker, and tensors checked against their annotations."""

import os

for name, value in {
    "SDL_VIDEODRIVER": "dummy",
    "SDL_AUDIODRIVER": "dummy",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}.items():
    os.environ.setdefault(name, value)

import torch  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

torch.set_num_threads(1)

SLOTS = (
    "action_encoder",
    "actor",
    "configurator",
    "critic",
    "encoder",
    "latent",
    "memory",
    "objective",
    "perception",
    "planner",
    "policy",
    "predictor",
    "world_model",
)
SHARED = ("nets", "losses", "search", "tree_search", "planning")
CHECKED = [f"hjepa.modules.{slot}" for slot in SLOTS] + [f"hjepa.{name}" for name in SHARED]
"""Where tensors are worked on, but for the intrinsic cost: its tests have stand-ins for the memory.

In tests only: checked functions do not compile.
"""

install_import_hook(CHECKED, "shape_checker.checked")

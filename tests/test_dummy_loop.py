"""The whole loop on the chain of three cells: it learns the optimum in seconds; outside modules train."""

from pathlib import Path

import pytest
import torch
from tiny_agent import DEBUG, DUMMY

from hjepa.config import RunConfig, load
from hjepa.config.registry import load_class
from hjepa.envs.dummy import OPTIMAL_RETURN
from hjepa.eval.rollout import run_episodes
from hjepa.train.run import fit, seeded_agent

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*:UserWarning")
"""Lightning's own warnings."""

LEARNS = [
    "train.frames=1700",
    "train.prefill=100",
    "train.batch_size=16",
    "train.learning_rate=3e-3",
    "train.epsilon_frames=800",
    "train.checkpoint_every=100000",
    "log.every=100",
    "log.strips_every=0",
]

TINY = '''
"""A perception of one layer."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from hjepa.config import ModuleConfig
from hjepa.interfaces import Perception


class TinyEncoder(Perception):
    """The view, flattened."""

    class Config(ModuleConfig):
        slot: ClassVar[str] = "perception"
        kind: str = "tiny"
        scale: float = Field(0.1, gt=0)
        """Factor on the pixels."""

    def __init__(self, config, spec):
        super().__init__()
        columns, rows = spec.env.view
        self.scale, self.dim = config.scale, spec.levels[0].dim
        self.layer = nn.Linear(columns * rows * 3, self.dim)

    def initial(self, batch, device):
        return torch.zeros(batch, 0, device=device)

    def forward(self, observation, previous_action, carry, tokens):
        state = self.layer(observation.image.flatten(1).float() * self.scale)
        return nn.functional.layer_norm(state, (self.dim,)), carry
'''


def trained(config: RunConfig, folder: Path):
    """The agent after a whole run in this process."""
    agent = seeded_agent(config)
    folder.mkdir()
    threads = torch.get_num_threads()
    try:
        assert fit(config, folder, agent, resume=False) == 0
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    return agent


@pytest.mark.parametrize("collect_mode", [1, 2])
def test_the_loop_learns_the_optimum(collect_mode: int, tmp_path: Path) -> None:
    overrides = [f"env.id={DUMMY}", "train.accelerator=cpu", *LEARNS, f"train.collect_mode={collect_mode}"]
    agent = trained(load(DEBUG, overrides), tmp_path / "run")
    for mode in (1, 2):
        episodes = run_episodes(agent, DUMMY, list(range(8)), mode)
        assert episodes.success.mean() >= 0.9, mode
        assert episodes.returns.mean() > 0.95 * OPTIMAL_RETURN, mode


def test_r01_a_perception_outside_the_package_trains(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(TINY)
    kind = f"{file}:TinyEncoder"
    overrides = [f"env.id={DUMMY}", "train.accelerator=cpu", "train.frames=180", "log.strips_every=0"]
    config = load(DEBUG, [*overrides, f"perception.kind={kind}", "perception.scale=0.2"])
    before = seeded_agent(config)
    agent = trained(config, tmp_path / "run")
    assert isinstance(agent.perception, load_class("perception", kind))
    assert agent.perception.scale == 0.2
    assert not torch.equal(agent.perception.layer.weight, before.perception.layer.weight)

"""PPO of stable-baselines3 on MiniGrid, with the settings and the small network of rl-starter-files.

Needs the extra `baselines`; everything that asks for stable-baselines3 is in this file.
"""

from collections import deque
from pathlib import Path
from time import perf_counter
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, UInt8
from stable_baselines3 import PPO  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.callbacks import BaseCallback  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.vec_env import DummyVecEnv  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

from hjepa.agent import Mode
from hjepa.envs.make import make_env, quiet_reset
from hjepa.envs.seeds import training_seed
from hjepa.envs.vector import Record
from hjepa.eval.rollout import bare_decision
from hjepa.log.metrics import MetricsFile
from hjepa.train.progress import Progress
from hjepa.types import Decision

NUM_ENVS = 16
RECENT = 100
"""Episodes over which success while training is counted."""
LEARNED = 0.9
"""Success over these episodes at which a task counts as learned."""
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    # torch-ac takes advantages as they are; scaled to unit spread, those before the first reward are noise.
    "normalize_advantage": False,
}
"""Of `scripts/train.py` in rl-starter-files, which trains with torch-ac."""


class TrainingLayouts(gymnasium.Wrapper[UInt8[np.ndarray, "W V 3"], int, dict[str, Any], int]):
    """The partial view of one environment, on the layouts that a run of hjepa with this seed trains on."""

    def __init__(self, env_id: str, seed: int, row: int) -> None:
        super().__init__(make_env(env_id))
        view = self.env.observation_space["image"]  # type: ignore[index]
        # As float32 the library does not take the view for a photograph, to be turned and divided by 255.
        self.observation_space = spaces.Box(0, 255, view.shape, np.float32)
        self._seed, self._row, self._episode = seed, row, -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[UInt8[np.ndarray, "W V 3"], dict[str, Any]]:
        """The next episode's layout, whatever seed the library asks for."""
        self._episode += 1
        observation = quiet_reset(self.env, training_seed(self._seed, self._row, self._episode))
        return observation["image"], {}

    def step(self, action: int) -> tuple[UInt8[np.ndarray, "W V 3"], float, bool, bool, dict[str, Any]]:
        """One environment step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation["image"], float(reward), terminated, truncated, info


class ViewNetwork(BaseFeaturesExtractor):
    """The convolutions of rl-starter-files' `ACModel`, over the view as MiniGrid numbers it."""

    def __init__(self, observation_space: spaces.Box) -> None:
        columns, rows, channels = observation_space.shape
        super().__init__(observation_space, ((columns - 1) // 2 - 2) * ((rows - 1) // 2 - 2) * 64)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 2),
            nn.ReLU(),
            nn.Flatten(),
        )

    def forward(self, view: Float[Tensor, "B W V 3"]) -> Float[Tensor, "B F"]:
        """Features of a batch of views."""
        return self.layers(view.permute(0, 3, 1, 2))


class Report(BaseCallback):
    """Counts episodes, writes metrics.csv and the live line, and stops when the time is up."""

    def __init__(self, folder: Path, frames: int, seconds: float | None) -> None:
        super().__init__()
        self.frames_to_learned: int | None = None
        self.seconds_to_learned: float | None = None
        self.seconds = 0.0
        """Wall time since training began."""
        self._limit = seconds
        self._metrics, self._progress = MetricsFile(folder / "metrics.csv"), Progress(frames, 0)
        self._returns: deque[float] = deque(maxlen=RECENT)
        self._present = np.zeros(NUM_ENVS)

    def _on_training_start(self) -> None:
        self._began = perf_counter()

    def _on_step(self) -> bool:
        self._present += self.locals["rewards"]
        for row in np.flatnonzero(self.locals["dones"]):
            self._returns.append(float(self._present[row]))
            self._present[row] = 0.0
        self.seconds = perf_counter() - self._began
        if self.frames_to_learned is None and len(self._returns) == RECENT and self.success >= LEARNED:
            self.frames_to_learned, self.seconds_to_learned = self.num_timesteps, self.seconds
        return self._limit is None or self.seconds < self._limit

    def _on_rollout_end(self) -> None:
        scalars = {"time/seconds": self.seconds, "speed/frames_per_second": self.num_timesteps / self.seconds}
        if self._returns:
            scalars |= {"train/success": self.success, "train/return": float(np.mean(self._returns))}
        self._metrics.append(scalars, self.num_timesteps)
        self._progress.show(scalars | {"train/episodes": float(len(self._returns))})
        self._progress.update(self.num_timesteps)

    @property
    def success(self) -> float:
        """Share of the last `RECENT` episodes with a positive return."""
        return float(np.mean([value > 0 for value in self._returns]))

    def close(self) -> None:
        """Leave file and terminal in order."""
        self._metrics.close()
        self._progress.stop()


class PPOAgent:
    """A trained policy as evaluation asks for it: greedy, or with actions drawn from it."""

    def __init__(self, model: PPO, greedy: bool) -> None:
        self.model, self.greedy = model, greedy

    def initial(self, batch: int, device: torch.device) -> None:
        """It remembers nothing."""

    def act(
        self,
        record: Record,
        state: None,
        mode: Mode = 2,
        epsilon: float = 0.0,
        levels: int | None = None,
        injected: dict[int, Tensor] | None = None,
    ) -> tuple[Decision, None]:
        """The policy's action; the rest of what an agent of hjepa is asked for makes no difference."""
        actions, _ = self.model.predict(record.image.numpy().astype(np.float32), deterministic=self.greedy)
        return bare_decision(record, torch.from_numpy(actions)), None


NETWORK: dict[str, Any] = {
    "features_extractor_class": ViewNetwork,
    "net_arch": {"pi": [64], "vf": [64]},
    "activation_fn": nn.Tanh,
    "normalize_images": False,
    "optimizer_kwargs": {"eps": 1e-8},
}
"""As in rl-starter-files, where orthogonal initial weights are the library's own."""


def learn(env_id: str, frames: int, seed: int, seconds: float | None, folder: Path) -> tuple[PPO, Report]:
    """Train for at least `frames` frames (whole rollouts of 2,048), or until `seconds` of wall time have passed.

    Raises ConfigError where `env_id` is not an environment that can be made.
    """
    env = DummyVecEnv([lambda row=row: TrainingLayouts(env_id, seed, row) for row in range(NUM_ENVS)])
    model = PPO("CnnPolicy", env, seed=seed, device="cpu", policy_kwargs=NETWORK, **SETTINGS)
    report = Report(folder, frames, seconds)
    try:
        model.learn(frames, callback=report)
    finally:
        report.close()
        env.close()
    return model, report

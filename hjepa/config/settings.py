"""The plain sections of a run's config: folder, environment, training, evaluation, logging."""

from typing import Literal

from pydantic import Field

from hjepa.config.core import ConfigModel

MODES = (1, 2)


class FolderConfig(ConfigModel):
    """Where a run is kept."""

    dir: str = Field(default="runs/default", min_length=1, max_length=1000)
    """The run folder; must not exist yet. Where a config does not name it: runs/<name of the config>."""


class EnvConfig(ConfigModel):
    """The environment."""

    id: str = Field(default="MiniGrid-DoorKey-5x5-v0", min_length=1, max_length=200)
    """A registered MiniGrid or BabyAI environment."""
    num_envs: int = Field(default=16, ge=1, le=1024)
    """Copies stepped together while collecting."""


class TrainConfig(ConfigModel):
    """Collecting and learning. Frames are environment steps, over all copies."""

    frames: int = Field(default=100_000, ge=1)
    """Frames of experience, after which the run is done."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the weights, the environments and every draw."""
    batch_size: int = Field(default=32, ge=1, le=65536)
    """Windows in an update."""
    window: int = Field(default=20, ge=2, le=4096)
    """Consecutive records in a window; more than the environment steps in one step of the top level."""
    terminal_share: float = Field(default=0.25, ge=0, lt=1)
    """Share of the windows drawn around records at which an episode terminated, which are rare and decide what all
    others are worth; at most as many as there are such records. The rest are uniform."""
    mirror: bool = False
    """Whether every second window is seen in a mirror, left and right exchanged, where perception knows how: half the
    world's layouts come for free. Not where a mission speaks of left and right."""
    frames_per_update: int = Field(default=8, ge=1)
    """Frames collected per update."""
    prefill: int = Field(default=1000, ge=1)
    """Frames of random action before the first update."""
    capacity: int = Field(default=200_000, ge=1)
    """Records kept for training; the oldest episodes are dropped first."""
    learning_rate: float = Field(default=5e-4, gt=0, le=1)
    """Step size of AdamW."""
    learning_rate_end: float = Field(default=0.1, gt=0, le=1)
    """Share of the step size that is left at the end, to which it falls linearly over the second half of the run."""
    weight_decay: float = Field(default=1e-4, ge=0, le=1)
    """Weight decay of AdamW."""
    gradient_clip: float = Field(default=10.0, gt=0)
    """Largest norm of the gradient over all parameters; longer ones are scaled down."""
    target_rate: float = Field(default=0.01, gt=0, le=1)
    """Share of the online weights mixed into the target networks after each update."""
    epsilon: float = Field(default=0.05, ge=0, le=1)
    """Share of random actions while collecting, once annealed."""
    epsilon_frames: int = Field(default=3000, ge=0)
    """Frames, after the prefill, over which that share falls linearly from 1."""
    collect_mode: Literal[1, 2] = 2
    """How actions are chosen while collecting: 1 by the amortised policy, 2 by planning."""
    critic_shapes_encoder: bool = True
    """Whether the critic's gradient reaches perception and the encoders."""
    upper_shapes_lower: bool = False
    """Whether an upper level's loss reaches perception and the encoders below it."""
    checkpoint_every: int = Field(default=10_000, ge=1)
    """Frames between checkpoints; the last frame always has one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints kept."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda"] = "auto"
    """Where tensors live; `auto` takes a GPU where there is one."""
    devices: int = Field(default=1, ge=1, le=1024)
    """Number of devices."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    """Number format of the update."""
    compile: bool = False
    """Whether to compile perception with torch.compile."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Threads torch may use on the CPU; 0: its own choice."""


class EvalConfig(ConfigModel):
    """Held-out episodes, whose layouts are drawn apart from those of training."""

    every: int = Field(default=0, ge=0)
    """Frames between evaluations during training; 0: only at the end."""
    episodes: int = Field(default=20, ge=1)
    """Episodes in an evaluation during training."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the held-out layouts."""
    modes: tuple[Literal[1, 2], ...] = Field(default=MODES, min_length=1, max_length=2)
    """Modes to evaluate: 1 by the amortised policy, 2 by planning."""


class LogConfig(ConfigModel):
    """What TensorBoard and metrics.csv get, how often. 0: never; what goes by frames is written at the end too."""

    every: int = Field(default=50, ge=0)
    """Updates between two rows of scalars."""
    strips_every: int = Field(default=20_000, ge=0)
    """Frames between animated strips of a held-out episode; with them the probe learns that decodes subgoals."""
    prediction_every: int = Field(default=20_000, ge=0)
    """Frames between measurements of predictions, reality gap, macro-actions and memory reads on sample episodes."""
    critic_every: int = Field(default=20_000, ge=0)
    """Frames between measurements of the critics' calibration, and maps of their energy-to-go over a layout."""
    probes_every: int = Field(default=20_000, ge=0)
    """Frames between probe matrices: which true facts can be read off each level's states."""
    projector_every: int = Field(default=50_000, ge=0)
    """Frames between states written for the projector."""
    sample_rows: int = Field(default=16, ge=2, le=1024)
    """Held-out layouts that are played side by side for these measurements."""
    sample_steps: int = Field(default=64, ge=2, le=100_000)
    """Records played on each."""

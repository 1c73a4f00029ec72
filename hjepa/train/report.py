"""The Lightning callback that shows what a run does: TensorBoard, metrics.csv, live line, held-out episodes."""

from pathlib import Path
from time import perf_counter

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from hjepa.agent import Agent
from hjepa.config import RunConfig, dump
from hjepa.envs.seeds import held_out_seed
from hjepa.eval.rollout import run_episodes
from hjepa.log import tags
from hjepa.log.probe import Probe, load_probe
from hjepa.log.writer import BoardWriter
from hjepa.train.diagnosis import KINDS, Diagnosis
from hjepa.train.learning import encode
from hjepa.train.module import AgentModule
from hjepa.train.progress import Progress
from hjepa.train.state import RunState
from hjepa.types import Info

PROBE_UPDATES = 64


class ReportCallback(Callback):
    """Writes scalars every `log.every` updates, and everything else at its own rate; changes nothing in the run."""

    def __init__(self, config: RunConfig, run: RunState, run_dir: Path, updates: int, start: int) -> None:
        self.config, self.run, self.run_dir, self.updates = config, run, run_dir, updates
        self.writer = BoardWriter(run_dir, purge_step=run.collector.frames if start > 0 else None)
        if start == 0:
            self.writer.custom_scalars(len(config.levels), run.agent.spec.drives)
            self.writer.text("run/config", f"```yaml\n{dump(config)}\n```", run.collector.frames)
        self.progress = Progress(config.train.frames, run.collector.frames)
        self.clock = PhaseClock(run.collector.frames)
        self.probe = self._make_probe() if config.log.strips_every > 0 else None
        self.diagnosis = Diagnosis(config, run.agent, self.writer)
        self.began, self.logged = perf_counter(), 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Tensor, batch_idx: int
    ) -> None:
        update, frames = int(batch) + 1, self.run.collector.frames
        assert isinstance(pl_module, AgentModule)
        began = perf_counter()
        if self.config.log.every > 0 and update % self.config.log.every == 0:
            self._scalars(pl_module, frames)
        if self._due(update, self.config.eval.every):
            self._held_out(frames)
        kinds = {kind for kind, every in KINDS.items() if self._due(update, every(self.config.log))}
        if "strips" in kinds:
            self._teach(frames)
        self.diagnosis.write(kinds, self.probe, frames)
        spent = perf_counter() - began
        pl_module.seconds["log"] += spent
        self.logged += spent
        self.progress.update(frames)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.progress.stop()
        self.writer.close()

    def finish(self) -> int:
        """Close the run's reports and say where they are."""
        self.progress.stop()
        self.writer.close()
        print(f"run folder: {self.run_dir}")
        print(f"time spent in logging: {self.logged / (perf_counter() - self.began):.1%}")
        print(f"TensorBoard: tensorboard --logdir {self.run_dir}")
        return 0

    def _due(self, update: int, every_frames: int) -> bool:
        """Whether something that is done every so many frames, and at the end, is done after this update."""
        if every_frames == 0:
            return False
        every = max(every_frames // self.config.train.frames_per_update, 1)
        return update % every == 0 or update == self.updates

    def _make_probe(self) -> Probe:
        spec = self.run.agent.spec
        probe = load_probe(self.run_dir) or Probe([level.dim for level in spec.levels], spec.env.view)
        probe.to(self.run.collector.device)
        self.run.collector.observers.append(probe.observe)
        return probe

    def _scalars(self, module: AgentModule, frames: int) -> None:
        scalars = from_terms({name: float(value) for name, value in module.info.items()})
        scalars |= {name: float(value) for name, value in representation(self.run.agent, module).items()}
        scalars |= self.run.collector.report()
        scalars |= self.clock.read(module.seconds, frames)
        self.writer.scalars(scalars, frames)
        self.progress.show(scalars)

    def _held_out(self, frames: int) -> None:
        settings = self.config.eval
        seeds = [held_out_seed(settings.seed, number) for number in range(settings.episodes)]
        for mode in settings.modes:
            episodes = run_episodes(self.run.agent, self.config.env.id, seeds, mode)
            outcome = {
                "success": episodes.success.mean(),
                "return": episodes.returns.mean(),
                "length": episodes.lengths.mean(),
            }
            self.writer.scalars(
                {f"held_out/{name}_mode_{mode}": float(value) for name, value in outcome.items()}, frames
            )

    def _teach(self, frames: int) -> None:
        """Teach the probe what came since the last strip."""
        assert self.probe is not None
        self.writer.scalars(self.probe.fit(PROBE_UPDATES), frames)
        self.probe.save(self.run_dir)


def from_terms(terms: dict[str, float]) -> dict[str, float]:
    """Loss terms by the tags they are shown under (docs/tensorboard.md)."""
    scalars = {tag: value for name, value in terms.items() for tag in tags_of(name)}
    for name, value in terms.items():
        part, _, term = name.partition("/")
        if term == "code_prior":
            # The loss is a surprise; it is shown as a log-probability, like the planner's choices.
            scalars[tags.MACRO_DATA_SUPPORT(part.removeprefix("level_"))] = -value
    return scalars


def tags_of(name: str) -> list[str]:
    """Tags of a loss term `part/term`; the error of one step is also the level's prediction energy."""
    part, _, term = name.partition("/")
    kind, _, level = part.rpartition("_")
    if kind != "level":
        return [name]
    if term.startswith("rollout_error"):
        depth = term.removeprefix("rollout_error").removeprefix("_")
        energy = [tags.PREDICTION_ENERGY(level)] if depth == "1" else []
        return [tags.ROLLOUT_ERROR(level, depth), *energy] if depth else []
    if term == "code_prior":
        return []
    return [tags.MACRO_PERPLEXITY(level) if term == "code_perplexity" else tags.CRITERION(level, term)]


@torch.no_grad()
def representation(agent: Agent, module: AgentModule) -> Info:
    """Signs of collapse of every level's states over the last batch."""
    if module.batch is None:
        return {}
    states = encode(agent, module.batch, module.shaping).states
    info = Info()
    for level, (model, state) in enumerate(zip(agent.world_models, states, strict=True)):
        info |= {f"level_{level}/{name}": value for name, value in model.monitors(state).items()}  # type: ignore[operator]
    return info


class PhaseClock:
    """Share of wall time by phase, and frames per second, since the last reading."""

    def __init__(self, frames: int) -> None:
        self.read_at, self.frames_at = perf_counter(), frames

    def read(self, seconds: dict[str, float], frames: int) -> dict[str, float]:
        """`seconds` spent in each phase are set back to 0."""
        now = perf_counter()
        elapsed = max(now - self.read_at, 1e-9)
        result = {f"time_share/{phase}": spent / elapsed for phase, spent in seconds.items()}
        result["speed/frames_per_second"] = (frames - self.frames_at) / elapsed
        seconds.update(dict.fromkeys(seconds, 0.0))
        self.read_at, self.frames_at = now, frames
        return result

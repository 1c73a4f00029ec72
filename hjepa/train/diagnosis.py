"""What is shown of a run beside its own scalars: sample episodes are played, measured and drawn. It changes nothing."""

import sys
from collections.abc import Callable

from hjepa.agent import Agent, Mode
from hjepa.config import RunConfig
from hjepa.config.settings import LogConfig
from hjepa.envs.seeds import held_out_seed
from hjepa.eval.rollout import undisturbed
from hjepa.log import sample_tags
from hjepa.log.calibration import calibration_scalars
from hjepa.log.charts import draw_calibration, draw_matrix, draw_value_map
from hjepa.log.embedding import embeddings
from hjepa.log.matrix import places, probe_matrix
from hjepa.log.prediction import chosen_macro_actions, gap_scalars, macro_scalars, prediction_scalars
from hjepa.log.probe import Probe
from hjepa.log.sample import Sample, concatenate, play
from hjepa.log.strips import episode_strip
from hjepa.log.trace import Recorder
from hjepa.log.value_map import value_map
from hjepa.log.writer import BoardWriter

STRIP_RECORDS = 60
"""Records of an episode that are drawn at most."""
WANDERING = 0.3
"""Share of random actions in the sample for the probes, which need to have seen more than the agent's own way."""
KINDS: dict[str, Callable[[LogConfig], int]] = {
    "strips": lambda log: log.strips_every,
    "prediction": lambda log: log.prediction_every,
    "critic": lambda log: log.critic_every,
    "probes": lambda log: log.probes_every,
    "projector": lambda log: log.projector_every,
}
"""Each kind, and the setting that says how often it is written."""
KNOWN_LACKS = {
    "door": "there is no door, or it never changes",
    "carried": "nothing is ever carried",
    "goal_in_view": "a goal square is never seen, or always",
    "room": "there is one room",
}


class Diagnosis:
    """Plays what is due to be shown, and writes it."""

    def __init__(self, config: RunConfig, agent: Agent, writer: BoardWriter) -> None:
        self._config, self._agent, self._writer = config, agent, writer
        self._said: set[str] = set()
        self._suite, self._rows = config.eval.seed, config.log.sample_rows

    def write(self, kinds: set[str], probe: Probe | None, frames: int) -> None:
        """Write the given kinds; what this run cannot show is said once, in a line, and the rest is written."""
        if not kinds:
            return
        with undisturbed(self._agent, self._suite):
            self._write(kinds, probe, frames)

    def _write(self, kinds: set[str], probe: Probe | None, frames: int) -> None:
        if len(self._agent.spec.levels) == 1 and kinds & {"prediction", "strips"}:
            self._say("this run has one level: no subgoals, waypoints or macro-actions are shown", frames)
        recorder = Recorder(self._config.env.id, limit=1)
        sample = self._play(2, 0.0, recorder)
        if "strips" in kinds:
            self._strips(recorder, sample, probe, frames)
        if "prediction" in kinds:
            self._prediction(sample, frames)
        if "critic" in kinds:
            self._critic(sample, frames)
        if kinds & {"probes", "projector"}:
            wide = concatenate([sample, self._play(1, WANDERING, None)])
            if "probes" in kinds:
                self._probes(wide, frames)
            if "projector" in kinds:
                for level, embedding in enumerate(embeddings(wide)):
                    self._writer.embedding(sample_tags.STATES(level), embedding, frames)

    def _play(self, mode: Mode, epsilon: float, recorder: Recorder | None) -> Sample:
        rows, steps = self._rows, self._config.log.sample_steps
        return play(self._agent, self._config.env.id, self._seed_of, rows, steps, mode, epsilon, recorder)

    def _seed_of(self, row: int, episode: int) -> int:
        return held_out_seed(self._suite, row + episode * self._rows)

    def _strips(self, recorder: Recorder, sample: Sample, probe: Probe | None, frames: int) -> None:
        for trace in recorder.traces:
            shown = list(range(min(trace.length + 1, STRIP_RECORDS)))
            strip = episode_strip(trace, probe, records=shown, places=places(sample))
            self._writer.gif(sample_tags.EPISODE_STRIP(), strip, frames)

    def _prediction(self, sample: Sample, frames: int) -> None:
        agent = self._agent
        scalars = prediction_scalars(agent, sample) | gap_scalars(agent, sample) | macro_scalars(agent, sample)
        reading, inside = sample.reading, ~sample.is_first
        age = reading.age[reading.age.isfinite() & inside]
        if bool(inside.any()):
            scalars[sample_tags.MEMORY_MATCH()] = float(reading.match[inside].mean())
            scalars[sample_tags.MEMORY_REVISITS()] = float(reading.revisits[inside].float().mean())
        if len(age) > 0:
            scalars[sample_tags.MEMORY_AGE()] = float(age.mean())
            self._writer.histogram(sample_tags.MEMORY_AGE(), age, frames)
        for level in range(1, len(sample.levels)):
            self._writer.histogram(sample_tags.MACRO_CHOSEN(level), chosen_macro_actions(sample, level), frames)
        self._writer.scalars(scalars, frames)

    def _critic(self, sample: Sample, frames: int) -> None:
        discount = self._agent.spec.discount
        scalars = calibration_scalars(sample, discount)
        if not scalars:
            steps = self._config.log.sample_steps
            self._say(f"no sample episode was seen far enough to check a critic within {steps} steps", frames)
        self._writer.scalars(scalars, frames)
        self._writer.image(sample_tags.CRITIC_CALIBRATION_PICTURE(), draw_calibration(sample, discount), frames)
        mapped = value_map(self._agent, self._config.env.id, held_out_seed(self._suite, 0))
        self._writer.image(sample_tags.VALUE_MAP(), draw_value_map(mapped), frames)

    def _probes(self, sample: Sample, frames: int) -> None:
        matrix = probe_matrix(sample)
        for fact in matrix.constant:
            reason = KNOWN_LACKS.get(fact, "it never changes")
            self._say(f"probe {fact.replace('_', ' ')}: left out, {reason} in the sample", frames)
        if matrix.facts:
            self._writer.scalars(matrix.scalars(), frames)
            self._writer.image(sample_tags.PROBE_MATRIX(), draw_matrix(matrix), frames)

    def _say(self, line: str, frames: int) -> None:
        if line not in self._said:
            self._said.add(line)
            print(f"log: {line}", file=sys.stderr)
            self._writer.text(sample_tags.NOTES(), line, frames)


def kinds_on(log: LogConfig) -> set[str]:
    """Kinds that are written at all."""
    return {kind for kind, every in KINDS.items() if every(log) > 0}

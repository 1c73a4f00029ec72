"""What goes wrong is told, and leaves weights and files as they were."""

from pathlib import Path

import pytest
import torch
from tiny_agent import DEBUG, tiny_config

from hjepa import cli
from hjepa.config import dump
from hjepa.data import checkpoint
from hjepa.envs.dummy import ChainEnv
from hjepa.train.learning import NonFiniteError
from hjepa.train.run import fit, seeded_agent

LEARNING = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*:UserWarning")
"""Lightning's own warnings."""
FRAMES = ["train.frames=180", "log.strips_every=0", "train.checkpoint_every=1000"]


class Fault:
    """Breaks something at update number `at`, and keeps the weights as they were just before that update."""

    def __init__(self, agent, at: int) -> None:
        self.agent, self.at, self.update = agent, at, -1
        self.before: dict[str, torch.Tensor] = {}

    def now(self) -> bool:
        return self.update == self.at


@pytest.fixture
def broken_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Trains a tiny agent with a fault, and gives the error, the weights before it and the agent."""

    def run(inject) -> tuple[BaseException, Fault]:
        config = tiny_config(2, f"run.dir={tmp_path / 'run'}", *FRAMES)
        agent = seeded_agent(config)
        fault = Fault(agent, 3)
        from hjepa.train import module

        loss = module.agent_loss

        def counted(agent, batch, shaping):
            fault.update += 1
            if fault.now():
                fault.before = {name: value.clone() for name, value in agent.state_dict().items()}
                batch = inject(fault, batch) or batch
            return loss(agent, batch, shaping)

        monkeypatch.setattr(module, "agent_loss", counted)
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "config.yaml").write_text(dump(config))
        threads = torch.get_num_threads()
        try:
            with pytest.raises((NonFiniteError, RuntimeError)) as caught:
                fit(config, folder, agent, resume=False)
        finally:
            torch.use_deterministic_algorithms(False)
            torch.set_num_threads(threads)
        assert fault.now(), "it went on after the fault"
        return caught.value, fault

    return run


def in_batch(fault: Fault, batch):
    """A reward that is not a number got into the store."""
    batch.energies[0, 2, 0] = float("nan")


def in_embedding(fault: Fault, batch):
    """Perception gives one infinite number."""
    observe = fault.agent.perception.observe

    def spoiled(*arguments):
        states = observe(*arguments).clone()
        states[0, 1, 3] = float("inf")
        return states

    fault.agent.perception.observe = spoiled


def in_loss(fault: Fault, batch):
    """One term of a loss is not a number."""
    objective = fault.agent.world_models[1].objective
    original = objective.forward

    def spoiled(*arguments):
        loss, info = original(*arguments)
        return loss * float("nan"), {name: value * float("nan") for name, value in info.items()}

    objective.forward = spoiled


def in_gradient(fault: Fault, batch):
    """One parameter's gradient is not a number, though the loss is."""
    parameter = fault.agent.world_models[1].predictor.get_parameter(
        next(name for name, _ in fault.agent.world_models[1].predictor.named_parameters())
    )
    parameter.register_hook(lambda gradient: gradient * float("nan"))


@LEARNING
@pytest.mark.parametrize(
    ("inject", "named", "settles_before"),
    [
        (in_batch, "energies", True),
        (in_embedding, "state of level 0", True),
        (in_loss, "level_1/", False),
        (in_gradient, "world_models.1.predictor.", False),
    ],
)
def test_what_is_not_finite_stops_the_run_before_the_weights_change(broken_run, inject, named, settles_before) -> None:
    error, fault = broken_run(inject)
    assert isinstance(error, NonFiniteError)
    assert named in str(error) and "the weights were not changed" in str(error)
    if inject is in_gradient:
        assert "level_" not in str(error) and str(error).count("world_models.") == 1
    after = fault.agent.state_dict()
    learned = {name for name, value in fault.agent.named_parameters() if value.requires_grad}
    for name, value in fault.before.items():
        assert torch.isfinite(after[name]).all() or not torch.isfinite(value).all(), name
        # A critic rescales its head when its units change, which leaves its values as they were.
        if settles_before or (name in learned and ".head." not in name):
            assert torch.equal(value, after[name]), name


@LEARNING
def test_a_reward_that_is_not_a_number_stops_at_the_environment(broken_run, monkeypatch: pytest.MonkeyPatch) -> None:
    step = ChainEnv.step

    def inject(fault, batch):
        fault.at = fault.update  # the next step of an environment is one too many

        def spoiled(self, action):
            observation, _, *rest = step(self, action)
            return observation, float("nan"), *rest

        monkeypatch.setattr(ChainEnv, "step", spoiled)

    error, fault = broken_run(inject)
    assert "Dummy-v0 failed (row 0" in str(error) and "seed" in str(error)
    assert all(torch.isfinite(value).all() for value in fault.agent.state_dict().values())


# ------------------------------------------------------------------------------------------ bad input
def contents(folder: Path) -> dict[str, bytes]:
    """Everything that is in a folder."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.batchsize=4", "did you mean train.batch_size?"),
        ("train.batch_size=many", "train.batch_size"),
        ("train.batch_size=0", "train.batch_size"),
        ("train.learning_rate=.nan", "train.learning_rate"),
        ("train.window=3", "train.window"),
        ("levels.1.planner.kind=exhausting", "did you mean exhaustive?"),
        ("perception.kind=nothing.py:Thing", "there is no file"),
        ("env.id=MiniGrid-DoorKye-5x5-v0", "did you mean MiniGrid-DoorKey-5x5-v0"),
        ("configurator.intrinsic_weights.tusk=1.0", "tusk"),
        ("world_model.encoder.kind=identity", "identity"),
    ],
)
def test_a_mistake_is_status_2_one_line_and_nothing_changed(
    override: str, line: str, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    extra = ["levels.1.dim=24"] if "identity" in override else []
    status = cli.main(["train", str(DEBUG), f"run.dir={tmp_path / 'run'}", override, *extra])
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert len(captured.err.splitlines()) == 1 and line in captured.err
    assert not list(tmp_path.iterdir())


def trained(folder: Path) -> Path:
    """A finished tiny run, in this process."""
    overrides = [f"run.dir={folder}", "env.id=hjepa/Dummy-v0", *FRAMES, "train.accelerator=cpu"]
    threads = torch.get_num_threads()
    try:
        assert cli.main(["train", str(DEBUG), *overrides]) == 0
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    return folder


@LEARNING
def test_runs_on_disk_are_left_as_they_are(tmp_path: Path, capsys) -> None:
    """An existing run folder, a truncated checkpoint, and the same evaluation twice."""
    run = trained(tmp_path / "run")
    capsys.readouterr()
    before = contents(run)
    assert cli.main(["train", str(DEBUG), f"run.dir={run}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and contents(run) == before

    results = []
    for _ in range(2):
        assert cli.main(["eval", str(run), "--episodes", "4", "--mode", "2"]) == 0
        (result,) = (run / "eval").glob("*.json")
        timeless = [part for part in result.read_text().split(', "') if not part.startswith("decision_ms")]
        results.append(timeless)
        result.unlink()
    assert results[0] == results[1]
    (run / "eval").rmdir()
    capsys.readouterr()

    for weights in run.glob("checkpoints/*/agent.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])
    before = contents(run)
    assert len(checkpoint.checkpoints(run / "checkpoints")) > 0
    assert cli.main(["eval", str(run), "--episodes", "1"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and contents(run) == before
    assert cli.main(["train", "--resume", str(run)]) == 2
    assert contents(run) == before

"""Twenty updates of the debug preset give the losses on record, to the bit.

A change that means to change learning records them anew: `python tests/test_golden.py`.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from tiny_agent import DEBUG, SHAPING, batch_of

from hjepa.config import load
from hjepa.train.learning import agent_loss
from hjepa.train.run import assemble, seeded_agent
from hjepa.train.seeding import seed_everything_at

GOLDEN = Path(__file__).parent / "golden" / "debug.json"
UPDATES = 20


def stack() -> str:
    """What the last bits depend on: torch's version, and what its kernels make of numbers here."""
    numbers = torch.linspace(-3, 3, 96 * 80).sin().view(96, 80)
    convolved = torch.conv2d(numbers.view(4, 6, 16, 20), numbers[:8, :54].reshape(8, 6, 3, 3))
    kernels = [
        numbers @ numbers.T,
        numbers.softmax(-1),
        numbers.exp().sum(0),
        convolved,
        numbers.tanh().var(1),
    ]
    digest = hashlib.sha256(b"".join(kernel.contiguous().numpy().tobytes() for kernel in kernels))
    return f"torch {torch.__version__}, kernels {digest.hexdigest()[:16]}"


def losses(folder: Path) -> list[dict[str, str]]:
    """Every term of every update's loss as a hexadecimal float."""
    torch.set_num_threads(1)
    config = load(DEBUG, ["train.accelerator=cpu"])
    settings = config.train
    agent = seeded_agent(config).train()
    run = assemble(config, folder, agent, torch.device("cpu"))
    learning = [parameter for parameter in agent.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=settings.learning_rate, weight_decay=settings.weight_decay, eps=1e-5)
    rows = []
    for update in range(UPDATES):
        run.collector.collect_until(settings.prefill + (update + 1) * settings.frames_per_update)
        batch = batch_of(run, config, update)
        seed_everything_at(settings.seed, "update", update)
        loss, info = agent_loss(agent, batch, SHAPING)
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(learning, settings.gradient_clip)
        optimiser.step()
        agent.update_targets(settings.target_rate)
        terms = info | {"total": loss.detach(), "gradient_norm": norm}
        rows.append({name: float(value).hex() for name, value in terms.items()})
    return rows


def test_twenty_updates_give_the_losses_on_record(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text())
    if golden["stack"] != stack():
        pytest.skip(f"recorded with {golden['stack']}, this is {stack()}: the last bits differ")
    assert len(golden["losses"]) == UPDATES
    for update, (found, recorded) in enumerate(zip(losses(tmp_path), golden["losses"], strict=True)):
        assert found == recorded, f"update {update}"


def record() -> None:
    """Write down the losses as they are now."""
    with tempfile.TemporaryDirectory() as folder:
        content = {"stack": stack(), "losses": losses(Path(folder))}
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(record())

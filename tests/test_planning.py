"""The planning problem of one level: energies by hand, gradients of a plan, and risk over samples of z."""

import pytest
import torch
from tiny_agent import play, tiny_agent
from torch import nn

from hjepa.interfaces import Critic, IntrinsicCost, WorldModel
from hjepa.planning import LatentProblem, RiskMeasure, SubgoalTerm, spread
from hjepa.types import LevelSpec, Prediction, Subgoal, Task

DISCOUNT, SPAN, DIM = 0.9, 2, 3
SPEC = LevelSpec(0, DIM, 2, DIM, 2, 1, SPAN, 3, 2, 2, DIM, 2, 0, DISCOUNT)


class Actions(nn.Module):
    num_actions = 2

    def table(self):
        return torch.tensor([[1.0, 0.0], [0.0, 1.0]])

    def support(self, state):
        return torch.log(torch.tensor([0.9, 0.1])).expand(*state.shape[:-1], 2)


class Noise(nn.Module):
    dim = 1

    def sample(self, state, samples):
        drawn = torch.arange(state.shape[2], dtype=state.dtype)
        return drawn[:, None, None].expand(*state.shape[:-1], samples, 1)


class NoLatent(nn.Module):
    dim = 0


class HandMade(WorldModel):
    """Choice 0 adds 1 to the first number, 1 adds 10 to the second, z adds to the third. The first two are
    the drives' energies."""

    def __init__(self, latent: nn.Module, going: float = 1.0) -> None:
        super().__init__()
        self.spec, self.action_encoder, self.latent = SPEC, Actions(), latent
        self.going = torch.tensor(going).log()

    def predict(self, state, action, latent, tokens):
        third = latent if latent.shape[-1] else torch.zeros_like(action[..., :1])
        after = state + torch.cat((action * torch.tensor([1.0, 10.0]), third), -1)
        return Prediction(after, after[..., :2], self.going.expand(after.shape[:-1]))

    def lower(self, state):
        return state

    def loss(self, batch, states, targets):
        raise AssertionError

    free_energy = infer_actions = monitors = loss


class Sum(Critic):
    """The sum of the state, plus the distance to the goal where there is one."""

    def forward(self, state, goal, has_goal, tokens):
        return state.sum(-1) + has_goal * (state - goal).abs().sum(-1)

    def loss(self, batch, target):
        raise AssertionError

    imagined_loss = loss


class Choosing(Sum):
    """Tells choices apart: choice a is worth the sum of the state and a."""

    def choices(self, state, tokens):
        return state.sum(-1, keepdim=True) + torch.arange(2.0)


class Doubling(IntrinsicCost):
    names = ("a", "b")

    def perceived(self, signals, memory, contents):
        raise AssertionError

    def predicted(self, readouts):
        return 2 * readouts

    def clamp(self, weights):
        return weights


def task(batch: int = 1) -> Task:
    return Task(
        torch.zeros(batch, 0, 0),
        torch.tensor([[0.5, 0.25]]).expand(batch, -1),
        torch.tensor([[3.0]]).expand(batch, -1),
        torch.zeros(batch, DIM),
        torch.zeros(batch, dtype=torch.bool),
    )


def problem(
    critic=None,
    latent=None,
    going=1.0,
    samples=1,
    risk="mean",
    term=None,
    has_goal=False,
    threshold=0.0,
    first_step=None,
):
    nothing = SubgoalTerm(torch.zeros(1, DIM), torch.zeros(1), torch.ones(()), None, torch.zeros(1, 0, 0))
    return LatentProblem(
        HandMade(latent or NoLatent(), going),
        critic or Sum(),
        Doubling(),
        torch.tensor([[1.0, 2.0, 0.0]]),
        task(),
        0,
        SPEC.horizon,
        term or nothing,
        samples,
        RiskMeasure(risk, 2.0),
        threshold,
        torch.tensor([[5.0, 5.0, 5.0]]),
        torch.tensor([has_goal]),
        first_step,
    )


def follow(made: LatentProblem, *choices: int):
    node = made.root()
    for choice in choices:
        node = made.step(node, nn.functional.one_hot(torch.tensor([[choice]]), 2).float())
    return node


# 1, 2 -> (2, 2) -> (2, 12); a drive's energy is twice its number; u = (0.5, 0.25); gamma = 0.9 ** 2.
FIRST, SECOND = 0.5 * 4 + 0.25 * 4, 0.5 * 4 + 0.25 * 24
GAMMA = DISCOUNT**SPAN


def test_r24_plan_energy_is_the_weighted_sum_by_hand() -> None:
    made = problem()
    expected = FIRST + GAMMA * SECOND + GAMMA**2 * 3.0 * (2 + 12)
    assert made.score(follow(made, 0, 1)).item() == pytest.approx(expected)


def test_r24_what_may_not_be_lived_to_see_counts_less() -> None:
    made, go = problem(going=0.5), 0.5 * GAMMA
    expected = FIRST + go * SECOND + go**2 * 3.0 * 14
    assert made.score(follow(made, 0, 1)).item() == pytest.approx(expected)


def test_r24_goal_and_subgoal_add_their_distances() -> None:
    term = SubgoalTerm(
        torch.tensor([[2.0, 12.0, 4.0]]), torch.tensor([0.5]), torch.tensor(2.0), None, torch.zeros(1, 0, 0)
    )
    made = problem(term=term, has_goal=True)
    # Goal (5, 5, 5) from (2, 12, 0): 3 + 7 + 5. Subgoal: distance 4 in units of 2, times 0.5.
    expected = FIRST + GAMMA * SECOND + GAMMA**2 * (3.0 * (14 + 15) + 0.5 * 4 / 2)
    assert made.score(follow(made, 0, 1)).item() == pytest.approx(expected)


def test_in_haste_a_subgoal_may_be_met_at_any_step_and_the_sooner_the_cheaper() -> None:
    arguments = (torch.tensor([[2.0, 2.0, 0.0]]), torch.tensor([0.5]), torch.tensor(2.0), None, torch.zeros(1, 0, 0))
    plain, hasty = problem(term=SubgoalTerm(*arguments)), problem(term=SubgoalTerm(*arguments, haste=0.1))
    # By way of (2, 2), which is the subgoal, to (2, 12); or by (1, 12) to (2, 12), at a distance of 10 both times.
    for choices, nearest in (((0, 1), 0.0), ((1, 0), 0.5 * 10 / 2 + 0.1 * 0.5)):
        bare = plain.score(follow(plain, *choices)).item() - GAMMA**2 * 0.5 * 10 / 2
        first = 0.5 * (101**0.5) / 2
        assert hasty.score(follow(hasty, *choices)).item() == pytest.approx(
            bare + min(nearest, first if nearest else 0)
        )


def test_r24_a_critic_of_choices_is_averaged_over_depths() -> None:
    made = problem(critic=Choosing())
    depths = (
        3.0 * (3 + 0),
        FIRST + GAMMA * 3.0 * (4 + 1),
        FIRST + GAMMA * SECOND + GAMMA**2 * 3.0 * 14,
    )
    assert made.score(follow(made, 0, 1)).item() == pytest.approx(sum(depths) / 3)


def test_the_first_choices_energy_counts_once_at_every_depth() -> None:
    for critic, depths in ((None, 1), (Choosing(), 3)):
        plain, raised = problem(critic=critic), problem(critic=critic, first_step=torch.tensor([[0.0, 7.0]]))
        for choices, energy in (((0, 1), 0.0), ((1, 0), 7.0), ((1, 1), 7.0)):
            without = plain.score(follow(plain, *choices)).item()
            assert raised.score(follow(raised, *choices)).item() == pytest.approx(without + energy), depths


def test_r27_a_drive_weighs_the_same_whether_perceived_or_predicted() -> None:
    """The readout of a step that says what the drives said gives the energy that perceiving them gave."""
    from hjepa.cost import intrinsic_energy

    agent = tiny_agent()
    _, decision, _ = play(agent, 2, 1)[-1]
    readout = agent.intrinsic_cost.predicted(decision.energies)
    again = intrinsic_energy(readout, decision.intrinsic_weights)
    torch.testing.assert_close(again, intrinsic_energy(decision.energies, decision.intrinsic_weights))


@pytest.mark.parametrize(
    ("risk", "by_hand"),
    [
        ("mean", lambda energies: energies.mean()),
        ("mean_std", lambda energies: energies.mean() + 2.0 * energies.std()),
        ("worst", lambda energies: energies.max()),
    ],
)
def test_r39_risk_over_samples_of_z(risk, by_hand) -> None:
    made = problem(latent=Noise(), samples=4, risk=risk)
    # Sample z adds z to the third number, which only the critic sees.
    energies = FIRST + GAMMA * 3.0 * (4 + torch.arange(4.0))
    assert made.score(follow(made, 0)).item() == pytest.approx(by_hand(energies).item(), rel=1e-5)


def test_r39_a_single_sample_has_no_risk() -> None:
    scores = [problem(latent=Noise(), samples=1, risk=risk) for risk in ("mean", "mean_std", "worst")]
    assert len({made.score(follow(made, 1)).item() for made in scores}) == 1


def test_r39_risk_decides_between_a_sure_and_a_risky_choice() -> None:
    energies = torch.tensor([[[2.0, 2.0, 2.0], [0.0, 0.0, 5.0]]])
    chosen = {risk: RiskMeasure(risk, 1.0)(energies).argmin(1).item() for risk in ("mean", "mean_std", "worst")}
    assert chosen == {"mean": 1, "mean_std": 0, "worst": 0}


def test_choices_below_the_threshold_are_out_of_support() -> None:
    made = problem(threshold=0.2)
    assert made.support(made.root())[0, 0].tolist() == [
        pytest.approx(torch.tensor(0.9).log().item()),
        -torch.inf,
    ]
    assert not problem(threshold=0.1).support(made.root()).isinf().any()


def test_tokens_are_spread_over_candidates() -> None:
    tokens = torch.arange(12.0).view(2, 3, 2)
    spreaded = spread(tokens, torch.zeros(2, 5, 4, 7))
    assert spreaded.shape == (2, 5, 4, 3, 2)
    assert (spreaded == tokens[:, None, None]).all()


# ------------------------------------------------------------------------------ the agent's own problems
def own_problem(agent, level: int, states, tokens_task):
    upper = agent.spec.levels[level].upper_dim
    subgoal = Subgoal(torch.randn(2, upper), torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool))
    return agent.actor.problem(agent.world, level, states[level], subgoal, tokens_task)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("satisfaction", ["lifted", "own"])
def test_r02_plan_energy_has_a_gradient_in_every_action(levels: int, satisfaction: str) -> None:
    torch.manual_seed(0)
    agent = tiny_agent(levels, f"actor.satisfaction={satisfaction}")
    states = agent.lift(torch.randn(2, agent.spec.levels[0].dim), torch.zeros(2, 0, 0))
    for level in range(levels):
        # Critics and readouts begin at zero energy: give them something to say.
        agent.critics[level].mean.fill_(1.0), agent.critics[level].variance.fill_(1.0)
        agent.critics[level].updates.fill_(1.0)
        made = own_problem(agent, level, states, agent.configure(torch.ones(2, 1, dtype=torch.int64)))
        steps = [
            torch.full((2, 1, made.num_actions), 1 / made.num_actions, requires_grad=True) for _ in range(made.horizon)
        ]
        node = made.root()
        for weights in steps:
            node = made.step(node, weights)
        for gradient in torch.autograd.grad(made.score(node).sum(), steps):
            assert (gradient.abs().sum((1, 2)) > 1e-7).all()


def test_r03_plan_energy_has_a_gradient_in_perception_encoder_and_policy(tmp_path) -> None:
    """Relaxed actions drawn by the policy: the energy of the plan reaches all that led to it."""
    torch.manual_seed(0)
    agent = tiny_agent(2)
    task_now = agent.configure(torch.ones(2, 1, dtype=torch.int64))
    agent.critics[1].variance.fill_(1.0), agent.critics[1].updates.fill_(1.0)
    from tiny_agent import CPU, first_record

    from hjepa.types import Observation

    record = first_record(2)
    state, _ = agent.perception(
        Observation(record.image, record.mission),
        record.previous_action,
        agent.perception.initial(2, CPU),
        task_now.tokens,
    )
    states = agent.lift(state, task_now.tokens)
    made = own_problem(agent, 1, states, task_now)
    node, policy = made.root(), agent.actor.policies[1]
    for _ in range(made.horizon):
        state = node.state[:, 0].mean(1)
        logits, _ = policy(
            state,
            torch.zeros(2, made.root().state.shape[-1]),
            torch.zeros(2, dtype=torch.bool),
            task_now.tokens,
        )
        node = made.step(node, logits.softmax(-1)[:, None])
    made.score(node).sum().backward()
    for part in (agent.perception, agent.world_models[1].encoder, policy):
        reached = [parameter.grad for parameter in part.parameters() if parameter.grad is not None]
        assert sum(float(gradient.abs().sum()) for gradient in reached) > 1e-7


def test_r10_a_step_of_a_higher_level_discounts_by_more_time() -> None:
    agent = tiny_agent(3)
    states = agent.lift(torch.randn(2, 16), torch.zeros(2, 0, 0))
    per_step = []
    for level in range(3):
        made = own_problem(agent, level, states, agent.configure(torch.ones(2, 1, dtype=torch.int64)))
        first = made.step(made.root(), torch.eye(made.num_actions)[:1].expand(2, 1, -1))
        going = (
            agent.world_models[level]
            .predict(
                states[level],
                agent.world_models[level].action_encoder.table()[:1].expand(2, -1),
                torch.zeros(2, 0),
                torch.zeros(2, 0, 0),
            )
            .log_continue
        )
        per_step.append((first.log_discount[:, 0, 0] - going)[0].item())
    log_discount = torch.tensor(agent.spec.discount).log().item()
    assert per_step == [pytest.approx(span * log_discount, rel=1e-4) for span in (1, 2, 6)]

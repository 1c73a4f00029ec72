"""Modules that break a promise, each in one way; the check that is there for it must fail, by name."""

from dataclasses import replace
from typing import ClassVar, Literal

import pytest
import torch
from torch import nn

from hjepa.config.registry import load_class
from hjepa.interfaces import Drive
from hjepa.testing import conformance

MLPEncoder = load_class("encoder", "mlp")
Feedforward = load_class("perception", "feedforward")
Recurrent = load_class("perception", "recurrent")
Residual = load_class("predictor", "residual")
Gaussian = load_class("latent", "gaussian")
EMA = load_class("objective", "ema")
JEPA = load_class("world_model", "jepa")
Task = load_class("drive", "task")
Costs = load_class("intrinsic_cost", "drives")
TD = load_class("critic", "td")
Goal = load_class("critic", "goal")
Window = load_class("memory", "window")
Exhaustive = load_class("planner", "exhaustive")
Amortised = load_class("policy", "amortised")
Hierarchical = load_class("actor", "hierarchical")
Mission = load_class("configurator", "mission")
Discrete = load_class("action_encoder", "discrete")


class LeaksThroughBatchNorm(MLPEncoder):
    """rows_are_independent"""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.norm = nn.BatchNorm1d(spec.dim)

    def forward(self, lower_state, tokens):
        state = super().forward(lower_state, tokens)
        return self.norm(state.flatten(0, -2)).view_as(state)


class DrawsFromItsOwnGenerator(MLPEncoder):
    """replays_under_a_seed"""

    def forward(self, lower_state, tokens):
        if not hasattr(self, "generator"):
            self.generator = torch.Generator()
        state = super().forward(lower_state, tokens)
        return state + 0.1 * torch.randn(state.shape, generator=self.generator)


class ReseedsEverybody(MLPEncoder):
    """replays_under_a_seed"""

    def forward(self, lower_state, tokens):
        torch.manual_seed(42)
        return super().forward(lower_state, tokens)


class GivesDoubles(MLPEncoder):
    """outputs_are_finite_float32"""

    def forward(self, lower_state, tokens):
        return super().forward(lower_state, tokens).double()


class DividesByZero(MLPEncoder):
    """outputs_are_finite_float32"""

    def forward(self, lower_state, tokens):
        state = super().forward(lower_state, tokens)
        return state / (state - state)


class HasTheWrongWidth(MLPEncoder):
    """any_leading_shape"""

    def forward(self, lower_state, tokens):
        return super().forward(lower_state, tokens)[..., 1:]


class Detaches(MLPEncoder):
    """gradient_reaches_the_lower_state"""

    def forward(self, lower_state, tokens):
        return super().forward(lower_state.detach(), tokens)


class RemembersOutsideItsState(MLPEncoder):
    """state_dict_holds_everything"""

    mean = 0.0

    def forward(self, lower_state, tokens):
        if self.training:
            self.mean = 0.5 * self.mean + lower_state.mean().item()
        return super().forward(lower_state, tokens) + self.mean


class SharesATensorWithItsCopies(MLPEncoder):
    """deep_copies"""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.register_buffer("offset", torch.ones(spec.dim))

    def __deepcopy__(self, memo):
        copied = type(self).__new__(type(self))
        nn.Module.__init__(copied)
        copied.body, copied.film, copied.offset = self.body, self.film, self.offset
        return copied


class CallsItselfOtherwise(MLPEncoder):
    """config_names_its_kind"""

    __module__ = "hjepa.modules.encoder.other"


class HasAnUnexplainedField(MLPEncoder):
    """config_is_closed"""

    class Config(MLPEncoder.Config):
        slot: ClassVar[str] = "encoder"
        kind: Literal["unexplained"] = "unexplained"
        secret: int = 3


class SwallowsUnknownFields(MLPEncoder):
    """config_is_closed"""

    class Config(MLPEncoder.Config, extra="ignore"):
        slot: ClassVar[str] = "encoder"
        kind: Literal["swallows"] = "swallows"


class ObservesOtherwiseThanItSteps(Recurrent):
    """observing_equals_stepping"""

    def observe(self, observation, previous_action, is_first, carries, tokens):
        return super().observe(observation, previous_action, torch.zeros_like(is_first), carries, tokens)


class RemembersTheLastEpisode(Recurrent):
    """episodes_are_forgotten"""

    def observe(self, observation, previous_action, is_first, carries, tokens):
        return super().observe(observation, previous_action, torch.zeros_like(is_first), carries, tokens)


class CountsStepsInItself(Feedforward):
    """resumes_mid_episode"""

    steps = 0

    def forward(self, observation, previous_action, carry, tokens):
        self.steps += 1
        state, carry = super().forward(observation, previous_action, carry, tokens)
        return state + self.steps, carry


class IgnoresTheAction(Residual):
    """differentiable_in_every_argument"""

    def forward(self, state, action, latent, tokens):
        return super().forward(state, torch.zeros_like(action), latent, tokens)


class PaysForInformation(Gaussian):
    """latent_shapes"""

    def infer(self, state, action, target):
        latent, information = super().infer(state, action, target)
        return latent, -information


class DetachesItsPenalty(Gaussian):
    """inference_is_trained"""

    def infer(self, state, action, target):
        latent, information = super().infer(state, action, target)
        return latent, information.detach()


class ReportsWithGradient(EMA):
    """loss_and_gradient"""

    def forward(self, states, predictions, targets, mask):
        loss, info = super().forward(states, predictions, targets, mask)
        return loss, info | {"total": loss}


class LooksBehindTheMask(EMA):
    """masked_rows_do_not_count"""

    def forward(self, states, predictions, targets, mask):
        return super().forward(states, predictions, targets, torch.ones_like(mask))


class IsPositiveAboutTheEnd(JEPA):
    """prediction_shapes"""

    def predict(self, state, action, latent, tokens):
        prediction = super().predict(state, action, latent, tokens)
        return replace(prediction, log_continue=prediction.log_continue.exp())


class EmbedsOneChoiceTooFew(Discrete):
    """choices"""

    def table(self):
        return super().table()[:-1]


class LearnsWhatToWant(Task):
    """has_no_parameters"""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.scale = nn.Parameter(torch.ones(()))

    def perceived(self, signals, memory, contents):
        return self.scale * super().perceived(signals, memory, contents)


class GetsUsedToIt(Task):
    """judging_changes_nothing"""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.register_buffer("mean", torch.zeros(()))

    def perceived(self, signals, memory, contents):
        self.mean.lerp_(signals.reward.mean(), 0.1)
        return -signals.reward


class AveragesTheBatch(Drive):
    """one_energy_a_row"""

    Config = Task.Config

    def __init__(self, config, spec):
        super().__init__()

    def perceived(self, signals, memory, contents):
        return -signals.reward.mean()


class LowersGuardrails(Costs):
    """clamps_weights"""

    def clamp(self, weights):
        return super().clamp(weights).clamp(max=1.0)


class LooksAtNoGoal(Goal):
    """an_absent_goal_is_not_looked_at"""

    def forward(self, state, goal, has_goal, tokens):
        return super().forward(state, goal, torch.ones_like(has_goal), tokens)


class TrainsItsTarget(TD):
    """loss_trains_the_critic"""

    def loss(self, batch, target):
        loss, info = super().loss(batch, target)
        target.requires_grad_(True)
        return loss + target.action_values(batch.states, batch.tokens).square().mean(), info


class ExpectsNothing(TD):
    """advantages_of_every_record"""

    def advantages(self, batch, target):
        return -self.targets(batch, torch.ones_like(batch.energies))


class ForgetsLifetimes(Window):
    """counts_views"""

    def reset(self, contents, rows):
        return replace(super().reset(contents, rows), visits=torch.zeros_like(contents.visits))


class FindsTheFarthest(Window):
    """looks_up_by_state"""

    def nearest(self, contents, state):
        return super().nearest(contents, -state)


class ForgetsNothing(Window):
    """resets_rows"""

    def reset(self, contents, rows):
        return contents


class IgnoresTheSupport(Exhaustive):
    """stays_in_support"""

    def plan(self, problem, warm_start):
        problem.prior = torch.zeros_like(problem.prior)
        return super().plan(problem, warm_start)


class ReturnsTheWorst(Exhaustive):
    """finds_the_obvious"""

    def plan(self, problem, warm_start):
        problem.costs, problem.terminal = -problem.costs, -problem.terminal
        return super().plan(problem, warm_start)


class Flatters(Exhaustive):
    """plan_is_what_it_says"""

    def plan(self, problem, warm_start):
        plan = super().plan(problem, warm_start)
        return replace(plan, energy=plan.energy - 1, first_energies=plan.first_energies - 1)


class Contradicts(Amortised):
    """distillation_imitates_the_plan"""

    def loss(self, state, subgoal, has_subgoal, tokens, plan):
        return super().loss(state, subgoal, has_subgoal, tokens, replace(plan, first_energies=-plan.first_energies))


class LooksAtNoSubgoal(Amortised):
    """an_absent_subgoal_is_not_looked_at"""

    def forward(self, state, subgoal, has_subgoal, tokens):
        return super().forward(state, subgoal, torch.ones_like(has_subgoal), tokens)


class ThinksInMode1(Hierarchical):
    """mode_1_reacts"""

    def decide(self, world, states, subgoals, task, request):
        world.critics[0](states[0], states[0], task.has_goal, task.tokens)
        return super().decide(world, states, subgoals, task, request)


class IsDeafToOracles(Hierarchical):
    """an_injected_subgoal_is_followed"""

    def decide(self, world, states, subgoals, task, request):
        request = replace(request, injected=(None,) * len(request.injected))
        return super().decide(world, states, subgoals, task, request)


class ChangesItsMind(Hierarchical):
    """subgoals_last"""

    def decide(self, world, states, subgoals, task, request):
        request = replace(request, is_first=torch.ones_like(request.is_first))
        return super().decide(world, states, subgoals, task, request)


class SwitchesGuardrailsOff(Mission):
    """guardrails_hold"""

    def forward(self, mission, top_state):
        task = super().forward(mission, top_state)
        return replace(task, intrinsic_weights=torch.zeros_like(task.intrinsic_weights))


class ReadsThePadding(Mission):
    """padding_says_nothing"""

    def forward(self, mission, top_state):
        task = super().forward(mission, top_state)
        return replace(task, tokens=task.tokens + mission.shape[1])


BROKEN = [item for item in list(globals().values()) if isinstance(item, type) and item.__module__ == __name__] + [
    CallsItselfOtherwise
]


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_the_check_for_it_fails(cls):
    failed = [result.name for result in conformance(cls) if not result.passed]
    assert cls.__doc__ in failed


def test_an_incomplete_module_cannot_be_built():
    class Silent(MLPEncoder.__mro__[1]):
        Config = MLPEncoder.Config

    (result,) = conformance(Silent)
    assert (result.name, result.passed) == ("builds", False)
    assert "abstract" in result.reason

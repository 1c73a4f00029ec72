"""The hierarchical actor: plans top-down in mode 2, reacts level by level in mode 1, and distils one into the other."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from hjepa.config import ModuleConfig, Slot, choose
from hjepa.interfaces import Actor, Choice, Loss, Planner, Policy, Request, World
from hjepa.modules.hindsight import Hindsight
from hjepa.modules.subgoals import absent, committed, due, given, held
from hjepa.planning import LatentProblem, RiskMeasure, SubgoalTerm, spread
from hjepa.search import expand, familiarity, first_choices, scatter, take
from hjepa.types import AgentSpec, Plan, Subgoal, Task, Walked

NEAR = 0.6
"""Share of the typical displacement over a step of a level within which two of its states are much the same."""


class HierarchicalActor(Actor):
    """Higher levels plan in macro-actions; the first predicted state is the subgoal of the level below, with a
    deadline.

    L22 sections 3.1, 4.7 and 5; greedy top-down as in H-JEPA (arXiv 2610.06805), or jointly with the level below.
    """

    class Config(ModuleConfig):
        """Settings of the hierarchical actor."""

        slot: ClassVar[str] = "actor"
        kind: Literal["hierarchical"] = "hierarchical"
        policy: Annotated[ModuleConfig, Slot("policy")] = choose("policy", "amortised")
        """The amortised actor of every level."""
        coordination: Literal["greedy", "joint", "confirmed"] = "greedy"
        """`greedy`: a level commits to its own best plan; `joint`: to the one that is best together with the level
        below; `confirmed`: to the best state that the level below says it comes to on its way to each. A search finds
        what a level errs most about: of two levels that learned apart, both must err."""
        joint_candidates: int = Field(4, ge=2)
        """First choices of the upper level that `joint` and `confirmed` try out on the level below."""
        satisfaction: Literal["lifted", "own", "critic", "hindsight"] = "lifted"
        """What a level makes of its subgoal. A plan's end is compared with it by distance after lifting it a level, by
        distance in its own space, or after lifting by what the critic there makes of the way (with critics of goals:
        `quasimetric`). With `hindsight` first choices are weighed instead, by what has led to such states before."""
        proposal: Literal["planned", "hindsight"] = "planned"
        """What levels above 0 hand down. `planned`: the first state of a plan in mode 2, what the policy makes of such
        plans in mode 1; `hindsight`: in both modes where the better of what was walked led from such states (the
        highest level then knows no goal)."""
        subgoal_weight: float = Field(1.0, ge=0)
        """Energy of ending one typical displacement away from the subgoal (with `hindsight`: of a first choice that is
        e times less likely to lead there), in units of how much the level's own energies typically differ between its
        choices; so it neither drowns them nor is drowned, whatever the drives' scale."""
        follower_width: int = Field(256, gt=0)
        """Width of the two hidden layers of the networks that learn in hindsight."""
        advantage_weight: float = Field(0.0, ge=0)
        """How much more they learn from what was better than the critic expected: e to this times the advantage, in
        units of its root mean square. 0: all counts alike."""
        subgoal_haste: float = Field(0.0, ge=0)
        """0: a plan must end at the subgoal. If positive it may meet it at any step, and each step more costs this
        share of that energy: a plan made anew at every step could put off for ever what only its end must show."""
        habituation: float = Field(1.0, ge=0)
        """Energy of an action for each time it was already taken in this same situation of the episode, and for each
        time it changed nothing in a like one (the same ahead, the same in hand); in units of how much choices typically
        differ (mode 1: of how much the policy's logits do). Against loops; a count in short-term memory stands for the
        heuristic that real-time search learns (LRTA*, Korf 1990)."""
        habituation_above: float = Field(0.0, ge=0)
        """The same for what `joint` and `confirmed` hand down: energy of a state for each time the episode was there
        (two thirds of a step of the level away counts half)."""
        goal_reach: float = Field(0.0, ge=0)
        """Where the critic of the level that is given a goal says that it is nearer than so many of the level's steps,
        the goal itself is handed down in place of a planned state: no whole step may end just there. 0: never. For a
        critic that counts steps (`quasimetric`)."""
        reach_tolerance: float = Field(0.3, ge=0)
        """A subgoal counts as reached within this share of the typical displacement over one step of the level
        above."""
        surprise_threshold: float = Field(5.0, gt=0)
        """Relative prediction error above which every level plans anew (1 is typical)."""
        deadline_slack: float = Field(1.0, ge=1)
        """Deadline of a subgoal, as a multiple of the span it was planned for."""
        support_threshold: float = Field(0.05, ge=0, le=1)
        """A choice is in support if its prior is at least this share of the likeliest choice's."""
        samples: int = Field(4, ge=1)
        """Samples of z in a search, where the world model has a latent variable."""
        risk: Literal["mean", "mean_std", "worst"] = "mean"
        """How energies over samples of z become one."""
        risk_weight: float = Field(1.0, ge=0)
        """lambda of mean + lambda * std."""
        auto_entropy: float = Field(0.3, ge=0, le=1)
        """Mode `auto` plans where the policy's entropy exceeds this share of a uniform choice's; else it reacts."""
        distil_rows: int = Field(64, ge=1)
        """States of a batch on which mode 2 is imitated in one update."""
        warm_start: bool = False
        """Start a search from the policy unrolled through the world model (L22 section 3.1.3)."""

    displacement_lifted: Tensor
    displacement_own: Tensor
    energy_unit: Tensor
    """Running mean, a level, of the std of one-step plans' energies over the choices, without a subgoal."""

    def __init__(self, config: Config, spec: AgentSpec, planners: list[Planner], policies: list[Policy]) -> None:
        super().__init__()
        self.planners, self.policies = nn.ModuleList(planners), nn.ModuleList(policies)
        self.levels = spec.levels
        self.coordination, self.joint_candidates = config.coordination, config.joint_candidates
        self.satisfaction, self.subgoal_weight = config.satisfaction, config.subgoal_weight
        self.subgoal_haste, self.goal_reach = config.subgoal_haste, config.goal_reach
        self.habituation, self.habituation_above = config.habituation, config.habituation_above
        self.reach_tolerance, self.surprise_threshold = config.reach_tolerance, config.surprise_threshold
        self.deadline_slack, self.support_threshold = config.deadline_slack, config.support_threshold
        self.samples, self.risk = config.samples, RiskMeasure(config.risk, config.risk_weight)
        self.auto_entropy, self.distil_rows = config.auto_entropy, config.distil_rows
        self.warm_start = config.warm_start
        follows, sets = config.satisfaction == "hindsight", config.proposal == "hindsight"
        self.hindsight = Hindsight(spec.levels, config.follower_width, config.advantage_weight, follows, sets)
        self.learns_in_hindsight = self.hindsight.learns
        above = max(len(spec.levels) - 1, 0)
        self.register_buffer("displacement_lifted", torch.ones(above))
        self.register_buffer("displacement_own", torch.ones(above))
        self.register_buffer("energy_unit", torch.zeros(len(spec.levels)))

    # -------------------------------------------------------------------------------------------- deciding
    def decide(
        self, world: World, states: tuple[Tensor, ...], subgoals: tuple[Subgoal, ...], task: Task, request: Request
    ) -> Choice:
        mode = self._resolve(request.mode, states[0], subgoals[0], task)
        top = len(states) - 1
        current = list(subgoals)
        plans: list[Plan | None] = [None] * len(states)
        distances = [torch.full_like(request.surprise, float("nan")) for _ in states]
        reasons = [torch.zeros_like(mode) for _ in states]
        evaluations = torch.zeros((), dtype=torch.int64, device=mode.device)
        current[top], reasons[top] = given(subgoals[top], request.injected[top], reasons[top])
        for level in range(top - 1, -1, -1):
            distances[level] = self._distance(level, states[level + 1], subgoals[level])
            injected = request.injected[level]
            reasons[level] = due(
                subgoals[level],
                reasons[level + 1],
                request,
                request.surprise > self.surprise_threshold,
                distances[level] < self.reach_tolerance,
                injected is not None,
            )
            if injected is None:
                plans[level + 1], latent = self._propose(
                    world, level + 1, states, current, task, mode, reasons[level] > 0, request
                )
            else:
                latent = injected
            deadline = round(self.levels[level + 1].span * self.deadline_slack)
            current[level] = committed(subgoals[level], latent, reasons[level] > 0, deadline)
        habit = self.habituation * (request.tried + request.futile)
        plan, action = self._act(world, states[0], current[0], task, mode, habit)
        plans[0] = plan
        for made in plans:
            evaluations = evaluations + (made.evaluations if made is not None else 0)
        return Choice(action, mode, tuple(current), tuple(distances), tuple(reasons), tuple(plans), evaluations)

    def _resolve(self, mode: Int[Tensor, " B"], state: Tensor, subgoal: Subgoal, task: Task) -> Int[Tensor, " B"]:
        """Rows that leave the choice open (0) plan where the policy is unsure."""
        if not bool((mode == 0).any()):
            return mode
        logits, _ = self.policies[0](state, subgoal.latent, subgoal.active, task.tokens)
        entropy = torch.distributions.Categorical(logits=logits).entropy()
        unsure = entropy > self.auto_entropy * torch.log(torch.tensor(float(logits.shape[-1])))
        return torch.where(mode == 0, 1 + unsure.to(mode.dtype), mode)

    def _distance(self, level: int, upper_state: Tensor, subgoal: Subgoal) -> Float[Tensor, " B"]:
        """Distance of the perceived state to the subgoal; the perceived state is already lifted, by perception."""
        distance = torch.linalg.vector_norm(upper_state - subgoal.latent, dim=-1) / self.displacement_lifted[level]
        return distance.masked_fill(~subgoal.active, float("nan"))

    def _propose(
        self,
        world: World,
        level: int,
        states: tuple[Tensor, ...],
        subgoals: list[Subgoal],
        task: Task,
        mode: Tensor,
        rows: Bool[Tensor, " B"],
        request: Request,
    ) -> tuple[Plan | None, Float[Tensor, "B D"]]:
        """What `level` hands down in `rows`: the first state of its plan in mode 2, its policy's next state in mode 1;
        in both what it learned in hindsight, where it has."""
        if self.hindsight.sets(level):
            return None, self.hindsight.proposal(level, states[level], subgoals[level].latent)
        latent = torch.zeros_like(states[level])
        react, think = rows & (mode == 1), (rows & (mode == 2)).nonzero().squeeze(1)
        if bool(react.any()):
            _, proposal = self.policies[level](
                states[level], subgoals[level].latent, subgoals[level].active, task.tokens
            )
            latent = torch.where(react[:, None], proposal, latent)
        if think.numel() == 0:
            return None, latent
        own = tuple(state[think] for state in states)
        plan = self.search(world, level, own[level], subgoals[level][think], task[think])
        chosen = plan.states[:, 0]
        if self.coordination != "greedy":
            been = request.visited[think], request.remembered[think]
            plan, chosen = self._coordinated(world, level, own, subgoals[level][think], plan, task[think], been)
        chosen = self._or_goal(world, level, own[level], chosen, task[think])
        return scatter(plan, think, mode.shape[0]), latent.index_copy(0, think, chosen)

    def _or_goal(
        self, world: World, level: int, state: Float[Tensor, "B D"], chosen: Float[Tensor, "B D"], task: Task
    ) -> Float[Tensor, "B D"]:
        """The goal in place of the chosen state, where it is within reach."""
        if self.goal_reach == 0 or level != task.aimed_level(len(self.levels)):
            return chosen
        steps = world.critics[level](state, task.goal, task.has_goal, task.tokens)
        return torch.where((task.has_goal & (steps < self.goal_reach))[:, None], task.goal, chosen)

    def _act(
        self, world: World, state: Tensor, subgoal: Subgoal, task: Task, mode: Tensor, habit: Float[Tensor, "B A"]
    ) -> tuple[Plan | None, Int[Tensor, " B"]]:
        """The environment action; choices lose by `habit`."""
        think = (mode == 2).nonzero().squeeze(1)
        action = torch.zeros_like(mode)
        if think.numel() < mode.shape[0]:
            logits, _ = self.policies[0](state, subgoal.latent, subgoal.active, task.tokens)
            action = (logits - habit * logits.std(-1, keepdim=True)).argmax(-1)
        if think.numel() == 0:
            return None, action
        plan = self.search(world, 0, state[think], subgoal[think], task[think], habit[think] * self._unit(0))
        return scatter(plan, think, mode.shape[0]), action.index_copy(0, think, plan.actions[:, 0])

    # -------------------------------------------------------------------------------------------- searching
    def problem(
        self,
        world: World,
        level: int,
        state: Tensor,
        subgoal: Subgoal,
        task: Task,
        first_step: Float[Tensor, "B A"] | None = None,
    ) -> LatentProblem:
        """The planning problem of `level`, from `state` [B, D] toward `subgoal` beside the level's own energies."""
        has_goal = task.has_goal
        if level != task.aimed_level(len(self.levels)):
            has_goal = torch.zeros_like(has_goal)
        goal = task.goal if task.goal.shape[-1] == state.shape[-1] else torch.zeros_like(state)
        return LatentProblem(
            world.world_models[level],
            world.critics[level],
            world.intrinsic_cost,
            state,
            task,
            level,
            self.levels[level].horizon,
            self._term(world, level, subgoal, task),
            self.samples,
            self.risk,
            self.support_threshold,
            goal,
            has_goal,
            first_step,
        )

    def _term(self, world: World, level: int, subgoal: Subgoal, task: Task) -> SubgoalTerm | None:
        """What is measured at a plan's end; a level with a follower weighs its first choices instead."""
        top = level == len(self.levels) - 1
        if self.hindsight.follows(level) and not top:
            return None
        weight = self._weight(level, subgoal)
        one = torch.ones_like(weight[0])
        if self.satisfaction == "own" and not top:
            target, scale = world.world_models[level + 1].lower(subgoal.latent), self.displacement_own[level]
            return SubgoalTerm(target, weight, scale, None, task.tokens, None, self.subgoal_haste)
        critic = world.critics[level + (not top)] if self.satisfaction == "critic" else None
        upper, scale = (None, one) if top else (world.world_models[level + 1], self.displacement_lifted[level])
        return SubgoalTerm(subgoal.latent, weight, scale, upper, task.tokens, critic, self.subgoal_haste)

    def _weight(self, level: int, subgoal: Subgoal) -> Float[Tensor, " B"]:
        """Energy of a unit of what is made of the subgoal; 0 where there is none."""
        return subgoal.active * self.subgoal_weight * self._unit(level)

    def _unit(self, level: int) -> Float[Tensor, ""]:
        """Where a level has no energies of its own, the subgoal is all that counts, and any unit will do."""
        return torch.where(self.energy_unit[level] > 0, self.energy_unit[level], 1.0)

    @torch.no_grad()
    def search(
        self,
        world: World,
        level: int,
        state: Tensor,
        subgoal: Subgoal,
        task: Task,
        first_step: Float[Tensor, "B A"] | None = None,
    ) -> Plan:
        """Mode-2 search of one level over all rows (L22 section 3.1.2)."""
        if self.hindsight.follows(level):
            followed = self._followed(level, state, subgoal)
            first_step = followed if first_step is None else first_step + followed
        problem = self.problem(world, level, state, subgoal, task, first_step)
        warm_start = self._unrolled(world, level, problem, subgoal, task) if self.warm_start else None
        planner = self.planners[level]
        assert isinstance(planner, Planner)
        return planner.plan(problem, warm_start)

    def _followed(self, level: int, state: Float[Tensor, "B D"], subgoal: Subgoal) -> Float[Tensor, "B A"]:
        """Energy of each first choice: how unlikely it is to lead to the subgoal, or for a level alone to be good."""
        if len(self.levels) == 1:
            subgoal = held(torch.zeros_like(subgoal.latent))
        return self._weight(level, subgoal)[:, None] * self.hindsight.unlikelihood(level, state, subgoal.latent)

    def _unrolled(
        self, world: World, level: int, problem: LatentProblem, subgoal: Subgoal, task: Task
    ) -> Float[Tensor, "B H A"]:
        """The policy unrolled through the world model, as log-probabilities (L22 section 3.1.3)."""
        node, steps = problem.root(), []
        for _ in range(problem.horizon):
            state = node.state[:, 0].mean(1)
            logits, _ = self.policies[level](state, subgoal.latent, subgoal.active, task.tokens)
            steps.append(logits.log_softmax(-1))
            choice = nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
            node = problem.step(node, choice[:, None])
        return torch.stack(steps, 1)

    def _coordinated(
        self,
        world: World,
        level: int,
        states: tuple[Tensor, ...],
        subgoal: Subgoal,
        plan: Plan,
        task: Task,
        been: tuple[Float[Tensor, "B R D0"], Bool[Tensor, "B R"]],
    ) -> tuple[Plan, Float[Tensor, "B D"]]:
        """The best first choices of `level` tried out on the level below: what to hand down, and the plan with what
        that cost."""
        problem = self.problem(world, level, states[level], subgoal, task)
        energies, reached, spent = first_choices(problem, plan, self.joint_candidates)
        rows, count = energies.shape
        of_row = torch.arange(rows, device=energies.device).repeat_interleave(count)
        aim = held(reached.flatten(0, 1))
        below = self.search(world, level - 1, states[level - 1][of_row], aim, task[of_row])
        if self.coordination == "joint":
            total, ends = energies + below.energy.view(rows, count), reached
        else:
            lifted = world.world_models[level].encoder(below.states, spread(task.tokens[of_row], below.states))
            nearest = (lifted - aim.latent[:, None]).square().sum(-1).argmin(1)
            ends = take(lifted, nearest[:, None]).view_as(reached)
            total = energies - problem.ending(reached) + problem.ending(ends)
        if self.habituation_above > 0:
            lifted = world.lift(been[0], spread(task.tokens, been[0]))[level]
            met = familiarity(ends, lifted, been[1], NEAR * self.displacement_lifted[level - 1])
            total = total + self.habituation_above * self._unit(level) * met
        spent = spent + plan.evaluations + below.evaluations
        return replace(plan, evaluations=spent), take(ends, total.argmin(1, keepdim=True))[:, 0]

    # -------------------------------------------------------------------------------------------- learning
    def calibrate(self, lifted: Float[Tensor, " above"], own: Float[Tensor, " above"]) -> None:
        for mean, new in ((self.displacement_lifted, lifted), (self.displacement_own, own)):
            mean.copy_(torch.where(new.isnan(), mean, mean.lerp(new.to(mean), 0.02)))

    def loss(self, world: World, states: tuple[Tensor, ...], task: Task, walked: tuple[Walked, ...]) -> Loss:
        total, info = self.hindsight.loss(states, walked)
        rows = torch.randperm(len(states[0]), device=states[0].device)[: self.distil_rows]
        states, task = tuple(state[rows].detach() for state in states), task[rows]
        top = len(states) - 1
        subgoal = absent(states[top])
        for level in range(top, -1, -1):
            if self.hindsight.sets(level):
                subgoal = held(self.hindsight.proposal(level, states[level], subgoal.latent).detach())
                continue
            self._measure(world, level, states[level], task)
            plan = self.search(world, level, states[level], subgoal, task)
            arguments = (states[level], subgoal.latent, subgoal.active, task.tokens.detach())
            policy = self.policies[level]
            assert isinstance(policy, Policy)
            loss, terms = policy.loss(*arguments, plan)
            total = total + loss
            info |= {f"{name}_{level}": value for name, value in terms.items()}
            if level > 0:
                subgoal = self._mixed_subgoal(level, plan, arguments)
        return total, info

    @torch.no_grad()
    def _measure(self, world: World, level: int, state: Float[Tensor, "B D"], task: Task) -> None:
        """Track how much one choice differs from another by the level's own energies."""
        nowhere = absent(state.new_zeros(len(state), self.levels[level].upper_dim))
        problem = self.problem(world, level, state, nowhere, task)
        energies = problem.score(expand(problem, problem.root()))
        self.energy_unit[level].lerp_(energies.std(1).mean(), 0.02)

    @torch.no_grad()
    def _mixed_subgoal(self, level: int, plan: Plan, arguments: tuple[Tensor, ...]) -> Subgoal:
        """Half of the rows go on under the plan's subgoal, half under the policy's, so that mode 1 is trained for
        its own."""
        _, proposal = self.policies[level](*arguments)
        coin = torch.rand(len(proposal), 1, device=proposal.device) < 0.5
        return held(torch.where(coin, plan.states[:, 0], proposal))

"""The rows of the table: one agent, the same tasks, and one thing changed from row to row."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from experiments.goal_reaching.learn import lifted
from experiments.goal_reaching.tasks import Games, OracleWay, Task
from hjepa.agent import Agent, AgentState
from hjepa.build import build_agent
from hjepa.config import load

Cost = Literal["latent", "critic"]


@dataclass(frozen=True)
class Row:
    """How an agent plans."""

    name: str
    levels: int
    """How many levels act, from the lowest."""
    cost: Cost
    """What the highest of them goes by: the distance of states in its space, or its critic."""
    overrides: tuple[str, ...] = ()
    """Settings that differ from the run's."""
    oracle: bool = False
    """Whether level 0 gets its subgoals from a shortest path: diagnosis only."""


@dataclass(frozen=True)
class Played:
    """What came of the tasks, in their order."""

    success: Bool[np.ndarray, " E"]
    taken: Int[np.ndarray, " E"]
    evaluations: float
    """Predictor evaluations a decision of one task."""


def planning_as(agent: Agent, config: Path, overrides: Sequence[str]) -> Agent:
    """The same weights under other settings of planning than those of the config file."""
    other = build_agent(load(config, overrides), agent.spec.env)
    other.load_state_dict(agent.state_dict())
    return other.eval()


@torch.no_grad()
def play(agent: Agent, env_id: str, tasks: Sequence[Task], row: Row) -> Played:
    """Play tasks side by side until each is done or its budget is spent."""
    torch.manual_seed(0)
    games = Games(env_id, tasks)
    goals = agent.goal_state(games.goals())
    way = OracleWay(games, agent.spec.levels[1].span) if row.oracle else None
    rows = torch.arange(len(tasks))
    state, action = agent.initial(len(rows), rows.device), torch.full((len(tasks),), -1)
    spent, decisions = 0, 0
    while bool(games.playing.any()):
        still = torch.from_numpy(games.playing)[rows]
        rows, state = rows[still], kept(state, still)
        goal, injected, aim = goals[rows], None, None
        if way is not None:
            injected = {0: lifted(agent, agent.goal_state(way.views())[rows], 1)}
        elif row.cost == "latent":
            above = min(row.levels, len(agent.spec.levels) - 1)
            injected = {row.levels - 1: lifted(agent, goal, above)}
        else:
            aim = goal
        decision, state = agent.act(games.record(action)[rows], state, 2, 0.0, row.levels, injected, aim)
        spent, decisions = spent + int(decision.evaluations), decisions + len(rows)
        action = action.index_copy(0, rows, decision.action)
        games.act(action)
    return Played(games.success, games.taken, spent / decisions)


def kept(state: AgentState, rows: Bool[Tensor, " B"]) -> AgentState:
    """The state of some rows."""
    if bool(rows.all()):
        return state
    of_rows = {
        field.name: getattr(state.memory, field.name)[rows]
        for field in fields(state.memory)
        if field.name not in ("visits", "interactions")
    }
    memory = replace(state.memory, **of_rows)
    subgoals = tuple(subgoal[rows] for subgoal in state.subgoals)
    return AgentState(state.carry[rows], memory, state.predicted[rows], state.time[rows], subgoals)

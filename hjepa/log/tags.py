"""TensorBoard tags, each with its unit and how it looks in a healthy and in a sick run.

A tag with a `{hole}` is called with what fills it: `CRITERION(0, "variance")` is "level_0/criterion/variance". Scalars
carry their description into TensorBoard's cards. Here is what training itself writes; `sample_tags.py` has what is read
off sample episodes, and `page.py` makes docs/tensorboard.md of both.
"""

from hjepa.log import sample_tags
from hjepa.log.tag import Tag

# ---- world models
PREDICTION_ENERGY = Tag(
    "level_{level}/prediction_energy",
    "Error of the one-step prediction, relative to the variance of the target: the energy E(x, y, z) of the JEPA.",
    "ratio to the variance",
    "falls well below 1, then flattens",
    "near 1: predicts no better than the mean; at 0 with `std` at 0: collapsed",
)
ROLLOUT_ERROR = Tag(
    "level_{level}/rollout_error/depth_{depth}",
    "Error of the state predicted by rolling the world model out over this many of its own steps.",
    "ratio to the variance",
    "grows slowly with the depth; stays below 1 up to the planner's horizon",
    "passes 1 within the horizon: plans beyond that depth are noise, shorten the horizon or train longer rollouts",
)
CRITERION = Tag(
    "level_{level}/criterion/{name}",
    "One term of the level's objective: the four JEPA criteria (informative x, informative y, predictable, "
    "little information in z) and the auxiliary terms, as weighed in the loss.",
    "loss",
    "every term moves early and settles; none dominates by orders of magnitude",
    "a term that never falls is not being traded off: raise its weight; one stuck at 0 is switched off",
)
STANDARD_DEVIATION = Tag(
    "level_{level}/std",
    "Standard deviation of the states over the batch, mean over dimensions.",
    "latent units",
    "settles at the objective's target (1 for most)",
    "drifts to 0: complete collapse",
)
EFFECTIVE_RANK = Tag(
    "level_{level}/effective_rank",
    "Exponential of the entropy of the normalised singular values of the batch's states: how many dimensions are used.",
    "dimensions",
    "rises to a good part of the width, stays",
    "a handful: dimensional collapse; raise the covariance term",
)
WITHIN_EPISODE_STD = Tag(
    "level_{level}/within_episode_std",
    "Standard deviation of the states inside one episode, mean over dimensions: what changes as the agent acts.",
    "latent units",
    "a good part of `std`",
    "near 0 while `std` is healthy: slow-feature collapse, the state holds the layout and has lost the agent",
)
MACRO_PERPLEXITY = Tag(
    "macro_{level}/perplexity",
    "Exponential of the entropy of how often each macro-action is inferred from the data.",
    "macro-actions",
    "several, below the number of codes",
    "1: all behaviour is one macro-action, the level has nothing to choose from",
)
MACRO_DATA_SUPPORT = Tag(
    "macro_{level}/data_support",
    "Log-probability of the macro-actions in the data, given the state: what the prior over macro-actions learns.",
    "nats",
    "rises above minus the log of the number of codes",
    "stays there: behaviour does not depend on the state, or the prior learns nothing",
)
# ---- cost and critic
ENERGY = Tag(
    "energy/{drive}",
    "Mean energy of one drive on arriving at a step while collecting, unweighted. Lower is better; a reward of +1 is "
    "an energy of -1.",
    "energy a step",
    "`task` falls as successes come; exploration drives fade slowly",
    "an exploration drive that never fades pays more than the task",
)
ENERGY_TOTAL = Tag(
    "energy/total",
    "Mean weighted sum of all drives: the intrinsic cost that the agent minimises.",
    "energy a step",
    "falls",
    "flat: nothing is learnt, or the drives cancel",
)
CRITIC_VALUE = Tag(
    "critic_{level}/value",
    "Mean energy-to-go that the critic gives the states met.",
    "energy",
    "follows the discounted energies that come",
    "grows without bound: bootstrapping diverges; rises while `energy/total` falls: wrong sign or stale target",
)
CRITIC_CORRELATION = Tag(
    "critic_{level}/correlation",
    "Correlation of the critic's energy-to-go with its own targets over the training batch.",
    "correlation",
    "rises to near 1",
    "stays low: targets are noise, or the critic is too slow for them",
)
CRITIC_TERM = Tag(
    "critic_{level}/{term}",
    "Another term of the critic's loss: its error, its mean target and scale, its agreement on imagined states.",
    "loss",
    "settles",
    "grows without bound: bootstrapping diverges",
)
GUARDRAIL_HITS = Tag(
    "guardrail/hits_{drive}",
    "Share of steps at which a guardrail spoke (its energy was above 0).",
    "share",
    "falls to 0",
    "stays: the agent pays the guardrail rather than keep away; raise its floor",
)
CONFIGURATOR_WEIGHT = Tag(
    "configurator/weight_{drive}",
    "Weight the configurator gives a drive, mean over the decisions while collecting.",
    "ratio",
    "steady for `fixed`; differs between missions for `mission`",
    "all at their floors: the configurator has switched the cost off",
)
# ---- episodes
TRAIN_SUCCESS = Tag(
    "train/success",
    "Share of the last training episodes with a positive return (exploration included).",
    "share",
    "rises",
    "falls after a rise: look at `critic_0/calibration` and `level_0/std` at that time",
)
TRAIN_RETURN = Tag("train/return", "Mean return of the last training episodes.", "reward", "rises", "flat")
TRAIN_LENGTH = Tag(
    "train/length",
    "Mean length of the last training episodes.",
    "environment steps",
    "falls as the goal is found faster",
    "stays at the time limit",
)
TRAIN_EPISODES = Tag(
    "train/episodes",
    "Training episodes that ended since the last row: how many its success, return and length are means of.",
    "episodes",
    "rises as episodes become shorter",
    "1 or 2: a row says little, look at several together",
)
HELD_OUT_SUCCESS = Tag(
    "held_out/success_mode_{mode}",
    "Share of successes on layouts never trained on, without exploration, by policy (mode 1) or planning (mode 2).",
    "share",
    "follows `train/success`",
    "far below it: layouts are memorised",
)
HELD_OUT_RETURN = Tag("held_out/return_mode_{mode}", "Mean return on held-out layouts.", "reward", "rises", "flat")
HELD_OUT_LENGTH = Tag(
    "held_out/length_mode_{mode}",
    "Mean episode length on held-out layouts.",
    "environment steps",
    "falls",
    "at the time limit",
)
# ---- subgoals
SUBGOAL_DISTANCE = Tag(
    "subgoal_{level}/distance",
    "Mean distance of the state to the subgoal it is given, over all steps.",
    "typical displacement over one step of the level above",
    "around or below 1",
    "far above 1: subgoals are out of reach; near 0: they ask for nothing",
)
SUBGOAL_DISTANCE_AT = Tag(
    "subgoal_{level}/distance/step_{step}",
    "The same, by how many environment steps ago the subgoal was set.",
    "typical displacement over one step of the level above",
    "falls over the subgoal's life: the level goes where it is told",
    "flat: the lower level ignores its subgoals, or cannot tell the way",
)
SUBGOAL_REACH_RATE = Tag(
    "subgoal_{level}/reach_rate",
    "Share of the replaced subgoals that were reached before their deadline.",
    "share",
    "a half and more",
    "0: never reached; 1 with `time_to_reach` near 1: the tolerance is too wide",
)
SUBGOAL_TIME_TO_REACH = Tag(
    "subgoal_{level}/time_to_reach",
    "Steps from setting to reaching, of subgoals that were reached.",
    "environment steps",
    "between a third of the stride and the stride",
    "1: subgoals are reached before anything is done",
)
SUBGOAL_COMMITMENT = Tag(
    "subgoal_{level}/commitment",
    "Steps for which a subgoal is kept, whatever ended it.",
    "environment steps",
    "a good part of the deadline",
    "near 1: a new subgoal every step, the hierarchy acts as a flat agent",
)
SUBGOAL_CHURN = Tag(
    "subgoal_{level}/churn",
    "Distance of a new subgoal to the one it replaces, over their mean norm: 0 is the same again, 1.4 unrelated.",
    "ratio",
    "between: the next subgoal carries on from the last",
    "near 0: the level above always says the same; at 1.4 with short commitment: it dithers",
)
SUBGOAL_REASON = Tag(
    "subgoal_{level}/reason_{reason}",
    "Share of the replacements made for this reason: deadline, reached, surprise.",
    "share",
    "mostly reached",
    "all deadline: out of reach; all surprise: the level-0 world model is wrong or its threshold too low",
)
# ---- the rest of the agent
MODE_2_SHARE = Tag(
    "mode/share_2",
    "Share of decisions made by planning (mode 2) rather than by the policy (mode 1).",
    "share",
    "as configured; with `auto` falls as the policy learns",
    "with `auto` stays at 1: the policy never becomes sure",
)
MEMORY_OCCUPANCY = Tag(
    "memory/occupancy",
    "Filled share of the short-term memory, mean over environments.",
    "share",
    "below 1",
    "at 1 most of the time: episodes outrun the memory, raise its capacity",
)
EVALUATIONS = Tag(
    "actor/evaluations",
    "Predictor evaluations a decision, over all levels.",
    "evaluations",
    "steady; falls with `mode/share_2`",
    "more than the time a step may take",
)
SURPRISE = Tag(
    "actor/surprise",
    "Level-0 prediction error of the last step relative to its running mean.",
    "ratio",
    "near 1",
    "above `actor.surprise_threshold` on the whole: subgoals are thrown away at every step",
)
ACTOR_TERM = Tag(
    "actor/{term}_{level}",
    "A term of the distillation of plans into a level's policy: divergence and agreement with the plan, the policy's "
    "entropy, the error of the state it hands down. With `satisfaction: hindsight` also the cross-entropy (`follower`) "
    "and accuracy of telling which choice led where the agent then was, with `proposal: hindsight` the squared error "
    "of telling where the better walks led (`setter`).",
    "nats, share, latent units",
    "divergence falls, agreement rises",
    "agreement stays at one over the number of choices: mode 1 is chance",
)
LOSS = Tag(
    "loss/{name}",
    "The whole loss of an update (`total`), and the norm of its gradient before clipping (`gradient_norm`).",
    "loss",
    "moves early and settles",
    "gradient norm above `train.gradient_clip` all the time: lower the learning rate",
)
PROBE_CELL_ACCURACY = Tag(
    "probe_{level}/cell_accuracy",
    "Share of the view's 49 cells whose object a probe decodes rightly from the level's detached state.",
    "share",
    "rises with training; falls a little from level to level",
    "below 0.6 at level 0: the state does not hold what is seen, and pictures of subgoals mean little",
)
PROBE_POSITION_ERROR = Tag(
    "probe_{level}/position_error",
    "Mean distance of the position (since the episode's start, by dead reckoning) that a linear "
    "probe reads from the state.",
    "cells",
    "falls to a cell or two where the perception remembers",
    "at the spread of positions: the state has lost where the agent is",
)
# ---- speed
FRAMES_PER_SECOND = Tag(
    "speed/frames_per_second",
    "Environment steps a second, over everything the run does.",
    "1/s",
    "steady",
    "falls over time: a leak, or a full disk",
)
TIME_SHARE = Tag(
    "time_share/{part}",
    "Share of the wall time spent in experience (collecting, and drawing a batch from the store), loss, backward (and "
    "step) and log.",
    "share",
    "log below a twentieth over a whole run",
    "log above a tenth over a whole run: raise the intervals under `log:`",
)

TRAINING: tuple[Tag, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Tag))
"""What training itself writes, in the order of this file, which is the order of the documentation."""
ALL = TRAINING + sample_tags.ALL

SUBGOAL_REASONS = ("deadline", "reached", "surprise")
TIME_PARTS = ("experience", "loss", "backward", "log")


def find(tag: str) -> Tag | None:
    """The tag or family that a filled tag belongs to; one without holes comes first. None if unknown."""
    found = [known for known in ALL if known.matches(tag)]
    return min(found, key=lambda known: known.pattern.count("{"), default=None)

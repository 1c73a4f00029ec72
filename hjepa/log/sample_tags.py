"""Tags of what sample episodes on held-out layouts show: predictions, reality gap, calibration, probes, pictures."""

from hjepa.log.tag import Tag

FACTS = ("position", "direction", "carried", "door", "goal_in_view", "room")
"""What the probe matrix asks for (`log/facts.py`)."""

# ---- predictions against what was then perceived
TEACHER_FORCED = Tag(
    "prediction_{level}/teacher_forced/depth_{depth}",
    "Error of one step from the perceived state, at the same moments as the open-loop error of this depth.",
    "ratio to the variance",
    "below the open-loop error, about the same at every depth",
    "above it: states that were seen are predicted worse than states that were predicted; the world model drifts to a "
    "set of its own",
)
OPEN_LOOP = Tag(
    "prediction_{level}/open_loop/depth_{depth}",
    "Error of the state predicted by feeding the model's own states back, under the actions that were taken, on "
    "held-out layouts.",
    "ratio to the variance",
    "grows slowly with the depth",
    "passes 1 within the horizon: plans of that depth are noise",
)
PLANNED = Tag(
    "prediction_{level}/planned/depth_{depth}",
    "Reality gap of the state: the state that a plan promised at this depth against the one then perceived.",
    "ratio to the variance",
    "near the open-loop error",
    "far above it: what was planned is not what is then done (re-planning, or the level below goes elsewhere)",
)
GAP_ENERGY = Tag(
    "gap_{level}/energy",
    "Reality gap of the energy: promised less met, mean over plans.",
    "energy",
    "near 0",
    "negative: plans are optimistic, the search finds the model's mistakes; positive: they leave out ways to gain",
)
GAP_SIZE = Tag(
    "gap_{level}/size",
    "The same without its sign.",
    "energy",
    "well below the spread of `promised`",
    "as large as the spread: plans say nothing of what will come",
)
GAP_PROMISED = Tag(
    "gap_{level}/promised",
    "Energy that plans promise over their horizon, with the critic at its end and without the subgoal's distance.",
    "energy",
    "moves with `met`",
    "falls while `met` does not: self-deception",
)
GAP_MET = Tag(
    "gap_{level}/met",
    "Energy that was then met over the same steps, with the critic of the state perceived at their end.",
    "energy",
    "falls",
    "rises",
)
# ---- macro-actions and memory
MACRO_SUPPORT = Tag(
    "macro_{level}/support",
    "In-support score: log-probability under the data of the macro-actions that the planner chooses, given the state.",
    "nats",
    "near `data_support`",
    "far below it: plans leave what the world model was trained on",
)
MACRO_CHOSEN_PERPLEXITY = Tag(
    "macro_{level}/chosen_perplexity",
    "Exponential of the entropy of how often the planner chooses each macro-action first.",
    "macro-actions",
    "several",
    "1: the planner always wants the same, whatever the state",
)
MACRO_CHOSEN = Tag(
    "macro_{level}/chosen",
    "Histogram of the macro-actions (code numbers) that the planner chooses first.",
    "histogram",
    "several codes, changing little late in a run",
    "one code; or codes that swap at every reading",
)
MEMORY_MATCH = Tag(
    "memory/read_match",
    "What is read: cosine of the state and the memory's soft read for it, before it is written; 0 where nothing near.",
    "cosine",
    "rises within an episode as places are seen again",
    "0: reads find nothing; 1 from the first step: all states look alike",
)
MEMORY_AGE = Tag(
    "memory/read_age",
    "How long ago the entry nearest to the state was written, mean; the histogram shows all.",
    "environment steps",
    "mostly short, with a tail: places that were left and met again",
    "always 1: the memory tells nothing that the last state did not",
)
MEMORY_REVISITS = Tag(
    "memory/revisits",
    "Earlier entries of the episode with the same view as now, mean.",
    "entries",
    "below 1",
    "grows: the agent goes round in circles or stands still",
)
# ---- critics
CRITIC_CALIBRATION = Tag(
    "critic_{level}/calibration",
    "Mean difference of the critic's energy-to-go and the discounted energy that then came, on held-out layouts. "
    "Records count where at least 0.3 of the discounted future was seen; of the rest the critic speaks for itself.",
    "energy",
    "near 0",
    "negative: optimistic, promises less cost than comes; positive: pessimistic",
)
CRITIC_REALISED = Tag(
    "critic_{level}/realised_correlation",
    "Correlation of the critic's energy-to-go with the discounted energy that then came, over the same records.",
    "correlation",
    "rises well above 0",
    "at or below 0: the critic orders states wrongly, and plans that end by it are led astray",
)
CRITIC_CALIBRATION_PICTURE = Tag(
    "critic/calibration",
    "Picture: energy-to-go said against realised, a point a record; the line is the mean by bin.",
    "picture",
    "points along the diagonal",
    "a flat line: the critic says the same everywhere; a line above the diagonal: optimistic",
)
VALUE_MAP = Tag(
    "critic/map",
    "Picture: each critic's energy-to-go over the cells of one held-out layout, with the agent put there (mean over "
    "directions, memory fresh).",
    "picture",
    "falls toward the next thing to do (key, door, goal)",
    "flat, or lowest in a corner: the critic knows the view and not the way",
)
# ---- what states hold
PROBE_FACT = Tag(
    "probe_{level}/{fact}",
    "Probe matrix: share of records on other layouts whose true fact (position, direction, carried object, state of "
    "the nearest door, goal in view, room) a linear probe reads from the level's state. A position is right to the "
    "cell.",
    "share",
    "above `probe_baseline` at level 0 for all that the task needs; may fall with the level",
    "at the baseline: the state does not hold it, and no plan can be made about it",
)
PROBE_BASELINE = Tag(
    "probe_baseline/{fact}",
    "The same for always naming the commonest class.",
    "share",
    "far from 1: the sample shows more than one case",
    "near 1: the sample hardly varies, and the probe's figure says little",
)
PROBE_MATRIX = Tag(
    "probe/matrix",
    "Picture: the probe matrix, facts by levels.",
    "picture",
    "green where the level needs the fact",
    "a row as red as its baseline",
)
STATES = Tag(
    "level_{level}/states",
    "*Projector* tab: the level's states, with room, carried object, door state and more to colour them by.",
    "picture",
    "rooms, and carrying or not, lie apart; an episode is a path",
    "one cloud whatever it is coloured by: the fact is not in the state (see the probe matrix)",
)
# ---- episodes
EPISODE_STRIP = Tag(
    "episode/held_out",
    "Animation: one held-out layout; the view, each level's subgoal as the probe decodes it, the true grid with level "
    "0's plan (dots) and the higher levels' waypoints (rings, joined); a bar below marks every re-plan by its reason.",
    "picture",
    "subgoals look like views a few steps ahead, and are met",
    "grey mush: states hold no view (see `probe_0/cell_accuracy`), or subgoals are no states at all",
)
NOTES = Tag(
    "log/notes",
    "*Text* tab: what this run cannot show, a line each (a level or a door that it does not have).",
    "text",
    "empty, or what you know of the environment",
    "something is left out that the run should have",
)
CONFIG = Tag(
    "run/config",
    "*Text* tab: every setting of the run, as resolved.",
    "text",
    "what you meant",
    "a setting that you did not mean",
)

ALL: tuple[Tag, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Tag))
"""In the order of this file, which is the order of the documentation."""

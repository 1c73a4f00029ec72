"""The arrangement of charts in TensorBoard's *Custom scalars* tab: six questions, top to bottom."""

from collections.abc import Sequence

from hjepa.log import sample_tags, tags

Layout = dict[str, dict[str, list[str | list[str]]]]
MODES = (1, 2)
ANY = "[^/]+"
"""TensorBoard reads each name as a regular expression; the tags have no special character to escape."""


def layout(num_levels: int, drives: Sequence[str]) -> Layout:
    """Categories of charts for an agent of `num_levels` levels and the named drives."""
    return {
        "1 Does it solve the task?": _task_charts(drives),
        "2 What do the states hold?": _state_charts(num_levels),
        "3 Are they predictable?": _prediction_charts(num_levels),
        "4 Do the levels work together?": _subgoal_charts(num_levels),
        "5 Do plans and critics keep their word?": _promise_charts(num_levels),
        "6 Memory, modes and speed": _rest_charts(),
    }


def _task_charts(drives: Sequence[str]) -> dict[str, list[str | list[str]]]:
    return {
        "success": _lines([tags.TRAIN_SUCCESS(), *(tags.HELD_OUT_SUCCESS(mode) for mode in MODES)]),
        "return": _lines([tags.TRAIN_RETURN(), *(tags.HELD_OUT_RETURN(mode) for mode in MODES)]),
        "length": _lines([tags.TRAIN_LENGTH(), *(tags.HELD_OUT_LENGTH(mode) for mode in MODES)]),
        "energies": _lines([tags.ENERGY_TOTAL(), *(tags.ENERGY(drive) for drive in drives)]),
        "weights of the drives": _lines([tags.CONFIGURATOR_WEIGHT(drive) for drive in drives]),
        "guardrails": _lines([tags.GUARDRAIL_HITS(ANY)]),
    }


def _state_charts(num_levels: int) -> dict[str, list[str | list[str]]]:
    levels = range(num_levels)
    return {
        "effective rank": _lines([tags.EFFECTIVE_RANK(level) for level in levels]),
        "standard deviation": _lines([tags.STANDARD_DEVIATION(level) for level in levels]),
        "within an episode": _lines([tags.WITHIN_EPISODE_STD(level) for level in levels]),
        "view decoded": _lines([tags.PROBE_CELL_ACCURACY(level) for level in levels]),
        **{
            fact.replace("_", " "): _lines(
                [*(sample_tags.PROBE_FACT(level, fact) for level in levels), sample_tags.PROBE_BASELINE(fact)]
            )
            for fact in sample_tags.FACTS
        },
    }


def _prediction_charts(num_levels: int) -> dict[str, list[str | list[str]]]:
    levels = range(num_levels)
    charts = {"one step, in training": _lines([tags.PREDICTION_ENERGY(level) for level in levels])}
    for level in levels:
        charts |= {
            f"teacher-forced, level {level}": _lines([sample_tags.TEACHER_FORCED(level, ANY)]),
            f"open-loop, actions taken, level {level}": _lines([sample_tags.OPEN_LOOP(level, ANY)]),
            f"open-loop, actions planned, level {level}": _lines([sample_tags.PLANNED(level, ANY)]),
            f"criteria, level {level}": _lines([tags.CRITERION(level, ANY)]),
        }
    return charts


def _subgoal_charts(num_levels: int) -> dict[str, list[str | list[str]]]:
    lower, upper = range(max(num_levels - 1, 0)), range(1, num_levels)
    charts = {}
    for level in lower:
        charts |= {
            f"distance to the subgoal, by age, level {level}": _lines([tags.SUBGOAL_DISTANCE_AT(level, ANY)]),
            f"steps kept, steps to reach, level {level}": _lines(
                [tags.SUBGOAL_COMMITMENT(level), tags.SUBGOAL_TIME_TO_REACH(level)]
            ),
            f"why re-planned, level {level}": _lines(
                [tags.SUBGOAL_REASON(level, reason) for reason in tags.SUBGOAL_REASONS]
            ),
        }
    for level in upper:
        charts |= {
            f"macro-actions in use, level {level}": _lines(
                [tags.MACRO_PERPLEXITY(level), sample_tags.MACRO_CHOSEN_PERPLEXITY(level)]
            ),
            f"in support, level {level}": _lines([tags.MACRO_DATA_SUPPORT(level), sample_tags.MACRO_SUPPORT(level)]),
        }
    if lower:
        charts |= {
            "reached in time": _lines([tags.SUBGOAL_REACH_RATE(level) for level in lower]),
            "churn": _lines([tags.SUBGOAL_CHURN(level) for level in lower]),
        }
    return charts


def _promise_charts(num_levels: int) -> dict[str, list[str | list[str]]]:
    levels = range(num_levels)
    return {
        **{
            f"promised and met, level {level}": _lines([sample_tags.GAP_PROMISED(level), sample_tags.GAP_MET(level)])
            for level in levels
        },
        "gap of the energy": _lines([sample_tags.GAP_ENERGY(level) for level in levels]),
        "critic less what came": _lines([sample_tags.CRITIC_CALIBRATION(level) for level in levels]),
        "critic with what came": _lines([sample_tags.CRITIC_REALISED(level) for level in levels]),
        "energy-to-go": _lines([tags.CRITIC_VALUE(level) for level in levels]),
        "surprise": _lines([tags.SURPRISE()]),
    }


def _rest_charts() -> dict[str, list[str | list[str]]]:
    return {
        "memory filled, mode 2": _lines([tags.MEMORY_OCCUPANCY(), tags.MODE_2_SHARE()]),
        "what memory reads": _lines([sample_tags.MEMORY_MATCH(), sample_tags.MEMORY_REVISITS()]),
        "age of what is read": _lines([sample_tags.MEMORY_AGE()]),
        "evaluations a decision": _lines([tags.EVALUATIONS()]),
        "frames a second": _lines([tags.FRAMES_PER_SECOND()]),
        "where the time goes": _lines([tags.TIME_SHARE(part) for part in tags.TIME_PARTS]),
    }


def _lines(names: list[str]) -> list[str | list[str]]:
    return ["Multiline", list(names)]

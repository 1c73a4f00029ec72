"""The arrangement of charts in TensorBoard's *Custom scalars* tab: five questions, top to bottom."""

from collections.abc import Sequence

from hjepa.log import tags

Layout = dict[str, dict[str, list[str | list[str]]]]


def layout(num_levels: int, drives: Sequence[str]) -> Layout:
    """Categories of charts for an agent of `num_levels` levels and the named drives."""
    levels = range(num_levels)
    return {
        "1 Does it solve the task?": {
            "success": _lines([tags.TRAIN_SUCCESS(), tags.HELD_OUT_SUCCESS()]),
            "return": _lines([tags.TRAIN_RETURN(), tags.HELD_OUT_RETURN()]),
            "length": _lines([tags.TRAIN_LENGTH(), tags.HELD_OUT_LENGTH()]),
            "energies": _lines([tags.ENERGY_TOTAL(), *(tags.ENERGY(drive) for drive in drives)]),
        },
        "2 Are the states informative?": {
            "effective rank": _lines([tags.EFFECTIVE_RANK(level) for level in levels]),
            "standard deviation": _lines([tags.STANDARD_DEVIATION(level) for level in levels]),
            "within an episode": _lines([tags.WITHIN_EPISODE_STD(level) for level in levels]),
            "cells decoded": _lines([tags.PROBE_CELL_ACCURACY(level) for level in levels]),
        },
        "3 Are they predictable?": {
            "one step": _lines([tags.PREDICTION_ENERGY(level) for level in levels]),
            **{f"rollouts, level {level}": _lines([tags.ROLLOUT_ERROR(level, ".*")]) for level in levels},
            **{f"criteria, level {level}": _lines([tags.CRITERION(level, ".*")]) for level in levels},
        },
        "4 Do the levels work together?": _subgoal_charts(num_levels),
        "5 Critic, memory and speed": {
            "energy-to-go": _lines([tags.CRITIC_VALUE(level) for level in levels]),
            "calibration": _lines([tags.CRITIC_CALIBRATION(level) for level in levels]),
            "memory and mode": _lines([tags.MEMORY_OCCUPANCY(), tags.MODE_2_SHARE()]),
            "frames a second": _lines([tags.FRAMES_PER_SECOND()]),
            "where the time goes": _lines([tags.TIME_SHARE(part) for part in tags.TIME_PARTS]),
        },
    }


def _subgoal_charts(num_levels: int) -> dict[str, list[str | list[str]]]:
    lower = range(max(num_levels - 1, 1))
    return {
        "distance to the subgoal": _lines([tags.SUBGOAL_DISTANCE(level) for level in lower]),
        "reached in time": _lines([tags.SUBGOAL_REACH_RATE(level) for level in lower]),
        "commitment": _lines(
            [tag(level) for level in lower for tag in (tags.SUBGOAL_COMMITMENT, tags.SUBGOAL_TIME_TO_REACH)]
        ),
        "churn": _lines([tags.SUBGOAL_CHURN(level) for level in lower]),
        **{
            f"why replaced, level {level}": _lines(
                [tags.SUBGOAL_REASON(level, reason) for reason in tags.SUBGOAL_REASONS]
            )
            for level in lower
        },
        "macro-actions in use": _lines([tags.MACRO_PERPLEXITY(level) for level in range(1, num_levels)]),
        "support": _lines([tags.MACRO_SUPPORT(level) for level in range(1, num_levels)]),
    }


def _lines(names: list[str]) -> list[str | list[str]]:
    # TensorBoard reads each name as a regular expression; the tags have no special character to escape.
    return ["Multiline", list(names)]

"""Prints docs/tensorboard.md: `python -m hjepa.log.page > docs/tensorboard.md`."""

from hjepa.log import sample_tags, tags
from hjepa.log.tag import Tag

HEAD = """\
# What TensorBoard shows

<!-- Generated: python -m hjepa.log.page > docs/tensorboard.md -->

`tensorboard --logdir runs` shows every run under `runs`. The x-axis is environment frames.
Levels count from 0, the one that acts; every energy is a cost, so lower is better. All scalars are
also in the run's `metrics.csv` (`frames,tag,value`).

| tab | what is there |
|---|---|
| Custom scalars | the curves that matter, under six questions, to be read from top to bottom |
| Images | the animated episode strip, the probe matrix, the critics' calibration, their map over a layout |
| Projector | the states of each level; colour them by room, carried object or door |
| Scalars, Histograms | everything; a card's *i* says what it is |
| Text | the run's config, and what this run cannot show (no door, one level), a line each |

How often each kind is written is set under `log:` ([config.md](config.md)); 0 switches it off. Nothing of it
changes the run: the weights are equal to the bit whatever is logged. What looks behind the view (the true
position, carried object, door and room) goes to probes and pictures only.
"""

PICTURES = """\
## The dashboards

A two-level run of `configs/doorkey_8x8.yaml` (`train.seed=2`, 50,000 frames), as a browser shows it.

![Custom scalars](images/tensorboard_custom_scalars.png)

![Images](images/tensorboard_images.png)

![Projector, level 0](images/tensorboard_projector.png)

## How the pictures read

All from one run of `configs/doorkey_5x5.yaml` (`train.seed=100 eval.seed=1000`, 18,000 frames, one CPU thread), by its
last weights.

![One picture of an episode strip](images/tensorboard_strip.png)

One moment of the episode strip: what the agent sees; the subgoal that level 1 set for level 0, as the probe decodes
it from the latent; and the true grid with level 0's plan (dots) and level 1's waypoints (ring, then smaller rings).
The bar has the whole episode: every re-plan in the colour of its reason.

![Probe matrix and map of the critics](images/tensorboard_states.png)

Above, the probe matrix: a fact that a level holds is well above the commonest class. Below, what the critics say of
each place of one held-out layout, on arriving there.

![Calibration of the critics](images/tensorboard_critics.png)

Energy-to-go that the critics said against what came. Points above the diagonal: less was promised than came.
"""

TABLE = ["| tag | what it is | unit | healthy | sick |", "|---|---|---|---|---|"]


def render_markdown() -> str:
    """The whole page."""
    training = ["## While it trains", "", "From collecting and from the updates themselves.", "", *table(tags.TRAINING)]
    sample = [
        "## On sample episodes",
        "",
        "Every so often the agent plays held-out layouts in mode 2, and for the probes also in mode 1 with random",
        "actions in between. All of this is a function of the weights and the layouts alone.",
        "",
        *table(sample_tags.ALL),
    ]
    return "\n".join([HEAD, PICTURES, *training, "", *sample, ""])


def table(rows: tuple[Tag, ...]) -> list[str]:
    """A Markdown table of tags."""
    cells = [f"| `{tag.pattern}` | {tag.meaning} | {tag.unit} | {tag.healthy} | {tag.sick} |" for tag in rows]
    return [*TABLE, *cells]


if __name__ == "__main__":
    print(render_markdown(), end="")

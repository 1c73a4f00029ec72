"""Charts drawn by matplotlib for the *Images* tab: probe matrix, calibration, energy map."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hjepa.log.calibration import realised
from hjepa.log.draw import Picture
from hjepa.log.matrix import ProbeMatrix
from hjepa.log.sample import Sample
from hjepa.log.value_map import ValueMap

BINS = 8
FACT_NAMES = {"goal_in_view": "goal in view", "carried": "carried object", "door": "door state"}


def draw_matrix(matrix: ProbeMatrix) -> Picture:
    """Accuracy by fact (rows) and level (columns); the last column is the commonest class."""
    values = np.concatenate([matrix.accuracy.numpy(), matrix.baseline.numpy()[:, None]], 1)
    levels = matrix.accuracy.shape[1]
    figure = Figure(figsize=(2.4 + 1.0 * (levels + 1), 1.0 + 0.42 * len(values)), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.imshow(values, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(levels + 1), [*(f"level {level}" for level in range(levels)), "commonest\nclass"], fontsize=9)
    axes.set_yticks(range(len(values)), [FACT_NAMES.get(fact, fact) for fact in matrix.facts], fontsize=9)
    for row, column in np.ndindex(*values.shape):
        dark = abs(values[row, column] - 0.5) > 0.38
        color = "white" if dark else "#202020"
        axes.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", fontsize=10, color=color)
    axes.axvline(levels - 0.5, color="white", linewidth=4)
    axes.set_title("linear probes: accuracy on other layouts", fontsize=9)
    return _picture(figure)


def draw_calibration(sample: Sample, discount: float) -> Picture:
    """Said against realised energy-to-go, a panel a level; the diagonal is right, the line is the mean by bin."""
    levels = len(sample.levels)
    figure = Figure(figsize=(3.6 * levels, 3.5), dpi=100, layout="constrained")
    for level, axes in enumerate(np.atleast_1d(figure.subplots(1, levels))):
        came = realised(sample, level, discount)
        said = sample.levels[level].value[came.known].cpu().numpy()
        met = came.energy[came.known].cpu().numpy()
        _scatter(axes, said, met)
        axes.set_title(f"critic, level {level}: {len(said)} records", fontsize=9)
        axes.set_xlabel("energy-to-go that the critic said", fontsize=8)
        axes.set_ylabel("discounted energy that came", fontsize=8)
    return _picture(figure)


def draw_value_map(mapped: ValueMap) -> Picture:
    """The layout, and each level's energy-to-go over it (blue is low, which is good)."""
    levels = len(mapped.energies)
    figure = Figure(figsize=(3.0 * (levels + 1), 3.1), dpi=100, layout="constrained")
    panels = figure.subplots(1, levels + 1)
    rows, columns = mapped.energies.shape[1:]
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    panels[0].set_title("held-out layout", fontsize=9)
    for axes in panels:
        axes.imshow(mapped.grid, extent=extent)
        axes.set_xticks([])
        axes.set_yticks([])
    for level, axes in enumerate(panels[1:]):
        shown = axes.imshow(mapped.energies[level], extent=extent, cmap="coolwarm", alpha=0.85)
        figure.colorbar(shown, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
        axes.set_title(f"energy-to-go, level {level}", fontsize=9)
        if rows <= 10:
            _write_numbers(axes, mapped.energies[level])
    return _picture(figure)


def _scatter(axes: Axes, said: Float[np.ndarray, " n"], met: Float[np.ndarray, " n"]) -> None:
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    if len(said) == 0:
        axes.text(0.5, 0.5, "no episode seen far enough", ha="center", transform=axes.transAxes, fontsize=8)
        return
    low, high = float(min(said.min(), met.min())), float(max(said.max(), met.max()))
    axes.plot([low, high], [low, high], color="#808080", linestyle="--", linewidth=1, label="right")
    axes.scatter(said, met, s=7, alpha=0.35, color="#4878cf", linewidths=0)
    parts = np.array_split(np.argsort(said), min(BINS, len(said)))
    axes.plot(
        [said[part].mean() for part in parts],
        [met[part].mean() for part in parts],
        color="#d1603d",
        marker="o",
        markersize=3,
        label="mean by bin",
    )
    axes.legend(fontsize=7)


def _write_numbers(axes: Axes, energies: Float[np.ndarray, "rows columns"]) -> None:
    for row, column in np.argwhere(np.isfinite(energies)):
        text = f"{energies[row, column]:.2f}"
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="#202020", bbox=box)


def _picture(figure: Figure) -> Picture:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

"""Draw the figures of architectures.md from the models that the project trains, and print its figures.

python docs/draw_architectures.py              # writes docs/images/*.svg
python docs/draw_architectures.py --print      # the counts in the text and tables
"""

import argparse
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from beans_exp.models import build_model, set_trainable
from beans_exp.models.cost import multiply_adds, parameters
from beans_exp.schema import Config, DataConfig, KernelConfig, ModelConfig

IMAGES = Path(__file__).parent / "images"
CLASSES = 3
COLORS = {"conv": "#cfe3f5", "pool": "#f5e3c8", "dense": "#d9efd6", "join": "#ead6ef", "other": "#eeeeee"}
TRAINED, FROZEN = "#d97b29", "#cfd8dc"


@dataclass(frozen=True)
class Cost:
    """Parameters of a model, and multiply-adds of one image."""

    parameters: int
    multiply_adds: int


def build(model: str, **kernel: object) -> keras.Model:
    """Return a model from random weights at 299x299; `kernel` are keys of the group."""
    top = "mixed10" if model == "inception" else None
    config = Config(model=ModelConfig(model, None, top), kernel=KernelConfig(**kernel), data=DataConfig())  # type: ignore[arg-type]
    return build_model(config, CLASSES)


def cost(model: keras.Model) -> Cost:
    """Return what `model` costs."""
    return Cost(parameters(model)[0], multiply_adds(model))


def kernel_cost(rows: int, columns: int, channels: int, side: int) -> int:
    """Return the multiply-adds of one convolution that keeps its `channels` and the `side` of its input."""
    return side * side * rows * columns * channels * channels


def trained_parameters(blocks: int) -> tuple[int, int]:
    """Return trained and frozen parameters of Inception-v3 with its top `blocks` blocks unfrozen."""
    model = build("inception")
    config = Config(model=ModelConfig("inception", "imagenet", "mixed10"))
    set_trainable(model, config, blocks)
    every, trained = parameters(model)
    return trained, every - trained


# drawing


def kind(layer: keras.Layer) -> str:
    """Return which color a layer has."""
    for word, found in (("Conv", "conv"), ("Pooling", "pool"), ("Dense", "dense"), ("Concatenate", "join")):
        if word in type(layer).__name__:
            return found
    return "other"


def box(axes: Axes, x: float, y: float, text: str, color: str, width: float = 1.7, height: float = 0.8) -> None:
    """Draw a labelled box around (x, y)."""
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle="round,pad=0.02", facecolor=color, edgecolor="#666666")
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=7.5)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "#666666", "linewidth": 0.8})


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    return figure, axes


def describe(layer: keras.Layer) -> str:
    """Return a layer's type, its output and its parameters, in three lines."""
    shape = "x".join(f"{size:,}" for size in layer.output.shape[1:])
    names = {"Conv2D": "convolution", "MaxPooling2D": "max pooling", "AveragePooling2D": "average pooling"}
    name = names.get(type(layer).__name__, type(layer).__name__.lower())
    if isinstance(layer, keras.layers.Conv2D):
        name += " " + "x".join(map(str, layer.kernel_size))
    count = layer.count_params()
    return f"{name}\n{shape}" + (f"\n{count:,}" if count else "")


def draw_chains(models: Sequence[tuple[str, keras.Model]]) -> Figure:
    """Draw models whose layers follow one another, a row each."""
    rows = [[layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)] for _, model in models]
    figure, axes = canvas(13, 1.5 * len(rows))
    for row, ((title, _), layers) in enumerate(zip(models, rows, strict=True)):
        y = -1.6 * row
        axes.text(-1.0, y + 0.62, title, fontsize=9, weight="bold")
        for place, layer in enumerate(layers):
            box(axes, 1.95 * place, y, describe(layer), COLORS[kind(layer)])
            if place:
                arrow(axes, (1.95 * place - 1.1, y), (1.95 * place - 0.87, y))
    axes.set(xlim=(-1.1, 1.95 * max(map(len, rows)) - 0.9), ylim=(-1.6 * len(rows) + 0.95, 0.95))
    return figure


def draw_cell(model: keras.Model, cell: str) -> Figure:
    """Draw one Inception cell of GoogLeNet: its four branches from the input to the concatenation."""
    branches = [
        [f"{cell}_1x1"],
        [f"{cell}_3x3_reduce", f"{cell}_3x3"],
        [f"{cell}_5x5_reduce", f"{cell}_5x5"],
        [f"{cell}_pool", f"{cell}_projection"],
    ]
    figure, axes = canvas(8, 4.6)
    entry = model.get_layer(branches[0][0]).input
    box(axes, 3.3, 0, f"input\n{'x'.join(map(str, entry.shape[1:]))}", COLORS["other"])
    box(axes, 3.3, -6, describe(model.get_layer(cell)), COLORS["join"])
    for number, names in enumerate(branches):
        x = 2.2 * number
        heights = [-3.0] if len(names) == 1 else [-2.0, -4.0]
        for name, y in zip(names, heights, strict=True):
            layer = model.get_layer(name)
            box(axes, x, y, describe(layer), COLORS[kind(layer)], width=2.0, height=1.1)
        side = {0: -1, 3: 1}.get(number, 0)
        bend(axes, x, 0, heights[0] + 0.62, side, into_branch=True)
        for above, below in itertools.pairwise(heights):
            arrow(axes, (x, above - 0.6), (x, below + 0.62))
        bend(axes, x, -6, heights[-1] - 0.6, side, into_branch=False)
    axes.set(xlim=(-1.2, 7.8), ylim=(-6.6, 0.6))
    return figure


def bend(axes: Axes, x: float, y: float, end: float, side: int, *, into_branch: bool) -> None:
    """Join the box at (3.3, y) and the branch at `x`: the inner ones straight, the outer ones around a corner."""
    if side:
        corner, edge = (x, y), (3.3 + 0.9 * side, y)
        axes.plot(*zip(*((edge, corner) if into_branch else ((x, end), corner)), strict=True), color="#666666", lw=0.8)
        arrow(axes, *((corner, (x, end)) if into_branch else (corner, edge)))
    elif into_branch:
        arrow(axes, (3.3, y - 0.45), (x, end))
    else:
        arrow(axes, (x, end), (3.3, y + 0.45))


def draw_depths(depths: Iterable[int]) -> Figure:
    """Draw which blocks of Inception-v3 a second stage trains, a row for each of `depths`."""
    blocks = ["stem", *ModelConfig("inception").blocks, "head"]
    figure, axes = canvas(12, 2.6)
    for row, depth in enumerate(depths):
        trained, frozen = trained_parameters(depth)
        title = "frozen" if depth == 0 else f"top {depth}"
        axes.text(-0.65, -row, title, ha="right", va="center", fontsize=9, weight="bold")
        for place, name in enumerate(blocks):
            is_trained = place >= len(blocks) - 1 - depth
            box(axes, place, -row, name, TRAINED if is_trained else FROZEN, width=0.9, height=0.6)
        counts = f"{trained:,} trained\n{frozen:,} frozen"
        axes.text(len(blocks) - 0.4, -row, counts, ha="left", va="center", fontsize=8)
    axes.set(xlim=(-1.7, len(blocks) + 2.0), ylim=(-row - 0.5, 0.5))
    return figure


# counts


def counts() -> dict[str, str]:
    """Return every count that architectures.md states, by a short name."""
    lenet, lenet_factorized = cost(build("lenet")), cost(build("lenet", factorized=True))
    googlenet, googlenet_factorized = cost(build("googlenet")), cost(build("googlenet", factorized=True))
    found = {
        "lenet parameters": f"{lenet.parameters:,}",
        "lenet5 parameters": f"{cost(build('lenet5')).parameters:,}",
        "googlenet parameters": f"{googlenet.parameters:,}",
        "inception parameters": f"{cost(build('inception')).parameters:,}",
        "lenet multiply-adds": _millions(lenet.multiply_adds),
        "lenet factorized multiply-adds": _millions(lenet_factorized.multiply_adds),
        "googlenet multiply-adds": _millions(googlenet.multiply_adds),
        "googlenet factorized multiply-adds": _millions(googlenet_factorized.multiply_adds),
        "5x5": _millions(kernel_cost(5, 5, 64, 35)),
        "two 3x3": _millions(2 * kernel_cost(3, 3, 64, 35)),
        "3x3": _millions(kernel_cost(3, 3, 384, 8)),
        "3x1 and 1x3": _millions(2 * kernel_cost(3, 1, 384, 8)),
    }
    for depth in (0, 2, 3, 6):
        trained, frozen = trained_parameters(depth)
        found |= {f"top {depth} trained": f"{trained:,}", f"top {depth} frozen": f"{frozen:,}"}
    return found


def _millions(value: int) -> str:
    return f"{value / 1e6:,.0f}" if value >= 1e7 else f"{value / 1e6:.{max(0, 2 - int(math.log10(value / 1e6)))}f}"


def main() -> None:
    """Draw, or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true")
    if parser.parse_args().print:
        for name, count in counts().items():
            print(f"{name}: {count}")
        return
    figures = {
        "lenets": draw_chains([("LeNet-5 (1998)", build("lenet5")), ("LeNet of the report", build("lenet"))]),
        "inception_cell": draw_cell(build("googlenet"), "3a"),
        "depths": draw_depths((0, 2, 3, 6)),
    }
    for name, figure in figures.items():
        with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "DejaVu Sans"}):
            figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

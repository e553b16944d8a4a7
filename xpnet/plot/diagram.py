"""The network as circles and lines."""

from typing import Any, NamedTuple

import numpy as np

from ..backend.registry import to_host
from ..layer import Layer, walk_params
from ..layers import Dense
from ..layers.containers import Residual, Sequential
from ..model import Model
from .recorder import hear
from .style import COLOURS, GREY, NEGATIVE, POSITIVE, Axes, numbers, one_axes

SHOWN = 10                                                # units of a layer; of more, the first and the last
NUMBERED = 4                                              # units of a layer up to which weights are written on their edges


class Column(NamedTuple):
    """Units that stand in a column: how many, their name, the path of their weights (of the input, None), and whose output they are."""

    units: int
    name: str
    W: str | None = None
    output: str = ""


def network(net_or_model: Any, ax: Axes = None, values: Any = None) -> Axes:
    """Units as circles and weights as edges: blue above 0, red below, the thicker the larger. Of large layers the middle is left out.

    net_or_model  a chain of Dense layers (Sequential, Residual, Checkpoint, with any activations between); a Model's weights are drawn
    values        what to write into the units: a sample (d,), for which a Model computes every unit's value, or a list with one array for
                  each column of units
    In small networks the weights are written on their edges. Biases are not drawn. An arc is a Residual's x + f(x).
    """
    model = net_or_model if isinstance(net_or_model, Model) else None
    net = net_or_model if model is None else model.net
    if not isinstance(net, Layer):
        raise TypeError(f"network takes a layer such as Sequential(...) or a Model, got {type(net).__name__}")
    columns, arcs = _columns(net)
    written = None if values is None else _values(values, model, columns)
    shown = [_shown(c.units) for c in columns]
    small = max(c.units for c in columns) <= NUMBERED
    gap, scale = (2.4, 0.75) if small else (3.0, 0.48)     # in units of the distance between two circles; inches for that
    places = [_places(s) for s in shown]
    reach = max(max(map(abs, p)) for p in places) + 0.5
    ax = one_axes(ax, (0.5 + scale * gap * len(columns), 1.1 + scale * (2.0 * reach + (0.8 if arcs else 0.0))))
    for i in range(1, len(columns)):
        _edges(ax, i * gap, gap, columns[i], shown[i - 1:i + 1], places[i - 1:i + 1], model, small)
    for i, column in enumerate(columns):
        _units(ax, i * gap, column, shown[i], places[i], None if written is None else written[i], last=i == len(columns) - 1)
    for start, stop in arcs:
        top = max(max(p) for p in places[start:stop + 1]) + 0.6
        ax.annotate("", (stop * gap, places[stop][0] + 0.3), (start * gap, places[start][0] + 0.3),
                    arrowprops={"arrowstyle": "->", "color": GREY, "connectionstyle": f"arc3,rad={-0.25 / (stop - start)}"})
        ax.text((start + stop) / 2 * gap, top, "+ x", color=GREY, ha="center", fontsize="small")
    ax.set_xticks([i * gap for i in range(len(columns))], [c.name for c in columns], fontsize="small")
    ax.set_yticks([])
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set(xlim=(-0.5 * gap, (len(columns) - 0.5) * gap), ylim=(-reach, reach + (0.8 if arcs else 0.0)), aspect="equal",
           xlabel="layer, from input to output", ylabel="unit")
    return ax


def _columns(net: Layer) -> tuple[list[Column], list[tuple[int, int]]]:
    """The columns of units, and between which of them a Residual adds its input."""
    columns: list[Column] = []
    arcs: list[tuple[int, int]] = []

    def walk(layer: Layer, path: str) -> None:
        if isinstance(layer, Sequential):
            start = max(len(columns) - 1, 0)
            for name, child in layer.children().items():
                walk(child, f"{path}.{name}" if path else name)
            if columns:
                columns[-1] = columns[-1]._replace(output=path)
            if isinstance(layer, Residual) and len(columns) - 1 > start:
                arcs.append((start, len(columns) - 1))
        elif isinstance(layer, Dense):
            if not columns:
                columns.append(Column(layer.in_features or 0, f"input\n{layer.in_features} units"))
            f = "" if layer.activation is None else f"\n{type(layer.activation).__name__}"
            name = f"{path or 'Dense'}\n{layer.out_features} units{f}"
            columns.append(Column(layer.out_features or 0, name, f"{path}.W" if path else "W", path))
        elif layer.children() or walk_params(layer):
            raise ValueError(f"network draws chains of Dense layers and activations, and cannot draw layer {path} ({layer!r})")
        elif columns:
            columns[-1] = columns[-1]._replace(name=f"{columns[-1].name}\n{type(layer).__name__}", output=path)

    walk(net, "")
    if not columns:
        raise ValueError(f"network draws the units of Dense layers, and there are none in {net!r}")
    return columns, arcs


def _shown(units: int) -> list[int | None]:
    """Which units are drawn; None stands for those left out."""
    if units <= SHOWN:
        return list(range(units))
    half = (SHOWN - 1) // 2
    return [*range(SHOWN - 1 - half), None, *range(units - half, units)]


def _places(shown: list[int | None]) -> list[float]:
    return [(len(shown) - 1) / 2 - i for i in range(len(shown))]


def _edges(ax: Axes, x: float, gap: float, column: Column, shown: Any, places: Any, model: Model | None, small: bool) -> None:
    W = None if model is None or column.W is None else numbers(model.get_param(column.W), "W")
    largest = 1.0 if W is None else float(np.abs(W).max()) or 1.0
    lanes = np.linspace(0.3, 0.68, len(shown[0])) if len(shown[0]) > 1 else [0.5]   # the numbers of each unit's edges stand in a row
    for i, a, at in zip(shown[0], places[0], lanes):
        for j, b in zip(shown[1], places[1]):
            if i is None or j is None:
                continue
            w = 0.0 if W is None else W[i, j]
            colour = GREY if W is None else POSITIVE if w >= 0.0 else NEGATIVE
            ax.plot([x - gap, x], [a, b], color=colour, linewidth=0.6 if W is None else 0.2 + 2.3 * abs(w) / largest, alpha=0.8, zorder=1)
            if W is not None and small:
                ax.text(x - gap + at * gap, a + at * (b - a), f"{w:.3g}", fontsize=7, ha="center", va="center", zorder=2,
                        bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.85})


def _units(ax: Axes, x: float, column: Column, shown: list[int | None], places: list[float], values: np.ndarray | None, last: bool) -> None:
    colour = COLOURS[2] if column.W is None else COLOURS[4] if last else COLOURS[5]
    for i, y in zip(shown, places):
        if i is None:
            ax.text(x, y, "⋮", ha="center", va="center", fontsize=14)
            continue
        ax.add_patch(_circle((x, y), 0.36 if values is not None else 0.22, colour))
        if values is not None:
            ax.text(x, y, f"{values[i]:.2g}", ha="center", va="center", fontsize=7, zorder=4)


def _circle(centre: tuple[float, float], radius: float, colour: str) -> Any:
    from matplotlib.patches import Circle

    return Circle(centre, radius, facecolor=colour, edgecolor="black", linewidth=0.7, zorder=3)


def _values(values: Any, model: Model | None, columns: list[Column]) -> list[np.ndarray]:
    """One number for each unit."""
    if isinstance(values, (list, tuple)) and any(np.ndim(v) for v in map(to_host, values)):
        made = [numbers(v, "values").ravel() for v in values]
    else:
        if model is None:
            raise ValueError("a net has no weights to compute the values of a sample with; give a Model, or a list of one array a column")
        made = _run(model, numbers(values, "values").ravel(), columns)
    if [len(v) for v in made] != [c.units for c in columns]:
        raise ValueError(f"values are one number a unit, {[c.units for c in columns]} in the columns, got {[len(v) for v in made]}")
    return made


def _run(model: Model, x: np.ndarray, columns: list[Column]) -> list[np.ndarray]:
    if len(x) != columns[0].units:
        raise ValueError(f"values are a sample of {columns[0].units} numbers, or one array a column, got {len(x)} numbers")
    heard, _, _ = hear(model, model.asarray(x[None, :]))
    return [x, *(heard.outputs[column.output][-1].ravel() for column in columns[1:])]

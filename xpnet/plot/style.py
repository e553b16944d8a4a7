"""What every picture shares: colours, Axes, and arrays on the host."""

import math
from typing import Any

import numpy as np

from ..backend.registry import to_host

Array = Any
Axes = Any

# Okabe & Ito (2008), "Color universal design": blue, orange, green, vermilion, purple, sky blue, yellow, black.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = "os^DvP*"                                       # 7, so that colour and marker together repeat after 56 classes only
LINES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
NEGATIVE, POSITIVE = COLOURS[3], COLOURS[0]
SEQUENTIAL, DIVERGING = "cividis", "RdBu"                 # readable by the colour-blind as well; blue is above 0
GREY = "#777777"


def pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError("xpnet.plot needs matplotlib: pip install 'xpnet[plot]'") from None
    return plt


def one_axes(ax: Axes, figsize: tuple[float, float] = (5.2, 3.8)) -> Axes:
    """The Axes to draw into: those given, or those of a new figure."""
    plt = pyplot()
    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")[1]
    if not hasattr(ax, "plot") or not hasattr(ax, "set_xlabel"):
        raise TypeError(f"ax is a matplotlib Axes, as made by plt.subplots(), got {type(ax).__name__}")
    return ax


def many_axes(ax: Any, count: int, size: tuple[float, float] = (3.0, 2.5), sharey: bool = False) -> np.ndarray:
    """`count` Axes as an array (count,): the first of those given, or those of a new figure, at most 4 in a row."""
    if ax is not None:
        given = np.asarray(ax, dtype=object).ravel()
        if len(given) < count:
            raise ValueError(f"ax holds {len(given)} Axes, and there are {count} panels to draw; give {count}, or choose fewer layers")
        return np.array([one_axes(a) for a in given[:count]], dtype=object)
    columns = min(count, 4)
    rows = math.ceil(count / columns)
    _, grid = pyplot().subplots(rows, columns, figsize=(size[0] * columns, size[1] * rows), sharey=sharey, squeeze=False,
                                layout="constrained")
    panels = grid.ravel()
    for unused in panels[count:]:
        unused.remove()
    return panels[:count]


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def line(i: int, count: int) -> dict[str, Any]:
    """How the i-th of `count` lines looks: a colour and a style of its own; of many, their order as a range of colours."""
    if count <= len(LINES):
        return {"color": COLOURS[i], "linestyle": LINES[i]}
    return {"color": pyplot().get_cmap(SEQUENTIAL)(i / (count - 1))}


def epochs_along(ax: Axes) -> None:
    """There is no epoch 2.5."""
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))


def legend(ax: Axes, entries: int, most: int = 7) -> None:
    """Within the Axes, or beside them where it would hide what is drawn."""
    ax.legend(fontsize="small", **({"loc": "best"} if entries <= most else {"loc": "upper left", "bbox_to_anchor": (1.01, 1.01)}))


def host(x: Array, name: str) -> np.ndarray:
    """x on the host, as real numbers or labels."""
    if x is None or callable(x) or isinstance(x, dict):
        raise TypeError(f"{name} is an array, got {x if x is None else type(x).__name__}")
    made = to_host(x)
    if made.dtype.kind in "cO":
        raise TypeError(f"{name} is an array of real numbers, got dtype {made.dtype}")
    return made


def numbers(x: Array, name: str) -> np.ndarray:
    """x on the host in float64. Raises TypeError for what is not a number, ValueError for nothing."""
    made = host(x, name)
    if made.dtype.kind not in "fiub":
        raise TypeError(f"{name} is an array of real numbers, got dtype {made.dtype}")
    if made.size == 0:
        raise ValueError(f"{name} is empty, of shape {made.shape}")
    return made.astype(np.float64)


def same_samples(**arrays: np.ndarray) -> None:
    """Raise ValueError where arrays differ in their number of samples."""
    if any(a.ndim < 1 for a in arrays.values()) or len({a.shape[0] for a in arrays.values()}) > 1:
        raise ValueError(" and ".join(arrays) + " have one row a sample, got " + ", ".join(f"{k} {a.shape}" for k, a in arrays.items()))

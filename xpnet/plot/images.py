"""Matrices as images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics import confusion_matrix as count
from .style import DIVERGING, Array, Axes, host, numbers, one_axes, pyplot

GAP = 16                                                  # pixels of an image to one between it and the next


def confusion_matrix(y: Array, t: Array, ax: Axes = None, labels: Sequence[Any] | None = None, normalize: bool = False) -> Axes:
    """How often class i (a row) was taken for class j (a column); the diagonal is right. The colour is the share of the row.

    y          predicted labels, or scores or logits (n, k), as `metrics.confusion_matrix` takes them
    t          labels or one-hot
    labels     the names of the classes
    normalize  write each row's shares instead of counts
    """
    y, t = host(y, "y"), host(t, "t")
    if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind in "iub":
        y = y[:, 0]
    known = None if labels is None or y.dtype.kind == "f" else len(labels)   # a class may be missing in y and t
    counts = count(y, t, classes=known)
    k = len(counts)
    names = [str(i) for i in range(k)] if labels is None else [str(name) for name in labels]
    if len(names) != k:
        raise ValueError(f"labels are the names of {k} classes, got {len(names)}")
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    ax = one_axes(ax, (1.6 + 0.5 * max(k, 4), 1.2 + 0.45 * max(k, 4)))
    image = ax.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    for i in range(k):
        for j in range(k):
            text = f"{share[i, j]:.2f}" if normalize else str(counts[i, j])
            ax.text(j, i, text, ha="center", va="center", fontsize=9 if k <= 12 else 6, color="white" if share[i, j] > 0.55 else "black")
    long = max(map(len, names)) > 3
    ax.set_xticks(range(k), names, rotation=45 if long else 0, ha="right" if long else "center", rotation_mode="anchor")
    ax.set_yticks(range(k), names)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.figure.colorbar(image, ax=ax, label="share of the true class", shrink=0.85)
    return ax


def misclassified(images: Array, y: Array, t: Array, ax: Axes = None, most: int = 40) -> Axes:
    """The first images whose predicted class is wrong, eight in a row, 0 white and 1 black; over each "class as prediction".

    images   (n, height, width), grey values
    y, t     (n,) predicted and right labels
    most     how many are drawn at the most
    """
    images, y, t = numbers(images, "images"), host(y, "y"), host(t, "t")
    if images.ndim != 3 or y.shape != t.shape or y.shape != images.shape[:1]:
        raise ValueError(f"images are (n, height, width), with labels y and t (n,), got {images.shape}, {y.shape} and {t.shape}")
    if not isinstance(most, int) or most < 1:
        raise ValueError(f"most is a positive integer, got {most!r}")
    every = np.flatnonzero(y != t)
    wrong = every[:most]
    n, height, width = images.shape
    line, column = height + 12, width + 2                 # 12 pixels for the words
    tiles = np.ones((max(1, math.ceil(len(wrong) / 8)) * line, 8 * column))
    ax = one_axes(ax, (6.0, 0.8 + 5.2 * tiles.shape[0] / tiles.shape[1]))
    for i, j in enumerate(wrong):
        top, left = i // 8 * line + 12, i % 8 * column + 1
        tiles[top:top + height, left:left + width] = 1.0 - images[j]
        ax.text(left + width / 2, top - 1, f"{t[j]} as {y[j]}", ha="center", va="bottom", fontsize=7)
    ax.imshow(tiles, cmap="gray", vmin=0.0, vmax=1.0)
    ax.set(xticks=[], yticks=[], ylabel="class as prediction",
           xlabel=f"{'the first ' if len(wrong) < len(every) else ''}{len(wrong)} of {len(every)} misclassified among {n}")
    return ax


def weights(W: Array, ax: Axes = None, shape: tuple[int, ...] | None = None, columns: int | None = None) -> Axes:
    """What each unit looks for: column j of W (in, out) as an image, the units side by side in one scale; blue is above 0, red below.

    shape    of an image, (height, width) with height · width = in; by default square where `in` is a square number, else a column
    columns  how many images are in a row
    """
    W = numbers(W, "W")
    if W.ndim != 2:
        raise ValueError(f"W has shape (in, out), got {W.shape}")
    d, k = W.shape
    side = math.isqrt(d)
    height, width = shape if shape is not None and len(shape) == 2 else (side, side) if side * side == d else (d, 1)
    if (shape is not None and len(shape) != 2) or height * width != d:
        raise ValueError(f"shape is (height, width) of an image of {d} weights, got {shape}")
    across = max(1, math.ceil(math.sqrt(k * height / width))) if columns is None else columns
    if not isinstance(across, int) or across < 1:
        raise ValueError(f"columns is a positive integer, got {columns!r}")
    across = min(across, k)
    down = math.ceil(k / across)
    fine = math.ceil(GAP / max(height, width))            # small images in enlarged pixels, so that one pixel is a narrow gap
    images = np.kron(W.T.reshape(k, height, width), np.ones((1, fine, fine)))
    height, width = height * fine, width * fine
    gap = max(1, max(height, width) // GAP)               # between the images, of no value
    tiles = np.full((down * (height + gap) - gap, across * (width + gap) - gap), np.nan)
    for j in range(k):
        top, left = j // across * (height + gap), j % across * (width + gap)
        tiles[top:top + height, left:left + width] = images[j]

    ratio = tiles.shape[0] / tiles.shape[1]
    ax = one_axes(ax, (6.0, 0.8 + 4.8 * ratio) if ratio < 1 else (1.6 + 4.4 / ratio, 4.6))
    largest = float(np.abs(W).max()) or 1.0
    colours = pyplot().get_cmap(DIVERGING).with_extremes(bad="0.75")
    image = ax.imshow(np.ma.masked_invalid(tiles), cmap=colours, vmin=-largest, vmax=largest, interpolation="nearest")
    ax.set_xticks([(width + gap) * j + (width - 1) / 2 for j in range(across)], [str(j) for j in range(across)])
    ax.set_yticks([(height + gap) * i + (height - 1) / 2 for i in range(down)], [str(i * across) for i in range(down)])
    ax.tick_params(length=0)
    ax.set(xlabel="unit", ylabel="first unit of the row")
    ax.figure.colorbar(image, ax=ax, label="weight", shrink=0.85)
    return ax

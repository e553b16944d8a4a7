"""Checks of values. They read every number, so they belong on the host, once, before the data goes to a device."""

import math
from typing import Any

import numpy as np

from ..backend.registry import to_host
from .arguments import _count, _first, _index

Array = Any


def check_finite(name: str, array: Array) -> None:
    """Raise ValueError if the array (or one of a tuple) has NaN or infinite values: how many, and where the first is.

    Raises TypeError for an array that does not hold real numbers. `name` is what the message calls the array.
    """
    if isinstance(array, tuple):
        for i, a in enumerate(array):
            check_finite(f"{name}[{i}]", a)
        return
    x = to_host(array)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {x.dtype}; real numbers are needed")
    if x.dtype.kind != "f":
        return
    rows = np.reshape(x, (-1,)) if x.ndim == 0 else x
    first, count = None, 0
    block = max(1, 2 ** 20 // max(1, math.prod(rows.shape[1:])))   # a memory-mapped array is never loaded whole
    for start in range(0, rows.shape[0], block):
        bad = ~np.isfinite(rows[start:start + block])
        if bad.any():
            if first is None:
                row, *rest = _first(bad)
                first = (row + start, *rest)
            count += int(np.sum(bad))
    if first is not None:
        raise ValueError(f"{name} has {_count(count, 'value')} that {'is' if count == 1 else 'are'} not finite; "
                         f"the first is {rows[first]} at index {_index(first)}. Remove or replace such samples")


def check_labels(t: Array, classes: int, *, one_class: bool = False) -> None:
    """Raise ValueError unless the targets are labels 0 … classes-1 of at least two classes, TypeError unless integers.

    one_class: True lets them all be of one class, as they may be in a single batch.
    """
    t = to_host(t)
    if t.dtype.kind not in "iu":
        fraction = t.dtype.kind == "f" and t != np.floor(t)
        if np.any(fraction):
            first = _first(fraction)
            raise ValueError(f"targets are labels, whole numbers from 0 to {classes - 1}, got {t[first]} "
                             f"at index {_index(first)}")
        raise TypeError(f"targets are labels of an integer dtype, got {t.dtype}; convert them: t.astype('int64')")
    if t.size == 0:
        raise ValueError("targets are empty")
    low, high = int(np.min(t)), int(np.max(t))
    if low < 0 or high >= classes:
        outside = (t < 0) | (t >= classes)
        first = _first(outside)
        raise ValueError(f"targets run from {low} to {high}, but {classes} classes are numbered 0 to {classes - 1}; "
                         f"the first outside is {t[first]} at index {_index(first)} ({int(np.sum(outside))} in all)")
    if low == high and not one_class:
        raise ValueError(f"targets contain one class only ({low}); a classifier needs at least two")

"""Splits: a part of the samples set aside."""

import math
from typing import Any

import numpy as np

from ..backend import backend_of
from ..backend.registry import to_host
from .arguments import _SPLIT, _count, _map, _rng, count_samples

Array = Any


def split(*arrays: Array, test: float = 0.2, seed: int = 0, stratify: Array = None) -> tuple[Array, ...]:
    """x_train, x_test, t_train, t_test, …: a random part of the samples set aside, the same part of every array.

    test      the fraction of the samples that is set aside, rounded up, or (an integer) their number
    stratify  labels (n,), such as t itself: both sides then keep the proportions of the classes. Each class gives the
              whole part of its quota, and what is left comes from the largest remainders. A class of two or more
              samples is on both sides, a single sample in training
    The order is drawn on the host from `seed`, whatever backend the arrays are of. Each side comes in random order.
    """
    n = count_samples(arrays, "split")
    n_test = _test_size(test, n)
    order = _rng(seed, _SPLIT).permutation(n)
    if stratify is None:
        groups = np.zeros(n, dtype=np.int64)              # one class of all samples
    else:
        labels = to_host(stratify)
        if labels.shape != (n,):
            raise ValueError(f"stratify takes labels of shape ({n},), one a sample, got shape {tuple(labels.shape)}")
        groups = np.unique(labels, return_inverse=True)[1]
    in_test = np.zeros(n, dtype=bool)
    for group, k in enumerate(_quotas(np.bincount(groups), n_test)):
        in_test[order[groups[order] == group][:k]] = True
    sides = order[~in_test[order]], order[in_test[order]]
    return tuple(_map(lambda leaf: _take(leaf, side), a) for a in arrays for side in sides)   # noqa: B023 (called at once)


def _test_size(test: float, n: int) -> int:
    if isinstance(test, (int, np.integer)) and not isinstance(test, bool):
        n_test = int(test)
    elif isinstance(test, (float, np.floating)) and 0.0 < test < 1.0:
        n_test = math.ceil(test * n - 1e-9)               # 0.07 · 100 is a little more than 7
    else:
        raise ValueError(f"test is a fraction between 0 and 1, or a number of samples, got {test!r}")
    if not 1 <= n_test < n:
        raise ValueError(f"test={test!r} of {_count(n, 'sample')} leaves one side empty")
    return n_test


def _quotas(sizes: np.ndarray, total: int) -> np.ndarray:
    """How many of each class, Σ = total: in proportion to their sizes, by largest remainder, within the bounds."""
    least = np.where(sizes > 1, 1, 0)
    most = np.where(sizes > 1, sizes - 1, 0)
    if not np.sum(least) <= total <= np.sum(most):
        raise ValueError(f"a test side of {_count(total, 'sample')} cannot keep {len(sizes)} classes on both sides: "
                         f"it takes {np.sum(least)} to {np.sum(most)}")
    quota = sizes * total / np.sum(sizes)
    taken = np.clip(np.floor(quota).astype(np.int64), least, most)
    while (missing := total - np.sum(taken)) != 0:        # a few steps: what rounding and the bounds have moved
        if missing > 0:
            taken[np.argmax(np.where(taken < most, quota - taken, -np.inf))] += 1
        else:
            taken[np.argmin(np.where(taken > least, quota - taken, np.inf))] -= 1
    return taken


def _take(array: Array, index: np.ndarray) -> Array:
    """The samples of the index, on the array's device."""
    if isinstance(array, np.ndarray):
        return np.asarray(array[index])
    home = backend_of(array)
    with home:
        return home.xp.take(array, home.asarray(index), axis=0)

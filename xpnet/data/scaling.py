"""Encoding and scaling, against the namespace: device arrays in, device arrays out."""

from typing import Any

import numpy as np

from ..backend import backend_of, namespace
from ..backend.registry import to_host
from ..errors import whole
from .arguments import _dtype, count_samples
from .checks import check_labels

Array = Any


def one_hot(labels: Array, classes: int | None = None, dtype: str = "float32") -> Array:
    """y[…, k] = 1 where labels[…] = k, else 0

    labels: (n, …) integers    y: (n, …, classes)
    classes: None is the largest label + 1, found on the host (which waits for a device).
    Raises ValueError for labels of a host array that are out of range; a device array is not read.
    """
    xp = namespace(labels)
    if not xp.isdtype(labels.dtype, "integral"):
        raise TypeError(f"one_hot takes integer labels, got {labels.dtype}; convert them first")
    if classes is None:
        classes = int(np.max(to_host(labels), initial=0)) + 1
    else:
        classes = whole("classes", classes, 1)
    if isinstance(labels, np.ndarray) and labels.size:
        check_labels(labels, classes, one_class=True)
    with backend_of(labels):
        numbers = xp.arange(classes, dtype=xp.int64, device=labels.device)
        return xp.astype(labels[..., None] == numbers, _dtype(xp, dtype))


class Scaler:
    """z = (x - shift) / scale, feature by feature; `fit` finds the two on the training data and on nothing else.

    A constant feature becomes 0: its shift is its value, its scale 1. A subclass writes `find`.
    """

    shift: Array = None
    scale: Array = None

    def fit(self, x: Array) -> "Scaler":
        """x: (n, …) floating, one statistic for each feature over the n samples. Returns the scaler."""
        xp = self._check(x)
        count_samples(x)
        with backend_of(x):
            low = xp.min(x, axis=0)
            shift, scale = self.find(xp, x)
            varies = (low < xp.max(x, axis=0)) & (scale > 0)   # a constant's σ may round to more than 0
            self.shift = xp.where(varies, shift, low)
            self.scale = xp.where(varies, scale, xp.ones_like(scale))
        return self

    def transform(self, x: Array) -> Array:
        """z = (x - shift) / scale, of x's dtype, on x's device. x: (m, …) with the features that were fitted."""
        shift, scale = self._fitted(x)
        with backend_of(x):
            return (x - shift) / scale

    def inverse(self, z: Array) -> Array:
        """x = z · scale + shift"""
        shift, scale = self._fitted(z)
        with backend_of(z):
            return z * scale + shift

    def find(self, xp: Any, x: Array) -> tuple[Array, Array]:
        """(shift, scale) of the training data."""
        raise NotImplementedError

    def _check(self, x: Array) -> Any:
        xp = namespace(x)
        if not xp.isdtype(x.dtype, "real floating"):
            raise TypeError(f"{type(self).__name__} takes floating numbers, got {x.dtype}; convert them first")
        return xp

    def _fitted(self, x: Array) -> tuple[Array, Array]:
        if self.shift is None:
            raise ValueError(f"{type(self).__name__} has not been fitted: call fit(train) first")
        self._check(x)
        if tuple(x.shape[1:]) != tuple(self.shift.shape):
            raise ValueError(f"{type(self).__name__} was fitted to samples of shape {tuple(self.shift.shape)}, "
                             f"got an array of shape {tuple(x.shape)}")
        home = backend_of(x)
        return home.asarray(self.shift, x.dtype), home.asarray(self.scale, x.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class MinMax(Scaler):
    """z = (x - min) / (max - min): the training data fill [0, 1]; other data may leave it."""

    def find(self, xp: Any, x: Array) -> tuple[Array, Array]:
        low = xp.min(x, axis=0)
        return low, xp.max(x, axis=0) - low


class Standardizer(Scaler):
    """z = (x - μ) / σ,  μ = 1/n Σₙ xₙ,  σ² = 1/n Σₙ (xₙ - μ)²: mean 0 and variance 1 on the training data."""

    def find(self, xp: Any, x: Array) -> tuple[Array, Array]:
        mean = mean_of_rows(xp, x)
        return mean, xp.sqrt(mean_of_rows(xp, (x - mean) ** 2))


def mean_of_rows(xp: Any, x: Array) -> Array:
    """1/n Σₙ xₙ, in two passes, the second over what the first leaves.

    NumPy adds rows one by one: of 60,000 in float32 the first pass has its error in the fourth digit, the second in the last.
    """
    mean = xp.mean(x, axis=0)
    return mean + xp.mean(x - mean, axis=0)


def minmax(train: Array, *others: Array) -> Any:
    """The arrays scaled by a MinMax that is fitted on `train` only. One array in, one out; else a tuple."""
    return _scaled(MinMax(), train, others)


def standardize(train: Array, *others: Array) -> Any:
    """The arrays scaled by a Standardizer that is fitted on `train` only. One array in, one out; else a tuple."""
    return _scaled(Standardizer(), train, others)


def _scaled(scaler: Scaler, train: Array, others: tuple[Array, ...]) -> Any:
    scaler.fit(train)
    made = tuple(scaler.transform(x) for x in (train, *others))
    return made if others else made[0]

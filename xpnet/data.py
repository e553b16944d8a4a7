"""Data: checked where it enters, encoded, scaled, split, cut into batches, made from a seed, read from files.

Drawing and reading are host work, from a seed or a file, so they give the same numbers for every backend. Scaling,
encoding and cutting are written against the namespace: device arrays in, device arrays out.
"""

import gzip
import math
import operator
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .backend import backend_of, get_backend, namespace
from .backend.registry import to_host
from .errors import unknown

Array = Any

# Checks of values. They read every number, so they belong on the host, once, before the data goes to a device.


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


# Encoding and scaling.


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
        classes = _integer("classes", classes, 1)
    if isinstance(labels, np.ndarray) and labels.size:
        check_labels(labels, classes, one_class=True)
    with backend_of(labels):
        numbers = xp.arange(classes, dtype=xp.int64, device=labels.device)
        return xp.astype(xp.astype(labels, xp.int64)[..., None] == numbers, _dtype(xp, dtype))


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
            varies = (low < xp.max(x, axis=0)) & (scale > 0)   # a constant's variance may round to more than 0
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
    """z = (x - μ) / σ,  μ = 1/n Σₙ xₙ,  σ² = 1/n Σₙ (xₙ - μ)²: mean 0 and variance 1 on the training data.

    μ is summed in two passes, the second over what the first leaves, so that float32 holds it to rounding.
    """

    def find(self, xp: Any, x: Array) -> tuple[Array, Array]:
        mean = xp.mean(x, axis=0)
        mean = mean + xp.mean(x - mean, axis=0)
        return mean, xp.sqrt(xp.mean((x - mean) ** 2, axis=0))


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


# Splits.


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


# Batches.


def batches(data: Any, batch_size: int | None = 32, *, seed: int | None = None, epoch: int = 0, drop_last: bool = False,
            backend: Any = None) -> "Batches":
    """The data in batches: `for x, t in batches((x, t), batch_size=128, seed=0)` runs through one epoch.

    data        an array, or a tuple of arrays of equal length such as (x, t) or (x, t, w): on the host, memory-mapped,
                on a device; x may itself be a tuple of arrays. Or an iterable of ready batches, which are checked and
                passed on: batch_size, seed and drop_last say nothing about them
    batch_size  None is batch gradient descent (all data at once), 1 stochastic, k mini-batch gradient descent
    seed        None: in the order of the data. Else in an order drawn on the host from (seed, epoch): the batches are
                the same on every backend
    epoch       the number of the first epoch. Each further `for` over the same Batches is the next one
    drop_last   leave out a last batch that is smaller than the others
    backend     where host arrays are brought to: all at once if they fit, else batch by batch, as memory-mapped ones
                always are. None: the batches lie where the data lie

    A tuple gives tuples, an array gives arrays. Batches in the order of the data are views. len() is their number.
    Raises ValueError for empty data, unequal lengths and 0-d arrays, TypeError for what is not an array, or is one of
    another backend.
    """
    home = None if backend is None else get_backend(backend)
    if isinstance(data, tuple) or _is_array(data):
        return Batches(data, batch_size, seed, epoch, drop_last, home)
    if isinstance(data, Iterable) and not hasattr(data, "iloc"):
        return ReadyBatches(data, epoch, home)
    raise TypeError(f"batches takes arrays or an iterable of batches, got {_type(data)}; make it an array first")


class Batches:
    """Batches of arrays, epoch by epoch; made by `batches`.

    epoch    the number of the next epoch
    samples  how many samples the data hold
    """

    def __init__(self, data: Any, batch_size: int | None, seed: int | None, epoch: int, drop_last: bool, backend: Any):
        n = count_samples(data)
        size = n if batch_size is None else _integer("batch_size", batch_size, 1)
        if drop_last and size > n:
            raise ValueError(f"drop_last with batch_size={size} leaves nothing of {_count(n, 'sample')}")
        self.batch_size = size
        self.seed = None if seed is None else _integer("seed", seed, 0)
        self.epoch = _integer("epoch", epoch, 0)
        self.samples = n
        self._used = n - n % size if drop_last else n
        leaves = _leaves(data)
        self.backend = backend or backend_of(leaves[0])
        for leaf in leaves:
            if not self.backend.owns(leaf) and not (backend and isinstance(leaf, np.ndarray)):
                raise TypeError(f"expected arrays of backend {self.backend.name!r}, got {_type(leaf)}; "
                                "move it there first, or give host arrays and backend=")
        self.data = _map(self._placed(leaves), data)

    def _placed(self, leaves: list[Array]) -> Callable[[Array], Array]:
        """Where each array is kept: on the device, if all that may go there fill at most half of its free memory."""
        if self.backend.kind == "numpy":
            return lambda leaf: np.asarray(leaf)          # of a memory-mapped array a view, still on the disk
        moving = [leaf for leaf in leaves if isinstance(leaf, np.ndarray) and not isinstance(leaf, np.memmap)]
        fits = sum(leaf.nbytes for leaf in moving) <= 0.5 * self.backend.free_memory()
        return lambda leaf: self.backend.asarray(leaf) if fits and not isinstance(leaf, np.memmap) else leaf

    def __len__(self) -> int:
        return math.ceil(self._used / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._run(epoch)

    def _run(self, epoch: int) -> Iterator[Any]:
        order = index = None
        if self.seed is not None and self.batch_size < self.samples:   # one batch of all samples has no order
            stream = np.random.SeedSequence((self.seed, epoch))
            order = np.random.Generator(np.random.PCG64(stream)).permutation(self.samples)
            index = self.backend.asarray(order)           # one upload an epoch; each batch is then cut on the device
        cutters = _map(lambda leaf: self._cutter(leaf, order, index), self.data)
        for start in range(0, self._used, self.batch_size):
            rows = slice(start, min(start + self.batch_size, self._used))
            with self.backend:
                batch = _map(lambda cut: cut(rows), cutters)   # noqa: B023 (called at once)
            yield batch

    def _cutter(self, leaf: Array, order: Any, index: Any) -> Callable[[slice], Array]:
        """The function from a range of positions to those samples of the array, on the device."""
        home = self.backend
        if order is None:
            return lambda rows: home.asarray(leaf[rows, ...])
        if isinstance(leaf, np.ndarray):                  # of a view or a memory-mapped array, np.take may read all
            return lambda rows: home.asarray(leaf[order[rows]])
        return lambda rows: home.xp.take(leaf, index[rows], axis=0)


class ReadyBatches(Batches):
    """Batches that someone else made, each checked on its way; made by `batches`."""

    def __init__(self, data: Iterable[Any], epoch: int, backend: Any):
        self.data = data
        self.epoch = _integer("epoch", epoch, 0)
        self.backend = backend
        self.started = False

    def __len__(self) -> int:
        return len(self.data)

    def _run(self, epoch: int) -> Iterator[Any]:
        source = iter(self.data)
        if source is self.data and self.started:
            raise ValueError(f"a {type(self.data).__name__} can be run through once only; for more epochs "
                             "give a list of batches, or an object whose __iter__ starts anew")
        self.started = True
        ranks = None
        for i, batch in enumerate(source):
            batch = tuple(batch) if isinstance(batch, list) else batch
            count_samples(batch, f"batch {i}")
            ranks, before = _map(lambda leaf: leaf.ndim, batch), ranks
            if before not in (None, ranks):
                raise ValueError(f"batch {i} has arrays of rank {ranks}, the batch before of rank {before}; "
                                 "for x and t of all samples give a tuple: batches((x, t))")
            if self.backend is not None:
                batch = _map(self._moved, batch)
            yield batch
        if ranks is None:
            raise ValueError("data hold no batches")

    def _moved(self, leaf: Array) -> Array:
        if not self.backend.owns(leaf) and not isinstance(leaf, np.ndarray):
            raise TypeError(f"expected arrays of backend {self.backend.name!r}, or host arrays, got {_type(leaf)}")
        return self.backend.asarray(leaf)


def _map(f: Callable[[Any], Any], data: Any) -> Any:
    """f over the entries of nested tuples."""
    return tuple(_map(f, d) for d in data) if isinstance(data, tuple) else f(data)


def _leaves(data: Any) -> list[Any]:
    return [leaf for d in data for leaf in _leaves(d)] if isinstance(data, tuple) else [data]


def _is_array(x: Any) -> bool:
    return all(hasattr(x, name) for name in ("shape", "dtype", "ndim")) and not hasattr(x, "iloc")   # iloc: pandas


def count_samples(data: Any, name: str = "data") -> int:
    """How many samples an array, or each of a tuple of arrays, holds: at least one, and all the same number."""
    leaves = _leaves(data)
    if not leaves:
        raise ValueError(f"{name}: an empty tuple")
    for leaf in leaves:
        if not _is_array(leaf):
            raise TypeError(f"{name}: expected an array, or a tuple of arrays such as (x, t), got {_type(leaf)}; "
                            "make it an array first, as by np.asarray")
        if leaf.ndim < 1:
            raise ValueError(f"{name}: expected arrays of samples (n, ...), got a 0-d array")
    lengths = [leaf.shape[0] for leaf in leaves]
    if len(set(lengths)) > 1:
        raise ValueError(f"{name}: the arrays are of different lengths, {', '.join(map(str, lengths))} "
                         f"(shapes {', '.join(str(tuple(leaf.shape)) for leaf in leaves)})")
    if lengths[0] == 0:
        raise ValueError(f"{name}: there are no samples (shape {tuple(leaves[0].shape)})")
    return lengths[0]


# Toy data: points in the plane with integer labels, and a curve; float64 on the host.


def xor() -> tuple[np.ndarray, np.ndarray]:
    """The four corners of the unit square, x: (4, 2), and t = x₁ ⊕ x₂: (4, 1), as floats.

    No line separates the two classes (Minsky & Papert, 1969), so a hidden layer is needed.
    """
    return np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([[0.0], [1.0], [1.0], [0.0]])


def sine(n: int = 200, noise: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """t = sin x + ε, x uniform on [-π, π), ε normal with standard deviation `noise`. x, t: (n, 1)"""
    rng, n, noise = _rng(seed, _TOY), _integer("n", n, 1), _noise(noise)
    x = rng.uniform(-math.pi, math.pi, (n, 1))
    return x, np.sin(x) + noise * rng.standard_normal((n, 1))


def circles(n: int = 200, noise: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two circles about the origin, label 0 of radius 1, label 1 of radius ½: r (cos θ, sin θ), plus normal noise."""
    rng, labels, s = _along(n, 2, seed)
    angle = 2.0 * math.pi * s
    return _points(np.where(labels == 0, 1.0, 0.5), angle, noise, rng), labels


def moons(n: int = 200, noise: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaved half circles: label 0 (cos θ, sin θ), label 1 (1 - cos θ, ½ - sin θ), θ < π, plus noise."""
    rng, labels, s = _along(n, 2, seed)
    upper = _points(1.0, math.pi * s, noise, rng)
    return np.where(labels[:, None] == 0, upper, np.array([1.0, 0.5]) - upper), labels


def spirals(n: int = 300, arms: int = 2, noise: float = 0.02, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Spiral arms, each a label: r (cos θ, sin θ), r from 0.1 to 1, θ = 2π (r + label/arms), plus normal noise."""
    rng, labels, s = _along(n, _integer("arms", arms, 1), seed)
    radius = 0.1 + 0.9 * s
    return _points(radius, 2.0 * math.pi * (radius + labels / arms), noise, rng), labels


def _along(n: int, curves: int, seed: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """Labels in turn, so that the classes are equal to one sample, and a random place s in [0, 1) along each curve."""
    rng, n = _rng(seed, _TOY), _integer("n", n, curves)
    return rng, np.arange(n, dtype=np.int64) % curves, rng.random(n)


def _points(radius: Any, angle: np.ndarray, noise: float, rng: Any) -> np.ndarray:
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points + _noise(noise) * rng.standard_normal(points.shape)


# Files.

_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """An IDX file, gzipped or not, as an array in its own dtype (and the host's byte order).

    The format: two zero bytes, a byte for the dtype, a byte for the number of dimensions, each dimension as an unsigned
    32-bit integer, and the values, last index fastest; all big-endian. Y. LeCun, "The MNIST database".
    Raises ValueError for a file that is none, or is cut off.
    """
    raw = Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error) as e:
            raise ValueError(f"{path} is a damaged or cut-off gzip file ({e})") from e
    if len(raw) < 4 or raw[:2] != b"\x00\x00" or raw[2] not in _IDX_DTYPES:
        codes = ", ".join(f"{code:02x}" for code in _IDX_DTYPES)
        raise ValueError(f"{path} is not an IDX file: it starts with {raw[:4].hex(' ') or 'nothing'}, expected 00 00, "
                         f"the dtype (one of {codes}) and the number of dimensions")
    dtype = np.dtype(">" + _IDX_DTYPES[raw[2]])
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise ValueError(f"{path} is cut off within its header: {len(raw)} bytes of {start}")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    size = math.prod(shape) * dtype.itemsize
    if len(raw) - start != size:
        raise ValueError(f"{path} is {'cut off' if len(raw) - start < size else 'too long'}: "
                         f"shape {shape} of {dtype.name} takes {size} bytes, the file has {len(raw) - start}")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_csv(path: str | os.PathLike[str], target: Any, *, features: list[Any] | None = None, one_hot: bool = False,
             **options: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A CSV file as (x, t, feature_names), through pandas.

    target    name of the target column. Floating numbers give t: (n, 1) float64. Integers, truth values and text give
              labels t: (n,) int64, text numbered in sorted order
    features  names of the feature columns; None: all others
    one_hot   a column of text becomes one column for each distinct value, in sorted order, named `column=value`; False:
              it is an error
    options   as pandas.read_csv takes them (sep=, header=, na_values=, ...)

    x: (n, d) float64. Raises ValueError for unknown columns, text where numbers are needed, and missing values.
    """
    pandas = _optional("pandas", "read_csv")
    frame = pandas.read_csv(path, **options)
    chosen = [c for c in frame.columns if c != target] if features is None else list(features)
    if target in chosen:
        raise ValueError(f"the target column {target!r} is among the features, which would give the answer away")
    for c in (target, *chosen):
        if c not in frame.columns:
            raise unknown("column", c, map(str, frame.columns))
    if len(frame) == 0 or not chosen:
        raise ValueError(f"{path} has {_count(len(frame), 'row')} and {_count(len(chosen), 'feature column')}")
    missing = {c: int(frame[c].isna().sum()) for c in (*chosen, target)}
    if any(missing.values()):
        where = ", ".join(f"{n} in {c!r}" for c, n in missing.items() if n)
        raise ValueError(f"{path} has missing values: {where}; fill them or drop those rows first")

    types = pandas.api.types
    text = [c for c in chosen if not types.is_numeric_dtype(frame[c])]
    if text and not one_hot:
        raise ValueError(f"{path} has text, not numbers, in {', '.join(map(repr, text))}; give one_hot=True, "
                         "or the numeric columns as features=[...]")
    columns, names = [], []
    for c in chosen:
        values = frame[c].to_numpy()
        if c in text:
            values = values.astype(str)
            for value in np.unique(values):
                columns.append(values == value)
                names.append(f"{c}={value}")
        else:
            columns.append(values)
            names.append(str(c))

    t = frame[target].to_numpy()
    if types.is_float_dtype(frame[target]):
        t = t.astype(np.float64)[:, None]
    elif types.is_numeric_dtype(frame[target]):
        t = t.astype(np.int64)
    else:
        t = np.unique(t.astype(str), return_inverse=True)[1].astype(np.int64)
    return np.stack(columns, axis=1).astype(np.float64), t, names


# Real data.

_SKLEARN = ("breast_cancer", "diabetes", "digits", "iris", "wine")


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """(x, t) of a data set that comes with scikit-learn, in its order.

    x: (n, d) float64    t: (n,) int64 labels, or (n, 1) float64

    | name | n | d | classes | what |
    |---|---|---|---|---|
    | "iris" | 150 | 4 | 3 | flowers by four lengths (Fisher, 1936) |
    | "wine" | 178 | 13 | 3 | cultivars by chemical analysis |
    | "breast_cancer" | 569 | 30 | 2 | 0 malignant, 1 benign, by measures of cell nuclei |
    | "digits" | 1797 | 64 | 10 | 8×8 images of digits, values 0 to 16 |
    | "diabetes" | 442 | 10 | - | a measure of progress after a year; column 2 is the body-mass index |

    The features of diabetes are centred and scaled to sums of squares of 1, as scikit-learn gives them; others are raw.
    """
    if name not in _SKLEARN:
        raise unknown("data set", name, _SKLEARN)
    _optional("sklearn", f"load({name!r})")
    from sklearn import datasets

    x, t = getattr(datasets, f"load_{name}")(return_X_y=True)
    return x.astype(np.float64), t.astype(np.float64)[:, None] if name == "diabetes" else t.astype(np.int64)


# Each file of MNIST with the MD5 of its gzipped form.
_MNIST = {"train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
          "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
          "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
          "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c"}
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_WAYS = ("MNIST comes from a folder that holds its four IDX files, gzipped or not: mnist(folder); or is "
               "downloaded once, with pip install 'xpnet[examples]' and a network: mnist()")


def mnist(folder: str | os.PathLike[str] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_train, t_train, x_test, t_test of the handwritten digits. LeCun, Bottou, Bengio & Haffner (1998)

    x: (60000, 784) and (10000, 784) uint8, from 0 (paper) to 255 (ink)    t: (60000,) and (10000,) int64
    folder: where the files train-images-idx3-ubyte, ... are, gzipped or not (other data in the same files serve too).
    None: they are downloaded into the user's cache, once, and their checksums compared.
    """
    files = {name: _fetch(name) if folder is None else _find(Path(folder), name) for name in _MNIST}
    arrays = []
    for part in ("train", "t10k"):
        images, labels = files[f"{part}-images-idx3-ubyte"], files[f"{part}-labels-idx1-ubyte"]
        x, t = read_idx(images), read_idx(labels)
        if x.ndim != 3 or t.shape != x.shape[:1]:
            raise ValueError(f"expected shapes (n, height, width) and (n,), got {x.shape} of {images} "
                             f"and {t.shape} of {labels}")
        arrays += [np.reshape(x, (x.shape[0], -1)), t.astype(np.int64)]
    return arrays[0], arrays[1], arrays[2], arrays[3]


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder} has no {name} or {name}.gz. {_MNIST_WAYS}")


def _fetch(name: str) -> str:
    try:
        import pooch
    except ImportError as e:
        raise ImportError(f"the package pooch is not installed. {_MNIST_WAYS}") from e
    try:
        return pooch.retrieve(f"{_MNIST_URL}{name}.gz", f"md5:{_MNIST[name]}", f"{name}.gz", pooch.os_cache("xpnet"))
    except OSError as e:                                  # of the network, or of the cache folder
        raise OSError(f"{name}.gz could not be downloaded ({e}). {_MNIST_WAYS}") from e


# Arguments.


def _optional(module: str, what: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as e:
        package = "scikit-learn" if module == "sklearn" else module
        raise ImportError(f"{what} needs {package}, which is not installed: pip install 'xpnet[examples]'") from e


_TOY, _SPLIT = 0, 1


def _rng(seed: int, use: int) -> Any:
    """Random numbers for one use of a seed: not those that weights or batches of the same seed are drawn from."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(_integer("seed", seed, 0), spawn_key=(use,))))


def _integer(name: str, value: Any, least: int) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is an integer, got {value!r}") from None
    if value < least:
        raise ValueError(f"{name} is an integer from {least} on, got {value}")
    return value


def _noise(noise: float) -> float:
    if not 0.0 <= noise < math.inf:
        raise ValueError(f"noise is a standard deviation from 0 on, got {noise!r}")
    return float(noise)


def _dtype(xp: Any, name: str) -> Any:
    valid = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
    if name not in valid:
        raise unknown("dtype", name, valid)
    return getattr(xp, name)


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))


def _index(index: tuple[int, ...]) -> str:
    return str(index[0]) if len(index) == 1 else str(index)


def _type(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__name__}".removeprefix("builtins.")

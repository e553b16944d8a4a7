"""Batches: what gradient descent takes its steps on."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..backend import backend_of, get_backend
from ..errors import whole
from .arguments import _ORDER, _count, _is_array, _leaves, _map, _rng, _type, count_samples

Array = Any


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
        size = n if batch_size is None else whole("batch_size", batch_size, 1)
        if drop_last and size > n:
            raise ValueError(f"drop_last with batch_size={size} leaves nothing of {_count(n, 'sample')}")
        self.batch_size = size
        self.seed = None if seed is None else whole("seed", seed, 0)
        self.epoch = whole("epoch", epoch, 0)
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
            order = _rng(self.seed, _ORDER, epoch).permutation(self.samples)
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
        self.epoch = whole("epoch", epoch, 0)
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

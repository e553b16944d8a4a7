"""The two products of a backward pass through z = x W: where NumPy takes their shapes badly, and where a result belongs."""

from contextvars import ContextVar
from typing import Any

import numpy as np

from .registry import kind

Array = Any
SMALL = 4096                                              # numbers of a product that costs no more than the zeros
_places: ContextVar[dict[int, Array] | None] = ContextVar("places", default=None)


def sum_outer(xp: Any, a: Array, b: Array, W: Array = None) -> Array:
    """aᵀ b = Σₙ aₙᵀ bₙ, a sum of outer products: what a weight matrix gets of n samples.

    a: (n, d)    b: (n, k)    aᵀ b: (d, k)
    W: the matrix whose gradient it is. Within a model's backward pass NumPy then writes the product into the vector of gradients at once,
    which saves a copy of it; who keeps it beyond that pass copies it.
    For a batch of one NumPy does not call BLAS and takes ten times as long; with a second row of zeros it does (784 x 256, float32: 19 µs
    for 229).
    """
    places = _places.get()
    if places is None and (a.shape[0] > 1 or a.shape[1] * b.shape[1] <= SMALL):
        return a.T @ b
    if kind(xp) == "numpy" and a.shape[0] == 1:
        a, b = with_zeros(a), with_zeros(b)
    to = None if places is None else places.pop(id(W), None)   # once: a layer that runs twice adds a second array to it
    return a.T @ b if to is None else np.matmul(a.T, b, out=to)


def with_zeros(row: Array) -> Array:
    two = np.zeros((2, row.shape[1]), row.dtype)
    two[0] = row[0]
    return two


def times_transposed(xp: Any, a: Array, W: Array) -> Array:
    """a Wᵀ: what comes back through a product with W.

    a: (n, k)    W: (d, k)
    On NumPy a small Wᵀ is copied first, for OpenBLAS multiplies by a transposed matrix at half the rate (32 x 64 by (128 x 64)ᵀ, float32:
    8.7 µs for 12.8); and one column is `dot`'s, since `matmul` does not call BLAS for it (1.4 µs for 5.7).
    """
    d, k = W.shape
    if k > 1 and not SMALL // 4 < d * k <= 4 * SMALL or kind(xp) != "numpy":
        return a @ W.T
    return np.dot(a, W.T) if k == 1 else a @ np.ascontiguousarray(W.T)


class Placed:
    """Within `with Placed(places):` the gradient of the array with an id in `places` may be written into the array that is there."""

    __slots__ = ("places", "token")

    def __init__(self, places: dict[int, Array]):
        self.places = places

    def __enter__(self) -> None:
        self.token = _places.set(dict(self.places))

    def __exit__(self, *error: Any) -> None:
        _places.reset(self.token)

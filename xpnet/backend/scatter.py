"""Scatter-add, the adjoint of a gather: the standard has `take`, but nothing that adds at repeated indices."""

from typing import Any

from .registry import kind

Array = Any


def index_add(xp: Any, rows: int, index: Array, values: Array) -> Array:
    """out[j] = Σ over i with index[i] = j of values[i]

    index: (m,) integers in [0, rows)    values: (m, d)    out: (rows, d), of the dtype and device of values
    On CuPy the additions are atomic, so their order, and with it the last bits, may vary from run to run.
    """
    if kind(xp) in ("numpy", "cupy"):
        out = xp.zeros((rows, values.shape[1]), dtype=values.dtype)
        xp.add.at(out, index, values)
        return out
    if kind(xp) == "torch":
        out = xp.zeros((rows, values.shape[1]), dtype=values.dtype, device=values.device)
        return out.index_add_(0, index, values)
    return index_add_plain(xp, rows, index, values)


def index_add_plain(xp: Any, rows: int, index: Array, values: Array) -> Array:
    """The same in the standard: the one-hot matrix of the indices, transposed, times the values."""
    classes = xp.arange(rows, dtype=index.dtype, device=values.device)
    one_hot = xp.astype(index[:, None] == classes[None, :], values.dtype)
    return one_hot.T @ values

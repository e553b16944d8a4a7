"""Windows: all places where a kernel lies over an array, side by side; and the adjoint, which adds each number back where it came from.

    windows            u[g, i, …, c, o, …, n] = x[g, c, s·o + d·i, …, n]
    windows_adjoint    x[g, c, p, …, n] = Σ u[g, i, …, c, o, …, n] over all i, o with s·o + d·i = p

x: (groups, channels, *size, n)    u: (groups, *kernel, channels, *out, n), s the stride, d the dilation, one for each axis of size
A convolution is then one product with u, its gradient in x the adjoint of one.

The batch is the last axis, so that every copy moves runs of n numbers, or of out·n where the stride is 1. Measured on NumPy (float32, one
thread, 3x3, batch 64, least of 15 runs, ms), a convolution's forward and backward pass, 1 to 16 channels at 28x28 (without the gradient
in x) and 16 to 32 at 13x13:

    windows + product, adjoint       batch last    1.0   4.7        channels last    1.0   10.2
    the same by a strided view       batch last    1.0   4.2        channels last    1.4    5.1
    ∂L/∂x as a convolution of ∂L/∂z with the flipped kernel         6.0              10.6
    k·k products of shifted views, no u            13.4  6.0                         8.8    4.6

k·k slices and a strided view cost NumPy the same. On CuPy the view is 1 launch for k·k, its adjoint 2 for k·k, so there it is used: a
training step of two such layers with pooling is 41 kernels, by slices 100.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

from .registry import kind

Array = Any
Shape = tuple[int, ...]


def positions(size: int, kernel: int, stride: int, dilation: int) -> int:
    """How many windows fit into `size`; none where it is smaller than one."""
    return max(0, (size - dilation * (kernel - 1) - 1) // stride + 1)


@functools.lru_cache(maxsize=1024)
def places(out: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> list[tuple[Shape, tuple[slice, ...]]]:
    """For each entry of the kernel, row by row, the slices of x that lie under it in all windows."""
    return [(entry, tuple(slice(d * i, d * i + s * (o - 1) + 1, s) for i, o, s, d in zip(entry, out, stride, dilation)))
            for entry in itertools.product(*map(range, kernel))]


def pad(xp: Any, x: Array, padding: tuple[tuple[int, int], ...], value: float = 0.0) -> Array:
    """x with so many entries of `value` (before, after) along each axis of size: the axes before the last."""
    if not any(map(any, padding)):
        return x
    lead = x.ndim - len(padding) - 1
    size = x.shape[lead:-1]
    shape = (*x.shape[:lead], *(a + n + b for n, (a, b) in zip(size, padding)), x.shape[-1])
    out = xp.full(shape, value, dtype=x.dtype, device=x.device) if value else xp.zeros(shape, dtype=x.dtype, device=x.device)
    out[(..., *(slice(a, a + n) for n, (a, _) in zip(size, padding)), slice(None))] = x
    return out


def crop(x: Array, padding: tuple[tuple[int, int], ...]) -> Array:
    """The adjoint of `pad`: x without the entries before and after."""
    if not any(map(any, padding)):
        return x
    size = x.shape[x.ndim - len(padding) - 1:-1]
    return x[(..., *(slice(a, n - b) for n, (a, b) in zip(size, padding)), slice(None))]


def windows(xp: Any, x: Array, kernel: Shape, stride: Shape, dilation: Shape) -> Array:
    """u of x. Where nothing has to be copied it may share x's memory."""
    view = _as_strided(xp)
    return windows_plain(xp, x, kernel, stride, dilation) if view is None else _windows_strided(xp, view, x, kernel, stride, dilation)


def windows_adjoint(xp: Any, u: Array, size: Shape, stride: Shape, dilation: Shape) -> Array:
    """x of u, x of that size."""
    view = _as_strided(xp)
    return windows_adjoint_plain(xp, u, size, stride, dilation) if view is None else \
        _windows_adjoint_strided(xp, view, u, size, stride, dilation)


# In the standard: a pair of loops over the kernel's entries, one the other read backwards.


def windows_plain(xp: Any, x: Array, kernel: Shape, stride: Shape, dilation: Shape) -> Array:
    x = xp.reshape(xp.reshape(x, (-1,)), x.shape)         # copied once where it lies in another order, so that the copies below are runs
    out = tuple(map(positions, x.shape[2:-1], kernel, stride, dilation))
    u = xp.empty((x.shape[0], *kernel, x.shape[1], *out, x.shape[-1]), dtype=x.dtype, device=x.device)
    for entry, place in places(out, kernel, stride, dilation):
        u[(slice(None), *entry, ...)] = x[(slice(None), slice(None), *place, slice(None))]
    return u


def windows_adjoint_plain(xp: Any, u: Array, size: Shape, stride: Shape, dilation: Shape) -> Array:
    axes = len(size)
    kernel, channels, out = u.shape[1:1 + axes], u.shape[1 + axes], u.shape[2 + axes:-1]
    x = xp.zeros((u.shape[0], channels, *size, u.shape[-1]), dtype=u.dtype, device=u.device)
    for entry, place in places(out, kernel, stride, dilation):
        x[(slice(None), slice(None), *place, slice(None))] += u[(slice(None), *entry, ...)]
    return x


# With strided views. Adjoint: each entry of the kernel writes into a copy of x of its own, at its own offset, and the copies are added.


def _windows_strided(xp: Any, view: Callable[..., Array], x: Array, kernel: Shape, stride: Shape, dilation: Shape) -> Array:
    out = tuple(map(positions, x.shape[2:-1], kernel, stride, dilation))
    group, channel, *step, sample = x.strides
    shape = (x.shape[0], *kernel, x.shape[1], *out, x.shape[-1])
    strides = (group, *(d * b for d, b in zip(dilation, step)), channel, *(s * b for s, b in zip(stride, step)), sample)
    return xp.reshape(xp.reshape(view(x, shape, strides), (-1,)), shape)


def _windows_adjoint_strided(xp: Any, view: Callable[..., Array], u: Array, size: Shape, stride: Shape, dilation: Shape) -> Array:
    axes = len(size)
    kernel, channels = u.shape[1:1 + axes], u.shape[1 + axes]
    copies = xp.zeros((u.shape[0], *kernel, channels, *size, u.shape[-1]), dtype=u.dtype, device=u.device)
    group, *to, channel = copies.strides[:2 + axes]
    *step, sample = copies.strides[2 + axes:]
    strides = (group, *(t + d * b for t, d, b in zip(to, dilation, step)), channel, *(s * b for s, b in zip(stride, step)), sample)
    view(copies, u.shape, strides)[...] = u
    total = xp.sum(xp.reshape(copies, (u.shape[0], math.prod(kernel), -1)), axis=1)
    return xp.reshape(total, (u.shape[0], channels, *size, u.shape[-1]))


def _as_strided(xp: Any) -> Callable[..., Array] | None:
    """The function that reads an array's memory with other strides, where one pays; the dry run counts what CuPy does."""
    if kind(xp) == "cupy":
        from cupy.lib.stride_tricks import as_strided

        return as_strided
    return getattr(xp, "as_strided", None) if kind(xp) == "other" else None

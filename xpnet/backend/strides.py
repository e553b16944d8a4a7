"""Strides: by how many elements neighbours along each axis are apart; 0 for size 1. The rules are NumPy's."""

import math
from collections.abc import Sequence

Shape = tuple[int, ...]


def row_major(shape: Shape) -> Shape:
    """Strides of an array whose last axis is contiguous."""
    return tuple(math.prod(shape[i + 1:]) for i in range(len(shape)))


def reshaped(shape: Shape, strides: Shape, new: Shape) -> Shape | None:
    """Strides that read the same elements in the same order under another shape; None where only a copy has them."""
    if 0 in shape:
        return row_major(new)
    runs: list[tuple[int, int]] = []                      # (elements, stride): axes that one step walks through
    for n, stride in zip(shape, strides):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * stride:
            runs[-1] = (runs[-1][0] * n, stride)
        else:
            runs.append((n, stride))
    out = []
    for n in reversed(new):
        left, stride = runs.pop() if runs else (1, 1)
        if left % n:
            return None
        out.append(stride)
        if left > n:
            runs.append((left // n, stride * n))
    return tuple(reversed(out))


def kept_order(shape: Shape, operands: Sequence[Shape]) -> Shape:
    """Strides of a new array whose axes are nested as its operands' are: NumPy's order "K", which is row-major in doubt."""
    def inside(a: int, b: int) -> bool:
        """Does axis a vary faster than the later axis b, in all operands that tell?"""
        told = [abs(strides[a]) < abs(strides[b]) for strides in operands if strides[a] and strides[b]]
        return bool(told) and all(told)

    fastest_first: list[int] = []
    for a in reversed(range(len(shape))):
        at = next((i for i, b in enumerate(fastest_first) if inside(a, b)), len(fastest_first))
        fastest_first.insert(at, a)
    strides, step = [0] * len(shape), 1
    for a in fastest_first:
        strides[a] = step
        step *= shape[a]
    return tuple(strides)

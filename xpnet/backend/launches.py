"""What CuPy asks of the GPU for an array operation: kernels, cuBLAS calls, copies."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = Any                                               # an AbstractArray


class Op(NamedTuple):
    """One array operation: what it is, what it costs, and what CuPy asks of the GPU for it.

    name      of the function, "setitem", or "rule" for a fused one
    elements  of its result
    flops     a multiply-add is 2
    bytes     read and written
    dtype     of its result
    launches  kernels launched
    products  cuBLAS calls
    copies    device-to-device copies without a kernel
    """

    name: str
    elements: int
    flops: int
    bytes: int
    dtype: str = "float32"
    launches: int = 1
    products: int = 0
    copies: int = 0


# Kernels that CuPy launches for an operation, where it is not one: counted with CuPy 14.2 on an emulated device (no CUB, and its
# other accelerators off). tests/test_advise.py holds them against the counters. Not right: sorts and cumulative sums along axes too long
# for a block launch more, and outside of a rule `sign` and `clip` look for NaN, so that their launches depend on the numbers.
_LAUNCHES = {"asarray": 0, "cumulative_prod": 2, "cumulative_sum": 2, "gather": 3, "isin": 2, "linspace": 2, "std": 4, "take_along_axis": 4,
             "tril": 2, "triu": 2, "var": 3, "zeros": 0}


def asked_of_cupy(name: str, out: Array, inputs: Sequence[Any], arrays: Sequence[Array]) -> tuple[int, int, int]:
    """(kernels launched, cuBLAS calls, device copies) of one operation. Filling with zeros is a memset, none of these.

    arrays  those of the inputs that are not numbers
    """
    if out.size == 0:
        return 0, 0, 0
    if name == "matmul":
        return _asked_for_matmul(out, *arrays)
    if name == "tensordot":
        return sum(not x.is_row_major and not x.T.is_row_major for x in arrays), 1, 0
    if name == "vecdot":                                  # along the last axis; the conjugate is a copy
        return 1, 1, 0
    if name == "setitem":
        (value,) = inputs
        if not arrays:                                    # a number
            return (0, 0, 0) if value == 0 and out.is_row_major else (1, 0, 0)
        # A plain copy wants the same dtype and layout; CuPy broadcasts a value whose first axis has size 1.
        plain = (value.dtype, value.shape, value.strides) == (out.dtype, out.shape, out.strides) and out.shape[:1] != (1,)
        return (0, 0, 1) if plain and out.is_row_major else (1, 0, 0)
    if name == "concat":
        return (len(arrays) if len(arrays) <= 8 else 1), 0, 0
    if name == "asarray" and out.ndim == 0:
        return 1, 0, 0                                    # a number is filled in; a list is copied from the host
    return _LAUNCHES.get(name, 1), 0, 0


def _asked_for_matmul(out: Array, a: Array, b: Array) -> tuple[int, int, int]:
    """cuBLAS takes a matrix or its transpose as it lies, anything else is copied first; batches only row by row."""
    ndim = max(a.ndim, b.ndim)
    if ndim <= 2:
        ready = [x.is_row_major or x.T.is_row_major for x in (a, b)]
        return (1 + ready.count(False), 0, 0) if out.size == 1 else (ready.count(False), 1, 0)
    batch_a, batch_b = ((1,) * (ndim - x.ndim) + x.shape[:-2] for x in (a, b))
    launches = sum(not x.is_row_major for x in (a, b))
    if out.dtype == np.float16:                           # multiplied in float32, and cast back
        launches = 3
    if batch_a != batch_b:                                # a table of pointers for each of a, b and out, axis by axis
        launches += 3 * (ndim - 2)
    return launches, 1, 0

"""The dry run: one training step on arrays that have a shape, a dtype and a place in memory, but no numbers.

The layers run as they are, over a namespace of their own. So no layer needs a table of its shapes and costs: what is
written in the standard's functions can be counted. What is counted, and how:

  FLOPs   a multiply-add is 2; an elementwise operation or a reduction is 1 an element, whatever it is called, and on
          integers too; moving numbers (reshape, concat, take, astype, filling) is 0
  bytes   what the closures of the forward pass keep for the backward pass, beyond parameters, buffers and the
          network's input. Each allocation counts once and whole: a view keeps its base. Which reshape copies is NumPy's
          rule

The step is one of training: random numbers are drawn, and the gradient of the network's input is left out. Loss and
optimizer are not part of it.
"""

import copy
import functools
import math
import operator
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from .backend import Random, get_backend
from .errors import unknown
from .layer import Backward, Context, Layer

Shape = tuple[int, ...]
_numpy = get_backend("numpy").xp                          # knows every dtype rule; asked on arrays of no elements


# Arrays without numbers.


class Memory:
    """One allocation. Arrays that are views of each other have the same one."""

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int):
        self.nbytes = nbytes


class AbstractArray:
    """An array without numbers. strides: by how many elements neighbours along each axis are apart; 0 for size 1."""

    __slots__ = ("dtype", "memory", "shape", "strides")
    __array_ufunc__ = None                                # NumPy arrays do not take part, as with CuPy's
    __hash__ = None  # type: ignore[assignment]
    device = "dry run"

    def __init__(self, shape: Shape, dtype: Any, strides: Shape | None = None, memory: Memory | None = None):
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        strides = row_major(self.shape) if strides is None else strides
        self.strides = tuple(s if n != 1 else 0 for n, s in zip(self.shape, strides))
        self.memory = memory or Memory(self.nbytes)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def T(self) -> "AbstractArray":
        return self.view(self.shape[::-1], self.strides[::-1])

    @property
    def mT(self) -> "AbstractArray":
        return abstract.matrix_transpose(self)

    def view(self, shape: Shape, strides: Shape) -> "AbstractArray":
        return AbstractArray(shape, self.dtype, strides, self.memory)

    def __array_namespace__(self, api_version: str | None = None) -> "Namespace":
        return abstract

    def to_device(self, device: Any, stream: Any = None) -> "AbstractArray":
        return self

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __matmul__(self, other: Any) -> "AbstractArray":
        return abstract.matmul(self, other)

    def __getitem__(self, index: Any) -> "AbstractArray":
        keys = index if isinstance(index, tuple) else (index,)
        arrays = [k for k in keys if isinstance(k, AbstractArray)]
        if not arrays:
            return self._sliced(keys)
        if any(k.dtype.kind not in "iu" for k in arrays) or not all(isinstance(k, (int, AbstractArray)) for k in keys):
            raise IndexError("a dry run takes slices, or integers and integer arrays, as an index; what a boolean "
                             "array picks depends on its numbers")
        if len(keys) > self.ndim:
            raise IndexError(f"{len(keys)} indices for an array of shape {self.shape}")
        return _taken(np.broadcast_shapes(*(k.shape for k in arrays)) + self.shape[len(keys):], self.dtype, arrays)

    def _sliced(self, keys: tuple[Any, ...]) -> "AbstractArray":
        axes = self.ndim - sum(k is not None and k is not Ellipsis for k in keys)
        if axes < 0:
            raise IndexError(f"too many indices for an array of shape {self.shape}: {keys}")
        at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
        keys = keys[:at] + (slice(None),) * axes + keys[at + 1:]
        shape, strides = [], []
        old = zip(self.shape, self.strides)
        for key in keys:
            if key is None:
                shape.append(1)
                strides.append(0)
                continue
            n, stride = next(old)
            if isinstance(key, slice):
                start, stop, step = key.indices(n)
                shape.append(len(range(start, stop, step)))
                strides.append(stride * step)
            elif not -n <= operator.index(key) < n:
                raise IndexError(f"index {key} is out of range for an axis of size {n}")
        return self.view(tuple(shape), tuple(strides))

    def __setitem__(self, index: Any, value: Any) -> None:
        target = self[index]
        _fits(target.shape, value)
        _record("setitem", target, 0, [value])

    def _no_number(self, *args: Any) -> Any:
        raise TypeError("a dry run has no numbers: a layer that asks for a value (if, float, int, item) cannot be "
                        "counted, and would wait for the device at each step")

    __bool__ = __int__ = __float__ = __complex__ = __index__ = item = tolist = __array__ = _no_number

    def __repr__(self) -> str:
        return f"AbstractArray({self.shape}, {self.dtype})"


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
    """Strides of a new array whose axes are nested as its operands' are (NumPy's order "K"; row-major in doubt)."""
    def inside(a: int, b: int) -> bool | None:
        """Does axis a vary faster than axis b, which comes after it in the shape? None where no operand tells."""
        told = None
        for strides in operands:
            if strides[a] and strides[b]:
                told = (told is None or told) and abs(strides[a]) < abs(strides[b])
        return told

    fastest_first: list[int] = []
    for a in reversed(range(len(shape))):
        at = len(fastest_first)
        for i in reversed(range(len(fastest_first))):
            told = inside(a, fastest_first[i])
            if told:
                at = i
            elif told is False:
                break
        fastest_first.insert(at, a)
    strides, step = [0] * len(shape), 1
    for a in fastest_first:
        strides[a] = step
        step *= shape[a]
    return tuple(strides)


def _strides_in(x: AbstractArray, shape: Shape) -> Shape:
    """x's strides when it is broadcast to `shape`."""
    return (0,) * (len(shape) - x.ndim) + x.strides


# What is recorded of them.


class Op(NamedTuple):
    """One array operation: what one launch would be on a GPU. `bytes` are read and written."""

    name: str
    elements: int
    flops: int
    bytes: int


class Row:
    """One layer of the summary.

    path, name              "2.0", "Dense(784, 128)"
    output_shape            of the layer's y, with the batch axis; a tuple of shapes where y is a tuple
    params, shared          trainable numbers first met here, and those met before
    flops_forward, flops_backward
    cached_bytes            what the layer's closure keeps, beyond what an earlier one keeps
    forward, backward       every array operation in its order
    """

    def __init__(self, path: str, layer: Layer):
        self.path, self.name, self.kind = path, repr(layer), type(layer).__name__
        self.output_shape: Any = ()
        self.params = self.shared = self.cached_bytes = 0
        self.forward: list[Op] = []
        self.backward: list[Op] = []

    @property
    def flops_forward(self) -> int:
        return sum(op.flops for op in self.forward)

    @property
    def flops_backward(self) -> int:
        return sum(op.flops for op in self.backward)

    def __repr__(self) -> str:
        return (f"Row({self.path!r}, {self.name}, output_shape={self.output_shape}, params={self.params}, "
                f"flops_forward={self.flops_forward}, flops_backward={self.flops_backward}, "
                f"cached_bytes={self.cached_bytes})")


class Trace:
    """Where operations are recorded while the dry run runs: at the row of the layer that is now at work."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.path, self.phase = "", "forward"
        self.offered: set[Memory] = set()

    @contextmanager
    def at(self, path: str, phase: str) -> Iterator[None]:
        before = self.path, self.phase
        self.path, self.phase = path, phase
        try:
            yield
        finally:
            self.path, self.phase = before

    def offer(self, backward: Backward) -> None:
        """Note what a closure of the forward pass keeps now; its container may drop it, as Checkpoint does."""
        if self.phase == "forward":
            self.offered.update(x.memory for x in held(backward, (AbstractArray,)))


_trace: ContextVar[Trace | None] = ContextVar("_trace", default=None)


def _record(name: str, out: AbstractArray, flops: int, inputs: Sequence[Any]) -> None:
    trace = _trace.get()
    if trace is not None:
        moved = out.nbytes + sum(x.nbytes for x in inputs if isinstance(x, AbstractArray))
        getattr(trace.rows[trace.path], trace.phase).append(Op(name, out.size, flops, moved))


def _made(name: str, shape: Shape, dtype: Any, inputs: Sequence[Any], flops: int = 0,
          strides: Shape | None = None) -> AbstractArray:
    """A new array, and the record of how it was made."""
    out = AbstractArray(shape, dtype, strides)
    _record(name, out, flops, inputs)
    return out


def _taken(shape: Shape, dtype: Any, indices: Sequence[AbstractArray]) -> AbstractArray:
    """A gather: it reads as many elements as it writes, and the indices."""
    out = AbstractArray(shape, dtype)
    _record("take", out, 0, [out, *indices])
    return out


# The namespace.


def _empty(x: Any) -> Any:
    """What NumPy is asked with about dtypes: an array of x's dtype without elements; a number, which stays weak."""
    if isinstance(x, AbstractArray):
        return np.empty(0, x.dtype)
    if x is None or isinstance(x, (bool, int, float, complex, np.generic)):
        return x
    raise TypeError(f"a dry run takes its own arrays and Python numbers, got {type(x).__module__}.{type(x).__name__}")


def _fits(shape: Shape, value: Any) -> None:
    """An in-place operation keeps the shape of what it writes into."""
    if isinstance(value, AbstractArray) and np.broadcast_shapes(shape, value.shape) != shape:
        raise ValueError(f"an array of shape {value.shape} does not broadcast into one of shape {shape}")


def elementwise(name: str, f: Callable[..., Any], *args: Any, **options: Any) -> AbstractArray:
    """y = f(x₁, x₂, …) element by element, with broadcasting. The dtype is the one of NumPy's f."""
    arrays = [a for a in (*args, *options.values()) if isinstance(a, AbstractArray)]
    dtype = f(*map(_empty, args), **{k: _empty(v) for k, v in options.items()}).dtype
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    strides = kept_order(shape, [_strides_in(a, shape) for a in arrays])
    return _made(name, shape, dtype, arrays, math.prod(shape), strides)


def in_place(name: str, f: Callable[..., Any], x: AbstractArray, other: Any) -> AbstractArray:
    """x ∘= other: x's memory, x's dtype."""
    f(_empty(x), _empty(other))                           # raises where the result does not fit x's dtype
    _fits(x.shape, other)
    _record(name, x, x.size, [x, other])
    return x


def reduction(name: str, f: Callable[..., Any], x: AbstractArray, /, *, axis: Any = None, keepdims: bool = False,
              **options: Any) -> AbstractArray:
    """y = f of x along `axis`: one axis, a tuple of axes, or all."""
    dtype = np.asarray(f(np.ones(2, x.dtype), **options)).dtype
    flops = 2 * x.size if name == "vector_norm" else x.size   # Σx² is a multiply-add an element
    axes = _axes(axis, x.ndim)
    sizes = [(1 if a in axes else n, 0 if a in axes else s, a) for a, (n, s) in enumerate(zip(x.shape, x.strides))
             if keepdims or a not in axes]
    shape = tuple(n for n, _, _ in sizes)
    return _made(name, shape, dtype, [x], flops, kept_order(shape, [tuple(s for _, s, _ in sizes)]))


def _axes(axis: Any, ndim: int) -> Shape:
    return tuple(range(ndim)) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, ndim)


_ELEMENTWISE = {"ceil", "clip", "floor", "imag", "real", "round", "sign", "trunc", "where"}   # beside NumPy's ufuncs
_REDUCTIONS = {"all", "any", "argmax", "argmin", "count_nonzero", "max", "mean", "min", "prod", "std", "sum", "var"}
_ABOUT_DTYPES = {"__array_namespace_info__", "can_cast", "finfo", "iinfo", "isdtype", "result_type"}
# Seldom used: NumPy is run on zeros, for the shape of its result. The number is FLOPs an element of that.
_BY_NUMPY = {"argsort": 1, "cumulative_prod": 1, "cumulative_sum": 1, "diff": 1, "eye": 0, "isin": 1, "linspace": 1,
             "meshgrid": 0, "repeat": 0, "roll": 0, "searchsorted": 1, "sort": 1, "tile": 0, "tril": 0, "triu": 0}


class Namespace:
    """The standard's functions on arrays without numbers."""

    newaxis = None
    inf, nan, pi, e = math.inf, math.nan, math.pi, math.e

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(_numpy, name, None)
        if name in _ELEMENTWISE or (isinstance(found, np.ufunc) and found.signature is None):
            return functools.partial(elementwise, name, found)
        if name in _REDUCTIONS:
            return functools.partial(reduction, name, found)
        if name in _BY_NUMPY:
            return functools.partial(self._by_numpy, name)
        if name in _ABOUT_DTYPES:
            return lambda *args: found(*(a.dtype if isinstance(a, AbstractArray) else a for a in args))
        if isinstance(found, type) and issubclass(found, np.generic):
            return found
        raise AttributeError(f"the dry run knows no function {name!r}: the shape of its result depends on the numbers, "
                             "or it is not among the Array API standard's main functions")

    def _by_numpy(self, name: str, *args: Any, device: Any = None, **options: Any) -> Any:
        def zeros(x: Any) -> Any:
            return np.broadcast_to(np.zeros((), x.dtype), x.shape) if isinstance(x, AbstractArray) else x

        found = getattr(_numpy, name)(*map(zeros, args), **options)
        made = [_made(name, y.shape, y.dtype, args, _BY_NUMPY[name] * y.size)
                for y in (found if isinstance(found, (tuple, list)) else (found,))]
        return tuple(made) if isinstance(found, (tuple, list)) else made[0]

    # Making arrays.

    def empty(self, shape: Any, *, dtype: Any = None, device: Any = None) -> AbstractArray:
        return AbstractArray((shape,) if isinstance(shape, int) else shape, dtype or np.float64)

    def full(self, shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> AbstractArray:
        out = self.empty(shape, dtype=dtype or np.asarray(fill_value).dtype)
        _record("full", out, 0, [])
        return out

    def zeros(self, shape: Any, *, dtype: Any = None, device: Any = None) -> AbstractArray:
        return self.full(shape, 0.0, dtype=dtype)

    def ones(self, shape: Any, *, dtype: Any = None, device: Any = None) -> AbstractArray:
        return self.full(shape, 1.0, dtype=dtype)

    def empty_like(self, x: AbstractArray, /, *, dtype: Any = None, device: Any = None) -> AbstractArray:
        return AbstractArray(x.shape, dtype or x.dtype, kept_order(x.shape, [x.strides]))

    def full_like(self, x: AbstractArray, /, fill_value: Any, *, dtype: Any = None,
                  device: Any = None) -> AbstractArray:
        out = self.empty_like(x, dtype=dtype)
        _record("full", out, 0, [])
        return out

    def zeros_like(self, x: AbstractArray, /, *, dtype: Any = None, device: Any = None) -> AbstractArray:
        return self.full_like(x, 0, dtype=dtype)

    def ones_like(self, x: AbstractArray, /, *, dtype: Any = None, device: Any = None) -> AbstractArray:
        return self.full_like(x, 1, dtype=dtype)

    def arange(self, start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None,
               device: Any = None) -> AbstractArray:
        if stop is None:
            start, stop = 0, start
        default = np.float64 if any(isinstance(v, float) for v in (start, stop, step)) else np.int64
        return _made("arange", (max(0, math.ceil((stop - start) / step)),), dtype or default, [])

    def asarray(self, x: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> AbstractArray:
        if not isinstance(x, AbstractArray):
            host = np.asarray(x, dtype=dtype)
            return _made("asarray", host.shape, host.dtype, [])
        return self.astype(x, dtype or x.dtype, copy=bool(copy))

    def astype(self, x: AbstractArray, dtype: Any, /, *, copy: bool = True, device: Any = None) -> AbstractArray:
        if not copy and x.dtype == np.dtype(dtype):
            return x
        return _made("astype", x.shape, dtype, [x], strides=kept_order(x.shape, [x.strides]))

    # Views.

    def reshape(self, x: AbstractArray, /, shape: Shape, *, copy: bool | None = None) -> AbstractArray:
        shape = tuple(shape)
        known = math.prod(n for n in shape if n != -1)
        new = tuple(x.size // known if n == -1 and known else n for n in shape)
        if math.prod(new) != x.size or min(new, default=0) < 0:
            raise ValueError(f"cannot reshape an array of shape {x.shape} into {shape}")
        strides = None if copy else reshaped(x.shape, x.strides, new)
        return _made("copy", new, x.dtype, [x]) if strides is None else x.view(new, strides)

    def permute_dims(self, x: AbstractArray, /, axes: Shape) -> AbstractArray:
        if sorted(_axes(axes, x.ndim)) != list(range(x.ndim)):
            raise ValueError(f"axes {axes} are not a permutation of the {x.ndim} axes")
        return x.view(tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes))

    def matrix_transpose(self, x: AbstractArray, /) -> AbstractArray:
        if x.ndim < 2:
            raise ValueError(f"a matrix has at least two axes, got shape {x.shape}")
        return self.permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

    def moveaxis(self, x: AbstractArray, source: Any, destination: Any, /) -> AbstractArray:
        source, destination = _axes(source, x.ndim), _axes(destination, x.ndim)
        order = [a for a in range(x.ndim) if a not in source]
        for to, a in sorted(zip(destination, source)):
            order.insert(to, a)
        return self.permute_dims(x, tuple(order))

    def broadcast_to(self, x: AbstractArray, /, shape: Shape) -> AbstractArray:
        _fits(tuple(shape), x)
        return x.view(shape, _strides_in(x, shape))

    def broadcast_arrays(self, *arrays: AbstractArray) -> tuple[AbstractArray, ...]:
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
        return tuple(self.broadcast_to(x, shape) for x in arrays)

    def broadcast_shapes(self, *shapes: Shape) -> Shape:
        return np.broadcast_shapes(*shapes)

    def expand_dims(self, x: AbstractArray, /, axis: Any = 0) -> AbstractArray:
        axes = _axes(axis, x.ndim + (len(axis) if isinstance(axis, tuple) else 1))
        return x[tuple(None if a in axes else slice(None) for a in range(x.ndim + len(axes)))]

    def squeeze(self, x: AbstractArray, /, axis: Any) -> AbstractArray:
        axes = _axes(axis, x.ndim)
        if any(x.shape[a] != 1 for a in axes):
            raise ValueError(f"axes {axes} of shape {x.shape} are not all of size 1")
        return x[tuple(0 if a in axes else slice(None) for a in range(x.ndim))]

    def flip(self, x: AbstractArray, /, *, axis: Any = None) -> AbstractArray:
        axes = _axes(axis, x.ndim)
        return x[tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(x.ndim))]

    def unstack(self, x: AbstractArray, /, *, axis: int = 0) -> tuple[AbstractArray, ...]:
        front = self.moveaxis(x, axis, 0)
        return tuple(front[i] for i in range(front.shape[0]))

    # Copies.

    def concat(self, arrays: Sequence[AbstractArray], /, *, axis: int | None = 0) -> AbstractArray:
        if axis is None:
            arrays, axis = [self.reshape(x, (-1,)) for x in arrays], 0
        first = arrays[0]
        (axis,) = _axes(axis, first.ndim)
        for x in arrays[1:]:
            if x.shape[:axis] + x.shape[axis + 1:] != first.shape[:axis] + first.shape[axis + 1:]:
                raise ValueError(f"cannot join arrays of shapes {[x.shape for x in arrays]} along axis {axis}")
        shape = (*first.shape[:axis], sum(x.shape[axis] for x in arrays), *first.shape[axis + 1:])
        return _made("concat", shape, np.result_type(*map(_empty, arrays)), arrays,
                     strides=kept_order(shape, [x.strides for x in arrays]))

    def stack(self, arrays: Sequence[AbstractArray], /, *, axis: int = 0) -> AbstractArray:
        return self.concat([self.expand_dims(x, axis=axis) for x in arrays], axis=axis)

    def take(self, x: AbstractArray, indices: AbstractArray, /, *, axis: int | None = None) -> AbstractArray:
        (axis,) = _axes(0 if axis is None and x.ndim == 1 else axis, x.ndim)
        return _taken(x.shape[:axis] + indices.shape + x.shape[axis + 1:], x.dtype, [indices])

    def take_along_axis(self, x: AbstractArray, indices: AbstractArray, /, *, axis: int = -1) -> AbstractArray:
        (axis,) = _axes(axis, x.ndim)
        rest = np.broadcast_shapes(*((*a.shape[:axis], 1, *a.shape[axis + 1:]) for a in (x, indices)))
        return _taken((*rest[:axis], indices.shape[axis], *rest[axis + 1:]), x.dtype, [indices])

    # Products.

    def matmul(self, a: AbstractArray, b: AbstractArray, /) -> AbstractArray:
        for x in (a, b):
            if not isinstance(x, AbstractArray) or not x.shape:
                raise TypeError(f"matmul takes arrays with at least one axis, got {x!r}")
        rows = (1, a.shape[0]) if a.ndim == 1 else a.shape
        columns = (b.shape[0], 1) if b.ndim == 1 else b.shape
        if rows[-1] != columns[-2]:
            raise ValueError(f"cannot multiply matrices of shapes {a.shape} and {b.shape}")
        product = (*(rows[-2:-1] if a.ndim > 1 else ()), *(columns[-1:] if b.ndim > 1 else ()))
        return _product("matmul", (*np.broadcast_shapes(rows[:-2], columns[:-2]), *product), rows[-1], a, b)

    def tensordot(self, a: AbstractArray, b: AbstractArray, /, *, axes: Any = 2) -> AbstractArray:
        of_a, of_b = (range(a.ndim - axes, a.ndim), range(axes)) if isinstance(axes, int) else axes
        of_a, of_b = _axes(tuple(of_a), a.ndim), _axes(tuple(of_b), b.ndim)
        summed = tuple(a.shape[i] for i in of_a)
        if summed != tuple(b.shape[i] for i in of_b):
            raise ValueError(f"cannot sum axes {of_a} of shape {a.shape} with axes {of_b} of shape {b.shape}")
        shape = [n for i, n in enumerate(a.shape) if i not in of_a]
        shape += [n for i, n in enumerate(b.shape) if i not in of_b]
        return _product("tensordot", tuple(shape), math.prod(summed), a, b)

    def vecdot(self, a: AbstractArray, b: AbstractArray, /, *, axis: int = -1) -> AbstractArray:
        shape = np.broadcast_shapes(a.shape, b.shape)
        (axis,) = _axes(axis, len(shape))
        return _product("vecdot", shape[:axis] + shape[axis + 1:], shape[axis], a, b)

    @property
    def linalg(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(
            matmul=self.matmul, matrix_transpose=self.matrix_transpose, tensordot=self.tensordot, vecdot=self.vecdot,
            vector_norm=functools.partial(reduction, "vector_norm", _numpy.linalg.vector_norm))


def _product(name: str, shape: Shape, summed: int, a: AbstractArray, b: AbstractArray) -> AbstractArray:
    """A product that sums over `summed` terms an element."""
    return _made(name, shape, np.result_type(_empty(a), _empty(b)), [a, b], 2 * math.prod(shape) * summed)


abstract = Namespace()


def _operators() -> None:
    """x + y, 1.0 - x, x += y, -x and their kin are the namespace's functions."""
    def forward(name: str) -> Any:
        return lambda x, y: elementwise(name, getattr(_numpy, name), x, y)

    def swapped(name: str) -> Any:
        return lambda x, y: elementwise(name, getattr(_numpy, name), y, x)

    def inplace(name: str, f: Any) -> Any:
        return lambda x, y: in_place(name, f, x, y)

    def unary(name: str) -> Any:
        return lambda x: elementwise(name, getattr(_numpy, name), x)

    for dunder, name in {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide",
                         "floordiv": "floor_divide", "mod": "remainder", "pow": "pow", "and": "bitwise_and",
                         "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
                         "rshift": "bitwise_right_shift"}.items():
        setattr(AbstractArray, f"__{dunder}__", forward(name))
        setattr(AbstractArray, f"__r{dunder}__", swapped(name))
        setattr(AbstractArray, f"__i{dunder}__", inplace(name, getattr(operator, f"i{dunder}")))
    for dunder, name in {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
                         "ge": "greater_equal"}.items():
        setattr(AbstractArray, f"__{dunder}__", forward(name))
    for dunder, name in {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}.items():
        setattr(AbstractArray, f"__{dunder}__", unary(name))


_operators()


# The step.


class TracedBackward:
    """A layer's `backward` that is recorded at its layer's path."""

    __slots__ = ("backward", "path", "trace")

    def __init__(self, trace: Trace, path: str, backward: Backward):
        self.trace, self.path, self.backward = trace, path, backward

    def __call__(self, *args: Any, **options: Any) -> Any:
        with self.trace.at(self.path, "backward"):
            return self.backward(*args, **options)


class TracingContext(Context):
    """A context that listens where containers run their children."""

    __slots__ = ()

    def forward(self, name: str, layer: Layer, params: dict[str, Any], x: Any) -> tuple[Any, Backward]:
        trace = _trace.get()
        assert trace is not None
        path = f"{trace.path}.{name}" if trace.path else name
        row = trace.rows.setdefault(path, Row(path, layer))
        with trace.at(path, trace.phase):
            y, backward = super().forward(name, layer, params, x)
        row.output_shape = _shape_of(y)
        trace.offer(backward)
        return y, TracedBackward(trace, path, backward)


def held(item: Any, kinds: tuple[type, ...], seen: set[int] | None = None) -> Iterator[Any]:
    """The objects of these kinds that a closure keeps, through the functions, partials and collections it keeps."""
    seen = set() if seen is None else seen
    if id(item) in seen:
        return
    seen.add(id(item))
    inside: Sequence[Any] = ()
    if isinstance(item, kinds):
        yield item
    elif isinstance(item, (tuple, list)):
        inside = item
    elif isinstance(item, dict):
        inside = list(item.values())
    elif isinstance(item, functools.partial):
        inside = [item.func, item.args, item.keywords]
    elif isinstance(item, types.FunctionType):
        inside = [item.__defaults__, item.__kwdefaults__, *_contents(item)]
    for each in inside:
        yield from held(each, kinds, seen)


def _contents(f: types.FunctionType) -> Iterator[Any]:
    for cell in f.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:                                # a name that has been deleted
            continue


def _keep(trace: Trace, path: str, backward: Backward, counted: set[Memory]) -> None:
    """Give each allocation that `backward` keeps to the first layer that keeps it, children before their container."""
    found = list(held(backward, (AbstractArray, TracedBackward)))
    for child in found:
        if isinstance(child, TracedBackward):
            _keep(trace, child.path, child.backward, counted)
    for memory in (x.memory for x in found if isinstance(x, AbstractArray)):
        if memory not in counted:
            counted.add(memory)
            trace.rows[path].cached_bytes += memory.nbytes


def _shape_of(y: Any) -> Any:
    return tuple(map(_shape_of, y)) if isinstance(y, tuple) else y.shape


def _like(y: Any) -> Any:
    return tuple(map(_like, y)) if isinstance(y, tuple) else AbstractArray(y.shape, y.dtype)


_INPUT_DTYPES = ("float32", "float64", "int32", "int64")


def summarize(model: Any, input_shape: Any = None, batch_size: int = 1, input_dtype: str | None = None) -> "Summary":
    """Dry-run a training step of `model` and say what each layer makes, costs and keeps.

    input_shape  one sample's shape, without the batch axis; a tuple of shapes where x is a tuple. None: (in_features,),
                 where the network fixes it
    input_dtype  None: the model's; "int64" for tokens
    Raises ValueError where the input shape is not known, and the layer's LayerError for one that does not fit.
    """
    net = model.net
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is a positive integer, got {batch_size!r}")
    if input_shape is None:
        if net.in_features is None:
            raise ValueError(f"the shape of one sample is not fixed by {type(net).__name__}: give it, as in "
                             "summary(input_shape=(28, 28))")
        input_shape = (net.in_features,)
    dtype = input_dtype or model.dtype
    if dtype not in _INPUT_DTYPES:
        raise unknown("dtype", dtype, _INPUT_DTYPES)

    def sample(shape: Any) -> AbstractArray:
        if not isinstance(shape, (tuple, list)) or not all(isinstance(n, int) and n > 0 for n in shape):
            raise ValueError(f"input_shape is the shape of one sample, such as (784,), got {input_shape!r}")
        return AbstractArray((batch_size, *shape), dtype)

    many = isinstance(input_shape, (tuple, list)) and any(isinstance(s, (tuple, list)) for s in input_shape)
    xs = tuple(map(sample, input_shape)) if many else (sample(input_shape),)

    dry = copy.copy(model)                                # the same model, over arrays without numbers
    dry.xp = abstract
    dry.params = AbstractArray((model.layout.size,), model.dtype)
    dry.state = {b: AbstractArray(b.shape, model.dtype) for b in model.state}
    dry._views = model.layout.views(abstract, dry.params)

    trace = Trace()
    root = trace.rows[""] = Row("", net)
    token = _trace.set(trace)
    try:
        ctx = TracingContext(abstract, True, Random(model.seed, model.step), dry.state)
        y, backward = dry._forward(xs if many else xs[0], ctx)
        root.output_shape = _shape_of(y)
        trace.offer(backward)
        kept = {a.memory for a in (dry.params, *dry.state.values(), *xs)}
        _keep(trace, "", backward, kept)
        with trace.at("", "backward"):
            backward(_like(y), False)
    finally:
        _trace.reset(token)
    _count_params(trace, model.layout)
    return Summary(trace, model, sum(memory.nbytes for memory in trace.offered - kept))


def _count_params(trace: Trace, layout: Any) -> None:
    """Each parameter at the row of the layer that declares it; a shared one where it comes first."""
    for path, slot in layout.by_path.items():
        owner = path.rpartition(".")[0]
        while owner not in trace.rows:                    # a layer that its parent runs by itself
            owner = owner.rpartition(".")[0]
        row, size = trace.rows[owner], slot.stop - slot.start
        if path == slot.paths[0]:
            row.params += size
        else:
            row.shared += size


class Summary:
    """What `Model.summary` found. Prints as a table.

    rows               one a layer, in forward order; a container has a row where it works or keeps something itself
    total_params       trainable numbers, shared ones once
    params_bytes       of the parameters and their gradients
    flops_forward, flops_backward    of the network, for one step of this batch
    cached_bytes       kept from the forward pass to the backward pass
    recomputed_bytes   what a Checkpoint dropped, and makes again within the backward pass
    """

    def __init__(self, trace: Trace, model: Any, recomputed_bytes: int):
        parents = {path.rpartition(".")[0] for path in trace.rows if path}
        self.rows = [r for r in trace.rows.values()
                     if r.path not in parents or r.forward or r.backward or r.cached_bytes or r.params or r.shared]
        self.total_params = model.layout.size
        self.params_bytes = 2 * self.total_params * np.dtype(model.dtype).itemsize
        self.flops_forward = sum(r.flops_forward for r in self.rows)
        self.flops_backward = sum(r.flops_backward for r in self.rows)
        self.cached_bytes = sum(r.cached_bytes for r in self.rows)
        self.recomputed_bytes = recomputed_bytes

    def __str__(self) -> str:
        head = ("path", "layer", "output shape", "parameters", "FLOPs forward", "FLOPs backward", "kept")
        table = [head] + [self._cells(r) for r in self.rows]
        widths = [max(map(len, column)) for column in zip(*table)]
        lines = ["  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))).rstrip()
                 for cells in table]
        rule = "-" * max(map(len, lines))
        step = self.flops_forward + self.flops_backward
        totals = [("trainable parameters", f"{self.total_params:,}"),
                  ("parameters and gradients", readable(self.params_bytes)),
                  ("FLOPs of a step", f"{step:,} ({self.flops_forward:,} forward, {self.flops_backward:,} backward)"),
                  ("kept for backward", readable(self.cached_bytes))]
        if self.recomputed_bytes:
            totals.append(("recomputed, not kept", readable(self.recomputed_bytes)))
        if any(r.shared for r in self.rows):
            totals.append(("(in brackets)", "shared with an earlier layer, counted there"))
        wide = max(len(name) for name, _ in totals)
        notes = [f"{name.ljust(wide)}  {value}" for name, value in totals]
        notes.append("A multiply-add is 2 FLOPs, an elementwise operation or a reduction 1 an element. "
                     "Loss and optimizer are not counted.")
        return "\n".join([lines[0], rule, *lines[1:], rule, *notes])

    def _cells(self, row: Row) -> tuple[str, ...]:
        name = row.name if len(row.name) <= 40 else f"{row.kind}(...)"
        params = [f"{row.params:,}"] if row.params or not row.shared else []
        if row.shared:
            params.append(f"({row.shared:,})")
        return (row.path, name, str(row.output_shape), " + ".join(params), f"{row.flops_forward:,}",
                f"{row.flops_backward:,}", readable(row.cached_bytes))

    __repr__ = __str__


def readable(nbytes: float) -> str:
    """1536 → "1.5 KiB" """
    if nbytes < 1024:
        return f"{nbytes} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        nbytes /= 1024
        if nbytes < 1024:
            break
    return f"{nbytes:,.1f} {unit}"

"""Arrays that have a shape, a dtype and a place in memory, but no numbers, and their namespace.

Layers run over them as they are; what they ask for can then be counted. Dtype rules are NumPy's, and so is which reshape
copies.
"""

import functools
import itertools
import math
import operator
import types
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from .launches import Op, asked_of_cupy
from .registry import get_backend
from .strides import Shape, kept_order, reshaped, row_major


@functools.cache
def _numpy() -> Any:
    """NumPy's namespace, which knows every dtype rule; asked on arrays of no elements. Imported when a dry run is first made."""
    return get_backend("numpy").xp


# Arrays without numbers.


class Memory:
    """One allocation. Arrays that are views of each other have the same one. `number` tells it from all others, dead ones too."""

    __slots__ = ("meter", "nbytes", "number")
    _numbers = itertools.count()

    def __init__(self, nbytes: int):
        self.nbytes = nbytes
        self.number = next(self._numbers)
        self.meter: Meter | None = None
        if (listening := meter.get()) is not None:
            listening.take(self)

    def __del__(self) -> None:
        if self.meter is not None:
            self.meter.now -= self.nbytes


class Meter:
    """How many bytes are allocated `now`, and the most there have been. The arrays of a dry run live as long as real ones would."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def take(self, memory: Memory) -> None:
        memory.meter = self
        self.now += memory.nbytes
        self.peak = max(self.peak, self.now)


meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


class AbstractArray:
    """An array without numbers.

    strides  by how many elements neighbours along each axis are apart; 0 for size 1
    offset   which element of its memory is the first
    """

    __slots__ = ("dtype", "memory", "offset", "shape", "strides")
    __array_ufunc__ = None                                # NumPy arrays do not take part, as with CuPy's
    __hash__ = None  # type: ignore[assignment]
    device = "dry run"

    def __init__(self, shape: Shape, dtype: Any, strides: Shape | None = None, memory: Memory | None = None, offset: int = 0):
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        strides = row_major(self.shape) if strides is None else strides
        self.strides = tuple(s if n != 1 else 0 for n, s in zip(self.shape, strides))
        self.memory = memory or Memory(self.nbytes)
        self.offset = offset

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

    def view(self, shape: Shape, strides: Shape, offset: int = 0) -> "AbstractArray":
        """offset: from this array's first element to the view's."""
        return AbstractArray(shape, self.dtype, strides, self.memory, self.offset + offset)

    def is_same(self, other: Any) -> bool:
        """Is it the same elements in the same places?"""
        return (isinstance(other, AbstractArray) and self.memory is other.memory and self.offset == other.offset
                and (self.shape, self.strides) == (other.shape, other.strides))

    @property
    def is_row_major(self) -> bool:
        return self.strides == tuple(s if n != 1 else 0 for n, s in zip(self.shape, row_major(self.shape)))

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
        name = "take" if len(keys) == 1 else "gather"
        return _taken(name, np.broadcast_shapes(*(k.shape for k in arrays)) + self.shape[len(keys):], self.dtype, arrays)

    def _sliced(self, keys: tuple[Any, ...]) -> "AbstractArray":
        axes = self.ndim - sum(k is not None and k is not Ellipsis for k in keys)
        if axes < 0:
            raise IndexError(f"too many indices for an array of shape {self.shape}: {keys}")
        at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
        keys = keys[:at] + (slice(None),) * axes + keys[at + 1:]
        shape, strides, offset = [], [], 0
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
                offset += start * stride
            elif not -n <= operator.index(key) < n:
                raise IndexError(f"index {key} is out of range for an axis of size {n}")
            else:
                offset += operator.index(key) % n * stride
        return self.view(tuple(shape), tuple(strides), offset)

    def __setitem__(self, index: Any, value: Any) -> None:
        target = self[index]
        _fits(target.shape, value)
        if not target.is_same(value):                     # x[i] += y has done it, and only hands x[i] back
            _record("setitem", target, 0, [value])

    def _no_number(self, *args: Any) -> Any:
        raise TypeError("a dry run has no numbers: a layer that asks for a value (if, float, int, item) cannot be "
                        "counted, and would wait for the device at each step")

    __bool__ = __int__ = __float__ = __complex__ = __index__ = item = tolist = __array__ = _no_number

    def __repr__(self) -> str:
        return f"AbstractArray({self.shape}, {self.dtype})"


def _strides_in(x: AbstractArray, shape: Shape) -> Shape:
    """x's strides when it is broadcast to `shape`."""
    return (0,) * (len(shape) - x.ndim) + x.strides


# What is recorded of them.


recorder: ContextVar[Callable[[Op, AbstractArray], None] | None] = ContextVar("recorder", default=None)


def _record(name: str, out: AbstractArray, flops: int, inputs: Sequence[Any]) -> None:
    listener = recorder.get()
    if listener is not None:
        arrays = [x for x in inputs if isinstance(x, AbstractArray)]
        moved = out.nbytes + sum(x.nbytes for x in arrays)
        listener(Op(name, out.size, flops, moved, str(out.dtype), *asked_of_cupy(name, out, inputs, arrays)), out)


def _made(name: str, shape: Shape, dtype: Any, inputs: Sequence[Any], flops: int = 0,
          strides: Shape | None = None) -> AbstractArray:
    """A new array, and the record of how it was made."""
    out = AbstractArray(shape, dtype, strides)
    _record(name, out, flops, inputs)
    return out


def _taken(name: str, shape: Shape, dtype: Any, indices: Sequence[AbstractArray]) -> AbstractArray:
    """A gather: it reads as many elements as it writes, and the indices."""
    out = AbstractArray(shape, dtype)
    _record(name, out, 0, [out, *indices])
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
        found: Any = getattr(_numpy(), name, None)
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

        found = getattr(_numpy(), name)(*map(zeros, args), **options)
        made = [_made(name, y.shape, y.dtype, args, _BY_NUMPY[name] * y.size)
                for y in (found if isinstance(found, (tuple, list)) else (found,))]
        return tuple(made) if isinstance(found, (tuple, list)) else made[0]

    def erf(self, x: AbstractArray) -> AbstractArray:
        """Not in the standard; the seam finds it here, so that it counts as one operation, as in every library."""
        return elementwise("erf", _numpy().exp, x)

    def rule(self, text: Callable[..., Any], *args: Any) -> Any:
        """An elementwise rule, as one fused kernel: it reads its arguments, writes what it makes and what it changes; all between stays
        in registers.
        """
        listener = recorder.get()
        ops: list[Op] = []
        written: dict[int, AbstractArray] = {}

        def note(op: Op, out: AbstractArray) -> None:
            ops.append(op)
            written[out.memory.number] = out

        listening, metering = recorder.set(note), meter.set(None)
        try:
            result = text(*args)
        finally:
            recorder.reset(listening)
            meter.reset(metering)
        arrays = [a for a in args if isinstance(a, AbstractArray)]
        made = [] if result is None else list(result) if isinstance(result, tuple) else [result]
        changed = [a for a in arrays if a.memory.number in written]
        for out in made:
            if (metered := meter.get()) is not None and all(out.memory is not a.memory for a in arrays):
                metered.take(out.memory)
        if listener is not None and ops:
            outs = made + changed
            largest = max(outs, key=lambda a: a.size)
            listener(Op("rule", largest.size, sum(op.flops for op in ops), sum(a.nbytes for a in arrays + outs), str(largest.dtype),
                        int(largest.size > 0)), largest)
        return result

    # Making arrays.

    def empty(self, shape: Any, *, dtype: Any = None, device: Any = None) -> AbstractArray:
        return AbstractArray((shape,) if isinstance(shape, int) else shape, dtype or np.float64)

    def full(self, shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> AbstractArray:
        out = self.empty(shape, dtype=dtype or np.asarray(fill_value).dtype)
        _record("full", out, 0, [])
        return out

    def zeros(self, shape: Any, *, dtype: Any = None, device: Any = None) -> AbstractArray:
        out = self.empty(shape, dtype=dtype)
        _record("zeros", out, 0, [])
        return out

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
        out = self.empty_like(x, dtype=dtype)
        _record("zeros", out, 0, [])
        return out

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

    def as_strided(self, x: AbstractArray, shape: Shape, strides: Shape) -> AbstractArray:
        """Not in the standard; the seam for windows finds it here, so that it counts what CuPy does."""
        return x.view(shape, strides)

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
        return _taken("take", x.shape[:axis] + indices.shape + x.shape[axis + 1:], x.dtype, [indices])

    def take_along_axis(self, x: AbstractArray, indices: AbstractArray, /, *, axis: int = -1) -> AbstractArray:
        (axis,) = _axes(axis, x.ndim)
        rest = np.broadcast_shapes(*((*a.shape[:axis], 1, *a.shape[axis + 1:]) for a in (x, indices)))
        return _taken("take_along_axis", (*rest[:axis], indices.shape[axis], *rest[axis + 1:]), x.dtype, [indices])

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
            vector_norm=functools.partial(reduction, "vector_norm", _numpy().linalg.vector_norm))


def _product(name: str, shape: Shape, summed: int, a: AbstractArray, b: AbstractArray) -> AbstractArray:
    """A product that sums over `summed` terms an element."""
    return _made(name, shape, np.result_type(_empty(a), _empty(b)), [a, b], 2 * math.prod(shape) * summed)


abstract = Namespace()


def _operators() -> None:
    """x + y, 1.0 - x, x += y, -x and their kin are the namespace's functions."""
    def forward(name: str) -> Any:
        return lambda x, y: elementwise(name, getattr(_numpy(), name), x, y)

    def swapped(name: str) -> Any:
        return lambda x, y: elementwise(name, getattr(_numpy(), name), y, x)

    def inplace(name: str, f: Any) -> Any:
        return lambda x, y: in_place(name, f, x, y)

    def unary(name: str) -> Any:
        return lambda x: elementwise(name, getattr(_numpy(), name), x)

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

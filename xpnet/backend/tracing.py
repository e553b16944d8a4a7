"""What an elementwise rule computes, found by running its text once on symbols: a list of operations, each on arguments, numbers and the
results of operations before it. From that list NumPy's loops over blocks (blocks.py) and numba's loop (loops.py) are written, so that a
formula has one text.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .special import erf_single

UFUNCS = {"abs": "absolute", "pow": "power", "bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift",
          "bitwise_invert": "invert"}
NUMBERS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv, "negative": operator.neg}
MOST = 200                                                # operations: a formula has no loop


class NotTraceable(Exception):
    """The rule asks for more than operators and functions element by element."""


class Node:
    """One operation, or an argument where `name` is "argument".

    inputs  nodes and numbers, in the order the operation takes them
    dtype   of the result; for a number, which is weak, int or float
    """

    __slots__ = ("dtype", "index", "inputs", "name")

    def __init__(self, name: str, inputs: tuple[Any, ...], dtype: Any, index: int):
        self.name, self.inputs, self.dtype, self.index = name, inputs, dtype, index

    @property
    def is_number(self) -> bool:
        return self.dtype is int or self.dtype is float

    def sample(self) -> Any:
        """Something of its dtype, to ask NumPy with."""
        return self.dtype(1) if self.is_number else np.ones(1, self.dtype)


class Symbol:
    """What stands for an array or a number while the text runs. In-place operators give it another node."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, trace: "Trace", node: Node):
        self._trace, self.node = trace, node

    @property
    def dtype(self) -> Any:
        if self.node.is_number:
            raise NotTraceable("a number has no dtype")
        return self.node.dtype

    def __setitem__(self, key: Any, value: Any) -> None:
        if key is not Ellipsis:
            raise NotTraceable("a rule assigns to whole arrays, x[...] = ")
        self._trace.assign(self, value)

    def _refuse(self, *args: Any) -> Any:
        raise NotTraceable("a rule asks for no value, shape or element")

    __bool__ = __int__ = __float__ = __index__ = __len__ = __iter__ = __getitem__ = _refuse


class Trace:
    """A rule's operations.

    nodes    in their order, arguments first
    changed  {index of an argument: its last node} for those that the rule writes into
    results  the nodes of what it returns; empty where it returns nothing
    single   whether it returns one array and not a tuple
    """

    def __init__(self, text: Callable[..., Any], dtypes: tuple[Any, ...]):
        self.nodes: list[Node] = []
        symbols = [Symbol(self, self.add("argument", (), dtype)) for dtype in dtypes]
        arguments = [s.node for s in symbols]
        returned = text(Symbols(self), *symbols)
        self.single = not isinstance(returned, tuple)
        given = () if returned is None else (returned,) if self.single else returned
        if any(not isinstance(s, Symbol) or s.node.is_number for s in given):
            raise NotTraceable("a rule returns arrays")
        self.results = [s.node for s in given]
        self.changed = {i: s.node for i, s in enumerate(symbols) if s.node is not arguments[i]}
        last = [*self.results, *self.changed.values()]
        if len(set(map(id, last))) < len(last) or any(n.name == "argument" for n in last):
            raise NotTraceable("a result is an argument or another result")

    def returned(self, made: list[Any]) -> Any:
        """The arrays of the results as the rule returns them: none, one, or a tuple."""
        return None if not made else made[0] if self.single else tuple(made)

    def add(self, name: str, inputs: tuple[Any, ...], dtype: Any) -> Node:
        node = Node(name, inputs, dtype, len(self.nodes))
        self.nodes.append(node)
        if len(self.nodes) > MOST:
            raise NotTraceable("too many operations")
        return node

    def call(self, name: str, *args: Any) -> Symbol:
        inputs = tuple(a.node if isinstance(a, Symbol) else a for a in args)
        if not all(isinstance(a, Node) or type(a) in (bool, int, float) for a in inputs):
            raise NotTraceable("a rule takes symbols and Python numbers")
        samples = [a.sample() if isinstance(a, Node) else a for a in inputs]
        if all(not isinstance(a, Node) or a.is_number for a in inputs):
            if name not in NUMBERS:
                raise NotTraceable("a function of numbers alone")
            return Symbol(self, self.add(name, inputs, type(NUMBERS[name](*samples))))
        return Symbol(self, self.add(name, inputs, (np.where if name == "where" else ufunc(name))(*samples).dtype))

    def assign(self, target: Symbol, value: Any) -> None:
        """target[...] = value, in target's dtype."""
        dtype = target.dtype
        node = value.node if isinstance(value, Symbol) else None
        if node is None or node.dtype != dtype or node.name == "argument":
            raise NotTraceable("an assignment of another dtype, or of an argument as it is")
        target.node = node


def ufunc(name: str) -> Any:
    found = getattr(np, UFUNCS.get(name, name), None)
    if not isinstance(found, np.ufunc) or found.signature is not None or found.nout != 1:
        raise NotTraceable(f"{name} is no function element by element")
    return found


class Symbols:
    """The namespace that the text sees."""

    def __init__(self, trace: Trace):
        self._trace = trace

    def __getattr__(self, name: str) -> Any:
        if name in ("finfo", "iinfo", "float32", "float64", "int64", "uint32"):
            return getattr(np, name)
        if name != "where":
            ufunc(name)
        return lambda *args: self._trace.call(name, *args)

    def erf(self, x: Symbol) -> Any:
        if x.dtype != np.float32:
            raise NotTraceable("erf in operators is for float32")
        return erf_single(self, x)

    def astype(self, x: Symbol, dtype: Any, *, copy: bool = True) -> Symbol:
        return Symbol(self._trace, self._trace.add("astype", (x.node,), np.dtype(dtype)))


def _operators() -> None:
    def binary(name: str) -> Any:
        return lambda x, y: x._trace.call(name, x, y)

    def swapped(name: str) -> Any:
        return lambda x, y: x._trace.call(name, y, x)

    def inplace(name: str) -> Any:
        def f(x: Symbol, y: Any) -> Symbol:
            x._trace.assign(x, x._trace.call(name, x, y))
            return x

        return f

    for dunder, name in {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow", "and": "bitwise_and",
                         "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift"}.items():
        setattr(Symbol, f"__{dunder}__", binary(name))
        setattr(Symbol, f"__r{dunder}__", swapped(name))
        setattr(Symbol, f"__i{dunder}__", inplace(name))
    for dunder, name in {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
                         "ge": "greater_equal"}.items():
        setattr(Symbol, f"__{dunder}__", binary(name))
    for dunder, name in {"neg": "negative", "abs": "abs", "invert": "bitwise_invert"}.items():
        setattr(Symbol, f"__{dunder}__", lambda x, name=name: x._trace.call(name, x))


_operators()

"""A traced rule on NumPy arrays as one loop that numba compiles: each number is read once and written once.

Only operations that IEEE 754 rounds in one way (+, -, ·, /, √, comparisons, integer arithmetic) are taken, in the order of the text and in
the dtype of each: the loop gives the bits that NumPy gives, so it does not matter when it takes over. An exponential or a tanh stays
NumPy's, whose vector code is faster. Adam's update of a million parameters takes 0.3 ms for 1.5 in blocks.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .blocks import BLOCK, Plan, numbers_once, shared_out
from .tracing import Node, NotTraceable, Trace

_BINARY = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=",
           "greater": ">", "greater_equal": ">=", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "bitwise_left_shift": "<<",
           "bitwise_right_shift": ">>"}
_WRITTEN = {"negative": "-{0}", "sqrt": "sqrt({0})", "abs": "abs({0})", "square": "{0} * {0}", "astype": "{0}",
            "maximum": "{0} if {0} > {1} or {0} != {0} else {1}", "minimum": "{0} if {0} < {1} or {0} != {0} else {1}",
            "where": "{1} if {0} else {2}", "sign": "{0} if {0} != {0} else ({0} > 0) * 1 - ({0} < 0) * 1",
            **{name: f"{{0}} {sign} {{1}}" for name, sign in _BINARY.items()}}


def is_exact(trace: Trace) -> bool:
    """Of such operations only, and in one dtype, beside the truth of comparisons: then numbers are of that dtype too."""
    arrays = [n for n in trace.nodes if not n.is_number]
    return all(n.name == "argument" or n.name in _WRITTEN for n in arrays) and \
        {n.dtype for n in arrays} - {np.dtype("bool")} in ({np.dtype(d)} for d in ("float32", "float64", "uint32"))


def as_loop(trace: Trace, args: tuple[Any, ...]) -> Callable[..., Any]:
    """The rule as a function of such arguments: numbers, and arrays of one shape and order, or of one shape beside vectors that are a row
    or a column of it.
    """
    plan = Plan(args)
    kinds = [_kind(a, plan) for a in args]
    rows = plan.shape[0]
    columns = 0 if plan.order is not None else plan.full[-1]
    if columns:
        rows = math.prod(plan.full[:-1])
    _check_full(trace, kinds)
    loop, numbers = _compiled(trace, kinds)
    size, dtypes, cut = math.prod(plan.full), [n.dtype for n in trace.results], [k in ("full", "column") for k in kinds]

    def part(start: int, stop: int, given: list[Any], values: tuple[Any, ...], made: list[Any]) -> None:
        loop(*(a[start:stop] if c else a for a, c in zip(given, cut)), *values, *(r[start:stop] for r in made))

    def seen(a: Any, kind: str) -> Any:
        if kind == "number":
            return a
        return plan.seen(a) if not columns else a.reshape(-1, columns) if kind == "full" else a.reshape(-1)

    def call(*args: Any) -> Any:
        made = [plan.result(dtype) for dtype in dtypes]
        flat = [m[1].reshape(-1, columns) if columns else m[1] for m in made]
        shared_out(part, rows, max(1, BLOCK // max(1, columns)), size, [seen(a, k) for a, k in zip(args, kinds)], numbers(*args), flat)
        return trace.returned([m[0] for m in made])

    return call


def _check_full(trace: Trace, kinds: list[str]) -> None:
    """What is written is as large as the whole."""
    of: dict[int, set[str]] = {}
    for n in trace.nodes:
        of[n.index] = {kinds[n.index]} if n.name == "argument" else {k for a in n.inputs if isinstance(a, Node) for k in of[a.index]}
    written = [of[n.index] for n in [*trace.results, *trace.changed.values()]] + [of[i] for i in trace.changed]
    if "full" not in kinds or not all("full" in k for k in written):
        raise NotTraceable("a result that is smaller than the arguments")


def _kind(a: Any, plan: Plan) -> str:
    if not isinstance(a, np.ndarray):
        return "number"
    if not a.ndim or not a.size:
        raise NotTraceable("no axes, or no numbers")
    if a.shape == plan.full:
        return "full"
    if plan.order is None and a.size == plan.full[-1] == a.shape[-1]:
        return "row"
    if plan.order is None and a.shape == (*plan.full[:-1], 1):
        return "column"
    raise NotTraceable("a loop takes arrays of one shape, its rows and columns")


def _compiled(trace: Trace, kinds: list[str]) -> tuple[Callable[..., None], Callable[..., Any]]:
    """loop(*arguments, *numbers, *results), and what makes the numbers of the arguments."""
    import numba

    scope: dict[str, Any] = {"sqrt": np.sqrt}
    taken: list[tuple[int, Any]] = []
    lines: list[str] = []
    flat = not {"row", "column"} & set(kinds)
    at = {"full": "i" if flat else "i, j", "row": "j", "column": "i"}

    def cast(dtype: Any) -> str:
        scope[f"as_{dtype}"] = np.dtype(dtype).type
        return f"as_{dtype}"

    def written(a: Any, of: Node) -> str:
        dtype = next((b.dtype for b in of.inputs if isinstance(b, Node) and not b.is_number and b.dtype != np.bool_), of.dtype)
        if isinstance(a, Node) and not a.is_number:
            return f"x{a.index}"
        if isinstance(a, Node):                           # a weak number takes the dtype of the array beside it
            if (a.index, dtype) not in taken:
                taken.append((a.index, dtype))
            return f"s{taken.index((a.index, dtype))}"
        scope[f"c{len(scope)}"] = np.dtype(dtype).type(a)
        return f"c{len(scope) - 1}"

    for n in trace.nodes:
        if n.name == "argument":
            if kinds[n.index] != "number":
                lines.append(f"x{n.index} = a{n.index}[{at[kinds[n.index]]}]")
        elif not n.is_number:
            lines.append(f"x{n.index} = {cast(n.dtype)}({_WRITTEN[n.name].format(*(written(a, n) for a in n.inputs))})")
    lines += [f"a{i}[{at['full']}] = x{n.index}" for i, n in trace.changed.items()]
    lines += [f"r{k}[{at['full']}] = x{n.index}" for k, n in enumerate(trace.results)]
    arguments = [f"a{i}" for i in range(len(kinds))]
    parameters = arguments + [f"s{j}" for j in range(len(taken))] + [f"r{k}" for k in range(len(trace.results))]
    whole = arguments[kinds.index("full")]
    heads = [f"for i in range({whole}.shape[0]):"] + ([] if flat else [f"    for j in range({whole}.shape[1]):"])
    inner = "    " * (len(heads) + 1)
    exec("\n".join([f"def loop({', '.join(parameters)}):", *(f"    {h}" for h in heads), *(inner + line for line in lines)]), scope)
    loop = numba.njit(nogil=True, error_model="numpy")(scope["loop"])   # of names made here and operations of the trace
    values = ", ".join(f"{cast(dtype)}({'a' if trace.nodes[i].name == 'argument' else 's'}{i})" for i, dtype in taken)
    exec("\n".join([f"def numbers({', '.join(arguments)}):", *(f"    {line}" for line in numbers_once(trace)),
                    f"    return ({values}{',' if values else ''})"]), scope)
    return loop, scope["numbers"]

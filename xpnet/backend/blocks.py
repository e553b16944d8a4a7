"""A traced rule on NumPy: its operations one after another on blocks that stay in the cache, with `out=` into few scratch arrays.

The whole arrays at once are up to three times slower, because each temporary leaves the cache. The operations and their order are the
text's, so the results have the same bits. Large arrays are shared out to as many threads as BLAS may use.
"""

import contextlib
import contextvars
import functools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from .elementwise import LARGE, worth
from .tracing import NUMBERS, Node, NotTraceable, Trace, ufunc

BLOCK = 64 * 1024                                         # elements; 4 float32 operands of a block fill a 1 MiB L2
MANY = 6                                                  # operations that are worth a block
THREADED = 4 * BLOCK                                      # elements a thread takes at least
_SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "negative": "-"}


@functools.cache
def threads() -> int:
    """How many threads elementwise work may use: as many as BLAS, by $OMP_NUM_THREADS, or the cores of this process."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(given), cores) if given.isdigit() and int(given) > 0 else cores


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads() - 1, thread_name_prefix="xpnet")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)   # threads do not come with a fork


def shared_out(run: Callable[..., None], total: int, step: int, size: int, *args: Any) -> None:
    """run(start, stop, *args) over all of `total`, in parts that begin at multiples of step; size: elements in all."""
    steps = math.ceil(total / step)
    parts = min(threads(), size // THREADED, steps)
    if parts < 2:
        run(0, total, *args)
        return
    each = math.ceil(steps / parts) * step
    waiting = []
    try:
        for start in range(each, total, each):
            stop = min(start + each, total)
            try:                                          # in a context with NumPy's errstate
                waiting.append(_pool().submit(contextvars.copy_context().run, run, start, stop, *args))
            except RuntimeError:                          # the interpreter is ending
                run(start, stop, *args)
        run(0, each, *args)
    finally:
        wait(waiting)
    for w in waiting:
        w.result()


def fastest(plain: Callable[..., Any], text: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """The fastest way to run a rule on arguments such as these, which may be its text as it stands."""
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    if any(type(a) not in (float, int) for a in args if not isinstance(a, np.ndarray)):
        return plain                                      # NumPy's numbers have a dtype of their own
    try:
        trace = Trace(text, tuple(a.dtype if isinstance(a, np.ndarray) else type(a) for a in args))
    except Exception:                                     # a wrong rule fails in the plain text too, and that error is the caller's
        return plain
    try:
        run = in_blocks(trace, args) if pays(trace) and max(a.size for a in arrays) >= LARGE else plain
    except NotTraceable:
        run = plain
    return Growing(run, plain, trace, args)


class Growing:
    """A rule that becomes a compiled loop when it has done so much work that this pays (loops.py)."""

    def __init__(self, run: Callable[..., Any], plain: Callable[..., Any], trace: Trace, args: tuple[Any, ...]):
        from .loops import is_exact

        self.run, self.plain, self.trace = run, plain, trace
        self.left = worth() if is_exact(trace) else math.inf
        self.work = sum(n.name != "argument" for n in trace.nodes) * max(a.size for a in args if isinstance(a, np.ndarray))

    def __call__(self, *args: Any) -> Any:
        for i in self.trace.changed:                      # what is written may be read elsewhere: in the order of the text only
            if any(j != i and isinstance(a, np.ndarray) and np.may_share_memory(args[i], a) for j, a in enumerate(args)):
                return self.plain(*args)
        self.left -= self.work
        if self.left < 0.0:
            from .loops import as_loop

            self.left = math.inf
            with contextlib.suppress(NotTraceable):
                self.run = as_loop(self.trace, args)
        return self.run(*args)


def pays(trace: Trace) -> bool:
    """Blocks pay for many operations, and for a maximum or minimum with a number, which is three times as fast with an array.

    (Measured: 2 operations on 524,288 elements take 143 µs whole and 182 in blocks, the 12 of Adam on a million 1.84 and 1.69 ms.)
    """
    work = [n for n in trace.nodes if n.name != "argument" and not n.is_number]
    return len(work) >= MANY or any(n.name in ("maximum", "minimum") and not all(isinstance(a, Node) for a in n.inputs) for n in work)


class Plan:
    """How the arguments lie: what is cut into blocks, along which axis, and what the results look like.

    shape   of all together, as the loop sees it: flat where all arrays have one shape and one order in memory
    order   the axes in the order of memory, where flat
    cut     for each argument, whether a block takes its part of it
    """

    def __init__(self, args: tuple[Any, ...]):
        arrays = [a for a in args if isinstance(a, np.ndarray) and a.ndim]
        if not arrays or not all(isinstance(a, (np.ndarray, float, int)) for a in args):
            raise NotTraceable("no arrays")
        self.full = np.broadcast_shapes(*(a.shape for a in arrays))
        self.order: tuple[int, ...] | None = None
        first = arrays[0]
        if all(a.shape == self.full and a.strides == first.strides for a in arrays) or \
                all(a.shape == self.full and a.flags.c_contiguous for a in arrays):
            self.order = tuple(sorted(range(first.ndim), key=lambda i: (-first.strides[i], i)))
            if not first.transpose(self.order).flags.c_contiguous:
                if first.ndim > 1:
                    raise NotTraceable("strided arrays of several axes")
                self.order = (0,)
            self.shape: tuple[int, ...] = (math.prod(self.full),)
            self.cut = [isinstance(a, np.ndarray) and a.ndim > 0 for a in args]
            return
        self.shape = self.full
        if self.full[0] < 2 or not all(a.flags.c_contiguous for a in arrays):
            raise NotTraceable("nothing to cut, or arrays in another order")
        self.cut = [isinstance(a, np.ndarray) and a.shape[:1] == self.full[:1] and a.ndim == len(self.full) for a in args]

    def seen(self, a: Any) -> Any:
        """An argument as the loop sees it."""
        if self.order is None or not isinstance(a, np.ndarray) or not a.ndim:
            return a
        return a if a.ndim == 1 else a.transpose(self.order).reshape(-1)

    def result(self, dtype: Any) -> tuple[Any, Any]:
        """A new array, and the same as the loop sees it."""
        if self.order is None:
            made = np.empty(self.full, dtype)
            return made, made
        flat = np.empty(self.shape, dtype)
        if len(self.full) == 1:
            return flat, flat
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return flat.reshape([self.full[i] for i in self.order]).transpose(back), flat


def in_blocks(trace: Trace, args: tuple[Any, ...]) -> Callable[..., Any]:
    """The rule as a function of such arguments: of these shapes, orders and dtypes."""
    plan = Plan(args)
    rows = plan.shape[0]
    step = max(1, min(rows, BLOCK // max(1, math.prod(plan.shape[1:]))))
    run = _written(trace, plan, args, step)
    size, dtypes = math.prod(plan.shape), [n.dtype for n in trace.results]
    view = plan.order is not None and len(plan.full) > 1

    def call(*args: Any) -> Any:
        made = [plan.result(dtype) for dtype in dtypes]
        shared_out(run, rows, step, size, *(map(plan.seen, args) if view else args), *(m[1] for m in made))
        return trace.returned([m[0] for m in made])

    return call


def _written(trace: Trace, plan: Plan, args: tuple[Any, ...], step: int) -> Callable[..., None]:
    """run(start, stop, *arguments, *results), written as Python from the trace."""
    shapes = _shapes(trace, plan, args, step)
    full = (step, *plan.shape[1:])
    targets = {n.index: f"r{k}" for k, n in enumerate(trace.results)} | {n.index: f"b{i}" for i, n in trace.changed.items()}
    if any(n.name == "where" for n in trace.nodes):       # two passes, of which the first would be over an input
        raise NotTraceable("where")
    if any(shapes[index] != full for index in targets):
        raise NotTraceable("a result that is smaller than the arguments")
    last = {a.index: n.index for n in trace.nodes for a in n.inputs if isinstance(a, Node)}
    late = {i: n for i, n in trace.changed.items() if last.get(i, -1) > n.index}   # read after it is to be written: kept aside till then
    for n in late.values():
        del targets[n.index]
        last[n.index] = len(trace.nodes)
    names: dict[int, str] = {}
    # Where a node can be put: scratch arrays, and the places of results and changed arguments until the last node of each is there.
    room: dict[str, tuple[tuple[int, ...], Any]] = {to: (full, trace.nodes[index].dtype) for index, to in targets.items()}
    until = {to: index for index, to in targets.items()}
    free = [to for to in until if to.startswith("r")]
    held: dict[int, str] = {i: f"b{i}" for i in trace.changed if f"b{i}" in until}
    scratch: list[str] = []
    once = numbers_once(trace)
    body: list[str] = []
    constants: list[str] = []                             # those as long as a block
    scope: dict[str, Any] = {"empty": np.empty, "copyto": np.copyto}

    def take(n: Node) -> str:
        if n.index in targets:
            to = targets[n.index]
            if to in free:
                free.remove(to)
            return to
        kind = (shapes[n.index], n.dtype)
        to = next((to for to in free if room[to] == kind and last[n.index] <= until.get(to, len(trace.nodes))), "")
        if to:
            free.remove(to)
        else:
            to = f"t{len(scratch)}"
            scratch.append(to)
            room[to] = kind
        held[n.index] = to
        return to

    def release(n: Node) -> None:
        for a in {a.index for a in n.inputs if isinstance(a, Node)}:
            if last[a] <= n.index and a in held:
                free.insert(0, held.pop(a))               # the last that was used is still in the cache

    def written(a: Any, of: Node) -> str:
        if isinstance(a, Node):
            return names[a.index]
        name = f"c{len(scope)}"
        scope[name] = a
        if of.name in ("maximum", "minimum") and shapes[of.index] and of.dtype.kind == "f":   # three times as fast with an array
            scope[name] = _constant(repr(float(a)), of.dtype, shapes[of.index][-1])
            if len(full) == 1:
                constants.append(name)
        return name

    for n in trace.nodes:
        if n.name == "argument":
            names[n.index] = f"b{n.index}" if plan.cut[n.index] else f"a{n.index}"
            continue
        if n.is_number:
            names[n.index] = f"s{n.index}"
            continue
        given = [written(a, n) for a in n.inputs]
        release(n)
        names[n.index] = to = take(n)
        if n.name == "astype":
            body.append(f"copyto({to}, {given[0]}, casting='unsafe')")
            continue
        scope[f"f_{n.name}"] = ufunc(n.name)
        body.append(f"f_{n.name}({', '.join(given)}, out={to})")
    body += [f"copyto(b{i}, {names[n.index]})" for i, n in late.items()]

    parameters = [f"a{i}" for i in range(len(args))] + [f"w{k}" for k in range(len(trace.results))]
    parts = [f"b{i} = a{i}[i:j]" for i, c in enumerate(plan.cut) if c] + [f"r{k} = w{k}[i:j]" for k in range(len(trace.results))]
    rest = [f"{t} = {t}[:j - i]" for t in scratch if len(room[t][0]) == len(full) and room[t][0][0] == step]
    rest += [f"{name} = {name}_[:j - i]" for name in constants]
    once += [f"{name} = {name}_" for name in constants]
    for name in constants:
        scope[f"{name}_"] = scope.pop(name)
    made = [f"{t} = empty({room[t][0]!r}, d{t})" for t in scratch]
    scope |= {f"d{t}": room[t][1] for t in scratch}
    lines = [f"def run(start, stop, {', '.join(parameters)}):", *(f"    {line}" for line in [*once, *made]),
             f"    for i in range(start, stop, {step}):", "        j = i + " + str(step), "        if j > stop:", "            j = stop",
             *(f"            {line}" for line in rest), *(f"        {line}" for line in [*parts, *body])]
    exec("\n".join(lines), scope)                         # only names made here and operations of the trace
    return scope["run"]


def numbers_once(trace: Trace) -> list[str]:
    """What the text computes of numbers alone, as lines of Python: s5 = a3 - a4."""
    def written(a: Any) -> str:
        return repr(a) if not isinstance(a, Node) else f"{'a' if a.name == 'argument' else 's'}{a.index}"

    lines = []
    for n in trace.nodes:
        if n.is_number and n.name != "argument":
            given, sign = [written(a) for a in n.inputs], _SIGNS[n.name]
            lines.append(f"s{n.index} = {sign.join(given) if len(given) == 2 else sign + given[0]}")
    return lines


@functools.lru_cache(maxsize=64)
def _constant(value: str, dtype: Any, size: int) -> Any:
    """value: written out, since 0.0 is -0.0 to a cache."""
    made = np.full(size, float(value), dtype)
    made.flags.writeable = False
    return made


def _shapes(trace: Trace, plan: Plan, args: tuple[Any, ...], step: int) -> dict[int, tuple[int, ...]]:
    """Of each node in a block of `step` rows."""
    shapes: dict[int, tuple[int, ...]] = {}
    for n in trace.nodes:
        if n.name == "argument":
            a = args[n.index]
            shape = a.shape if isinstance(a, np.ndarray) else ()
            rest = plan.shape[1:] if plan.order is not None else shape[1:]
            shapes[n.index] = (step, *rest) if plan.cut[n.index] else shape
        else:
            shapes[n.index] = np.broadcast_shapes(*(shapes[a.index] for a in n.inputs if isinstance(a, Node)))
    for i, n in trace.changed.items():
        if shapes[n.index] != shapes[i]:
            raise NotTraceable("an argument that would have to grow")
    return shapes


assert set(_SIGNS) == set(NUMBERS)

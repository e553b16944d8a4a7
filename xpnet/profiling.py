"""Where the time of a training step goes, layer by layer, and how near each layer comes to what the machine can do.

    print(profile(model, loss, optimizer, x, t))

A context that listens where containers run their children takes the time of each forward pass, and of each closure's backward pass. A
layer's own time is that without the layers inside it. FLOPs and bytes are those of the dry run (xpnet/dryrun.py). From them and two rates
that are measured in the same call comes a floor, by the roofline of Williams, Waterman & Patterson (2009):

    floor = Σ over the operations of max( FLOPs / R where it is a product, bytes / B )

R is the rate of a large product x @ y. B is that of a copy, of those that move as many bytes as the operation or more the fastest: what is
small may lie in a cache. A share near 1 says that nothing is to be gained but by asking for less. A small one says that the time is
Python's, or goes to operations that are dearer than a copy (exp, a sum, a gather) or too small for their number.
"""

import copy
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from .backend import Backend, Random, get_backend
from .backend.abstract import AbstractArray, Op
from .dryrun import Trace, aligned, dry_step, readable, shortened, working_rows
from .errors import whole
from .layer import Backward, Context, Layer
from .train import check_kinds, prepare

Array = Any
Call = Callable[..., Any]
now = time.perf_counter
SIZES = tuple(2 ** k for k in (14, 17, 20, 23, 27))       # bytes that the measured copies move: from a first cache to main memory
LARGEST_PRODUCT = 8192
PRODUCTS = ("matmul", "tensordot", "vecdot")


# What the machine can do.


class Machine(NamedTuple):
    """Rates that were measured.

    name      of the backend
    products  {dtype: FLOP/s of a large product}
    copies    {bytes moved: bytes/s of a copy that moves so many}
    """

    name: str
    products: Mapping[str, float]
    copies: Mapping[int, float]

    def bandwidth(self, nbytes: int) -> float:
        """B for an operation that moves so many bytes: of the copies that move as many or more, the fastest."""
        return max((rate for size, rate in self.copies.items() if size >= nbytes), default=self.copies[max(self.copies)])

    def floor(self, ops: Iterable[Op]) -> float:
        """The seconds that these operations take at least."""
        seconds = 0.0
        for op in ops:
            arithmetic = op.flops / self.products.get(op.dtype, max(self.products.values())) if op.name in PRODUCTS else 0.0
            seconds += max(arithmetic, op.bytes / self.bandwidth(op.bytes))
        return seconds


def measure(backend: Any = None, dtypes: Sequence[str] = ("float32",)) -> Machine:
    """Measure a backend's machine, in some 0.3 s: the products of each dtype, and copies of several sizes."""
    backend = get_backend(backend)
    return Machine(backend.name, {dtype: gemm_rate(backend, dtype) for dtype in dtypes}, {n: bandwidth(backend, n) for n in SIZES})


def gemm_rate(backend: Any = None, dtype: str = "float32", seconds: float = 0.02) -> float:
    """FLOP/s of x @ y, both (n, n): n is doubled until a product takes 2 ms, and the best rate counts.

    seconds  to spend on each n, at least
    """
    backend = get_backend(backend)
    n, rate, best = 128, 0.0, 0.0
    while best < 2e-3 and n <= LARGEST_PRODUCT:
        x = _numbers(backend, n * n, dtype)
        x = backend.xp.reshape(x, (n, n))
        best = _shortest(lambda: x @ x, backend, seconds)   # noqa: B023
        rate, n = max(rate, 2.0 * n ** 3 / best), 2 * n
    return rate


def bandwidth(backend: Any = None, nbytes: int = SIZES[-1], seconds: float = 0.02) -> float:
    """bytes/s of a copy that moves `nbytes`: half of them read and half of them written.

    seconds  to spend, at least
    """
    backend = get_backend(backend)
    size = max(1, whole("nbytes", nbytes, 1) // 8)        # numbers of 4 bytes, in each of the two arrays
    source, target = _numbers(backend, size, "float32"), backend.zeros((size,), backend.xp.float32)

    def copied() -> None:
        target[...] = source

    return 8.0 * size / _shortest(copied, backend, seconds)


def _numbers(backend: Backend, count: int, dtype: str) -> Array:
    """Numbers on the device that are no zeros: those cost a GPU less power, and so less time."""
    device = backend.zeros((1,), backend.xp.float32).device
    with backend:
        return backend.xp.astype(Random().uniform(backend.xp, (count,), backend.xp.float32, device), getattr(backend.xp, dtype))


def _shortest(f: Callable[[], Any], backend: Backend, seconds: float) -> float:
    """The shortest time of f(), of at least 3 runs and as many as fit into `seconds`."""
    with backend:
        f()                                               # what is compiled once, is compiled here
        times: list[float] = []
        end = now() + seconds
        while len(times) < 3 or now() < end:
            backend.synchronize()
            start = now()
            f()
            backend.synchronize()
            times.append(now() - start)
    return max(min(times), 1e-9)                          # no clock is finer


# The time of each part.


class Clock:
    """Takes the time of parts within parts: `call(path, phase, f, …)` is f(…), and adds to `own[path, phase]` the seconds it took without
    the calls within it.

    wait    waits for the device, where there is one
    timers  the seconds that the clock itself took; they are in no part's own time
    layers  {path: layer}, in the order in which they were first run
    """

    def __init__(self, wait: Callable[[], None]):
        self.wait = wait
        self.layers: dict[str, Layer] = {}
        self.path, self.phase = "", "forward"
        self.start()

    def start(self) -> None:
        """Begin a step."""
        self.own: dict[tuple[str, str], float] = defaultdict(float)
        self.timers = self.inside = 0.0

    def call(self, path: str, phase: str, f: Call, *args: Any, **options: Any) -> Any:
        self.wait()                                       # what the device still does belongs to the part around
        entered = now()
        around = self.path, self.phase, self.inside
        self.path, self.phase, self.inside = path, phase, 0.0
        start = now()
        result = f(*args, **options)
        self.wait()
        took = now() - start
        self.own[path, phase] += took - self.inside
        self.path, self.phase, inside = around
        spent = now() - entered
        self.timers += spent - took
        self.inside = inside + spent
        return result


class TimedContext(Context):
    """A context that takes the time where containers run their children."""

    __slots__ = ("clock",)
    clock: Clock

    def replay(self, site: int) -> Context:
        """Checkpoint runs its layers again within its backward pass: that is backward time."""
        again = super().replay(site)
        assert isinstance(again, TimedContext)
        again.clock = self.clock
        return again

    def forward(self, name: str, layer: Layer, params: dict[str, Any], x: Any) -> tuple[Any, Backward]:
        clock = self.clock
        path = f"{clock.path}.{name}" if clock.path else name
        clock.layers.setdefault(path, layer)
        y, backward = clock.call(path, clock.phase, super().forward, name, layer, params, x)
        return y, functools.partial(clock.call, path, "backward", backward)


class TimedNet(Layer):
    """The network within the model that is timed, which no container runs."""

    def __init__(self, clock: Clock, net: Layer):
        self.clock, self.net = clock, net
        clock.layers[""] = net

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        y, backward = self.clock.call("", "forward", self.net.forward, params, x, ctx)
        return y, functools.partial(self.clock.call, "", "backward", backward)

    def __repr__(self) -> str:
        return repr(self.net)


def _untimed(path: str, phase: str, f: Call, *args: Any) -> Any:
    return f(*args)


class Steps:
    """Training steps on one batch, with and without timers. The model and the optimizer that are given stay as they are, but for the
    vectors, which are shared: `profile` puts them back.
    """

    def __init__(self, model: Any, loss: Any, optimizer: Any, batch: tuple[Any, ...]):
        self.model = copy.copy(model)
        self.model.state = dict(model.state)
        self.loss, self.batch = loss, batch
        self.optimizer = copy.copy(optimizer)
        self.optimizer.start_for(model)                   # raises for one that has the state of another model
        self.optimizer.load_state_dict(self.model, self.optimizer.state_dict())
        self.clock = Clock(model.backend.synchronize)
        self.plain = model.net, model._write
        self.timed = TimedNet(self.clock, model.net), functools.partial(self.clock.call, "", "gradients", model._write)

    def run(self, timed: bool) -> float:
        """One step, and its seconds."""
        model, clock = self.model, self.clock
        model.net, model._write = self.timed if timed else self.plain
        args = model._layers_xp, True, Random(model.seed, model.step), model.state
        clock.start()
        clock.wait()
        start = now()
        with model.backend:
            if timed:
                ctx = TimedContext(*args)
                ctx.clock = clock
                self._step(ctx, clock.call)
            else:
                self._step(Context(*args), _untimed)
        clock.wait()
        return now() - start

    def _step(self, ctx: Context, call: Call) -> None:
        self._gradient(ctx, call)                         # a function of its own: what the closures keep is gone before the update
        call("", "optimizer", self.optimizer.step, self.model)

    def _gradient(self, ctx: Context, call: Call) -> None:
        x, *targets = self.batch
        y, backward = self.model.run(x, ctx)
        _, dy = call("", "loss", self.loss, y, *targets)
        backward(dy)


def profile(model: Any, loss: Any, optimizer: Any, x: Any, t: Any, weights: Any = None, *, steps: int = 20, warmup: int = 3,
            machine: Machine | None = None) -> "Profile":
    """Time training steps on one batch: each layer forward and backward, its FLOP/s and bytes, and its share of the floor.

    x, t, weights  the batch and its sample weights, as for `fit`: host or device arrays, x an array or a tuple
    steps          how many are timed: a part's time is its median over them. As many are run without timers, in turn with these
    warmup         steps before the first that counts
    machine        rates that were measured before, as `.machine` of another profile; None measures them

    The steps are real ones and follow on one another; then parameters, gradients, buffers, counters and loss scale are put back, and the
    optimizer is as it was: profiling changes nothing. What a layer of your own counts by itself is not put back.
    On a GPU the device is waited for at each boundary, only here: a layer's time is from its first launch to the end of its work, and
    nothing overlaps, so that the parts add up to more than a step takes, which is measured beside them (`step_seconds`).
    Raises TypeError and ValueError for what is no model, loss or optimizer, for data that do not fit (as `fit` does), and for an optimizer
    that has the state of another model.
    """
    check_kinds("profile", model, loss, optimizer)
    steps, warmup = whole("profile: steps", steps, 1), whole("profile: warmup", warmup, 0)
    if machine is not None and not isinstance(machine, Machine):
        raise TypeError(f"machine is a Machine, as measure() and the .machine of a Profile are, got {machine!r}")
    mixed = model.mixed
    vectors = [model.params, model.grads] + ([] if mixed is None else [mixed.half, mixed.scale, mixed.good, mixed.finite])
    with model.backend:
        kept = [model.xp.asarray(v, copy=True) for v in vectors]
        try:
            batch = tuple(map(functools.partial(_on_device, model),
                              prepare(model, loss, (x, t) if weights is None else (x, t, weights), "profile", one_class=True)))
            runs = Steps(model, loss, optimizer, batch)
            plain, timed = [], []
            for i in range(warmup + steps):
                took = runs.run(timed=False), runs.run(timed=True)
                if i >= warmup:
                    plain.append(took[0])
                    timed.append(_Step(took[1] - runs.clock.timers, dict(runs.clock.own)))
        finally:
            for v, value in zip(vectors, kept):
                v[...] = value
    trace, why = _counted(model, loss, optimizer, batch)
    machine = machine or measure(model.backend, [model.dtype] + ([] if mixed is None else ["float16"]))
    return Profile(model, runs, timed, median(plain), trace, why, machine)


def _on_device(model: Any, a: Any) -> Any:
    return tuple(map(model.asarray, a)) if isinstance(a, tuple) else model.asarray(a)


def _counted(model: Any, loss: Any, optimizer: Any, batch: tuple[Any, ...]) -> tuple[Trace | None, str]:
    """The dry run of the step; or None, and why a layer cannot be run dry."""
    x, *targets = (tuple(map(_without_numbers, a)) if isinstance(a, tuple) else _without_numbers(a) for a in batch)
    try:
        return dry_step(model, x, loss, optimizer, targets), ""
    except Exception as e:                                # the steps have been made: what failed is the counting
        return None, f"{type(e).__name__}: {e}"


def _without_numbers(a: Array) -> AbstractArray:
    return AbstractArray(tuple(a.shape), str(a.dtype).rpartition(".")[2])


# What was found.


class _Step(NamedTuple):
    """One timed step: its seconds without the timers', and the own seconds of its parts by (path, phase)."""

    seconds: float
    own: dict[tuple[str, str], float]


@dataclass(frozen=True)
class Work:
    """What a part of the step took and asked for.

    seconds  measured
    flops, bytes   of its operations, read and written; 0 where they are not known
    floor    the seconds that these take at least on this machine
    """

    seconds: float = 0.0
    flops: int = 0
    bytes: int = 0
    floor: float = 0.0

    @property
    def rate(self) -> float:
        """FLOP/s."""
        return self.flops / self.seconds if self.seconds else 0.0

    @property
    def share(self) -> float:
        """floor / seconds: 1 is as fast as the machine can."""
        return self.floor / self.seconds if self.seconds else 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.seconds + other.seconds, self.flops + other.flops, self.bytes + other.bytes, self.floor + other.floor)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    path, name         of the layer, "2.0" and "Dense(784, 128)"; path is "" for what is no layer
    kind               "layer", "container" (its own work, without the layers inside), "loss", "gradients", "optimizer", "remainder"
    forward, backward  Work of the two passes; None for what is no layer
    total              Work of both
    """

    path: str
    name: str
    kind: str
    forward: Work | None
    backward: Work | None
    total: Work

    def to_dict(self) -> dict[str, Any]:
        work = self.total
        made = {"path": self.path, "name": self.name, "kind": self.kind, "seconds": work.seconds, "flops": work.flops, "bytes": work.bytes,
                "floor": work.floor, "share": work.share}
        for phase, part in (("forward", self.forward), ("backward", self.backward)):
            if part is not None:
                made[phase] = {"seconds": part.seconds, "flops": part.flops, "bytes": part.bytes, "floor": part.floor, "share": part.share}
        return made


class Span(NamedTuple):
    """A layer in the picture.

    name               "Sequential(...)"
    forward, backward  seconds of it and of all layers within it
    """

    name: str
    forward: float
    backward: float


PARTS = {"loss": "loss and its gradient", "gradients": "gradients into their vector", "optimizer": "optimizer",
         "remainder": "remainder"}


class Profile:
    """What `profile` found. Prints as a table; `xpnet.plot.profile(p)` draws it.

    rows          a Row for each layer in forward order, and for each container that works itself; then those of loss, gradients (their
                  copies into the flat vector), optimizer, and the remainder: containers, Python between the parts, giving back the memory
                  that the closures kept, casts of mixed precision
    seconds       Σ of the rows
    step_seconds  of a step without timers, the median
    spans         {path: Span} of every layer, containers too; "" is the network
    machine       the rates that the floor was made with
    steps         how many were timed
    uncounted     why FLOPs, bytes and floor are not known, where a layer cannot be run dry; else empty
    """

    def __init__(self, model: Any, runs: Steps, timed: list[_Step], step_seconds: float, trace: Trace | None, why: str, machine: Machine):
        self.title = f"{model.net!r}, {runs.loss!r}, {runs.optimizer!r}, batch of {runs.batch[1].shape[0]}, " \
                     f"{model.backend.name}, {model.precision}"
        self.step_seconds, self.uncounted, self.machine, self.steps = step_seconds, why, machine, len(timed)
        self.waits = "cuda" in str(model.backend.device).lower()
        layers = runs.clock.layers
        own = {key: median(step.own.get(key, 0.0) for step in timed) for key in {key for step in timed for key in step.own}}
        parents = {path.rpartition(".")[0] for path in layers if path}
        working = set(layers) - parents if trace is None else {row.path for row in working_rows(trace)}

        def work(key: tuple[str, str]) -> Work:
            ops: list[Op] = []
            if trace is not None:
                ops = trace.parts.get(key[1], []) if key[1] in PARTS else getattr(trace.rows[key[0]], key[1])
            return Work(own.get(key, 0.0), sum(op.flops for op in ops), sum(op.bytes for op in ops), machine.floor(ops))

        self.rows: list[Row] = []
        for path, layer in layers.items():
            if path in working:
                forward, backward = work((path, "forward")), work((path, "backward"))
                self.rows.append(Row(path, shortened(layer), "container" if path in parents else "layer", forward, backward,
                                     forward + backward))
        self.rows += [Row("", PARTS[kind], kind, None, None, work(("", kind))) for kind in ("loss", "gradients", "optimizer")]
        shown = {key for path in working for key in ((path, "forward"), (path, "backward"))} | {("", kind) for kind in PARTS}
        casts = [] if trace is None else trace.parts.get("precision", [])
        left = median(max(0.0, step.seconds - sum(s for key, s in step.own.items() if key in shown)) for step in timed)
        self.rows.append(Row("", PARTS["remainder"], "remainder", None, None, Work(
            left, sum(op.flops for op in casts), sum(op.bytes for op in casts), machine.floor(casts))))
        self.spans = {path: Span(shortened(layer), *(_within(own, path, phase) for phase in ("forward", "backward")))
                      for path, layer in layers.items()}

    @property
    def total(self) -> Work:
        """Σ of the rows."""
        return sum((row.total for row in self.rows), Work())

    @property
    def seconds(self) -> float:
        return self.total.seconds

    def to_dict(self) -> dict[str, Any]:
        """All of it in numbers and words, for JSON."""
        return {"title": self.title, "steps": self.steps, "seconds": self.seconds, "step_seconds": self.step_seconds,
                "rows": [row.to_dict() for row in self.rows], "spans": {path: span._asdict() for path, span in self.spans.items()},
                "machine": {"name": self.machine.name, "products": dict(self.machine.products),
                            "copies": {str(n): rate for n, rate in self.machine.copies.items()}}, "uncounted": self.uncounted}

    def __str__(self) -> str:
        total = self.total
        head = ("path", "layer", "forward µs", "backward µs", "µs", "of all", "GFLOP/s", "moved", "floor µs", "share")
        table = [head] + [(row.path, row.name, _us(row.forward), _us(row.backward), *self._cells(row.total)) for row in self.rows]
        table.append(("", "sum", "", "", *self._cells(total)))
        lines = aligned(table, left=(0, 1))
        rule = "-" * max(map(len, lines))
        beside = "the device is waited for at each boundary, and then nothing overlaps" if self.waits else \
            "the sum has the timers' own cost in it, and medians need not add up"
        notes = [f"A step without timers takes {1e6 * self.step_seconds:,.1f} µs; {beside}. Medians of {self.steps} steps."]
        if self.uncounted:
            notes.append(f"FLOPs, bytes and floor are not known: {self.uncounted}")
        else:
            products = ", ".join(f"{rate / 1e9:,.1f} GFLOP/s ({dtype})" for dtype, rate in self.machine.products.items())
            small, large = (self.machine.bandwidth(n) / 1e9 for n in (min(self.machine.copies), max(self.machine.copies)))
            notes.append(f"Floor: products at {products}, all else as a copy of its size, {small:,.1f} GB/s (small) to {large:,.1f} GB/s "
                         f"(large), as measured on {self.machine.name}. Share: floor / time.")
        return "\n".join([self.title, "", lines[0], rule, *lines[1:-1], rule, lines[-1], "", *notes])

    def _cells(self, work: Work) -> tuple[str, ...]:
        of_all = f"{100 * work.seconds / self.seconds:.1f} %" if self.seconds else ""
        if self.uncounted:
            return (_us(work), of_all, "", "", "", "")
        return (_us(work), of_all, f"{work.rate / 1e9:,.2f}", readable(work.bytes), f"{1e6 * work.floor:,.1f}",
                f"{100 * work.share:.0f} %" if work.floor else "")

    __repr__ = __str__


def _us(work: Work | None) -> str:
    return "" if work is None else f"{1e6 * work.seconds:,.1f}"


def _within(own: Mapping[tuple[str, str], float], path: str, phase: str) -> float:
    """Σ of the own seconds of a layer and of all within it."""
    return sum(s for (p, f), s in own.items() if f == phase and (not path or p == path or p.startswith(f"{path}.")))

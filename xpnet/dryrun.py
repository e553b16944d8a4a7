"""The dry run: one training step on arrays that have a shape, a dtype and a place in memory, but no numbers.

The layers run as they are, over a namespace of their own. So no layer needs a table of its shapes and costs: what is
written in the standard's functions can be counted. What is counted, and how:

  FLOPs   a multiply-add is 2; an elementwise operation or a reduction is 1 an element, whatever it is called, and on
          integers too; moving numbers (reshape, concat, take, astype, filling) is 0
  bytes   what the closures of the forward pass keep for the backward pass, beyond parameters, buffers and the
          network's input. Each allocation counts once and whole: a view keeps its base. Which reshape copies is NumPy's
          rule

  peak    the most bytes that are allocated at once, from the start of the forward pass to the end of the backward pass, beyond
          parameters, their gradients and the batch. Elementwise rules are fused, as on a GPU: they allocate only what they return

The step is one of training: random numbers are drawn, and the gradient of the network's input is left out. Loss and
optimizer are not part of the summary.
"""

import copy
import functools
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from .backend import Backend, Random
from .backend.abstract import AbstractArray, Meter, Op, abstract, meter, recorder
from .errors import LayerError, unknown
from .layer import Backward, Context, Layer
from .precision import Mixed


class Row:
    """One layer of the summary.

    path, name, short       "2.0", "Dense(784, 128)", and the name where it is no longer than a column, else "Sequential(...)"
    output_shape            of the layer's y, with the batch axis; a tuple of shapes where y is a tuple
    params, shared          trainable numbers first met here, and those met before
    flops_forward, flops_backward
    cached_bytes            what the layer's closure keeps, beyond what an earlier one keeps
    forward, backward       every array operation in its order
    """

    def __init__(self, path: str, layer: Layer):
        self.path, self.name, self.short = path, repr(layer), shortened(layer)
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
    """Where operations are recorded while the dry run runs: at the row of the layer that is now at work, or at a part of the step that is
    no layer's.

    rows   {path: Row}, in forward order
    parts  {"precision": casts to and from float16, "gradients": copies into the vector, "loss", "optimizer": operations}
    meter  what is allocated
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.parts: dict[str, list[Op]] = {}
        self.path, self.phase = "", "forward"
        self.into = self.parts.setdefault("precision", [])
        self.meter = Meter()
        self.offered: dict[int, int] = {}                 # by number: a reference would keep the memory
        self.recomputed_bytes = 0

    @contextmanager
    def at(self, path: str, phase: str) -> Iterator[None]:
        before = self.path, self.phase, self.into
        self.path, self.phase, self.into = path, phase, getattr(self.rows[path], phase)
        try:
            yield
        finally:
            self.path, self.phase, self.into = before

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        before, self.into = self.into, self.parts.setdefault(name, [])
        try:
            yield
        finally:
            self.into = before

    def record(self, op: Op, out: AbstractArray) -> None:
        self.into.append(op)

    def offer(self, backward: Backward) -> None:
        """Note what a closure of the forward pass keeps now; its container may drop it, as Checkpoint does."""
        if self.phase == "forward":
            self.offered.update({x.memory.number: x.memory.nbytes for x in held(backward, (AbstractArray,))})


_trace: ContextVar[Trace | None] = ContextVar("_trace", default=None)


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


class TracedNet(Layer):
    """The network within the dry run's model, so that its own work is recorded at its row, and nothing else is."""

    def __init__(self, trace: Trace, net: Layer):
        self.trace, self.net = trace, net
        trace.rows[""] = Row("", net)

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        with self.trace.at("", "forward"):
            y, backward = self.net.forward(params, x, ctx)
        self.trace.rows[""].output_shape = _shape_of(y)
        self.trace.offer(backward)
        return y, TracedBackward(self.trace, "", backward)

    def __repr__(self) -> str:
        return repr(self.net)


class DryBackend(Backend):
    """The backend of arrays without numbers."""

    def __init__(self) -> None:
        self.kind = self.name = self.device = AbstractArray.device
        self.xp = abstract

    def owns(self, x: Any) -> bool:
        return isinstance(x, AbstractArray)


def dry_model(model: Any, trace: Trace) -> Any:
    """The same model over arrays without numbers; the one that was given stays as it is."""
    dry = copy.copy(model)
    dry.backend, dry.xp, dry._dtype = DryBackend(), abstract, getattr(abstract, model.dtype)
    dry.net = TracedNet(trace, model.net)
    dry._params, dry._grads = (AbstractArray((model.layout.size,), model.dtype) for _ in range(2))
    dry.state = {b: AbstractArray(b.shape, model.dtype) for b in model.state}
    dry.mixed = None if model.mixed is None else Mixed(dry.backend, model.layout.size)
    dry._layers_xp = abstract if dry.mixed is None else dry.mixed.layers_xp
    dry._views = model.layout.views(abstract, dry.params if dry.mixed is None else dry.mixed.half)
    write = model.layout.writer(model.layout.parts(abstract, dry.grads))

    def traced_write(grads: dict[str, Any]) -> None:
        with trace.part("gradients"):
            write(grads)

    dry._write = traced_write
    return dry


def dry_step(model: Any, x: Any, loss: Any = None, optimizer: Any = None, targets: Sequence[Any] = ()) -> Trace:
    """Run a training step of `model` on x, arrays without numbers, and say what it asked for.

    targets: (t,) or (t, sample weights), without numbers; by default those that the loss is likely to get.
    Without a loss ∂L/∂y is simply there. Loss and optimizer are in the state they have after a first step.
    """
    trace = Trace()
    dry = dry_model(model, trace)
    if optimizer is not None:
        optimizer = copy.copy(optimizer)
        optimizer.start(dry)
    token, listening, metering = _trace.set(trace), recorder.set(trace.record), meter.set(trace.meter)
    try:
        y, backward = dry.run(x, TracingContext(dry._layers_xp, True, Random(model.seed, model.step), dry.state))
        _keep_all(trace, dry, x, backward)
        dy = _like(y) if loss is None else _dry_loss(trace, loss, y, targets)
        backward(dy)
        if optimizer is not None:
            with trace.part("optimizer"):
                optimizer.step(dry)
    finally:
        meter.reset(metering)
        recorder.reset(listening)
        _trace.reset(token)
    _count_params(trace, model.layout)
    return trace


def _dry_loss(trace: Trace, loss: Any, y: Any, targets: Sequence[Any]) -> Any:
    """∂L/∂y of the loss; without targets for integer classes where it takes them, else for real targets."""
    if not targets:
        first = y[0] if isinstance(y, tuple) else y
        targets = [AbstractArray(first.shape[:-1], "int64")]
        if not loss.takes_classes(y, targets[0]):
            targets = [AbstractArray(loss.target_shape(y), first.dtype)]
    with trace.part("first loss"):
        loss(y, *targets)                                 # what it makes once, it makes here
    del trace.parts["first loss"]
    with trace.part("loss"):
        return loss(y, *targets)[1]


def _keep_all(trace: Trace, dry: Any, x: Any, backward: Backward) -> None:
    """Count what the forward pass keeps, beyond parameters, buffers and the network's input."""
    half = [] if dry.mixed is None else [dry.mixed.half]
    counted = {a.memory.number for a in (dry.params, *half, *dry.state.values(), *(x if isinstance(x, tuple) else (x,)))}
    _keep(trace, "", backward, counted)
    trace.recomputed_bytes = sum(nbytes for number, nbytes in trace.offered.items() if number not in counted)


def _keep(trace: Trace, path: str, backward: Backward, counted: set[int]) -> None:
    """Give each allocation that `backward` keeps to the first layer that keeps it, children before their container."""
    found = list(held(backward, (AbstractArray, TracedBackward)))
    for child in found:
        if isinstance(child, TracedBackward):
            _keep(trace, child.path, child.backward, counted)
    for memory in (x.memory for x in found if isinstance(x, AbstractArray)):
        if memory.number not in counted:
            counted.add(memory.number)
            trace.rows[path].cached_bytes += memory.nbytes


def _shape_of(y: Any) -> Any:
    return tuple(map(_shape_of, y)) if isinstance(y, tuple) else y.shape


def _like(y: Any) -> Any:
    return tuple(map(_like, y)) if isinstance(y, tuple) else AbstractArray(y.shape, y.dtype)


_INPUT_DTYPES = ("float32", "float64", "int32", "int64")


def dry_input(model: Any, input_shape: Any = None, batch_size: int = 1, input_dtype: Any = None) -> Any:
    """A batch without numbers: an array, or a tuple of arrays.

    input_shape  one sample's shape, without the batch axis; a tuple of shapes where x is a tuple. None: (in_features,),
                 where the network fixes it
    input_dtype  None: the model's; "int64" for tokens. A tuple of these where x is a tuple: ("float32", "int64")
    Raises ValueError where the input shape is not known.
    """
    net = model.net
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is a positive integer, got {batch_size!r}")
    if input_shape is None:
        if net.in_features is None:
            raise ValueError(f"the shape of one sample is not fixed by {type(net).__name__}: give it, as in "
                             "input_shape=(28, 28)")
        input_shape = (net.in_features,)
    many = isinstance(input_shape, (tuple, list)) and any(isinstance(s, (tuple, list)) for s in input_shape)
    dtypes = input_dtype if isinstance(input_dtype, (tuple, list)) else [input_dtype] * (len(input_shape) if many else 1)
    dtypes = [d or model.dtype for d in dtypes]
    for dtype in dtypes:
        if dtype not in _INPUT_DTYPES:
            raise unknown("dtype", dtype, _INPUT_DTYPES)
    if len(dtypes) != (len(input_shape) if many else 1):
        raise ValueError(f"input_dtype is one dtype, or one for each array of x, got {input_dtype!r} for input_shape={input_shape!r}")

    def sample(shape: Any, dtype: str) -> AbstractArray:
        if not isinstance(shape, (tuple, list)) or not all(isinstance(n, int) and n > 0 for n in shape):
            raise ValueError(f"input_shape is the shape of one sample, such as (784,), got {input_shape!r}")
        return AbstractArray((batch_size, *shape), dtype)

    return tuple(map(sample, input_shape, dtypes)) if many else sample(input_shape, dtypes[0])


def summarize(model: Any, input_shape: Any = None, batch_size: int = 1, input_dtype: Any = None) -> "Summary":
    """Dry-run a training step of `model` and say what each layer makes, costs and keeps. The arguments are those of `dry_input`.

    Raises ValueError where the input shape is not known, and the layer's LayerError for one that does not fit.
    """
    x = dry_input(model, input_shape, batch_size, input_dtype)
    try:
        return Summary(dry_step(model, x), model)
    except LayerError as e:
        if input_shape is not None:
            raise
        raise ValueError(f"one sample is not ({model.net.in_features},) here: {e}; give its shape, as in input_shape=(28, 28)") from e


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


def working_rows(trace: Trace) -> list[Row]:
    """The layers, and those containers that work or keep something themselves."""
    parents = {path.rpartition(".")[0] for path in trace.rows if path}
    return [r for r in trace.rows.values()
            if r.path not in parents or r.forward or r.backward or r.cached_bytes or r.params or r.shared]


class Summary:
    """What `Model.summary` found. Prints as a table.

    rows               one a layer, in forward order; a container has a row where it works or keeps something itself
    total_params       trainable numbers, shared ones once
    params_bytes       of the parameters and their gradients
    flops_forward, flops_backward    of the network, for one step of this batch
    cached_bytes       kept from the forward pass to the backward pass
    peak_bytes         the most that the two passes allocate at once, on top of params_bytes and the batch: of one step alone. A loop whose
                       variables hold the last step's closures through the next forward pass holds those as well
    recomputed_bytes   what a Checkpoint dropped, and makes again within the backward pass
    """

    def __init__(self, trace: Trace, model: Any):
        self.rows = working_rows(trace)
        self.total_params = model.layout.size
        self.params_bytes = 2 * self.total_params * np.dtype(model.dtype).itemsize
        self.flops_forward = sum(r.flops_forward for r in self.rows)
        self.flops_backward = sum(r.flops_backward for r in self.rows)
        self.cached_bytes = sum(r.cached_bytes for r in self.rows)
        self.peak_bytes = trace.meter.peak
        self.recomputed_bytes = trace.recomputed_bytes

    def __str__(self) -> str:
        head = ("path", "layer", "output shape", "parameters", "FLOPs forward", "FLOPs backward", "kept")
        table = [head] + [self._cells(r) for r in self.rows]
        lines = aligned(table, left=(0, 1, 2))
        rule = "-" * max(map(len, lines))
        step = self.flops_forward + self.flops_backward
        totals = [("trainable parameters", f"{self.total_params:,}"),
                  ("parameters and gradients", readable(self.params_bytes)),
                  ("FLOPs of a step", f"{step:,} ({self.flops_forward:,} forward, {self.flops_backward:,} backward)"),
                  ("kept for backward", readable(self.cached_bytes)),
                  ("most at once in a step", readable(self.peak_bytes))]
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
        params = [f"{row.params:,}"] if row.params or not row.shared else []
        if row.shared:
            params.append(f"({row.shared:,})")
        return (row.path, row.short, str(row.output_shape), " + ".join(params), f"{row.flops_forward:,}",
                f"{row.flops_backward:,}", readable(row.cached_bytes))

    __repr__ = __str__


def shortened(layer: Layer) -> str:
    """A layer as a table has room for it."""
    name = repr(layer)
    return name if len(name) <= 40 else f"{type(layer).__name__}(...)"


def aligned(table: Sequence[tuple[str, ...]], left: Sequence[int]) -> list[str]:
    """The lines of a table, each column as wide as its widest cell: those of `left` begin alike, the others end alike."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return ["  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))).rstrip() for cells in table]


def readable(nbytes: int) -> str:
    """1536 → "1.5 KiB" """
    if nbytes < 1024:
        return f"{nbytes} B"
    power = min((nbytes.bit_length() - 1) // 10, 4)
    return f"{nbytes / 1024 ** power:,.1f} {'KMGT'[power - 1]}iB"

"""When does the GPU pay? A forecast of a training step on a GPU from a dry run: what it asks for, and what it therefore waits for.

A step on a GPU is made of kernels, cuBLAS calls and device copies, here together *launches*. The host issues them one after the other, and
does not wait for them; the GPU works through the queue. So

    time of a step ≈ max( launches · launch time,  Σ over launches of max( bytes / bandwidth, FLOPs / peak ) )

The left is the host's work, the right the GPU's, each launch by its roofline (Williams, Waterman & Patterson, 2009). Where the left is
larger the step is bound by launches, and the GPU idles; else by memory or by arithmetic, whichever takes the larger part of the GPU's time.

What the forecast leaves out: every byte is taken to come from and go to the GPU's main memory once, though small arrays stay in its cache;
and no kernel reaches the peaks of a data sheet, small ones far from it. It says what bounds a step; it is no measurement.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .backend.abstract import Op
from .dryrun import Trace, aligned, dry_input, dry_step, working_rows
from .errors import unknown


class GPU(NamedTuple):
    """What a data sheet says of a GPU.

    name       of it
    bandwidth  of its memory, TB/s
    float16, float32, float64   the peak of its arithmetic, TFLOP/s; float16 on tensor cores, dense, summed in float32, as CuPy's
               products run; float32 and float64 not on tensor cores
    launch_us  microseconds that the host needs to issue one launch from CuPy: 11 µs for an elementwise function (cupy pull request
               3298, 2020), 44 µs for three calls (CuPy's user guide, "Performance best practices"). It is the host's more than the
               GPU's: `cupyx.profiler.benchmark` measures yours
    """

    name: str
    bandwidth: float
    float16: float
    float32: float
    float64: float
    launch_us: float = 10.0


# NVIDIA's data sheets: H100 SXM, A100 80GB SXM, V100 SXM2, T4, L4; for the RTX 4090 its Ada architecture white paper. Tensor core figures
# without sparsity. Where a data sheet has no float64, it is 1/32 (T4) or 1/64 (L4, RTX 4090) of float32, by the CUDA programming guide.
GPUS = {gpu.name: gpu for gpu in (
    GPU("H100", 3.35, 989.0, 67.0, 34.0),
    GPU("A100", 2.04, 312.0, 19.5, 9.7),
    GPU("V100", 0.90, 125.0, 15.7, 7.8),
    GPU("RTX 4090", 1.01, 165.2, 82.6, 1.29),
    GPU("L4", 0.30, 121.0, 30.3, 0.47),
    GPU("T4", 0.32, 65.0, 8.1, 0.25))}
LARGEST_BATCH = 2 ** 24


class Work:
    """What some operations ask of a GPU, and the microseconds that takes.

    flops, bytes
    kernels, products, copies   launches: kernels, cuBLAS calls, device copies
    host_us                     to issue them
    memory_us, arithmetic_us    of the GPU: those launches that wait for memory, and those that wait for arithmetic
    """

    def __init__(self, ops: Iterable[Op], gpu: GPU):
        self.flops = self.bytes = self.kernels = self.products = self.copies = 0
        self.host_us = self.memory_us = self.arithmetic_us = 0.0
        for op in ops:
            self.flops += op.flops
            self.bytes += op.bytes
            self.kernels += op.launches
            self.products += op.products
            self.copies += op.copies
            # TB/s are bytes a picosecond, and TFLOP/s operations a picosecond: 10⁶ of them a microsecond.
            memory, arithmetic = op.bytes / gpu.bandwidth * 1e-6, op.flops / getattr(gpu, op.dtype, gpu.float32) * 1e-6
            if memory >= arithmetic:
                self.memory_us += memory
            else:
                self.arithmetic_us += arithmetic
        self.host_us = self.launches * gpu.launch_us

    @property
    def launches(self) -> int:
        return self.kernels + self.products + self.copies

    @property
    def gpu_us(self) -> float:
        return self.memory_us + self.arithmetic_us

    @property
    def us(self) -> float:
        return max(self.host_us, self.gpu_us)

    @property
    def bound_by(self) -> str:
        """"launches", "memory" or "arithmetic"; "" where there is nothing to do."""
        if not self.us:
            return ""
        if self.host_us >= self.gpu_us:
            return "launches"
        return "memory" if self.memory_us >= self.arithmetic_us else "arithmetic"


class Line(NamedTuple):
    """One line of the table: a layer in one of the two passes, or a part of the step that is no layer's."""

    path: str
    name: str
    phase: str
    work: Work


def advise(model: Any, batch_size: int, gpu: str | Mapping[str, Any] = "H100", *, loss: Any = None, optimizer: Any = None,
           input_shape: Any = None, input_dtype: str | None = None) -> "Advice":
    """Forecast a training step of `model` on a GPU: FLOPs, bytes and launches of each layer, and what bounds the step.

    gpu              a name of `xpnet.advice.GPUS`, or the figures themselves, as in {"bandwidth": 0.5, "float32": 20.0}: see GPU
    loss, optimizer  those of the step; what is not given is not counted. A loss of classes gets integer targets
    input_shape, input_dtype   as in Model.summary

    The model may be on any backend; nothing is computed. The launches are those of CuPy 14.2 without CUB, on a batch that is on the device.
    Raises ValueError for an unknown GPU, an incomplete one, or an input shape that is not known.
    """
    chosen = get_gpu(gpu, "float16" if model.precision == "mixed" else model.dtype)

    def step(n: int) -> Trace:
        return dry_step(model, dry_input(model, input_shape, n, input_dtype), loss, optimizer)

    trace = step(batch_size)
    pays_from: int | None = batch_size
    while pays_from and Work(operations(step(pays_from)), chosen).bound_by == "launches":
        pays_from = pays_from * 2 if pays_from < LARGEST_BATCH else None
    missing = [name for name, given in (("loss", loss), ("optimizer", optimizer)) if given is None]
    return Advice(trace, chosen, batch_size, pays_from, missing)


def get_gpu(gpu: str | Mapping[str, Any], dtype: str) -> GPU:
    """A GPU from its name or its figures, which must have the bandwidth and the peak of `dtype`."""
    if isinstance(gpu, str):
        if gpu not in GPUS:
            raise unknown("GPU", gpu, GPUS)
        return GPUS[gpu]
    if not isinstance(gpu, Mapping):
        raise TypeError(f"gpu is a name such as 'H100' or a dictionary of figures, got {gpu!r}")
    for key in gpu:
        if key not in GPU._fields:
            raise unknown("figure of a GPU", key, GPU._fields)
    for key in {"bandwidth", "float32", dtype}:
        if key not in gpu:
            raise ValueError(f"gpu has no {key!r}, which this model needs: it has {', '.join(gpu) or 'nothing'}")
    if any(not value > 0 for key, value in gpu.items() if key != "name"):
        raise ValueError(f"the figures of a GPU are positive, got {dict(gpu)}")
    return GPU(**{"name": "this GPU", "float16": gpu["float32"], "float64": gpu["float32"], **gpu})


def operations(trace: Trace) -> list[Op]:
    """Every operation of the step."""
    return [op for row in trace.rows.values() for op in row.forward + row.backward] + \
        [op for part in trace.parts.values() for op in part]


class Advice:
    """What `advise` found. Prints as a table with a verdict.

    lines       a Line for each layer and pass, then one for each other part of the step
    total       Work of the whole step: `.kernels`, `.products`, `.copies`, `.launches`, `.flops`, `.bytes`, `.us`
    bound_by    "launches", "memory" or "arithmetic"
    pays_from   the first of batch_size, 2 batch_size, 4 batch_size, … that is not bound by launches; None if there is none up to 2²⁴
    """

    def __init__(self, trace: Trace, gpu: GPU, batch_size: int, pays_from: int | None, missing: list[str]):
        self.gpu, self.batch_size, self.pays_from, self.missing = gpu, batch_size, pays_from, missing
        rows = working_rows(trace)
        self.lines = [Line(r.path, r.short, phase, Work(ops, gpu)) for r in rows
                      for phase, ops in (("forward", r.forward), ("backward", r.backward)) if ops]
        self.lines += [Line("", _PARTS[name], "", Work(ops, gpu)) for name, ops in trace.parts.items() if ops]
        self.total = Work(operations(trace), gpu)

    @property
    def bound_by(self) -> str:
        return self.total.bound_by

    @property
    def verdict(self) -> str:
        """In a sentence."""
        work, n = self.total, self.batch_size
        if not work.us:
            return "There is nothing to do."
        if self.bound_by != "launches":
            return (f"On {self.gpu.name} a step on {n:,} samples is bound by {self.bound_by}: the GPU works for {work.gpu_us:,.0f} µs, "
                    f"and the host issues its {work.launches} launches in {work.host_us:,.0f} µs.")
        until = "whatever its size" if self.pays_from is None else f"below a batch of about {self.pays_from:,}"
        return (f"On {self.gpu.name} a step on {n:,} samples is bound by launches: the host issues {work.launches} of them in "
                f"{work.host_us:,.0f} µs, and at its peaks the GPU does their work in {work.gpu_us:,.0f} µs; {until} it idles.")

    def __str__(self) -> str:
        head = ("path", "layer", "pass", "FLOPs", "bytes", "kernels", "GEMMs", "copies", "µs", "bound by")
        table = [head] + [(line.path, line.name, line.phase, *_cells(line.work)) for line in self.lines]
        table.append(("", "step", "", *_cells(self.total)))
        rows = aligned(table, left=(0, 1, 2, 9))
        rule = "-" * max(map(len, rows))
        gpu = self.gpu
        notes = [self.verdict,
                 f"{gpu.name}: {gpu.bandwidth:g} TB/s, {gpu.float32:g} TFLOP/s in float32, {gpu.launch_us:g} µs of the host a launch. "
                 "A forecast from published figures, no measurement; launches are CuPy's, without CUB."]
        if self.missing:
            notes.append(f"Not counted, because not given: {' and '.join(self.missing)}.")
        return "\n".join([rows[0], rule, *rows[1:-1], rule, rows[-1], "", *notes])

    __repr__ = __str__


_PARTS = {"precision": "casts to and from float16", "gradients": "gradients into their vector", "loss": "loss and its gradient",
          "optimizer": "optimizer"}


def _cells(work: Work) -> tuple[str, ...]:
    return (f"{work.flops:,}", f"{work.bytes:,}", str(work.kernels), str(work.products), str(work.copies), f"{work.us:,.1f}",
            work.bound_by)

"""The gradient of a training step, recorded once as CUDA graphs and replayed: `fit(..., capture=True)`.

A small network on a GPU is bound by the host, which asks for kernel after kernel. What forward, loss and backward ask for is recorded
once for batches of one shape, and replayed for each batch of that shape: the numbers of an eager run, bit for bit. Batches of other
shapes, such as a last partial one, run eagerly. To time both in a loop of one's own:

    gradient = captured(model, loss)              # or functools.partial(eager, model, loss)
    value = gradient(x, t)                        # the step: L here, ∂L/∂θ in model.grads,
    optimizer.step(model)                         # and the update

Why it is as it is (what was tried: ci/cuda_graph.md):

Products    CuPy refuses cuBLAS calls while a stream is captured. The recording is cut at each x @ y, and CuPy makes the product as
            ever: no further library, no layer changed, the same bits. k products make k + 1 graphs.
Optimizer   Outside: it is one launch, and its numbers change with each step. So no optimizer, schedule or clipping knows of graphs.
Batch       Copied into arrays of the graphs' own before each replay.
Random      The step's number is an array on the device, and the keys of the random numbers are made there.
Buffers     Running statistics are written by the graphs, into the arrays that they read. These are in `model.state`; an array put there
            by someone else (an eager step, a callback that restores a model) is copied in before a replay. Who keeps one copies it.
Memory      The temporary arrays of a step, and both operands of each product, stay allocated, in a pool of their own.

Frozen is all else that Python computes: hyper-parameters of layers and loss (p of a Dropout that a callback changes has no effect), a
layer's own count of calls, random numbers from elsewhere than ctx.random. An array that a layer or loss keeps must stay the same array.

Refused is what cannot be recorded: values read on the host (`float(x)`, `if x > 0`), uploads, `xp.matmul` and whatever else calls cuBLAS.
Then, as on other backends and with tuples of arrays, a warning says why, and every step runs eagerly.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

from .backend import DeviceRandom, Recorder
from .callbacks import restore, snapshot
from .layer import Context

Array = Any


def eager(model: Any, loss: Any, x: Any, t: Array, *weights: Array) -> Array:
    """∂L/∂θ into `model.grads`; returns L. The first three of the five lines of training."""
    y, backward = model.forward(x)
    value, dy = loss(y, t, *weights)
    backward(dy)
    return value


class Captured:
    """`eager` for batches of the shapes and dtypes of `batch` = (x, t[, weights]), as graphs. The model is left as it was.

    Each call returns L in the same array, written anew. Raises what CuPy raises where the step cannot be recorded.
    """

    def __init__(self, model: Any, loss: Any, batch: tuple[Array, ...]):
        if model.backend.kind != "cupy":
            raise ValueError(f"CUDA graphs need backend='cupy', the model's is {model.backend.name!r}")
        if any(isinstance(a, tuple) for a in batch):
            raise TypeError("a batch of tuples of arrays is not supported")
        self.model, self.loss, xp = model, loss, model.xp
        self.recorder = Recorder()
        kept = snapshot(model)
        try:
            with self.recorder.aside():
                self.batch = tuple(xp.asarray(a, copy=True) for a in batch)
                self.step = xp.full((1,), model.step, dtype=xp.uint64)
                self.state = {buffer: xp.asarray(v, copy=True) for buffer, v in model.state.items()}
                self._run()                               # kernels are compiled, what is made once is made, the pool is filled
                with self.recorder.recording():
                    self.value = self._run()
        finally:
            restore(model, kept)

    def _run(self) -> Array:
        model, xp = self.model, self.model.xp
        x, t, *weights = self.batch
        ctx = Context(model._layers_xp, True, DeviceRandom(model.seed, self.step), self.state)
        y, backward = model.run(x, ctx)
        value, dy = self.loss(y, t, *weights)
        backward(dy)
        new = {buffer: xp.asarray(v, copy=True) for buffer, v in ctx.updates.items()}   # one may be another's old value
        for buffer, v in new.items():
            mine = self.state[buffer]
            if (v.shape, v.dtype) != (mine.shape, mine.dtype):
                raise TypeError(f"a buffer of shape {mine.shape} and dtype {mine.dtype} was updated with {v.shape}, {v.dtype}")
            mine[...] = v
        return value

    def __call__(self, *batch: Array) -> Array:
        model = self.model
        with model.backend:
            for mine, a in zip(self.batch, batch):
                mine[...] = a
            self._take_state()
            self.step[...] = model.step
            self.recorder.replay()
        model.step += 1
        return self.value

    def _take_state(self) -> None:
        """Others' arrays in `model.state` are copied into the graphs' own, all read before the first is written."""
        model = self.model
        others = {buffer: model.xp.asarray(model.state[buffer], copy=True)
                  for buffer, mine in self.state.items() if model.state[buffer] is not mine}
        for buffer, value in others.items():
            self.state[buffer][...] = value
        model.state.update(self.state)


def captured(model: Any, loss: Any) -> Callable[..., Array]:
    """`gradient(x, t[, weights])`: as `eager`, on graphs for batches of the first one's shapes. Where that is impossible, a RuntimeWarning
    that says why, and `eager` for all.
    """
    run_eagerly = functools.partial(eager, model, loss)
    runs: dict[Any, Callable[..., Array]] = {}            # the shapes and dtypes of the first batch: how it is run

    def gradient(*batch: Any) -> Array:
        shapes = tuple(None if isinstance(a, tuple) else (a.shape, a.dtype) for a in batch)
        if not runs:
            try:
                with model.backend:
                    runs[shapes] = Captured(model, loss, batch)
            except Exception as e:
                runs[shapes] = run_eagerly
                warnings.warn(f"capture=True: the step cannot be recorded ({type(e).__name__}: {e}); training runs eagerly. "
                              "What can be recorded is said in xpnet/capture.py", RuntimeWarning, stacklevel=4)   # fit's caller is 4 up
        return runs.get(shapes, run_eagerly)(*batch)

    return gradient

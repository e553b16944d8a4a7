"""Recorder: what the layers of a network hold and get, epoch after epoch."""

from typing import Any

import numpy as np

from ..backend import Random
from ..backend.registry import to_host
from ..errors import whole
from ..layer import Backward, Context, Layer
from ..losses import Loss
from ..model import Model
from ..train import Run, prepare

Array = Any
LEVELS = np.linspace(0.0, 1.0, 101)                       # of the quantiles: percent


class Recorder:
    """A callback of fit that runs one batch after each epoch, forward and backward, and keeps how its numbers are distributed.

        recorder = Recorder(x, t)
        fit(model, ..., callbacks=[recorder])
        plot.activations(recorder), plot.gradients(recorder), plot.gradient_flow(recorder)

    x, t    the batch; host or device arrays. The same one at each epoch, so that what changes is the network
    every   how many epochs lie between two recordings
    The first recording, at epoch 0, is of the network before training. The batch is run in inference mode (no dropout), and the model is
    afterwards as it was: parameters, gradients, buffers, counters and loss scale.

    epochs       when: `model.epoch`, the number of epochs made
    losses       L of the batch
    activations  {layer path: quantiles of its output (101,), one array a recording}, from the minimum over the median to the maximum
    deltas       {layer path: quantiles of |∂L/∂output|}
    gradients    {parameter path: quantiles of |∂L/∂parameter|}
    norms        {parameter path: ‖∂L/∂parameter‖}
    layers       {layer path: the layer}
    A layer is one that has parameters, or has no layers inside; Dense with an activation counts as one, and its output is the activation's.
    """

    def __init__(self, x: Array, t: Array, every: int = 1):
        self.x, self.t, self.every = x, t, whole("Recorder: every", every, 1)
        self.epochs: list[int] = []
        self.losses: list[float] = []
        self.activations: dict[str, list[np.ndarray]] = {}
        self.deltas: dict[str, list[np.ndarray]] = {}
        self.gradients: dict[str, list[np.ndarray]] = {}
        self.norms: dict[str, list[float]] = {}
        self.layers: dict[str, Layer] = {}
        self.weights: list[str] = []                      # the parameters that are not biases, by path
        self._model: Model | None = None
        self._batch: Any = None

    def begin(self, run: Run) -> None:
        self(run)

    def __call__(self, run: Run) -> None:
        if run.model.epoch % self.every == 0:
            self.record(run.model, run.loss)

    def record(self, model: Model, loss: Loss) -> None:
        """Run the batch and keep what it shows: for a training loop of your own, once before it and after each epoch."""
        if self._model is None:
            x, t = prepare(model, loss, (self.x, self.t), "Recorder", one_class=True)
            self._batch = tuple(model.asarray(e) for e in x) if isinstance(x, tuple) else model.asarray(x), model.asarray(t)
            self._model, self.weights = model, weight_paths(model)
        if model is not self._model:
            raise ValueError("this Recorder holds the run of another model; make a new one")
        if self.epochs and self.epochs[-1] == model.epoch:   # a second fit begins where the first ended
            return
        with model.backend:
            heard, value, grads = listen(model, loss, *self._batch)
        self.epochs.append(model.epoch)
        self.losses.append(value)
        self.layers |= heard.layers
        for path in heard.layers:
            self.activations.setdefault(path, []).append(quantiles(joined(heard.outputs[path])))
            if path in heard.deltas:                      # of layers before the first that has parameters there are none
                self.deltas.setdefault(path, []).append(quantiles(np.abs(joined(heard.deltas[path]))))
        for path, g in grads.items():
            self.gradients.setdefault(path, []).append(quantiles(np.abs(g)))
            self.norms.setdefault(path, []).append(float(np.linalg.norm(g)))

    def __repr__(self) -> str:
        return f"Recorder({len(self.epochs)} recordings of {len(self.layers)} layers)"


def quantiles(values: np.ndarray) -> np.ndarray:
    """Of those that are finite; NaN where none is."""
    finite = values[np.isfinite(values)]
    return np.quantile(finite, LEVELS) if finite.size else np.full(len(LEVELS), np.nan)


def weight_paths(model: Model) -> list[str]:
    """The parameters that are matrices or larger, in forward order, each once; all where there are none."""
    slots = model.layout.slots
    return [s.paths[0] for s in slots if len(s.param.shape) > 1] or [s.paths[0] for s in slots]


def joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([a.ravel() for a in arrays])


def listen(model: Model, loss: Loss, x: Any, t: Array) -> tuple["Heard", float, dict[str, np.ndarray]]:
    """One forward and backward pass of which the model keeps nothing: what the layers said, L, and ∂L/∂θ by path."""
    xp, mixed = model.xp, model.mixed
    written = [model.grads] if mixed is None else [model.grads, mixed.scale, mixed.good, mixed.finite]
    before = [xp.asarray(a, copy=True) for a in written]
    try:
        heard, y, backward = hear(model, x)
        value, dy = loss(y, t)
        heard.scale = 1.0 if mixed is None else float(to_host(mixed.scale)[0])
        backward(dy)
        if "" in heard.layers:
            heard.deltas[""] = host_arrays(dy)
        grads = {path: host_arrays(model.get_grad(path))[0].ravel() for path in (slot.paths[0] for slot in model.layout.slots)}
    finally:
        for a, was in zip(written, before):
            a[...] = was
    return heard, float(value), grads


def hear(model: Model, x: Any) -> tuple["Heard", Any, Any]:
    """The forward pass in inference mode: what the layers said, y, and backward."""
    heard = Heard()
    y, backward = model.run(x, _Listener(model._layers_xp, False, Random(model.seed, model.step), model.state).start(heard))
    heard.outputs[""] = host_arrays(y)
    if not heard.layers:                                  # the network is a single layer, which no container runs
        heard.layers[""] = model.net
    return heard, y, backward


class Heard:
    """What layers gave and got, on the host, by path; a layer that runs k times has k arrays.

    layers   those that count as one
    outputs  of these, and of the containers around them
    deltas   ∂L/∂output, of the layers that the backward pass came to
    """

    def __init__(self) -> None:
        self.layers: dict[str, Layer] = {}
        self.outputs: dict[str, list[np.ndarray]] = {}
        self.deltas: dict[str, list[np.ndarray]] = {}
        self.scale = 1.0                                  # of the gradients, in mixed precision


class _Listener(Context):
    """A context that listens where containers run their children."""

    __slots__ = ("again", "heard", "inside", "path")

    def start(self, heard: Heard, path: str = "", inside: bool = False, again: bool = False) -> "_Listener":
        self.heard, self.path = heard, path
        self.inside = inside                              # within a layer that counts as one
        self.again = again                                # the outputs have been heard before
        return self

    def replay(self, site: int) -> Context:
        """Checkpoint runs its layers again within its backward pass, and only then are their gradients there."""
        again = super().replay(site)
        assert isinstance(again, _Listener)
        return again.start(self.heard, self.path, self.inside, True)

    def forward(self, name: str, layer: Layer, params: dict[str, Any], x: Any) -> tuple[Any, Backward]:
        if self.inside:
            return super().forward(name, layer, params, x)
        path, one = f"{self.path}.{name}" if self.path else name, bool(layer.params()) or not layer.children()
        outer = self.path
        self.path, self.inside = path, one
        try:
            y, back = super().forward(name, layer, params, x)
        finally:
            self.path, self.inside = outer, False
        if not self.again:
            self.heard.outputs.setdefault(path, []).extend(host_arrays(y))
            if one:
                self.heard.layers[path] = layer

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            if one:
                self.heard.deltas.setdefault(path, []).extend(a / self.heard.scale for a in host_arrays(dy))
            outer = self.path, self.inside
            self.path, self.inside = path, one
            try:
                return back(dy, input_grad)
            finally:
                self.path, self.inside = outer

        return y, backward


def host_arrays(value: Any) -> list[np.ndarray]:
    """Copies in float64 of an array, or of each in a tuple."""
    return [np.array(to_host(a), dtype=np.float64) for a in (value if isinstance(value, tuple) else (value,))]

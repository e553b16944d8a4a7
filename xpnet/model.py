"""Model: a network, its parameters as one vector, and the backend they live on."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .backend import Backend, Random, get_backend
from .errors import LayerError, unknown
from .layer import Buffer, Context, Layer, walk_buffers
from .layout import Layout

Array = Any
DTYPES = ("float32", "float64")
_FORMAT = 1


class Model:
    """A network tied to a backend, a dtype and a seed.

    net      a Layer: just the function, without arrays
    backend  "numpy", "cupy", "cupy:1", "torch", "array-api-strict", a namespace or a Backend; None: $XPNET_BACKEND or NumPy
    dtype    "float32" or "float64", of parameters, activations and gradients
    seed     of the initial weights and of every random number of training: the same on every backend

    params, grads   the flat vectors; `layout` says which slice is whose
    step            how many training steps have been made (it keys the random numbers)
    link            what turns the output into probabilities: "identity", "softmax", "sigmoid" or "exp"; `fit` sets it from the loss
    """

    def __init__(self, net: Layer, backend: Any = None, dtype: str = "float32", seed: int = 0):
        if not isinstance(net, Layer):
            raise TypeError(f"Model takes a layer such as Sequential(...), got {net!r}")
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed is an integer from 0 on, got {seed!r}")
        self.net = net
        self.backend: Backend = get_backend(backend)
        self.xp = self.backend.xp
        if not hasattr(self.xp, dtype) or not self._has_dtype(dtype):
            raise ValueError(f"backend {self.backend.name!r} has no {dtype}")
        self.dtype = dtype
        self._dtype = getattr(self.xp, dtype)
        self.seed = seed
        self.step = 0
        self.link = "identity"
        self.layout = Layout(net)
        self.params = self.asarray(self.layout.initial_vector(seed).astype(dtype))
        self.grads = self.backend.zeros((self.layout.size,), self.params.dtype)
        self._buffers = dict(walk_buffers(net))
        self.state: dict[Buffer, Array] = {
            b: self.asarray(np.asarray(b.init(np.random.default_rng(seed), b.shape), dtype=dtype)) for b in self._buffers.values()}
        # Views are made once: the vectors are never reallocated.
        self._views = self.layout.views(self.xp, self.params)
        self._write = self.layout.writer(self.xp, self.grads)

    def _has_dtype(self, dtype: str) -> bool:
        try:
            self.backend.zeros((1,), getattr(self.xp, dtype))
            return True
        except (ValueError, TypeError):
            return False

    # Forward and backward.

    def asarray(self, x: Any) -> Array:
        """x on the model's backend and device; floating numbers in the model's dtype, integers as they are."""
        if not self.backend.owns(x):
            host = self.backend.to_host(x)
            return self.backend.asarray(host.astype(self.dtype, copy=False) if host.dtype.kind == "f" else host)
        if self.xp.isdtype(x.dtype, "real floating") and x.dtype != self._dtype:
            return self.xp.astype(x, self._dtype)
        return x

    def forward(self, x: Any, training: bool = True) -> tuple[Any, Callable[..., Any]]:
        """y = f(x; θ), and `backward`: ∂L/∂y → the vector of ∂L/∂θ (which is `model.grads`, written anew).

        `backward(dy, input_grad=True)` returns (∂L/∂x, ∂L/∂θ). x is on the model's backend already (`model.asarray` moves it):
        training moves no data silently.
        """
        x = self._on_device(x)
        step = self.step
        ctx = Context(self.xp, training, Random(self.seed, step), self.state)
        with self.backend:
            y, back = self._forward(x, ctx)
        shapes = y.shape if not isinstance(y, tuple) else tuple(e.shape for e in y)

        def backward(dy: Any, input_grad: bool = False) -> Any:
            if (dy.shape if not isinstance(dy, tuple) else tuple(e.shape for e in dy)) != shapes:
                got = tuple(e.shape for e in dy) if isinstance(dy, tuple) else tuple(dy.shape)
                raise ValueError(f"backward takes ∂L/∂y of y's shape {tuple(shapes)}, got {got}")
            with self.backend:
                dx, grads = back(dy, input_grad)
                self._write(grads)
            if training:
                self.step = step + 1
                self.state.update(ctx.updates)
            return (dx, self.grads) if input_grad else self.grads

        return y, backward

    def _forward(self, x: Any, ctx: Context) -> Any:
        try:
            return self.net.forward(self._views, x, ctx)
        except LayerError as e:
            if not e.path:
                e.path, e.layer = "0", repr(self.net)
                e.args = (str(e),)
            raise

    def _on_device(self, x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(self._on_device(e) for e in x)
        if not hasattr(x, "dtype"):
            raise TypeError(f"expected an array of backend {self.backend.name!r}, got {type(x).__name__}; "
                            "move it once with model.asarray(x)")
        if not self.backend.owns(x):
            raise TypeError(f"expected an array of backend {self.backend.name!r}, got {type(x).__module__}.{type(x).__name__}"
                            f"{_device_of(x)}; move it once with model.asarray(x)")
        if x.dtype == self.params.dtype:
            return x
        if self.xp.isdtype(x.dtype, "complex floating"):
            raise TypeError(f"expected real numbers, got {x.dtype}")
        return self.asarray(x)

    def predict(self, x: Any, batch_size: int = 1024) -> Any:
        """The network's output as it is, in inference mode, batch by batch. A host array in, a host array out; likewise on the device."""
        return self._batched(x, batch_size, lambda y: y)

    def predict_proba(self, x: Any, batch_size: int = 1024) -> Any:
        """The output through the loss's link: softmax over the last axis, sigmoid, or exp."""
        if self.link == "identity":
            raise ValueError("predict_proba needs the link of a classification loss: train with fit(...), or set "
                             "model.link = 'softmax' or 'sigmoid'")
        return self._batched(x, batch_size, lambda y: apply_link(self.xp, self.link, y))

    def predict_classes(self, x: Any, batch_size: int = 1024) -> Any:
        """Labels: the largest of k outputs; for one output (sigmoid), whether it is above 0. Ties go to the first."""
        xp = self.xp

        def classes(y: Array) -> Array:
            if self.link == "sigmoid":
                return xp.astype(y > 0.0, xp.int64)
            if y.shape[-1] < 2:
                raise ValueError(f"predict_classes needs at least two outputs, or link 'sigmoid'; the output has shape {tuple(y.shape)}")
            return xp.argmax(y, axis=-1)

        return self._batched(x, batch_size, classes)

    def _batched(self, x: Any, batch_size: int, then: Callable[[Array], Array]) -> Any:
        many = isinstance(x, tuple)
        xs = x if many else (x,)
        on_device = all(self.backend.owns(e) for e in xs)
        if not on_device:
            xs = tuple(self.backend.to_host(e) for e in xs)
        for e in xs:
            if len(e.shape) < 1:
                raise ValueError(f"predict takes a batch of samples, got an array of shape {tuple(e.shape)}")
        n = xs[0].shape[0]
        if n == 0:
            raise ValueError("predict got an empty batch")
        parts = []
        for start in range(0, n, batch_size):
            part = tuple(e[start:min(start + batch_size, n), ...] for e in xs)   # the standard asks for a stop in bounds
            part = tuple(self.asarray(e) for e in part)
            y, _ = self.forward(part if many else part[0], training=False)
            with self.backend:
                y = tuple(then(e) for e in y) if isinstance(y, tuple) else then(y)
            if not on_device:
                y = tuple(self.backend.to_host(e) for e in y) if isinstance(y, tuple) else self.backend.to_host(y)
            parts.append(y)
        if len(parts) == 1:
            return parts[0]
        concat = self.xp.concat if on_device else np.concatenate
        with self.backend:
            return tuple(concat(p) for p in zip(*parts)) if isinstance(parts[0], tuple) else concat(parts)

    # Parameters by name.

    def paths(self) -> list[str]:
        """Every parameter's path, in forward order; a shared parameter has one entry a use."""
        return list(self.layout.by_path)

    def get_param(self, path: str) -> Array:
        """A copy of a parameter."""
        return self._read(self.params, path)

    def get_grad(self, path: str) -> Array:
        """A copy of a parameter's gradient, of the last backward pass."""
        return self._read(self.grads, path)

    def _read(self, flat: Array, path: str) -> Array:
        slot = self.layout.slot(path)
        with self.backend:
            return self.xp.reshape(self.xp.asarray(flat[slot.start:slot.stop], copy=True), slot.param.shape)

    def set_param(self, path: str, value: Any) -> None:
        """Overwrite a parameter. Raises ValueError for a wrong shape and leaves the model as it was."""
        slot = self.layout.slot(path)
        value = self.asarray(value)
        if tuple(value.shape) != slot.param.shape:
            raise ValueError(f"parameter {path!r} has shape {slot.param.shape}, got {tuple(value.shape)}")
        with self.backend:
            self.params[slot.start:slot.stop] = self.xp.astype(self.xp.reshape(value, (-1,)), self.params.dtype)

    # Files.

    def architecture(self) -> dict[str, list[int]]:
        """Each parameter's and buffer's path and shape: what a file is checked against."""
        shapes = {path: list(slot.param.shape) for path, slot in self.layout.by_path.items()}
        shapes.update({path: list(b.shape) for path, b in self._buffers.items()})
        return shapes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and buffers to an .npz file: NumPy arrays by path and a JSON header; no code, no device.

        The file is written beside its place and then moved there, so that a crash leaves the old file.
        """
        header = {"format": _FORMAT, "shapes": self.architecture(), "dtype": self.dtype, "step": self.step, "link": self.link,
                  "seed": self.seed, "net": repr(self.net)}
        arrays = {f"param:{slot.paths[0]}": self.backend.to_host(self.get_param(slot.paths[0])) for slot in self.layout.slots}
        arrays |= {f"buffer:{p}": self.backend.to_host(self.state[b]) for p, b in self._buffers.items()}
        path = Path(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as f:
                np.savez(f, header=np.array(json.dumps(header)), **arrays)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def load(self, path: str | os.PathLike[str]) -> "Model":
        """Read a file of `save` into this model, on any backend. Raises ValueError, naming the first difference, when the file is
        of another architecture; the model is then as it was. Returns the model.
        """
        try:
            file = np.load(path, allow_pickle=False)
        except ValueError as e:                           # NumPy's advice here is to unpickle: not for a file of unknown origin
            raise ValueError(f"{path} is not a file of Model.save: it is no .npz archive") from e
        with file:
            if "header" not in file:
                raise ValueError(f"{path} is not a file of Model.save: it has no header")
            header = json.loads(str(file["header"]))
            if header.get("format") != _FORMAT:
                raise ValueError(f"{path} has format {header.get('format')!r}, this version reads {_FORMAT}")
            difference = first_difference(header["shapes"], self.architecture())
            if difference:
                raise ValueError(f"{path} holds another architecture: {difference}")
            flat = np.empty(self.layout.size, dtype=self.dtype)
            for slot in self.layout.slots:
                name = next((p for p in slot.paths if f"param:{p}" in file), None)
                if name is None:
                    raise ValueError(f"{path} has no values for parameter {slot.paths[0]!r}")
                flat[slot.start:slot.stop] = file[f"param:{name}"].reshape(-1)
            buffers = {b: self.asarray(file[f"buffer:{p}"].astype(self.dtype)) for p, b in self._buffers.items()}
        self.params[:] = self.asarray(flat)
        self.state.update(buffers)
        self.step, self.link = header["step"], header["link"]
        return self

    def summary(self, input_shape: tuple[int, ...] | None = None, batch_size: int = 1) -> Any:
        """A table of the layers: path, output shape, parameters, FLOPs forward and backward, bytes kept for the backward pass.

        Found by a dry run on arrays that have shapes but no numbers. input_shape: one sample's, where the network does not fix it.
        Prints as a table; the rows are in `.rows`.
        """
        from .dryrun import summarize

        return summarize(self, input_shape, batch_size)

    def __repr__(self) -> str:
        return f"Model({self.net!r}, backend={self.backend.name!r}, dtype={self.dtype!r}, seed={self.seed})"


def apply_link(xp: Any, link: str, y: Array) -> Array:
    """The output as the quantity its loss models: probabilities for softmax and sigmoid, a rate for exp."""
    from .layers.activations import Softmax, sigmoid

    if link == "softmax":
        return Softmax().forward({}, y, Context(xp))[0]
    if link == "sigmoid":
        return sigmoid(xp, y)
    if link == "exp":
        return xp.exp(y)
    if link == "identity":
        return y
    raise unknown("link", link, ("identity", "softmax", "sigmoid", "exp"))


def first_difference(theirs: dict[str, list[int]], ours: dict[str, list[int]]) -> str:
    """How two architectures first differ, in words; empty when they do not."""
    for (path_a, shape_a), (path_b, shape_b) in zip(theirs.items(), ours.items()):
        if (path_a, shape_a) != (path_b, shape_b):
            return f"it has {path_a} {tuple(shape_a)} where the model has {path_b} {tuple(shape_b)}"
    if len(theirs) != len(ours):
        longer, whose = (theirs, "it has") if len(theirs) > len(ours) else (ours, "the model has")
        path = list(longer)[min(len(theirs), len(ours))]
        return f"{whose} {path} {tuple(longer[path])}, the other ends before"
    return ""


def _device_of(x: Any) -> str:
    return f" on {x.device}" if hasattr(x, "device") else ""

"""Model: a network, its parameters as one vector, and the backend they live on."""

import copy
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .backend import Backend, Random, get_backend
from .backend.products import SMALL, Placed
from .errors import LayerError, unknown, whole
from .layer import Buffer, Context, Layer, walk_buffers
from .layout import Layout
from .precision import Mixed

Array = Any
DTYPES = ("float32", "float64", "mixed")
_FORMAT = 1


class Model:
    """A network tied to a backend, a dtype and a seed.

    net      a Layer: just the function, without arrays
    backend  "numpy", "cupy", "cupy:1", "torch", "array-api-strict", a namespace or a Backend; None: $XPNET_BACKEND or NumPy
    dtype    "float32" or "float64", of parameters, activations and gradients; or "mixed": activations in float16, parameters, gradients,
             losses and sums in float32 (see Mixed)
    seed     of the initial weights and of every random number of training: the same on every backend

    params, grads   the flat vectors; `layout` says which slice is whose
    step, epoch     how many training steps and epochs have been made (they key the random numbers and the order of the samples)
    link            what turns the output into probabilities: "identity", "softmax", "sigmoid" or "exp"; `fit` sets it from the loss
    """

    def __init__(self, net: Layer, backend: Any = None, dtype: str = "float32", seed: int = 0):
        if not isinstance(net, Layer):
            raise TypeError(f"Model takes a layer such as Sequential(...), got {net!r}")
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        self.net = net
        self.backend: Backend = get_backend(backend)
        self.xp = self.backend.xp
        needed = "float16" if dtype == "mixed" else dtype
        if not self._has_dtype(needed):
            raise ValueError(f"backend {self.backend.name!r} has no {needed}, which dtype={dtype!r} needs")
        self.precision = dtype
        self.dtype = dtype = "float32" if dtype == "mixed" else dtype
        self._dtype = getattr(self.xp, dtype)
        self.seed = whole("seed", seed, 0)
        self.step = self.epoch = 0
        self.version = 0                                  # of the parameters: a backward pass belongs to those of its forward pass
        self.link = "identity"
        self.layout = Layout(net)
        self._params = self.asarray(self.layout.initial_vector(seed).astype(dtype))
        self._grads = self.backend.zeros((self.layout.size,), self.params.dtype)
        self._buffers = dict(walk_buffers(net))
        self.state: dict[Buffer, Array] = {
            b: self.asarray(np.asarray(b.init(np.random.default_rng(seed), b.shape), dtype=dtype)) for b in self._buffers.values()}
        self.mixed = Mixed(self.backend, self.layout.size) if self.precision == "mixed" else None
        self._layers_xp = self.xp if self.mixed is None else self.mixed.layers_xp
        # What layers see of the parameters: views, made once, since the vectors are never reallocated.
        self._views = self.layout.views(self.xp, self.params if self.mixed is None else self.mixed.half)
        parts = self.layout.parts(self.xp, self.grads)
        self._write = self.layout.writer(parts)
        self._places = {} if self.backend.kind != "numpy" or self.mixed is not None else {
            id(self._view(slot.paths[0])): part for slot, part in parts.items() if len(slot.paths) == 1 and slot.stop - slot.start > SMALL}

    def _view(self, path: str) -> Array:
        """What the layers see of a parameter."""
        found: Any = self._views
        for name in path.split("."):
            found = found[name]
        return found

    def _has_dtype(self, dtype: str) -> bool:
        try:
            self.backend.zeros((1,), getattr(self.xp, dtype))
            return True
        except (AttributeError, ValueError, TypeError):
            return False

    @property
    def params(self) -> Array:
        """The vector of all parameters. Assigning to it writes into it: the network keeps looking at the same vector."""
        return self._params

    @params.setter
    def params(self, values: Array) -> None:
        self._overwrite(self._params, values)
        self.version += 1

    @property
    def grads(self) -> Array:
        """The vector of all gradients, of the last backward pass."""
        return self._grads

    @grads.setter
    def grads(self, values: Array) -> None:
        self._overwrite(self._grads, values)

    def _overwrite(self, vector: Array, values: Array) -> None:
        if values is vector:                              # what `model.params -= ...` assigns
            return
        values = self.asarray(values)
        if values.shape != vector.shape:
            raise ValueError(f"the vector has shape {tuple(vector.shape)}, got {tuple(values.shape)}")
        with self.backend:
            vector[...] = values

    # Forward and backward.

    def asarray(self, x: Any) -> Array:
        """x on the model's backend and device; floating numbers in the model's dtype, integers as they are."""
        if not self.backend.owns(x):
            host = self.backend.to_host(x)
            return self.backend.asarray(host.astype(self.dtype, copy=False) if host.dtype.kind == "f" else host)
        if x.dtype != self._dtype and self.xp.isdtype(x.dtype, "real floating"):
            with self.backend:
                return self.xp.astype(x, self._dtype)
        return x

    def forward(self, x: Any, training: bool = True) -> tuple[Any, Callable[..., Any]]:
        """y = f(x; θ), and `backward`: ∂L/∂y → the vector of ∂L/∂θ.

        `backward(dy, input_grad=True)` returns (∂L/∂x, ∂L/∂θ). The vector is `model.grads`, which the next backward pass writes anew:
        to add gradients of several passes, add to a copy. x is on the model's backend already (`model.asarray` moves it): training
        moves no data silently. Raises RuntimeError where the parameters have changed between forward and backward: the deltas
        would be those of neither.
        """
        return self.run(x, Context(self._layers_xp, training, Random(self.seed, self.step), self.state))

    def run(self, x: Any, ctx: Context) -> tuple[Any, Callable[..., Any]]:
        """The same in a context of the caller's: one that listens to each layer, say."""
        x, step, version = self._on_device(x), self.step, self.version
        with self.backend:
            if self.mixed is not None:
                self.mixed.half[...] = self.params
                x = self.mixed.narrow(x)
            y, back = self._forward(x, ctx)
            if self.mixed is not None:
                y = self.mixed.widen(y)
        shapes = y.shape if not isinstance(y, tuple) else tuple(e.shape for e in y)

        def backward(dy: Any, input_grad: bool = False) -> Any:
            if (dy.shape if not isinstance(dy, tuple) else tuple(e.shape for e in dy)) != shapes:
                got = tuple(e.shape for e in dy) if isinstance(dy, tuple) else tuple(dy.shape)
                raise ValueError(f"backward takes ∂L/∂y of y's shape {tuple(shapes)}, got {got}")
            if self.backend.kind == "cupy":               # from another GPU it would be read across, slowly
                for e in dy if isinstance(dy, tuple) else (dy,):
                    self._check_owner(e)
            if self.version != version:
                raise RuntimeError("the parameters have changed since this forward pass: run model.forward again, and backward before the "
                                   "update")
            with self.backend:
                if self.mixed is not None:
                    dy = self.mixed.lift(dy)
                if self._places:
                    with Placed(self._places):
                        dx, grads = back(dy, input_grad)
                else:
                    dx, grads = back(dy, input_grad)
                self._write(grads)
                if self.mixed is not None:
                    self.mixed.unscale(self.grads)
                    dx = self.mixed.lower(dx) if input_grad else dx
            if ctx.training:
                self.step = step + 1
                self.state.update(ctx.updates)
            return (dx, self.grads) if input_grad else self.grads

        return y, backward

    def _forward(self, x: Any, ctx: Context) -> Any:
        try:
            return self.net.forward(self._views, x, ctx)
        except LayerError as e:
            if not e.path:
                e.problem = f"{self.net!r} {e.problem}"
            raise

    def _on_device(self, x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(self._on_device(e) for e in x)
        if not hasattr(x, "dtype"):
            raise TypeError(f"expected an array of backend {self.backend.name!r}, got {type(x).__name__}; "
                            "move it once with model.asarray(x)")
        self._check_owner(x)
        if self.backend.kind == "torch":
            x = x.detach()                                # xpnet's backward pass, not torch's
        if x.dtype == self._dtype:
            return x
        if self.xp.isdtype(x.dtype, "complex floating"):
            raise TypeError(f"expected real numbers, got {x.dtype}")
        return self.asarray(x)

    def _check_owner(self, x: Any) -> None:
        if self.backend.owns(x):
            return
        what = f"{type(x).__module__}.{type(x).__name__}"
        context = ", and compute within `with model.backend:`" if what.startswith("cupy") and self.backend.kind == "cupy" else ""
        raise TypeError(f"expected an array of backend {self.backend.name!r}, got {what}{_device_of(x)}; "
                        f"move it once with model.asarray(x){context}")

    def predict(self, x: Any, batch_size: int | None = 1024) -> Any:
        """The network's output as it is, in inference mode, batch by batch. A host array in, a host array out; likewise on the device.

        Raises ValueError for tokens or lengths out of range in host (NumPy) arrays; those of arrays on a device are not read, which would
        wait for it. So do predict_proba and predict_classes.
        """
        return self._batched(x, batch_size, lambda y: y)

    def predict_proba(self, x: Any, batch_size: int | None = 1024) -> Any:
        """The output through the loss's link: softmax over the last axis, sigmoid, or exp."""
        if self.link in ("identity", "sign"):
            raise ValueError("predict_proba needs the link of a loss over probabilities: train with fit(...) on one, or set "
                             f"model.link = 'softmax' or 'sigmoid' (it is {self.link!r})")
        return self._batched(x, batch_size, lambda y: apply_link(self.xp, self.link, y))

    def predict_classes(self, x: Any, batch_size: int | None = 1024) -> Any:
        """Labels, (n,): the largest of k outputs, ties to the first. For a binary loss whether the output is above 0, of its shape (n, 1)
        as (n,): 1 or 0, and 1 or -1 for Hinge.
        """
        xp = self.xp

        def classes(y: Array) -> Array:
            if self.link in ("sigmoid", "sign"):
                above = xp.astype(y > 0.0, xp.int64)
                above = above if self.link == "sigmoid" else 2 * above - 1
                return above[..., 0] if y.shape[-1] == 1 else above
            if y.shape[-1] < 2:
                raise ValueError(f"predict_classes needs at least two outputs, or link 'sigmoid'; the output has shape {tuple(y.shape)}")
            return xp.argmax(y, axis=-1)

        return self._batched(x, batch_size, classes)

    def _batched(self, x: Any, batch_size: int | None, then: Callable[[Array], Array]) -> Any:
        xs = x if isinstance(x, tuple) else (x,)
        on_device = all(map(self.backend.owns, xs))
        if not on_device:
            xs = tuple(map(self.backend.to_host, xs))
        if not all(e.shape for e in xs) or len({e.shape[0] for e in xs}) > 1:
            raise ValueError(f"predict takes a batch of samples, got an array of shape {', '.join(str(tuple(e.shape)) for e in xs)}")
        n = xs[0].shape[0]
        if n == 0:
            raise ValueError("predict got an empty batch")
        if (not on_device or self.backend.kind == "numpy") and any(e.dtype.kind in "iu" for e in xs):   # tokens, lengths
            self.net.check_values(xs if isinstance(x, tuple) else xs[0])
        size = n if batch_size is None else whole("batch_size", batch_size, 1)

        def answer(y: Array) -> Array:
            y = then(y)
            if not on_device:
                y = self.backend.to_host(y)
            # Where no layer made a new array (inference of a Dropout alone), the answer would be the caller's own x.
            return np.array(y) if isinstance(y, np.ndarray) and any(np.may_share_memory(y, e) for e in xs) else y

        parts = []
        for start in range(0, n, size):
            part = tuple([self.asarray(e if size >= n else e[start:min(start + size, n), ...]) for e in xs])   # a stop in bounds
            y, _ = self.forward(part if isinstance(x, tuple) else part[0], training=False)
            with self.backend:
                parts.append(tuple(map(answer, y)) if isinstance(y, tuple) else answer(y))
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
        self.version += 1

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
        import json
        import tempfile

        header = {"format": _FORMAT, "shapes": self.architecture(), "dtype": self.dtype, "step": self.step, "link": self.link,
                  "seed": self.seed, "epoch": self.epoch, "net": repr(self.net)}
        firsts = [slot.paths[0] for slot in self.layout.slots]
        arrays: dict[str, Any] = {f"param:{path}": self.backend.to_host(self.get_param(path)) for path in firsts}
        arrays |= {f"buffer:{p}": self.backend.to_host(self.state[b]) for p, b in self._buffers.items()}
        folder, name = os.path.split(os.path.abspath(path))
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as f:
                np.savez(f, header=np.array(json.dumps(header)), **arrays)
                f.flush()
                os.fsync(f.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)           # mkstemp makes it the user's alone
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> "Model":
        """Read a file of `save` into this model, on any backend. Raises ValueError, naming the first difference, when the file is
        of another architecture; the model is then as it was. Returns the model.

        strict: False compares the shapes of the parameters only, so that activations or a dropout probability may have changed.
        """
        header, arrays = read_file(path)
        difference = first_difference(header["shapes"], self.architecture())
        if not difference and strict and header["net"] != repr(self.net):
            difference = f"it is {header['net']}, the model is {self.net!r} (strict=False compares shapes only)"
        if difference:
            raise ValueError(f"{path} holds another architecture: {difference}")
        flat = np.empty(self.layout.size, dtype=self.dtype)
        for slot in self.layout.slots:
            name = next((p for p in slot.paths if f"param:{p}" in arrays), None)
            if name is None:
                raise ValueError(f"{path} has no values for parameter {slot.paths[0]!r}")
            flat[slot.start:slot.stop] = arrays[f"param:{name}"].reshape(-1)
        buffers = {b: self.asarray(arrays[f"buffer:{p}"].astype(self.dtype)) for p, b in self._buffers.items()}
        self.params = flat
        self.state.update(buffers)
        self.step, self.epoch, self.seed, self.link = (header[k] for k in ("step", "epoch", "seed", "link"))
        return self

    def summary(self, input_shape: Any = None, batch_size: int = 1, input_dtype: Any = None) -> Any:
        """A table of the layers: path, output shape, parameters, FLOPs forward and backward, bytes kept for the backward pass.

        Found by a dry run on arrays that have shapes but no numbers. input_shape: one sample's, where the network does not fix it; a tuple
        of shapes where x is a tuple. input_dtype: "int64" for tokens, or one for each array. Prints as a table; the rows are in `.rows`.
        """
        from .dryrun import summarize

        return summarize(self, input_shape, batch_size, input_dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Model":
        """A model of a copy of the network, with the same parameters, buffers and counters, on the same backend."""
        again = Model(copy.deepcopy(self.net, memo), self.backend, self.precision, self.seed)
        again.params = self.params
        again.state = dict(zip(again.state, (self.xp.asarray(v, copy=True) for v in self.state.values())))
        again.step, again.epoch, again.link = self.step, self.epoch, self.link
        return again

    def __repr__(self) -> str:
        return f"Model({self.net!r}, backend={self.backend.name!r}, dtype={self.precision!r}, seed={self.seed})"


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a file of `Model.save`; ValueError for any other file."""
    import json
    import zipfile

    try:
        with open(path, "rb") as f, np.load(f, allow_pickle=False) as file:
            header, arrays = json.loads(str(file["header"])), {name: file[name] for name in file.files}
    except (ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as e:
        # Not NumPy's own message, which advises to unpickle: never for a file of unknown origin.
        raise ValueError(f"{path} is not a file of Model.save, or is damaged ({type(e).__name__})") from e
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"{path} is of another format than {_FORMAT}, which this version reads")
    return header, arrays


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

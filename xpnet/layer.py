"""The contract: what a layer is, and what it may touch.

A layer is a differentiable map. It holds hyper-parameters, never parameters or activations:

    y, backward = layer.forward(params, x, ctx)
    dx, grads   = backward(dy, input_grad=True)

`backward` computes the vector-Jacobian products: dx = (∂y/∂x)ᵀ dy, and (∂y/∂θ)ᵀ dy for each parameter θ. It is a closure over
what it needs of the forward pass, so the closure is the cache. `x`, `y` and `dx` are an array or a tuple of arrays.

The laws, each a test over every layer and every backend (tests/test_layer_laws.py):
 1. forward leaves x and params unchanged, backward leaves dy unchanged; in-place writes go only into arrays made here.
 2. backward twice with the same dy gives the same answer, and it is linear in dy.
 3. Two interleaved forwards do not disturb each other.
 4. The same layer object used twice shares its parameters, and its gradients add.
 5. ⟨dy, J v⟩ = ⟨Jᵀ dy, v⟩, for the input and for every parameter.
 6. Floating dtype in = dtype out, device in = device out; no layer names a dtype or a device.
 7. A training step in steady state makes no host synchronisation and no host-device copy.
 8. The same seed gives the same weights, batches and dropout masks on every backend.
 9. backward(dy, input_grad=False) skips the gradient of the input.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .backend import Random, backend_of, namespace
from .errors import LayerError
from .initializers import get_initializer

Array = Any
Backward = Callable[..., tuple[Any, dict[str, Any]]]


class Param:
    """A trained array, declared: its shape and initialiser. Identity is sharing: one Param in two places is one array.

    shape  a tuple of ints
    init   an initialiser `init(rng, shape) -> array`, its name, or an array of that shape
    bias   whether it is an additive term, which an optimizer may be told not to decay
    """

    __slots__ = ("bias", "init", "shape")

    def __init__(self, shape: tuple[int, ...], init: Any, bias: bool = False):
        self.shape = tuple(shape)
        self.init = get_initializer(init, self.shape)
        self.bias = bias

    def __repr__(self) -> str:
        return f"Param{self.shape}"


class Buffer:
    """An array that is kept but not trained, such as a running mean: declared like a Param, shared by identity like a Param."""

    __slots__ = ("init", "shape")

    def __init__(self, shape: tuple[int, ...], init: Any = "zeros"):
        self.shape = tuple(shape)
        self.init = get_initializer(init, self.shape)


class Context:
    """What a forward pass may know beside its input.

    xp        the array namespace, looked up once per model
    training  whether dropout drops and running statistics are updated
    random    the counter-based random numbers of this pass
    state     the buffers: `ctx.state[buffer]` is an array
    """

    __slots__ = ("random", "state", "training", "updates", "xp")

    def __init__(self, xp: Any, training: bool = False, random: Random | None = None,
                 state: Mapping[Buffer, Array] | None = None):
        self.xp = xp
        self.training = training
        self.random = random or Random()
        self.state = state if state is not None else {}
        self.updates: dict[Buffer, Array] = {}

    def update(self, buffer: Buffer, value: Array) -> None:
        """Hand back a buffer's new value; the model commits it after the step's backward pass."""
        self.updates[buffer] = value

    def forward(self, name: str, layer: "Layer", params: dict[str, Any], x: Any) -> tuple[Any, Backward]:
        """How a container runs its child `name`: an error gets the child's path, and a tracing context listens here."""
        try:
            if isinstance(x, tuple) and not layer.takes_tuples:
                raise takes("(batch, ...)", x)
            return layer.forward(params[name], x, self)
        except LayerError as e:
            raise e.within(name, layer) from None

    def replay(self, site: int) -> "Context":
        """A context for running the same pass again from random call site `site`; its buffer updates are dropped."""
        again = type(self).__new__(type(self))
        random = type(self.random)(self.random.seed, self.random.step, site)
        Context.__init__(again, self.xp, self.training, random, self.state)
        return again


class Layer:
    """A differentiable map. Subclasses write `forward`; those with parameters or children also declare them."""

    in_features: int | None = None                        # size of the last axis, where the layer fixes it
    out_features: int | None = None
    keeps_features = False                                # the last axis goes through unchanged
    takes_tuples = False                                  # x may be a tuple of arrays
    takes_lengths = False                                 # x may be (x, ..., lengths), sequences that are padded at their ends

    def params(self) -> dict[str, Param]:
        """The layer's own parameters by name; the same Param objects at every call."""
        return {}

    def buffers(self) -> dict[str, Buffer]:
        """The layer's own buffers by name."""
        return {}

    def children(self) -> dict[str, "Layer"]:
        """The layers inside this one, by the name they have in a path such as `2.0.W`."""
        return {}

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        """y = f(x; params), and the closure that pulls ∂L/∂y back to ∂L/∂x and ∂L/∂params."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def check_values(self, x: Any, name: str = "x") -> None:
        """Raise ValueError for values of x, on the host, that forward cannot look at without waiting for the device: tokens out of range.
        `fit`, `evaluate` and `predict` call it where data enters. What forward refuses by its shape or dtype is left to it.
        """

    def initial_params(self, seed: int = 0) -> dict[str, Any]:
        """Initial values drawn on the host, nested by name: the ones that a Model with this seed starts from."""
        order = {param: i for i, param in enumerate(dict.fromkeys(p for _, p in walk_params(self)))}
        drawn = {param: draw(param, seed, i) for param, i in order.items()}

        def nested(layer: Layer) -> dict[str, Any]:
            return {name: drawn[p] for name, p in layer.params().items()} | \
                {name: nested(child) for name, child in layer.children().items()}

        return nested(self)

    def __call__(self, x: Any, params: dict[str, Any] | None = None, ctx: Context | None = None) -> tuple[Any, Backward]:
        """Run a lone layer, without a Model: `y, backward = ReLU()(x)`. Parameters not given are the initial ones, seed 0."""
        first = x[0] if isinstance(x, tuple) else x
        ctx = ctx or Context(namespace(first))
        if params is None:
            backend = backend_of(first)
            params = tree_map(lambda p: backend.asarray(p, first.dtype), self.initial_params())
            if not ctx.state:
                ctx.state = {b: backend.asarray(b.init(np.random.default_rng(0), b.shape), first.dtype)
                             for _, b in walk_buffers(self)}
        return self.forward(params, x, ctx)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def draw(param: Param, seed: int, index: int) -> np.ndarray:
    """A parameter's initial values, float64. Each draws from a stream of its own, so that later layers do not change earlier ones."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index))))
    values = np.asarray(param.init(rng, param.shape))
    if values.shape != param.shape:
        raise ValueError(f"an initializer returned shape {values.shape} for a parameter of shape {param.shape}")
    return values


def tree_map(f: Callable[[Any], Any], tree: Any) -> Any:
    """f over the leaves of nested dictionaries."""
    return {k: tree_map(f, v) for k, v in tree.items()} if isinstance(tree, dict) else f(tree)


def flatten(tree: Any, f: Callable[[Any], Any] = lambda leaf: leaf, path: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, by path."""
    if not isinstance(tree, dict):
        return {path: f(tree)}
    return {k: v for name, sub in tree.items() for k, v in flatten(sub, f, f"{path}.{name}" if path else name).items()}


def walk_layers(layer: Layer, path: str = "") -> list[tuple[str, Layer]]:
    """Every layer below and including `layer`, in forward order, with its path."""
    found = [(path, layer)]
    for name, child in layer.children().items():
        found += walk_layers(child, f"{path}.{name}" if path else name)
    return found


def walk_params(layer: Layer) -> list[tuple[str, Param]]:
    """Every parameter with its path, one entry per use: a shared Param comes once for each place."""
    return [(f"{path}.{name}" if path else name, p)
            for path, each in walk_layers(layer) for name, p in each.params().items()]


def walk_buffers(layer: Layer) -> list[tuple[str, Buffer]]:
    return [(f"{path}.{name}" if path else name, b)
            for path, each in walk_layers(layer) for name, b in each.buffers().items()]


def takes(expected: str, x: Any) -> LayerError:
    """The shape error of a layer's edge: `takes x of shape (..., 20), got (64, 30)`."""
    if isinstance(x, tuple):
        got = f"a tuple of {len(x)} arrays"
    else:
        got = str(tuple(x.shape)) if hasattr(x, "shape") else type(x).__name__
    return LayerError(f"takes x of shape {expected}, got {got}")

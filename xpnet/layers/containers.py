"""Layers made of layers. `Sequential` is the delta recursion itself; the others are as short."""

from typing import Any

from ..errors import LayerError
from ..layer import Backward, Context, Layer, takes, walk_params

Array = Any


class Container(Layer):
    """Layers in order, named "0", "1", ... in paths. The same layer may come more than once: it shares its parameters."""

    takes_tuples = True                                   # as far as its layers do

    def __init__(self, *layers: Layer):
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
            raise TypeError(f"{type(self).__name__} takes layers, not a list: write {type(self).__name__}(*layers)")
        for layer in layers:
            if isinstance(layer, type) and issubclass(layer, Layer):
                raise TypeError(f"{layer.__name__} is a class; write {layer.__name__}(...)")
            if not isinstance(layer, Layer):
                raise TypeError(f"{type(self).__name__} takes layers, got {layer!r}")
        self.layers = layers
        self.named = [(str(i), layer) for i, layer in enumerate(layers)]

    def children(self) -> dict[str, Layer]:
        return dict(self.named)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([*map(repr, self.layers), *self.options()])})"

    def options(self) -> list[str]:
        """Arguments beside the layers that are not the defaults, as they are written."""
        return []


class Sequential(Container):
    """y = f_L(… f₂(f₁(x)))

        δ_L = ∂L/∂y,    δ_{l-1} = (∂f_l/∂x)ᵀ δ_l,    ∂L/∂θ_l = (∂f_l/∂θ_l)ᵀ δ_l

    Forward lays each layer's `backward` on a tape; backward runs the tape from the last layer to the first. Where the gradient of
    the input is not wanted, the recursion ends at the first layer that has parameters.
    Raises LayerError for lengths given to several recurrent layers, of which only the first would see them: Stacked hands them to each.
    Rumelhart, Hinton & Williams (1986).
    """

    def __init__(self, *layers: Layer):
        super().__init__(*layers)
        trained = [i for i, layer in enumerate(layers) if walk_params(layer)]
        self.first_trained = trained[0] if trained else len(layers)
        _check_features(self.named)
        self.in_features = next((f for f in (layer.in_features for layer in _until_known(layers)) if f), None)
        self.out_features = next((f for f in (layer.out_features for layer in _until_known(layers[::-1])) if f), None)
        self.keeps_features = all(layer.keeps_features for layer in layers)
        later = next(((name, layer) for name, layer in self.named[1:] if layer.takes_lengths), None)
        self.without_lengths = later if layers and layers[0].takes_lengths else None   # a layer that would read the padding as steps

    def check_values(self, x: Any, name: str = "x") -> None:
        if self.layers:
            self.layers[0].check_values(x, name)

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        if self.without_lengths and isinstance(x, tuple) and ctx.xp.isdtype(x[-1].dtype, "integral"):
            name, layer = self.without_lengths
            raise LayerError(f"hands lengths to its first layer only, and layer {name} ({layer!r}) would read the padding as steps: "
                             "write Stacked(...), which hands them to each")
        tape = []
        for name, layer in self.named:
            x, back = ctx.forward(name, layer, params, x)
            tape.append(back)

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            grads: dict[str, Any] = {name: {} for name, _ in self.named}
            last = 0 if input_grad else self.first_trained
            for i in range(len(tape) - 1, last - 1, -1):
                dy, grads[self.named[i][0]] = tape[i](dy, input_grad or i > last)
            return (dy if input_grad else None), grads

        return x, backward


class Residual(Sequential):
    """y = x + f(x), f the layers given in order

        ∂L/∂x = ∂L/∂y + (∂f/∂x)ᵀ ∂L/∂y

    The Jacobian is I + ∂f/∂x: a product of many of these does not vanish as a product of many ∂f/∂x does.
    He, Zhang, Ren & Sun (2016).
    """

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        if isinstance(x, tuple):
            raise takes("(batch, ...)", x)
        fx, back = super().forward(params, x, ctx)
        if fx.shape != x.shape:
            raise LayerError(f"adds f(x) to x, but f(x) has shape {tuple(fx.shape)} and x {tuple(x.shape)}")

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dx, grads = back(dy, input_grad)
            return (dy + dx if input_grad else None), grads

        return x + fx, backward


class Checkpoint(Sequential):
    """y = f(x), f the layers given in order, keeping only x: the forward pass is made again within the backward pass.

    Memory falls from the sum over the layers to x and one layer group at a time; the price is a second forward. The second pass
    draws the same random numbers, and changes no buffer.
    Chen, Xu, Zhang & Guestrin (2016), "Training deep nets with sublinear memory cost".
    """

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        site = ctx.random.site
        y, _ = super().forward(params, x, ctx)
        run = super().forward

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            _, back = run(params, x, ctx.replay(site))
            return back(dy, input_grad)

        return y, backward


class Parallel(Container):
    """y = (f₁(x), …, f_k(x));  ∂L/∂x = Σᵢ (∂fᵢ/∂x)ᵀ ∂L/∂yᵢ. A value used k times gets k gradients, which add.

    split=True: x is a tuple, and each branch gets its own: y = (f₁(x₁), …, f_k(x_k)),  ∂L/∂xᵢ = (∂fᵢ/∂xᵢ)ᵀ ∂L/∂yᵢ.
    """

    def __init__(self, *layers: Layer, split: bool = False):
        super().__init__(*layers)
        if not layers:
            raise ValueError("Parallel takes at least one layer")
        self.split = split

    def options(self) -> list[str]:
        return ["split=True"] if self.split else []

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        if self.split and not (isinstance(x, tuple) and len(x) == len(self.layers)):
            raise LayerError(f"takes a tuple of {len(self.layers)} arrays, one a branch, got "
                             f"{f'a tuple of {len(x)}' if isinstance(x, tuple) else type(x).__name__}")
        xs = x if self.split else (x,) * len(self.layers)
        ys, tape = zip(*(ctx.forward(name, layer, params, xi) for (name, layer), xi in zip(self.named, xs)))

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dxs, branch_grads = zip(*(back(dyi, input_grad) for back, dyi in zip(tape, dy)))
            grads = {name: g for (name, _), g in zip(self.named, branch_grads)}
            if not input_grad:
                return None, grads
            return (dxs if self.split else add_all(dxs)), grads

        return ys, backward


class Concat(Container):
    """y = [f₁(x), …, f_k(x)] along `axis`;  ∂L/∂x = Σᵢ (∂fᵢ/∂x)ᵀ (the i-th part of ∂L/∂y)."""

    def __init__(self, *layers: Layer, axis: int = -1):
        super().__init__(*layers)
        self.axis = axis
        sizes = [layer.out_features for layer in layers]
        if axis == -1 and all(sizes):
            self.out_features = sum(s for s in sizes if s)

    def options(self) -> list[str]:
        return [] if self.axis == -1 else [f"axis={self.axis}"]

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, axis = ctx.xp, self.axis
        ys, tape = zip(*(ctx.forward(name, layer, params, x) for name, layer in self.named))
        sizes = [y.shape[axis] for y in ys]
        for y in ys[1:]:
            if y.ndim != ys[0].ndim or any(a != b for i, (a, b) in enumerate(zip(y.shape, ys[0].shape)) if i != axis % y.ndim):
                raise LayerError(f"joins its branches along axis {axis}, but they have shapes {[tuple(y.shape) for y in ys]}")

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            grads, dxs, start = {}, [], 0
            for (name, _), back, size in zip(self.named, tape, sizes):
                stop = start + size
                part: list[Any] = [slice(None)] * dy.ndim
                part[axis] = slice(start, stop)
                dx, grads[name] = back(dy[tuple(part)], input_grad)
                dxs.append(dx)
                start = stop
            return (add_all(dxs) if input_grad else None), grads

        return xp.concat(ys, axis=axis), backward


def add_all(parts: Any) -> Any:
    """Σ of arrays, or of tuples of arrays, entry by entry."""
    if isinstance(parts[0], tuple):
        return tuple(add_all(entries) for entries in zip(*parts))
    total = parts[0]
    for p in parts[1:]:
        total = total + p
    return total


def _until_known(layers: Any) -> Any:
    """The layers up to the first that may change the last axis."""
    for layer in layers:
        yield layer
        if not layer.keeps_features:
            return


def _check_features(named: list[tuple[str, Layer]]) -> None:
    """Neighbours that cannot fit are an error when the network is written, not when it is run."""
    size, source = None, ""
    for name, layer in named:
        if layer.in_features is not None and size is not None and layer.in_features != size:
            raise LayerError(f"takes {layer.in_features} features, but {source} gives {size}").within(name, layer)
        if not layer.keeps_features or layer.out_features is not None:
            size, source = layer.out_features, f"layer {name} ({layer!r})"

"""Normalisation: x̂ = (x - μ)/σ over some of the axes, then a trained scale and shift.

The layers differ only in the axes whose mean and variance they take. The rule, and its three paths back to x, have one home: `normalise`.
Sorted by increasing complexity.
"""

import math
from typing import Any

from ..backend import elementwise, sum_product, widened
from ..errors import LayerError, whole
from ..layer import Backward, Buffer, Context, Layer, Param, takes

Array = Any


def normalise(xp: Any, x: Array, axes: tuple[int, ...], eps: float, centred: bool = True) -> tuple[Array, Any, Array, Array]:
    """x̂ = (x - μ)/σ with μ = mean(x), v = mean((x - μ)²), σ = √(v + ε), the means over `axes`, of m numbers each.

    With g = ∂L/∂x̂, x has three paths to L: by itself, through μ, and through v. In each group of m numbers

        ∂L/∂v = Σ g (x - μ) · (-½) σ⁻³ = -½ σ⁻² Σ g x̂
        ∂L/∂μ = -σ⁻¹ Σ g                                  (v's own share is Σ (x - μ) · …, which is 0)
        ∂L/∂x = g σ⁻¹ + ∂L/∂v · 2 (x - μ)/m + ∂L/∂μ · 1/m
              = σ⁻¹ (g - mean(g) - x̂ mean(g x̂))

    so ∂L/∂x has no component along 1, and (but for ε) none along x̂: neither a shift nor a scaling of x changes x̂.
    centred=False leaves μ out: x̂ = x/√(mean(x²) + ε), and ∂L/∂x = σ⁻¹ (g - x̂ mean(g x̂)).
    Returns x̂, the function g ↦ ∂L/∂x, and μ (0 where it is left out) and v, the reduced axes of size 1.
    Ioffe & Szegedy (2015), section 3.
    """
    dtype, x = x.dtype, widened(xp, x)
    one_over_m = 1.0 / math.prod(x.shape[axis] for axis in axes)
    mean = xp.mean(x, axis=axes, keepdims=True) if centred else 0.0
    c = x - mean if centred else x
    var = sum_product(xp, c, c, axes, one_over_m)
    rstd = _rstd(xp, var, eps)                            # a rule of its own: a fused kernel makes all its results of one shape
    xhat = c * rstd

    def backward(g: Array) -> Array:
        g = widened(xp, g)
        along = sum_product(xp, g, xhat, axes, one_over_m)
        mean_g = xp.mean(g, axis=axes, keepdims=True) if centred else 0.0
        return xp.astype(_backward(xp, g, mean_g, xhat, along, rstd), dtype, copy=False)

    return xp.astype(xhat, dtype, copy=False), backward, mean, var


@elementwise
def _rstd(xp: Any, var: Array, eps: float) -> Array:
    return 1.0 / xp.sqrt(var + eps)


@elementwise
def _backward(xp: Any, g: Array, mean: Any, xhat: Array, along: Array, rstd: Array) -> Array:
    return (g - mean - xhat * along) * rstd


class _OverFeatures(Layer):
    """What LayerNorm and RMSNorm share: each sample (each position) by itself, over its last axes."""

    keeps_features = True
    centred: bool

    def __init__(self, features: int | tuple[int, ...], eps: float, affine: bool):
        name = type(self).__name__
        self.shape = tuple(whole(f"{name}: features", f, 1) for f in (features if isinstance(features, tuple) else (features,)))
        if not self.shape:
            raise ValueError(f"{name}: features is a number or a tuple of numbers, got ()")
        self.in_features = self.out_features = self.shape[-1]
        self.eps = _positive(name, eps)
        self.gamma = Param(self.shape, "ones") if affine else None
        self.beta = Param(self.shape, "zeros", bias=True) if affine and self.centred else None

    def params(self) -> dict[str, Param]:
        return _named(self.gamma, self.beta)

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, k = ctx.xp, len(self.shape)
        if tuple(x.shape[-k:]) != self.shape or x.ndim <= k:
            raise takes(f"(batch, ..., {', '.join(map(str, self.shape))})", x)
        rows = xp.reshape(x, (-1, math.prod(self.shape)))
        xhat, back, _, _ = normalise(xp, rows, (1,), self.eps, self.centred)
        y, affine = scale_shift(xp, xhat, params, (1, -1), (0,))

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            g, grads = affine(xp.reshape(dy, rows.shape))
            return (xp.reshape(back(g), x.shape) if input_grad else None), grads

        return xp.reshape(y, x.shape), backward

    def __repr__(self) -> str:
        return _written(self, [self.shape[0] if len(self.shape) == 1 else self.shape], eps=self.eps, affine=self.gamma is not None)


class RMSNorm(_OverFeatures):
    """y = x̂ ⊙ γ,  x̂ = x / √(mean(x²) + ε), the mean over the d features of each sample (each position)

        ∂L/∂γ = Σ ∂L/∂y ⊙ x̂        g = ∂L/∂y ⊙ γ        ∂L/∂x = (g - x̂ mean(g ⊙ x̂)) / √(mean(x²) + ε)

    The sums are over all samples and positions. Derivation: `normalise`.
    x, y: (n, ..., d)    γ: (d,), starts at 1
    features  d, or a tuple of the sizes of the last axes
    eps       ε; PyTorch's default is the dtype's machine epsilon
    affine    False leaves γ out
    Raises LayerError for an x whose last axis is not d.
    Zhang & Sennrich (2019).
    """

    centred = False

    def __init__(self, features: int | tuple[int, ...], eps: float = 1e-6, affine: bool = True):
        super().__init__(features, eps, affine)


class LayerNorm(_OverFeatures):
    """y = x̂ ⊙ γ + β,  x̂ = (x - μ)/√(v + ε), μ and v the mean and variance of the d features of each sample (each position)

        ∂L/∂γ = Σ ∂L/∂y ⊙ x̂        ∂L/∂β = Σ ∂L/∂y        g = ∂L/∂y ⊙ γ
        ∂L/∂x = (g - mean(g) - x̂ mean(g ⊙ x̂)) / √(v + ε)

    The sums are over all samples and positions, the means over the features. Derivation: `normalise`.
    A sample's y depends on no other sample, so training and inference are the same.
    x, y: (n, ..., d)    γ, β: (d,), start at 1 and 0
    features  d, or a tuple of the sizes of the last axes
    eps       ε
    affine    False leaves γ and β out
    Raises LayerError for an x whose last axis is not d.
    Ba, Kiros & Hinton (2016).
    """

    centred = True

    def __init__(self, features: int | tuple[int, ...], eps: float = 1e-5, affine: bool = True):
        super().__init__(features, eps, affine)


class GroupNorm(Layer):
    """y = x̂ ⊙ γ + β,  x̂ = (x - μ)/√(v + ε), μ and v of each sample's group of channels and all their positions

        ∂L/∂γ = Σ ∂L/∂y ⊙ x̂        ∂L/∂β = Σ ∂L/∂y        g = ∂L/∂y ⊙ γ
        ∂L/∂x = (g - mean(g) - x̂ mean(g ⊙ x̂)) / √(v + ε)

    The sums are over samples and positions, for each channel; the means over a group's m = (c/groups) h w numbers. Derivation: `normalise`.
    One group is a LayerNorm over channels and positions, with γ and β by channel; a group for each channel is InstanceNorm.
    x, y: (n, c) or (n, c, ...), images (n, c, h, w)    γ, β: (c,), start at 1 and 0
    groups    a divisor of the channels
    channels  c
    eps       ε
    affine    False leaves γ and β out
    Raises ValueError where groups does not divide channels, LayerError for an x without c channels.
    Wu & He (2018).
    """

    keeps_features = True

    def __init__(self, groups: int, channels: int, eps: float = 1e-5, affine: bool = True):
        name = type(self).__name__
        self.groups = whole(f"{name}: groups", groups, 1)
        self.channels = whole(f"{name}: channels", channels, 1)
        if self.channels % self.groups:
            raise ValueError(f"{name}: groups divides channels, got {groups} groups of {channels} channels")
        self.eps = _positive(name, eps)
        self.gamma, self.beta = _by_channel(self.channels, affine)

    def params(self) -> dict[str, Param]:
        return _named(self.gamma, self.beta)

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp = ctx.xp
        shape = channels_first(x, self.channels)
        grouped = (shape[0], self.groups, math.prod(shape[1:]) // self.groups)
        xhat, back, _, _ = normalise(xp, xp.reshape(x, grouped), (2,), self.eps)
        y, affine = scale_shift(xp, xp.reshape(xhat, shape), params, *BY_CHANNEL[len(shape)])

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            g, grads = affine(xp.reshape(dy, shape))
            return (xp.reshape(back(xp.reshape(g, grouped)), x.shape) if input_grad else None), grads

        return xp.reshape(y, x.shape), backward

    def __repr__(self) -> str:
        return _written(self, [self.groups, self.channels], eps=self.eps, affine=self.gamma is not None)


class InstanceNorm(GroupNorm):
    """y = (x - μ)/√(v + ε), μ and v of each sample's channel over its positions: GroupNorm with a group for each channel

        ∂L/∂x = (g - mean(g) - x̂ mean(g ⊙ x̂)) / √(v + ε),  g = ∂L/∂y (⊙ γ)

    x, y: (n, c, ...), images (n, c, h, w)
    channels  c
    eps       ε
    affine    True adds γ and β (c,), as in GroupNorm; left out by default, as in PyTorch
    Raises LayerError for an x without c channels, or without positions to take the mean of.
    Ulyanov, Vedaldi & Lempitsky (2016).
    """

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = False):
        super().__init__(channels, channels, eps, affine)

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        if x.ndim < 3:
            raise takes(f"(batch, {self.channels}, ...)", x)
        return super().forward(params, x, ctx)

    def __repr__(self) -> str:
        return _written(self, [self.channels], eps=self.eps, affine=self.gamma is not None)


class BatchNorm(Layer):
    """y = x̂ ⊙ γ + β,  x̂ = (x - μ)/√(v + ε), μ and v of each feature (channel) over the batch and all positions

    Training: μ and v are those of this batch, so every sample of it is a path to every x̂ (the three paths: `normalise`):

        ∂L/∂γ = Σₙ ∂L/∂y ⊙ x̂        ∂L/∂β = Σₙ ∂L/∂y        g = ∂L/∂y ⊙ γ
        ∂L/∂x = (g - mean(g) - x̂ mean(g ⊙ x̂)) / √(v + ε)

    with sums and means over the m = n (or n h w) numbers of a feature, and the running statistics take a step towards the batch's:

        mean ← (1 - momentum) mean + momentum μ        var ← (1 - momentum) var + momentum m/(m - 1) v

    x̂ divides by the biased v, the running variance takes the unbiased one: so do Ioffe & Szegedy (algorithm 2), and PyTorch.
    Inference: μ and v are the running ones. They depend on no x, and one path is left: ∂L/∂x = g / √(var + ε).

    x, y: (n, features), or (n, features, ...) with features the channels of images (n, c, h, w) or sequences (n, c, time)
    γ, β, mean, var: (features,), start at 1, 0, 0, 1; mean and var are buffers: kept and saved, not trained
    features  of x, on axis 1
    eps       ε
    momentum  the share of the new batch, in (0, 1]
    affine    False leaves γ and β out
    Raises LayerError for an x without that many features.
    With one number of a feature (m = 1) v and x̂ are 0, nothing is learned from x, and the running variance stays: PyTorch raises there.
    Ioffe & Szegedy (2015).
    """

    keeps_features = True

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True):
        self.features = whole("BatchNorm: features", features, 1)
        self.eps = _positive("BatchNorm", eps)
        if isinstance(momentum, (str, bool)) or not 0.0 < momentum <= 1.0:
            raise ValueError(f"BatchNorm: momentum is the share of the new batch, in (0, 1], got {momentum!r}")
        self.momentum = float(momentum)
        self.gamma, self.beta = _by_channel(self.features, affine)
        self.mean, self.var = Buffer((self.features,), "zeros"), Buffer((self.features,), "ones")

    def params(self) -> dict[str, Param]:
        return _named(self.gamma, self.beta)

    def buffers(self) -> dict[str, Buffer]:
        return {"mean": self.mean, "var": self.var}

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp = ctx.xp
        shape = channels_first(x, self.features)
        wide, over = BY_CHANNEL[len(shape)]
        if ctx.training:
            m = math.prod(shape) // self.features
            xhat, back, mean, var = normalise(xp, xp.reshape(x, shape), over, self.eps)
            self._follow(ctx, self.mean, mean, 1.0)
            if m > 1:
                self._follow(ctx, self.var, var, m / (m - 1))
        else:
            like = widened(xp, x)
            mean, var = (xp.reshape(xp.astype(ctx.state[b], like.dtype, copy=False), wide) for b in (self.mean, self.var))
            rstd = _rstd(xp, var, self.eps)
            xhat = xp.astype((xp.reshape(like, shape) - mean) * rstd, x.dtype, copy=False)

            def back(g: Array) -> Array:
                return xp.astype(widened(xp, g) * rstd, x.dtype, copy=False)
        y, affine = scale_shift(xp, xhat, params, wide, over)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            g, grads = affine(xp.reshape(dy, shape))
            return (xp.reshape(back(g), x.shape) if input_grad else None), grads

        return xp.reshape(y, x.shape), backward

    def _follow(self, ctx: Context, buffer: Buffer, value: Array, factor: float) -> None:
        """A layer used twice in a network takes two steps."""
        xp, old = ctx.xp, ctx.updates.get(buffer)
        if old is None:
            old = ctx.state[buffer]
        new = xp.astype(xp.reshape(value, old.shape), old.dtype, copy=False)
        ctx.update(buffer, _running(xp, old, new, 1.0 - self.momentum, self.momentum * factor))

    def __repr__(self) -> str:
        return _written(self, [self.features], eps=self.eps, momentum=self.momentum, affine=self.gamma is not None)


@elementwise
def _running(xp: Any, old: Array, new: Array, keep: float, take: float) -> Array:
    return old * keep + new * take


class WithWeight(Layer):
    """A layer whose weight is made of other arrays before it is used. Those are parameters here, in the place of the layer's own."""

    def __init__(self, layer: Layer, weight: str):
        name = type(self).__name__
        if not isinstance(layer, Layer):
            raise TypeError(f"{name} takes a layer such as Dense(...), got {layer!r}")
        own = layer.params()
        if weight not in own:
            raise ValueError(f"{name}: {layer!r} has no parameter {weight!r} of its own, but {', '.join(own) or 'none at all'}")
        self.layer, self.weight, self.given = layer, weight, own[weight]
        self.in_features, self.out_features, self.keeps_features = layer.in_features, layer.out_features, layer.keeps_features
        self.takes_tuples = layer.takes_tuples

    def children(self) -> dict[str, Layer]:
        return {"layer": _Without(self.layer, self.weight)}

    def check_values(self, x: Any, name: str = "x") -> None:
        self.layer.check_values(x, name)

    def run(self, params: dict[str, Any], W: Array, x: Any, ctx: Context) -> tuple[Any, Any]:
        """y of the layer with W for its weight, and its backward: (dx, ∂L/∂W, the other gradients)."""
        y, back = ctx.forward("layer", self.layer, {"layer": {**params["layer"], self.weight: W}}, x)

        def backward(dy: Any, input_grad: bool) -> tuple[Any, Array, dict[str, Any]]:
            dx, grads = back(dy, input_grad)
            return dx, grads[self.weight], {name: g for name, g in grads.items() if name != self.weight}

        return y, backward

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.layer!r}{'' if self.weight == 'W' else f', weight={self.weight!r}'})"


class _Without(Layer):
    """A layer as far as its other parameters go."""

    def __init__(self, layer: Layer, weight: str):
        self.layer, self.weight = layer, weight

    def params(self) -> dict[str, Param]:
        return {name: p for name, p in self.layer.params().items() if name != self.weight}

    def buffers(self) -> dict[str, Buffer]:
        return self.layer.buffers()

    def children(self) -> dict[str, Layer]:
        return self.layer.children()

    def __repr__(self) -> str:
        return repr(self.layer)


class WeightNorm(WithWeight):
    """W = g v/‖v‖ for each output: the length and the direction of its weights are trained apart

        ∂L/∂g = Σ ∂L/∂W ⊙ v/‖v‖        ∂L/∂v = g/‖v‖ (∂L/∂W - ∂L/∂g v/‖v‖)

    ∂L/∂v has no component along v: what would only change its length is taken out.
    layer   whose weight W (d, ..., k) has the outputs on the last axis; norms and sums are over all other axes
    weight  the parameter's name in `layer`
    v starts as the layer's W would, and g: (k,) as the norms of another W that its initialiser draws: so g v/‖v‖ is distributed as W is
    (where length and direction are independent, as of a normal distribution), and an initial array is that very W.
    Raises ValueError where the layer has no such parameter, and where an output's initial weights are all 0, which have no direction.
    Salimans & Kingma (2016), eqs. 2 and 3.
    """

    def __init__(self, layer: Layer, weight: str = "W"):
        super().__init__(layer, weight)
        W = self.given

        def norms(rng: Any, shape: tuple[int, ...]) -> Any:
            drawn = W.init(rng, W.shape)
            squares = (drawn * drawn).reshape(-1, drawn.shape[-1]).sum(axis=0)
            if not squares.all():
                raise ValueError(f"WeightNorm: the initial {weight} of {layer!r} is 0 for {(squares == 0).sum()} of {squares.size} "
                                 f"outputs, and 0 has no direction: give {weight} another initialiser, such as 'glorot_uniform'")
            return squares ** 0.5

        self.g = Param(W.shape[-1:], norms)

    def params(self) -> dict[str, Param]:
        return {"g": self.g, "v": self.given}

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        xp, g, v = ctx.xp, params["g"], params["v"]
        over = tuple(range(v.ndim - 1))
        norm = xp.sqrt(sum_product(xp, v, v, over))
        direction = v / norm
        y, back = self.run(params, g * direction, x, ctx)

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dx, dW, grads = back(dy, input_grad)
            dg = sum_product(xp, dW, direction, over)
            dv = g / norm * (dW - dg * direction)
            return dx, {"g": xp.reshape(dg, g.shape), "v": dv, "layer": grads}

        return y, backward


class SpectralNorm(WithWeight):
    """W̄ = W/σ for the layer's weight, σ the largest singular value of W: no change of the input grows in it

        v = W u/‖W u‖        σ = vᵀ W u = ‖W u‖        ∂σ/∂W = v uᵀ
        ∂L/∂W = (∂L/∂W̄ - ⟨∂L/∂W̄, W̄⟩ v uᵀ) / σ

    u is a buffer, constant in the gradient. A training step hands on u ← Wᵀv/‖Wᵀv‖: one iteration of the power method, which over the steps
    turns u into the first singular vector, since W changes slowly. Until then σ is somewhat too small.
    Miyato et al. iterate first, and take σ of the new u; here σ is of the u that the step began with, so W̄ is a function of W and that
    u alone, and ∂L/∂W is its exact gradient at every step.
    layer   whose weight W (d, ..., k), read as a matrix (d ⋯, k), has the outputs on the last axis
    weight  the parameter's name in `layer`
    u: (k,), starts as a random direction
    Raises ValueError where the layer has no such parameter.
    Miyato, Kataoka, Koyama & Yoshida (2018), algorithm 1, with W transposed.
    """

    def __init__(self, layer: Layer, weight: str = "W"):
        super().__init__(layer, weight)

        def direction(rng: Any, shape: tuple[int, ...]) -> Any:
            u = rng.standard_normal(shape)
            return u / (u * u).sum() ** 0.5

        self.u = Buffer(self.given.shape[-1:], direction)

    def params(self) -> dict[str, Param]:
        return {"W": self.given}

    def buffers(self) -> dict[str, Buffer]:
        return {"u": self.u}

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        xp, given = ctx.xp, params["W"]
        W = xp.reshape(given, (-1, given.shape[-1]))
        u = xp.astype(ctx.state[self.u], W.dtype, copy=False)
        v, sigma = _unit(xp, W @ u)
        if ctx.training:
            ctx.update(self.u, xp.astype(_unit(xp, W.T @ v)[0], ctx.state[self.u].dtype, copy=False))
        W_bar = W / sigma
        y, back = self.run(params, xp.reshape(W_bar, given.shape), x, ctx)

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dx, dW_bar, grads = back(dy, input_grad)
            dW_bar = xp.reshape(dW_bar, W.shape)
            along = sum_product(xp, dW_bar, W_bar, (0, 1))
            dW = (dW_bar - along * (v[:, None] * u)) / sigma
            return dx, {"W": xp.reshape(dW, given.shape), "layer": grads}

        return y, backward


def _unit(xp: Any, a: Array) -> tuple[Array, Array]:
    """a/‖a‖ and ‖a‖, (1,); the length of a zero vector is the smallest number to divide by."""
    norm = xp.maximum(xp.sqrt(sum_product(xp, a, a, (0,))), float(xp.finfo(a.dtype).smallest_normal))
    return a / norm, norm


def scale_shift(xp: Any, xhat: Array, params: dict[str, Any], shape: tuple[int, ...], over: tuple[int, ...]) -> tuple[Array, Any]:
    """y = x̂ ⊙ γ + β with γ and β read as `shape`, and the function dy ↦ (∂L/∂x̂, grads), which sums over the axes `over`."""
    gamma, beta = params.get("gamma"), params.get("beta")
    if gamma is None:
        return xhat, lambda dy: (dy, {})
    if gamma.dtype != xhat.dtype:
        raise LayerError(f"has parameters of dtype {gamma.dtype}, got x of dtype {xhat.dtype}; convert x first")
    wide = xp.reshape(gamma, shape)
    y = xhat * wide if beta is None else _affine(xp, xhat, wide, xp.reshape(beta, shape))

    def backward(dy: Array) -> tuple[Array, dict[str, Any]]:
        grads = {"gamma": xp.reshape(sum_product(xp, dy, xhat, over), gamma.shape)}
        if beta is not None:
            grads["beta"] = xp.reshape(xp.sum(dy, axis=over), beta.shape)
        return dy * wide, grads

    return y, backward


@elementwise
def _affine(xp: Any, xhat: Array, gamma: Array, beta: Array) -> Array:
    return xhat * gamma + beta


def _written(layer: Layer, sizes: list[Any], **options: Any) -> str:
    """The layer as it is written: its sizes, and the options that are not the defaults of its class."""
    # Imported here, since it is slow to import.
    from inspect import signature

    defaults = signature(type(layer)).parameters
    shown = [f"{name}={value!r}" for name, value in options.items() if value != defaults[name].default]
    return f"{type(layer).__name__}({', '.join([*map(str, sizes), *shown])})"


def _positive(name: str, eps: float) -> float:
    if isinstance(eps, (str, bool)) or not eps > 0:
        raise ValueError(f"{name}: eps is a positive number, got {eps!r}")
    return float(eps)


def channels_first(x: Array, channels: int) -> tuple[int, ...]:
    """(n, c), or (n, c, positions) with all the axes after the channels as one."""
    if x.ndim < 2 or x.shape[1] != channels:
        raise takes(f"(batch, {channels}) or (batch, {channels}, ...)", x)
    return tuple(x.shape) if x.ndim == 2 else (*x.shape[:2], math.prod(x.shape[2:]))


# γ beside an array of `channels_first`, and the axes that its gradient is summed over, by the number of axes.
BY_CHANNEL: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {2: ((1, -1), (0,)), 3: ((1, -1, 1), (0, 2))}


def _by_channel(channels: int, affine: bool) -> tuple[Param | None, Param | None]:
    return (Param((channels,), "ones"), Param((channels,), "zeros", bias=True)) if affine else (None, None)


def _named(gamma: Param | None, beta: Param | None) -> dict[str, Param]:
    return {name: p for name, p in (("gamma", gamma), ("beta", beta)) if p is not None}

"""Activations: y = f(x) element by element, and dx = f'(x) dy. Softmax and LogSoftmax, whose outputs share a sum, come last.

Each activation says which of x and y its derivative is written in (`saves`); only that array is kept for the backward pass.
At a kink the derivative is one of the two one-sided ones, as each says: ReLU'(0) = 0, as in every large library.
Sorted by increasing complexity.
"""

import functools
import math
from typing import Any

from ..backend import HasRules, Rule, elementwise, erf, max_of, sum_of
from ..backend.special import SQRT_2, SQRT_2_PI
from ..errors import unknown
from ..initializers import constant
from ..layer import Backward, Context, Layer, Param, takes

Array = Any


class Activation(HasRules, Layer):
    """y = f(x), dx = dy · f'(x). A subclass writes `f` and `df`, and gets the layer, its fused form and the form with a bias.

    Where f and f' share most of their work, it writes `with_slope` too: in training f' is then computed beside f, and kept in x's place.
    """

    keeps_features = True
    saves = "input"                                       # what df is written in: "input" (x) or "output" (y)
    shares = False                                        # whether there is a `with_slope`
    kinks: tuple[float, ...] = ()                         # where f has no derivative

    def f(self, xp: Any, x: Array) -> Array:
        """The formula."""
        raise NotImplementedError

    def df(self, xp: Any, dy: Array, s: Array) -> Array:
        """dy · f'(x), from s = x or y as `saves` says."""
        raise NotImplementedError

    def with_slope(self, xp: Any, x: Array) -> tuple[Array, Array]:
        """f(x) and f'(x)."""
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        if {"f", "df"} & set(vars(cls)) and "with_slope" not in vars(cls):   # another formula than its parent's
            cls.shares = False

    @functools.cached_property
    def rule(self) -> Rule:
        """f as one rule."""
        def rule(xp: Any, x: Array) -> Array:
            return self.f(xp, x)

        rule.__name__ = f"{type(self).__name__.lower()}"
        return Rule(rule)

    @functools.cached_property
    def bias_rule(self) -> Rule:
        """z += b, then f(z), as one rule, for `Dense(..., activation=)`: z is the caller's own."""
        def rule(xp: Any, z: Array, b: Array) -> Array:
            z += b
            return self.f(xp, z)

        rule.__name__ = f"bias_{type(self).__name__.lower()}"
        return Rule(rule)

    @functools.cached_property
    def backward_rule(self) -> Rule:
        """dy · f' as one rule."""
        def rule(xp: Any, dy: Array, s: Array) -> Array:
            return self.df(xp, dy, s)

        rule.__name__ = f"{type(self).__name__.lower()}_backward"
        return Rule(rule)

    @functools.cached_property
    def slope_rule(self) -> Rule:
        """f and f' as one rule."""
        def rule(xp: Any, x: Array) -> tuple[Array, Array]:
            return self.with_slope(xp, x)

        rule.__name__ = f"{type(self).__name__.lower()}_slope"
        return Rule(rule)

    @functools.cached_property
    def bias_slope_rule(self) -> Rule:
        """z += b, then f(z) and f'(z), as one rule."""
        def rule(xp: Any, z: Array, b: Array) -> tuple[Array, Array]:
            z += b
            return self.with_slope(xp, z)

        rule.__name__ = f"bias_{type(self).__name__.lower()}_slope"
        return Rule(rule)

    def run(self, xp: Any, x: Array, training: bool, b: Array | None = None) -> tuple[Array, Backward]:
        """y = f(x), or y = f(x + b), which leaves x + b in x, the caller's own; and its backward."""
        slope = None
        if self.shares and training:
            y, slope = self.slope_rule(xp, x) if b is None else self.bias_slope_rule(xp, x, b)
        else:
            y = self.rule(xp, x) if b is None else self.bias_rule(xp, x, b)
        s = x if self.saves == "input" else y

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            if not input_grad:
                return None, {}
            return (self.backward_rule(xp, dy, s) if slope is None else dy * slope), {}

        return y, backward

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        return self.run(ctx.xp, x, ctx.training)


class Identity(Activation):
    """f(x) = x        f'(x) = 1"""

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        return x, lambda dy, input_grad=True: (dy if input_grad else None, {})

    def f(self, xp: Any, x: Array) -> Array:
        return 1.0 * x                                    # a new array, not x itself

    def df(self, xp: Any, dy: Array, s: Array) -> Array:
        return 1.0 * dy


class ReLU(Activation):
    """f(x) = max(x, 0)        f'(x) = [x > 0], and 0 at 0

    Nair & Hinton (2010). The derivative is written in y, since y > 0 just where x > 0.
    """

    saves = "output"
    kinks = (0.0,)

    def f(self, xp: Any, x: Array) -> Array:
        return xp.maximum(x, 0.0)

    def df(self, xp: Any, dy: Array, y: Array) -> Array:
        return dy * xp.astype(y > 0.0, dy.dtype)          # a product with the mask: `where` is ten times slower on NumPy


class LeakyReLU(Activation):
    """f(x) = max(x, 0) + α min(x, 0)        f'(x) = 1 if x > 0, else α

    alpha: the slope below 0, 0.01 by default. Maas, Hannun & Ng (2013).
    """

    kinks = (0.0,)

    def __init__(self, alpha: float = 0.01):
        self.alpha = float(alpha)

    def f(self, xp: Any, x: Array) -> Array:
        return xp.maximum(x, 0.0) + self.alpha * xp.minimum(x, 0.0)

    def df(self, xp: Any, dy: Array, x: Array) -> Array:
        return dy * (self.alpha + (1.0 - self.alpha) * xp.astype(x > 0.0, dy.dtype))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.alpha:g})"


class Sigmoid(Activation):
    """f(x) = σ(x) = 1 / (1 + e⁻ˣ)        f'(x) = y (1 - y)

    The exponent is held below the largest whose exponential is finite.
    """

    saves = "output"

    def f(self, xp: Any, x: Array) -> Array:
        return sigmoid(xp, x)

    def df(self, xp: Any, dy: Array, y: Array) -> Array:
        return dy * (y * (1.0 - y))


class Tanh(Activation):
    """f(x) = tanh x = 2σ(2x) - 1        f'(x) = 1 - y²"""

    saves = "output"

    def f(self, xp: Any, x: Array) -> Array:
        return xp.tanh(x)

    def df(self, xp: Any, dy: Array, y: Array) -> Array:
        return dy * (1.0 - y * y)


class Softplus(Activation):
    """f(x) = ln(1 + eˣ) = max(x, 0) + ln(1 + e⁻|ˣ|)        f'(x) = σ(x)

    The second form never exponentiates a positive number. Dugas et al. (2001).
    """

    def f(self, xp: Any, x: Array) -> Array:
        return softplus(xp, x)

    def df(self, xp: Any, dy: Array, x: Array) -> Array:
        return dy * sigmoid(xp, x)


class ELU(Activation):
    """f(x) = x if x > 0, else α (eˣ - 1)        f'(x) = 1 if x > 0, else α eˣ

    alpha: minus the limit at -∞, 1 by default. Clevert, Unterthiner & Hochreiter (2016).
    With α = 1 there is no kink at 0.
    """

    def __init__(self, alpha: float = 1.0):
        self.alpha = float(alpha)
        self.kinks = () if self.alpha == 1.0 else (0.0,)

    def f(self, xp: Any, x: Array) -> Array:
        return xp.maximum(x, 0.0) + self.alpha * xp.expm1(xp.minimum(x, 0.0))

    def df(self, xp: Any, dy: Array, x: Array) -> Array:
        positive = xp.astype(x > 0.0, dy.dtype)
        return dy * (positive + (1.0 - positive) * (self.alpha * xp.exp(xp.minimum(x, 0.0))))

    def __repr__(self) -> str:
        return f"ELU({self.alpha:g})"


class SELU(ELU):
    """f(x) = λ ELU(x; α), λ = 1.0507…, α = 1.6733…        f'(x) = λ ELU'(x; α)

    The two constants make zero mean and unit variance a fixed point of the layer map.
    Klambauer, Unterthiner, Mayr & Hochreiter (2017), eq. 2. Use with `lecun_normal`.
    """

    scale = 1.0507009873554804934193349852946

    def __init__(self) -> None:
        super().__init__(1.6732632423543772848170429916717)

    def f(self, xp: Any, x: Array) -> Array:
        return self.scale * super().f(xp, x)

    def df(self, xp: Any, dy: Array, x: Array) -> Array:
        return self.scale * super().df(xp, dy, x)

    def __repr__(self) -> str:
        return "SELU()"


class HardSigmoid(Activation):
    """f(x) = min(max(x/6 + 1/2, 0), 1)        f'(x) = 1/6 for -3 < x < 3, else 0"""

    kinks = (-3.0, 3.0)

    def f(self, xp: Any, x: Array) -> Array:
        return xp.minimum(xp.maximum(x * (1.0 / 6.0) + 0.5, 0.0), 1.0)

    def df(self, xp: Any, dy: Array, x: Array) -> Array:
        return dy * ((1.0 / 6.0) * xp.astype(xp.abs(x) < 3.0, dy.dtype))


class HardSwish(Activation):
    """f(x) = x · min(max(x/6 + 1/2, 0), 1)        f'(x) = 0 for x ≤ -3, x/3 + 1/2 for |x| < 3, 1 for x ≥ 3

    Howard et al. (2019), "Searching for MobileNetV3".
    """

    kinks = (-3.0, 3.0)

    def f(self, xp: Any, x: Array) -> Array:
        return x * xp.minimum(xp.maximum(x * (1.0 / 6.0) + 0.5, 0.0), 1.0)

    def df(self, xp: Any, dy: Array, x: Array) -> Array:
        inside = xp.minimum(xp.maximum(x, -3.0), 3.0)     # at ±3 the middle branch is -1/2 and 3/2: mask the outside
        middle = xp.astype(xp.abs(x) < 3.0, dy.dtype)
        return dy * (middle * (inside * (1.0 / 3.0) + 0.5) + xp.astype(x >= 3.0, dy.dtype))


class SiLU(Activation):
    """f(x) = x σ(x)        f'(x) = σ(x) (1 + x (1 - σ(x)))

    Elfwing, Uchibe & Doya (2018); also called swish.
    """

    shares = True

    def f(self, xp: Any, x: Array) -> Array:
        return x * sigmoid(xp, x)

    def df(self, xp: Any, dy: Array, x: Array) -> Array:
        return dy * self.with_slope(xp, x)[1]

    def with_slope(self, xp: Any, x: Array) -> tuple[Array, Array]:
        s = sigmoid(xp, x)
        return x * s, s * (1.0 + x * (1.0 - s))


class GELU(Activation):
    """f(x) = x Φ(x), Φ(x) = ½ (1 + erf(x/√2))        f'(x) = Φ(x) + x φ(x), φ(x) = e^(-x²/2) / √(2π)

    approximate="tanh": Φ(x) ≈ ½ (1 + tanh u), u = √(2/π) (x + 0.044715 x³), and
    f'(x) = ½ (1 + tanh u) + ½ x (1 - tanh² u) u', u' = √(2/π) (1 + 3·0.044715 x²).
    Hendrycks & Gimpel (2016).
    """

    shares = True

    def __init__(self, approximate: str = "none"):
        if approximate not in ("none", "tanh"):
            raise unknown("GELU approximation", approximate, ("none", "tanh"))
        self.approximate = approximate

    def f(self, xp: Any, x: Array) -> Array:
        if self.approximate == "none":
            return x * (0.5 * (1.0 + erf(xp, x * (1.0 / SQRT_2))))
        return x * (0.5 * (1.0 + xp.tanh(_ROOT_2_OVER_PI * (x + 0.044715 * (x * x * x)))))

    def df(self, xp: Any, dy: Array, x: Array) -> Array:
        return dy * self.with_slope(xp, x)[1]

    def with_slope(self, xp: Any, x: Array) -> tuple[Array, Array]:
        if self.approximate == "none":
            cdf = 0.5 * (1.0 + erf(xp, x * (1.0 / SQRT_2)))
            bounded = xp.minimum(xp.maximum(x, -40.0), 40.0)   # φ is 0 there, and x² stays finite
            return x * cdf, cdf + x * (xp.exp(-0.5 * (bounded * bounded)) * (1.0 / SQRT_2_PI))
        t = xp.tanh(_ROOT_2_OVER_PI * (x + 0.044715 * (x * x * x)))
        cdf = 0.5 * (1.0 + t)
        return x * cdf, cdf + (0.5 * x) * ((1.0 - t * t) * (_ROOT_2_OVER_PI * (1.0 + 3 * 0.044715 * (x * x))))

    def __repr__(self) -> str:
        return "GELU()" if self.approximate == "none" else "GELU('tanh')"


class PReLU(Layer):
    """y = max(x, 0) + a min(x, 0), with a trained slope a for each feature (or one for all)

        ∂L/∂x = ∂L/∂y · (1 if x > 0, else a)        ∂L/∂a = Σₙ ∂L/∂y · min(x, 0)

    x: (..., features)    a: (features,), or (1,) where features is None
    He, Zhang, Ren & Sun (2015), eq. 1; a starts at 0.25 there and here.
    """

    keeps_features = True
    kinks = (0.0,)

    def __init__(self, features: int | None = None, init: Any = None):
        self.features = features
        self.in_features = self.out_features = features
        self.a = Param((features or 1,), constant(0.25) if init is None else init)

    def params(self) -> dict[str, Param]:
        return {"a": self.a}

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, a = ctx.xp, params["a"]
        if self.features is not None and x.shape[-1] != self.features:
            raise takes(f"(..., {self.features})", x)
        y = _prelu(xp, x, a)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            da = dy * xp.minimum(x, 0.0)
            da = xp.sum(xp.reshape(da, (-1, a.shape[0])), axis=0)
            return (_prelu_backward(xp, dy, x, a) if input_grad else None), {"a": da}

        return y, backward

    def __repr__(self) -> str:
        return f"PReLU({self.features or ''})"


class Softmax(Layer):
    """yₖ = e^(xₖ) / Σⱼ e^(xⱼ), over the last axis

        ∂yₖ/∂xⱼ = yₖ (δₖⱼ - yⱼ)    so    ∂L/∂x = y ⊙ (∂L/∂y - Σₖ yₖ ∂L/∂yₖ)

    The maximum is subtracted first: it cancels, and no exponential overflows. For training a classifier use
    SoftmaxCrossEntropy on the logits instead, whose gradient is y - t.
    Bridle (1990).
    """

    keeps_features = True

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp = ctx.xp
        y = xp.exp(x - max_of(xp, x, axis=-1, keepdims=True))
        y /= sum_of(xp, y, axis=-1, keepdims=True)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            if not input_grad:
                return None, {}
            return y * (dy - sum_of(xp, y * dy, axis=-1, keepdims=True)), {}

        return y, backward


class LogSoftmax(Layer):
    """yₖ = xₖ - ln Σⱼ e^(xⱼ), over the last axis

        ∂yₖ/∂xⱼ = δₖⱼ - softmax(x)ⱼ    so    ∂L/∂x = ∂L/∂y - softmax(x) Σₖ ∂L/∂yₖ
    """

    keeps_features = True

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp = ctx.xp
        y = x - max_of(xp, x, axis=-1, keepdims=True)
        y -= xp.log(sum_of(xp, xp.exp(y), axis=-1, keepdims=True))

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            if not input_grad:
                return None, {}
            return dy - xp.exp(y) * sum_of(xp, dy, axis=-1, keepdims=True), {}

        return y, backward


_ROOT_2_OVER_PI = math.sqrt(2.0 / math.pi)


def sigmoid(xp: Any, x: Array) -> Array:
    """1 / (1 + e⁻ˣ) with the exponent held where its exponential is finite and the quotient is a normal number."""
    largest = math.floor(math.log(float(xp.finfo(x.dtype).max))) - 2.0
    return 1.0 / (1.0 + xp.exp(-xp.maximum(x, -largest)))


def softplus(xp: Any, x: Array) -> Array:
    """ln(1 + eˣ) without overflow."""
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))


@elementwise
def _prelu(xp: Any, x: Array, a: Array) -> Array:
    return xp.maximum(x, 0.0) + a * xp.minimum(x, 0.0)


@elementwise
def _prelu_backward(xp: Any, dy: Array, x: Array, a: Array) -> Array:
    positive = xp.astype(x > 0.0, dy.dtype)
    return dy * (positive + (1.0 - positive) * a)


NAMES: dict[str, type[Layer]] = {
    "identity": Identity, "relu": ReLU, "leaky_relu": LeakyReLU, "prelu": PReLU, "sigmoid": Sigmoid, "tanh": Tanh,
    "softplus": Softplus, "elu": ELU, "selu": SELU, "gelu": GELU, "silu": SiLU, "hard_sigmoid": HardSigmoid,
    "hard_swish": HardSwish, "softmax": Softmax, "log_softmax": LogSoftmax}


def get_activation(activation: Any) -> Layer | None:
    """An activation from itself, its name, or None."""
    if activation is None or isinstance(activation, Layer):
        return activation
    if isinstance(activation, str):
        if activation not in NAMES:
            raise unknown("activation", activation, NAMES)
        return NAMES[activation]()
    if isinstance(activation, type) and issubclass(activation, Layer):
        raise TypeError(f"activation={activation.__name__} is a class; write activation={activation.__name__}()")
    raise TypeError(f"activation takes a layer such as ReLU(), or its name, got {activation!r}")

"""Losses: `loss_fn(prediction, target) -> (L, ∂L/∂prediction)`.

Each docstring says which variable the gradient is with respect to: a loss named after logits takes logits, and there is no softmax or
sigmoid in front of it.

`reduction` says how the losses of samples and outputs become one number. With n samples and k outputs:

| reduction | L | who writes it so |
|---|---|---|
| "mean" | 1/(nk) Σₙ Σₖ ℓ | PyTorch's MSELoss; scikit-learn's mean_squared_error |
| "batch_mean" | 1/n Σₙ Σₖ ℓ | most lectures for vector outputs |
| "sum" | Σₙ Σₖ ℓ | PyTorch with reduction="sum"; Schiendorfer |
| "half_sum" | ½ Σₙ Σₖ ℓ | Mazur; Rumelhart, Hinton & Williams |
| "half_batch_mean" | 1/(2n) Σₙ Σₖ ℓ | Ng's 1/(2m) Σ; Nielsen |
| "half_mean" | 1/(2nk) Σₙ Σₖ ℓ | scikit-learn's MLPRegressor |

For a loss over classes (softmax cross-entropy, KL divergence, multi-class hinge) the classes are not k outputs but one answer, so
"mean" is 1/n Σₙ, as in CS231n and PyTorch's CrossEntropyLoss.

Sample weights w (n,) multiply each sample's loss; the means then divide by Σw instead of n: a weight of 2 is the sample twice.
Sorted by increasing complexity.
"""

import functools
import math
from typing import Any

from .backend import HasRules, Rule, elementwise, namespace, sum_of
from .errors import unknown
from .layers.activations import sigmoid, softplus

Array = Any
REDUCTIONS = ("mean", "batch_mean", "sum", "half_mean", "half_batch_mean", "half_sum")


class Loss:
    """A map from (prediction, target) to (L, ∂L/∂prediction). Subclasses write `value_and_grad`."""

    link = "identity"                                     # what makes the quantity modelled of the prediction
    kinks = False                                         # whether there are points without a derivative

    def __init__(self, reduction: str = "mean"):
        if reduction not in REDUCTIONS:
            raise unknown("reduction", reduction, REDUCTIONS)
        self.reduction = reduction
        self._fits: Any = None                            # shapes and dtypes that have been checked

    def __call__(self, y: Array, t: Array, weights: Array | None = None) -> tuple[Array, Array]:
        """(L, ∂L/∂y). y: (n, ...)    t: as the loss says    weights: (n,) or None.

        L is a 0-d array that stays on the device. Raises ValueError for shapes that do not fit, TypeError for dtypes.
        """
        xp = namespace(y)
        kind = (type(y), type(t), y.shape, y.dtype, t.shape, t.dtype, *((weights.shape, weights.dtype) if weights is not None else ()))
        if kind != self._fits:                            # once for each kind of batch, not at every step
            self._check_all(xp, y, t, weights)
            self._fits = kind
        return self.value_and_grad(xp, y, t, weights)

    def _check_all(self, xp: Any, y: Array, t: Array, weights: Array | None) -> None:
        if y.ndim < 1 or 0 in y.shape:
            raise ValueError(f"{type(self).__name__} takes a prediction of shape (n, ...), not empty, got {tuple(y.shape)}")
        self.check(xp, y, t)
        if weights is not None:
            if tuple(weights.shape) != tuple(y.shape[:1]):
                raise ValueError(f"sample weights have shape ({y.shape[0]},), one a sample, got {tuple(weights.shape)}")
            if weights.dtype != y.dtype:                  # float64 weights would make a float32 gradient float64
                raise TypeError(f"sample weights have the prediction's dtype {y.dtype}, got {weights.dtype}")

    def check(self, xp: Any, y: Array, t: Array) -> None:
        """Shapes and dtypes, known without waiting for the device."""
        if t.shape != y.shape:
            hint = f"; reshape the target to {tuple(y.shape)}" if math.prod(t.shape) == math.prod(y.shape) else ""
            raise ValueError(f"{type(self).__name__} takes a target of the prediction's shape {tuple(y.shape)}, "
                             f"got {tuple(t.shape)}{hint}")
        if t.dtype != y.dtype:
            raise TypeError(f"{type(self).__name__} takes a target of the prediction's dtype {y.dtype}, got {t.dtype}; "
                            "model.asarray(t) casts floating numbers")

    def takes_classes(self, y: Array, t: Array) -> bool:
        """Is t integer classes, for this loss and predictions y?"""
        return False

    def check_values(self, t: Any, name: str = "t") -> None:
        """Raise ValueError where real targets t, on the host, are none that this loss is for. (Labels: `check_labels`.)"""

    def mass(self, xp: Any, y: Array, t: Array, weights: Array | None) -> Any:
        """What the mean divides by, but for constants: n, Σw, or Σ w v of each sample's class; 1 for a sum. Of y it reads the shape only.

        The loss over all samples is Σ mass · L of the batches, over Σ mass; for a sum it is Σ L.
        """
        if self.reduction.endswith("sum"):
            return 1.0
        return float(y.shape[0]) if weights is None else xp.sum(weights)

    def value_and_grad(self, xp: Any, y: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        raise NotImplementedError

    def scale(self, xp: Any, n: int, k: int, weights: Array | None) -> Any:
        """The factor of each sample's loss: a number, or with sample weights an array (n,)."""
        factor = 0.5 if self.reduction.startswith("half_") else 1.0
        kind = self.reduction.removeprefix("half_")
        outputs = k if kind == "mean" else 1
        if weights is None:
            return factor / (1 if kind == "sum" else n * outputs)
        return weights * factor if kind == "sum" else weights * (factor / outputs) / nonzero(xp, xp.sum(weights))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()" if self.reduction == "mean" else f"{type(self).__name__}({self.reduction!r})"


class ElementwiseLoss(HasRules, Loss):
    """L = Σ s ℓ(y, t) with s from the reduction. A subclass writes `rule(xp, y, t) -> (ℓ, ∂ℓ/∂y)`, element by element."""

    @functools.cached_property
    def scaled(self) -> Rule:
        """(s ℓ, s ∂ℓ/∂y) as one rule."""
        def scaled(xp: Any, y: Array, t: Array, s: Any) -> tuple[Array, Array]:
            loss, grad = self.rule(xp, y, t)
            return loss * s, grad * s

        scaled.__name__ = type(self).__name__.lower()
        return Rule(scaled)

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        raise NotImplementedError

    def value_and_grad(self, xp: Any, y: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        n = y.shape[0]
        s = self.scale(xp, n, math.prod(y.shape[1:]), weights)
        if weights is not None:
            s = xp.reshape(s, (n,) + (1,) * (y.ndim - 1))
        loss, dy = self.scaled(xp, y, t, s)
        return sum_of(xp, loss), dy


class MeanSquaredError(ElementwiseLoss):
    """ℓ = (y - t)²        ∂ℓ/∂y = 2 (y - t)

    Gradient with respect to the prediction y. With reduction="half_sum" it is the textbook's ½Σ(t - o)², whose gradient is y - t.
    """

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        r = y - t
        return r * r, 2.0 * r


class MeanAbsoluteError(ElementwiseLoss):
    """ℓ = |y - t|        ∂ℓ/∂y = sign(y - t), and 0 at 0

    Gradient with respect to the prediction y. The minimum is the conditional median.
    """

    kinks = True

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        r = y - t
        return xp.abs(r), xp.sign(r)


class Huber(ElementwiseLoss):
    """ℓ = ½ r² for |r| ≤ δ, else δ (|r| - ½ δ), with r = y - t        ∂ℓ/∂y = c, c = min(max(r, -δ), δ)

    In one formula, ℓ = c (r - ½ c). Gradient with respect to the prediction y. Huber (1964).
    """

    def __init__(self, delta: float = 1.0, reduction: str = "mean"):
        super().__init__(reduction)
        if isinstance(delta, str) or not delta > 0:
            raise ValueError(f"Huber: delta is a positive number, got {delta!r}")
        self.delta = float(delta)

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        r = y - t
        c = xp.minimum(xp.maximum(r, -self.delta), self.delta)
        return c * (r - 0.5 * c), c


class LogCosh(ElementwiseLoss):
    """ℓ = ln cosh r = |r| + ln(1 + ½(e^(-2|r|) - 1)), with r = y - t        ∂ℓ/∂y = tanh r

    In this form neither a large r overflows, nor a small one cancels against ln 2. Gradient with respect to the prediction y. About ½ r²
    near 0, and |r| - ln 2 far from it.
    """

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        r = y - t
        a = xp.abs(r)
        return a + xp.log1p(0.5 * xp.expm1(-2.0 * a)), xp.tanh(r)


class Poisson(ElementwiseLoss):
    """ℓ = eᶻ - t z        ∂ℓ/∂z = eᶻ - t

    The negative log-likelihood of a count t with rate λ = eᶻ, without the constant ln t!. Gradient with respect to the *log-rate* z.
    Unlike the other losses this one overflows for large predictions, as eᶻ does: in float32 from z = 88.7 on.
    """

    link = "exp"

    def check_values(self, t: Any, name: str = "t") -> None:
        if t.min() < 0:
            raise ValueError(f"{name} holds counts from 0 on for {self!r}, got values from {t.min():g}")

    def rule(self, xp: Any, z: Array, t: Array) -> tuple[Array, Array]:
        rate = xp.exp(z)
        return rate - t * z, rate - t


class Hinge(ElementwiseLoss):
    """ℓ = max(0, 1 - t y), t ∈ {-1, 1}        ∂ℓ/∂y = -t [t y < 1]

    Gradient with respect to the score y. Binary; Cortes & Vapnik (1995).
    """

    link = "sign"
    kinks = True

    def check_values(self, t: Any, name: str = "t") -> None:
        if (abs(t) != 1).any():
            raise ValueError(f"{name} holds -1 and 1 for {self!r}, got values from {t.min():g} to {t.max():g}; for 0 and 1 write 2 * t - 1")

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        margin = 1.0 - t * y
        return xp.maximum(margin, 0.0), -t * xp.astype(margin > 0.0, y.dtype)


class BinaryCrossEntropy(ElementwiseLoss):
    """ℓ = -t ln σ(z) - (1 - t) ln(1 - σ(z)) = max(z, 0) - t z + ln(1 + e⁻|ᶻ|)        ∂ℓ/∂z = σ(z) - t

    On logits: gradient with respect to the *logit* z, not the probability σ(z). Several outputs are several yes-or-no questions.
    t: probabilities in [0, 1], of z's shape
    pos_weight: a factor p of the positive term, ℓ = -p t ln σ(z) - (1 - t) ln(1 - σ(z)), for rare positives
    """

    link = "sigmoid"

    def __init__(self, reduction: str = "mean", pos_weight: float = 1.0):
        super().__init__(reduction)
        if not pos_weight > 0:
            raise ValueError(f"pos_weight is a positive number, got {pos_weight!r}")
        self.pos_weight = float(pos_weight)

    def check_values(self, t: Any, name: str = "t") -> None:
        if t.min() < 0 or t.max() > 1:
            raise ValueError(f"{name} holds probabilities in [0, 1] for {self!r}, got values from {t.min():g} to {t.max():g}")

    def rule(self, xp: Any, z: Array, t: Array) -> tuple[Array, Array]:
        if self.pos_weight == 1.0:
            return softplus(xp, z) - t * z, sigmoid(xp, z) - t
        p = self.pos_weight - 1.0
        # -p t ln σ(z) = p t softplus(-z), and softplus(z) = softplus(-z) + z
        return (softplus(xp, z) - t * z) + p * t * softplus(xp, -z), (sigmoid(xp, z) - t) - p * t * sigmoid(xp, -z)


class ClassLoss(Loss):
    """A loss over classes, on the last axis: "mean" is over the samples (and any axes between)."""

    def check(self, xp: Any, y: Array, t: Array) -> None:
        if y.ndim < 2:
            raise ValueError(f"{type(self).__name__} takes a prediction of shape (n, classes), got {tuple(y.shape)}")
        super().check(xp, y, t)

    def rows(self, xp: Any, y: Array, weights: Array | None) -> Any:
        """The scale of each row, shaped to broadcast over the classes."""
        between = math.prod(y.shape[1:-1])
        s = self.scale(xp, y.shape[0], between, weights)
        return s if weights is None else xp.reshape(s, (y.shape[0],) + (1,) * (y.ndim - 1))


class KLDivergence(ClassLoss):
    """ℓ = Σₖ tₖ (ln tₖ - yₖ)        ∂ℓ/∂y = -t

    KL(t ‖ p) for *log-probabilities* y = ln p (a LogSoftmax's output); gradient with respect to y. t: probabilities, 0 ln 0 = 0.
    """

    link = "exp"

    def check_values(self, t: Any, name: str = "t") -> None:
        check_distributions(self, t, name)

    def value_and_grad(self, xp: Any, y: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        loss, dy = _kl_rule(xp, y, t, self.rows(xp, y, weights))
        return sum_of(xp, loss), dy


class MulticlassHinge(ClassLoss):
    """ℓ = Σ_{j≠c} max(0, y_j - y_c + 1), c the target class
        ∂ℓ/∂y_j = [y_j - y_c + 1 > 0]  (j ≠ c)        ∂ℓ/∂y_c = -Σ_{j≠c} [y_j - y_c + 1 > 0]

    Gradient with respect to the scores y: (n, k). t: (n,) integer classes. Weston & Watkins (1999); CS231n's SVM loss.
    """

    kinks = True

    def takes_classes(self, y: Array, t: Array) -> bool:
        return True

    def check(self, xp: Any, y: Array, t: Array) -> None:
        check_classes(self, xp, y, t)

    def value_and_grad(self, xp: Any, y: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        s = self.rows(xp, y, weights)
        hit = one_hot(xp, t, y)
        margin = (y - xp.sum(y * hit, axis=-1, keepdims=True) + 1.0) * (1.0 - hit)
        above = xp.astype(margin > 0.0, y.dtype)
        dy = (above - hit * xp.sum(above, axis=-1, keepdims=True)) * s
        return xp.sum(margin * above * s), dy


class SoftmaxCrossEntropy(ClassLoss):
    """ℓ = -Σₖ qₖ ln pₖ, p = softmax(z)        ∂ℓ/∂z = p - q

    On logits: gradient with respect to the *logits* z: (n, ..., k), not the probabilities p. With a single class c it is
    ℓ = ln Σⱼ e^(zⱼ) - z_c; the maximum of z is subtracted first, which cancels and keeps every exponential below 1.

    t                integer classes (n, ...), or probabilities of z's shape (one-hot or soft)
    label_smoothing  ε: q = (1 - ε) t + ε/k. Szegedy et al. (2016)
    class_weights    v (k,): ℓ = -Σₖ vₖ qₖ ln pₖ, with ∂ℓ/∂z = (Σₖ vₖ qₖ) p - v ⊙ q. The mean then divides by Σₙ v of each
                     sample's class for integer targets, and by n for probabilities, as PyTorch does.
    """

    link = "softmax"

    def __init__(self, reduction: str = "mean", label_smoothing: float = 0.0, class_weights: Any = None):
        super().__init__(reduction)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is in [0, 1), got {label_smoothing!r}")
        self.label_smoothing = float(label_smoothing)
        self.class_weights = None if class_weights is None else numbers_from_0("class_weights", class_weights)
        self._made: dict[Any, Array] = {}

    def takes_classes(self, y: Array, t: Array) -> bool:
        return t.ndim < y.ndim

    def check_values(self, t: Any, name: str = "t") -> None:
        check_distributions(self, t, name)

    def mass(self, xp: Any, y: Array, t: Array, weights: Array | None) -> Any:
        if self.class_weights is None or not self.takes_classes(y, t) or self.reduction.endswith("sum"):
            return super().mass(xp, y, t, weights)
        return xp.sum(self._of_sample(xp, y, t, weights))

    def _of_sample(self, xp: Any, z: Array, t: Array, weights: Array | None) -> Array:
        """w v of each sample's class, (n, ..., 1)."""
        hit = xp.astype(t[..., None] == self._classes(xp, z, t), z.dtype)
        v = xp.sum(hit * self._class_weights(xp, z), axis=-1, keepdims=True)
        return v if weights is None else v * xp.reshape(weights, (-1,) + (1,) * (z.ndim - 1))

    def check(self, xp: Any, y: Array, t: Array) -> None:
        if self.class_weights is not None and len(self.class_weights) != y.shape[-1]:
            raise ValueError(f"class_weights has {len(self.class_weights)} entries for {y.shape[-1]} classes")
        if xp.isdtype(t.dtype, "real floating") and t.ndim == y.ndim:
            super().check(xp, y, t)
        else:
            check_classes(self, xp, y, t)

    def value_and_grad(self, xp: Any, z: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        s = self.rows(xp, z, weights)
        z_shifted, e = _shifted_exp(xp, z, xp.max(z, axis=-1, keepdims=True))
        total = xp.sum(e, axis=-1, keepdims=True)
        classes = t.ndim < z.ndim
        if classes and not self.label_smoothing and self.class_weights is None:
            loss, dz = _class_rule(xp, z_shifted, e, total, t[..., None], self._classes(xp, z, t), s)
            return sum_of(xp, loss), dz

        q = xp.astype(t[..., None] == self._classes(xp, z, t), z.dtype) if classes else t
        v = None
        if self.class_weights is not None:
            v = self._class_weights(xp, z)
            if classes and self.reduction.endswith("mean"):   # divide by Σ w v of each sample's class, not by Σ w
                w = xp.sum(weights) * math.prod(z.shape[1:-1]) if weights is not None else float(math.prod(z.shape[:-1]))
                s = s * (w / nonzero(xp, xp.sum(self._of_sample(xp, z, t, weights))))
        if self.label_smoothing:
            q = (1.0 - self.label_smoothing) * q + self.label_smoothing / z.shape[-1]
        a = q if v is None else q * v
        loss, dz = _soft_rule(xp, z_shifted, e, total, a, xp.sum(a, axis=-1, keepdims=True), s)
        return sum_of(xp, loss), dz

    def _classes(self, xp: Any, z: Array, t: Array) -> Array:
        """0 … k-1, made once: what an integer target is compared with."""
        return self._once(z, t.dtype, lambda: class_numbers(xp, t, z))

    def _class_weights(self, xp: Any, z: Array) -> Array:
        return self._once(z, z.dtype, lambda: xp.asarray(self.class_weights, dtype=z.dtype, device=z.device))

    def _once(self, z: Array, dtype: Any, make: Any) -> Array:
        key = (type(z), z.shape[-1], dtype)
        made = self._made.get(key)
        if made is None or made.device != z.device:
            made = self._made[key] = make()
        return made


@elementwise
def _kl_rule(xp: Any, y: Array, t: Array, s: Any) -> tuple[Array, Array]:
    smallest = float(xp.finfo(t.dtype).smallest_normal)
    return t * (xp.log(xp.maximum(t, smallest)) - y) * s, -t * s


@elementwise
def _shifted_exp(xp: Any, z: Array, m: Array) -> tuple[Array, Array]:
    z = z - m
    return z, xp.exp(z)


@elementwise
def _class_rule(xp: Any, z: Array, e: Array, total: Array, t: Array, classes: Array, s: Any) -> tuple[Array, Array]:
    """z is shifted: ℓ = Σₖ [k = t] (ln Σe - z),    ∂ℓ/∂z = e/Σe - [k = t]."""
    hit = xp.astype(t == classes, z.dtype)
    return hit * (xp.log(total) - z) * s, (e / total - hit) * s


@elementwise
def _soft_rule(xp: Any, z: Array, e: Array, total: Array, a: Array, a_sum: Array, s: Any) -> tuple[Array, Array]:
    """z is shifted: ℓ = Σₖ aₖ (ln Σe - zₖ),    ∂ℓ/∂z = (Σₖ aₖ) e/Σe - a."""
    return a * (xp.log(total) - z) * s, (a_sum * (e / total) - a) * s


def class_numbers(xp: Any, t: Array, y: Array) -> Array:
    """0 … k-1 in the target's dtype, for the k classes of y."""
    k, largest = y.shape[-1], xp.iinfo(t.dtype).max
    if k - 1 > largest:                                   # the numbers would wrap, and two classes be one
        raise ValueError(f"labels of dtype {t.dtype} count to {largest}, too few for {k} classes; use a wider dtype")
    return xp.arange(k, dtype=t.dtype, device=y.device)


def nonzero(xp: Any, total: Array) -> Array:
    """A sum of weights to divide by: where it is 0, every term is, and their mean is 0."""
    return xp.maximum(total, xp.full_like(total, float(xp.finfo(total.dtype).smallest_normal) * 2.0 ** 27))


def numbers_from_0(name: str, values: Any) -> list[float]:
    if isinstance(values, (str, dict)):
        raise TypeError(f"{name} is a list with a number for each class, in their order, got {values!r}")
    numbers = [float(v) for v in values]
    if not all(0.0 <= v < math.inf for v in numbers) or not sum(numbers) > 0:
        raise ValueError(f"{name} holds numbers from 0 on, not all of them 0, got {numbers}")
    return numbers


def check_distributions(loss: Loss, t: Any, name: str) -> None:
    """Probabilities over the last axis, that sum to 1."""
    sums = t.sum(axis=-1)
    if t.min() < 0 or abs(sums - 1).max() > 1e-3:
        raise ValueError(f"{name} holds probabilities that sum to 1 over the classes for {loss!r}, got values from {t.min():g} and sums "
                         f"from {sums.min():g} to {sums.max():g}")


def one_hot(xp: Any, t: Array, y: Array) -> Array:
    """[k = t] in y's dtype, over a new last axis of y's number of classes."""
    return xp.astype(t[..., None] == class_numbers(xp, t, y), y.dtype)


def check_classes(loss: Loss, xp: Any, y: Array, t: Array) -> None:
    """Integer classes: one for each row of y. (Their range is checked on the host, where data enters.)"""
    name = type(loss).__name__
    if y.ndim < 2 or y.shape[-1] < 2:
        raise ValueError(f"{name} takes scores of shape (n, classes) with at least 2 classes, got {tuple(y.shape)}; "
                         "for one yes-or-no output use BinaryCrossEntropy")
    if tuple(t.shape) != tuple(y.shape[:-1]):
        hint = "; drop the target's last axis" if tuple(t.shape) == (*y.shape[:-1], 1) else ""
        raise ValueError(f"{name} takes integer classes of shape {tuple(y.shape[:-1])} for scores of shape {tuple(y.shape)}, "
                         f"got {tuple(t.shape)}{hint}")
    if not xp.isdtype(t.dtype, "integral"):
        raise TypeError(f"{name} takes integer classes, got {t.dtype}; convert the labels to integers")

"""What a loss is, and how the losses of samples and outputs become one number.

`reduction` says how. With n samples and k outputs:

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
"""

import functools
import math
from typing import Any

from ..backend import HasRules, Rule, namespace, sum_of
from ..errors import unknown

Array = Any
REDUCTIONS = ("mean", "batch_mean", "sum", "half_mean", "half_batch_mean", "half_sum")


class Loss:
    """A map from (prediction, target) to (L, ∂L/∂prediction). Subclasses write `value_and_grad`."""

    link = "identity"                                     # what makes the quantity modelled of the prediction
    predictions: tuple[int, ...] = (1,)                   # how many arrays y may be: more than one are a tuple
    ignore_index: int | None = None                       # the label of places that do not count
    kinks = False                                         # whether there are points without a derivative

    def __init__(self, reduction: str = "mean"):
        if reduction not in REDUCTIONS:
            raise unknown("reduction", reduction, REDUCTIONS)
        self.reduction = reduction
        self._fits: Any = None                            # shapes and dtypes that have been checked

    def __call__(self, y: Array, t: Array, weights: Array | None = None) -> tuple[Array, Array]:
        """(L, ∂L/∂y). y: (n, ...), or a tuple where the loss says so    t: as the loss says    weights: (n,) or None.

        L is a 0-d array that stays on the device, ∂L/∂y as y is. Raises ValueError for shapes that do not fit, TypeError for dtypes.
        """
        xp = namespace(first(y))
        kind = (_kind(y), type(t), t.shape, t.dtype, *((weights.shape, weights.dtype) if weights is not None else ()))
        if kind != self._fits:                            # once for each kind of batch, not at every step
            self._check_all(xp, y, t, weights)
            self._fits = kind
        return self.value_and_grad(xp, y, t, weights)

    def _check_all(self, xp: Any, y: Array, t: Array, weights: Array | None) -> None:
        self.check_count(y)
        for a in y if isinstance(y, tuple) else (y,):
            if a.ndim < 1 or 0 in a.shape:
                raise ValueError(f"{type(self).__name__} takes a prediction of shape (n, ...), not empty, got {tuple(a.shape)}")
        self.check(xp, y, t)
        if weights is not None:
            y = first(y)
            if tuple(weights.shape) != tuple(y.shape[:1]):
                raise ValueError(f"sample weights have shape ({y.shape[0]},), one a sample, got {tuple(weights.shape)}")
            if weights.dtype != y.dtype:                  # float64 weights would make a float32 gradient float64
                raise TypeError(f"sample weights have the prediction's dtype {y.dtype}, got {weights.dtype}")

    def check_count(self, y: Any) -> None:
        """Raise ValueError where y is another number of arrays than this loss takes."""
        many = len(y) if isinstance(y, tuple) else 1
        if many not in self.predictions:
            takes = " or ".join("one array" if k == 1 else f"a tuple of {k} arrays" for k in self.predictions)
            raise ValueError(f"{type(self).__name__} takes {takes} as its prediction, got "
                             f"{'one array' if many == 1 else f'{many} arrays'}")

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

    def labels(self, t: Any) -> Any:
        """Of integer targets t, on the host, those that have to be classes. Raises ValueError for what cannot be a target here."""
        return t

    def target_shape(self, y: Any) -> tuple[int, ...]:
        """The shape of real targets for predictions y."""
        return tuple(first(y).shape)

    def check_values(self, t: Any, name: str = "t") -> None:
        """Raise ValueError where real targets t, on the host, are none that this loss is for. (Labels: `check_labels`.)"""

    def mass(self, xp: Any, y: Array, t: Array, weights: Array | None) -> Any:
        """What the mean divides by, but for constants: n, Σw, or Σ w v of each sample's class; 1 for a sum. It reads no numbers of y.

        The loss over all samples is Σ mass · L of the batches, over Σ mass; for a sum it is Σ L.
        """
        if self.reduction.endswith("sum"):
            return 1.0
        return float(t.shape[0]) if weights is None else xp.sum(weights)

    def value_and_grad(self, xp: Any, y: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        raise NotImplementedError

    def scale(self, xp: Any, n: int, k: int, weights: Array | None) -> Any:
        """The factor of each sample's loss: a number, or with sample weights an array (n,)."""
        factor, kind = _parsed(self.reduction)
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
        loss, dy = self.scaled(xp, y, t, of_samples(self, xp, y, math.prod(y.shape[1:]), weights))
        return sum_of(xp, loss), dy


class ClassLoss(Loss):
    """A loss over classes, on the last axis: "mean" is over the samples (and any axes between)."""

    def check(self, xp: Any, y: Array, t: Array) -> None:
        if y.ndim < 2:
            raise ValueError(f"{type(self).__name__} takes a prediction of shape (n, classes), got {tuple(y.shape)}")
        super().check(xp, y, t)

    def rows(self, xp: Any, y: Array, weights: Array | None) -> Any:
        """The scale of each row, shaped to broadcast over the classes."""
        return of_samples(self, xp, y, math.prod(y.shape[1:-1]), weights)


def nonzero(xp: Any, total: Array) -> Array:
    """A sum of weights to divide by: where it is 0, every term is, and their mean is 0."""
    return xp.maximum(total, xp.full_like(total, float(xp.finfo(total.dtype).smallest_normal) * 2.0 ** 27))


def of_samples(loss: Loss, xp: Any, y: Array, outputs: int, weights: Array | None) -> Any:
    """The scale of each sample's loss, shaped to broadcast over its other axes."""
    s = loss.scale(xp, y.shape[0], outputs, weights)
    return s if weights is None else xp.reshape(s, (y.shape[0],) + (1,) * (y.ndim - 1))


def one_each(loss: Loss, y: Array, t: Array) -> None:
    """t has an entry for each sample, and no more is asked of it."""
    if t.ndim < 1 or t.shape[0] != y.shape[0]:
        raise ValueError(f"{type(loss).__name__} takes a target of {y.shape[0]} samples, got shape {tuple(t.shape)}")


def first(y: Any) -> Array:
    """The prediction, or the first of several."""
    return y[0] if isinstance(y, tuple) else y


@functools.cache
def _parsed(reduction: str) -> tuple[float, str]:
    """½ or 1, and "mean", "batch_mean" or "sum"."""
    return (0.5 if reduction.startswith("half_") else 1.0), reduction.removeprefix("half_")


def _kind(y: Any) -> Any:
    return tuple(map(_kind, y)) if isinstance(y, tuple) else (type(y), y.shape, y.dtype)

"""Losses over classes, which are the last axis of the prediction and one answer together.

Sorted by increasing complexity.
"""

import math
import operator
from typing import Any

from ..backend import elementwise, max_of, sum_of
from .base import ClassLoss, Loss, nonzero

Array = Any


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
        margin = (y - sum_of(xp, y * hit, axis=-1, keepdims=True) + 1.0) * (1.0 - hit)
        above = xp.astype(margin > 0.0, y.dtype)
        dy = (above - hit * sum_of(xp, above, axis=-1, keepdims=True)) * s
        return xp.sum(margin * above * s), dy


class SoftmaxCrossEntropy(ClassLoss):
    """ℓ = -Σₖ qₖ ln pₖ, p = softmax(z)        ∂ℓ/∂z = p - q

    On logits: gradient with respect to the *logits* z: (n, ..., k), not the probabilities p. With a single class c it is
    ℓ = ln Σⱼ e^(zⱼ) - z_c; the maximum of z is subtracted first, which cancels and keeps every exponential below 1.

    t                integer classes (n, ...), or probabilities of z's shape (one-hot or soft)
    label_smoothing  ε: q = (1 - ε) t + ε/k. Szegedy et al. (2016)
    class_weights    v (k,): ℓ = -Σₖ vₖ qₖ ln pₖ, with ∂ℓ/∂z = (Σₖ vₖ qₖ) p - v ⊙ q. The mean then divides by Σₙ v of each
                     sample's class for integer targets, and by n for probabilities, as PyTorch does.
    ignore_index     an integer: where t is it, ℓ and ∂ℓ/∂z are 0, and the mean does not count the place; for the padding of sequences
                     z (n, time, k), t (n, time). It need not be a class: PyTorch has -100. Where all of t is ignored, L is 0.
                     "batch_mean" is that mean times the places of a sample, kept or not.
    """

    link = "softmax"

    def __init__(self, reduction: str = "mean", label_smoothing: float = 0.0, class_weights: Any = None, ignore_index: int | None = None):
        super().__init__(reduction)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is in [0, 1), got {label_smoothing!r}")
        self.label_smoothing = float(label_smoothing)
        self.class_weights = None if class_weights is None else numbers_from_0("class_weights", class_weights)
        self.ignore_index = None if ignore_index is None else operator.index(ignore_index)
        self._made: dict[Any, Array] = {}

    def takes_classes(self, y: Array, t: Array) -> bool:
        return t.ndim < y.ndim

    def labels(self, t: Any) -> Any:
        return t if self.ignore_index is None else t[t != self.ignore_index]

    def check_values(self, t: Any, name: str = "t") -> None:
        check_distributions(self, t, name)

    def mass(self, xp: Any, y: Array, t: Array, weights: Array | None) -> Any:
        if not self._counts_apart(y, t) or self.reduction.endswith("sum"):
            return super().mass(xp, y, t, weights)
        return xp.sum(self._of_sample(xp, y, t, weights))

    def _counts_apart(self, y: Array, t: Array) -> bool:
        """Do samples count in the mean with a weight of their class, 0 for one that is ignored?"""
        return (self.class_weights is not None or self.ignore_index is not None) and self.takes_classes(y, t)

    def _of_sample(self, xp: Any, z: Array, t: Array, weights: Array | None) -> Array:
        """w v of each sample's class, (n, ..., 1); 0 where it is ignored."""
        v: Any = 1.0
        if self.class_weights is not None:
            hit = xp.astype(t[..., None] == self._classes(xp, z, t), z.dtype)
            v = xp.sum(hit * self._class_weights(xp, z), axis=-1, keepdims=True)
        if self.ignore_index is not None:
            v = self._kept(xp, z, t) * v
        return v if weights is None else v * xp.reshape(weights, (-1,) + (1,) * (z.ndim - 1))

    def _kept(self, xp: Any, z: Array, t: Array) -> Array:
        """[t is not ignored], (n, ..., 1)."""
        return xp.astype(t[..., None] != self.ignore_index, z.dtype)

    def check(self, xp: Any, y: Array, t: Array) -> None:
        if self.class_weights is not None and len(self.class_weights) != y.shape[-1]:
            raise ValueError(f"class_weights has {len(self.class_weights)} entries for {y.shape[-1]} classes")
        if xp.isdtype(t.dtype, "real floating") and t.ndim == y.ndim:
            super().check(xp, y, t)
        else:
            check_classes(self, xp, y, t)

    def value_and_grad(self, xp: Any, z: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        s = self.rows(xp, z, weights)
        z_shifted, e = _shifted_exp(xp, z, max_of(xp, z, axis=-1, keepdims=True))
        total = sum_of(xp, e, axis=-1, keepdims=True)
        classes = t.ndim < z.ndim
        if classes and self._counts_apart(z, t) and self.reduction.endswith("mean"):   # divide by Σ w v of each sample's class, not by Σ w
            w = xp.sum(weights) * math.prod(z.shape[1:-1]) if weights is not None else float(math.prod(z.shape[:-1]))
            s = s * (w / nonzero(xp, xp.sum(self._of_sample(xp, z, t, weights))))
        if classes and self.ignore_index is not None:
            s = self._kept(xp, z, t) * s
        if classes and not self.label_smoothing and self.class_weights is None:
            loss, dz = _class_rule(xp, z_shifted, e, total, t[..., None], self._classes(xp, z, t), s)
            return sum_of(xp, loss), dz

        q = xp.astype(t[..., None] == self._classes(xp, z, t), z.dtype) if classes else t
        v = None
        if self.class_weights is not None:
            v = self._class_weights(xp, z)
        if self.label_smoothing:
            q = (1.0 - self.label_smoothing) * q + self.label_smoothing / z.shape[-1]
        a = q if v is None else q * v
        loss, dz = _soft_rule(xp, z_shifted, e, total, a, sum_of(xp, a, axis=-1, keepdims=True), s)
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

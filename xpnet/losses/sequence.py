"""Losses of sequences. (Of a class for each position, with padding: SoftmaxCrossEntropy and its ignore_index.)"""

from typing import Any

from ..errors import whole
from .base import Loss, first

Array = Any
NEVER = -1e30                                             # for ln 0: the difference of infinities is no number


class CTC(Loss):
    """ℓ = -ln p(t|z): connectionist temporal classification, for a sequence of labels whose places in time are not known

    In each frame τ the network says one of k classes, p = softmax(z), one of them the blank. A path has a class for each frame; it reads as
    t when repeated classes are taken as one, and then blanks left out. p(t|z) is the sum over all paths that read as t of their Π p_τ.

    The paths go through the states l = (blank, t₁, blank, t₂, …, blank). From frame to frame a path stays, or goes on by one state, or by
    two where that leaves out a blank between different labels. With p_τ(l_s) the probability of state s in frame τ,

        α_τ(s) = p_τ(l_s) (α_τ₋₁(s) + α_τ₋₁(s-1) + [skip to s] α_τ₋₁(s-2))                  the paths that have come to s
        β_τ(s) = Σ over s' ∈ {s, s+1, s+2 if skip to s+2} of p_τ₊₁(l_s') β_τ₊₁(s')          the ways on from s to the end
        p(t|z) = Σ_s α_τ(s) β_τ(s)  for every τ

    so γ_τ(s) = α_τ(s) β_τ(s)/p(t|z) is the probability of being in state s in frame τ, given t, and

        ∂ℓ/∂z_τ(c) = p_τ(c) - Σ over s with l_s = c of γ_τ(s)

    Gradient with respect to the *logits* z: (n, time, k). All sums over paths are made of logarithms. y is z, or (z, lengths) with integer
    lengths (n,) of the samples in frames: what comes after is not read, and has gradient 0. They are not checked, which would wait for a
    device: above `time` they count as `time`, below 0 as 0.

    t              (n, labels) integer classes, filled up at the end with the blank
    blank          the class that stands for no label
    zero_infinity  True: a sample that cannot be aligned, since it has fewer frames than labels (and one more between two equal ones), has
                   ℓ = 0. Else ℓ = ∞; its gradient is 0 in either case
    A sequence is one answer: "mean" and "batch_mean" are 1/n Σₙ. (PyTorch's "mean" also divides each ℓ by the number of its labels.)
    Graves, Fernández, Gomez & Schmidhuber (2006).
    """

    predictions = (1, 2)
    link = "softmax"

    def __init__(self, reduction: str = "mean", blank: int = 0, zero_infinity: bool = False):
        super().__init__(reduction)
        self.blank, self.zero_infinity = whole("CTC: blank", blank, 0), zero_infinity

    def takes_classes(self, y: Any, t: Array) -> bool:
        return True

    def labels(self, t: Any) -> Any:
        said = t != self.blank
        if (said[:, 1:] & ~said[:, :-1]).any():
            raise ValueError(f"targets of CTC hold the blank, class {self.blank}, only at their ends, where they are filled up with it")
        return t

    def check(self, xp: Any, y: Any, t: Array) -> None:
        z = first(y)
        if z.ndim != 3 or z.shape[-1] <= max(self.blank, 1):
            raise ValueError(f"CTC takes logits of shape (n, time, classes), the blank (class {self.blank}) among at least 2 classes, "
                             f"got {tuple(z.shape)}")
        if t.ndim != 2 or t.shape[0] != z.shape[0]:
            raise ValueError(f"CTC takes labels of shape ({z.shape[0]}, labels) for logits of shape {tuple(z.shape)}, got {tuple(t.shape)}")
        if not xp.isdtype(t.dtype, "integral"):
            raise TypeError(f"CTC takes integer labels, got {t.dtype}")
        if isinstance(y, tuple) and (tuple(y[1].shape) != tuple(z.shape[:1]) or not xp.isdtype(y[1].dtype, "integral")):
            raise ValueError(f"CTC takes integer lengths of shape ({z.shape[0]},), one a sample, got {y[1].dtype} {tuple(y[1].shape)}")

    def value_and_grad(self, xp: Any, y: Any, t: Array, weights: Array | None) -> tuple[Array, Any]:
        z, given = y if isinstance(y, tuple) else (y, None)
        t = xp.astype(t, xp.int64, copy=False)            # classes, states and frames are counted: a narrow dtype would wrap
        lengths: Any = None if given is None else xp.astype(given, xp.int64, copy=False)
        n, time, k = z.shape
        log_p = z - xp.max(z, axis=-1, keepdims=True)
        log_p = log_p - xp.log(xp.sum(xp.exp(log_p), axis=-1, keepdims=True))

        def lives(frame: int) -> Array:
            """Whether samples have this frame, (n, 1)."""
            return lengths[:, None] > frame

        state, skip, last = self._states(xp, z, t)
        said = xp.astype(state[:, :, None] == xp.arange(k, dtype=state.dtype, device=z.device), z.dtype)   # (n, states, k), one-hot
        emit = log_p @ xp.matrix_transpose(said)          # (n, time, states)
        outside = xp.full((n, 2), NEVER, dtype=z.dtype, device=z.device)
        two = min(2, state.shape[1])

        alpha = xp.concat([emit[:, 0, :two], xp.full_like(emit[:, 0, two:], NEVER)], axis=-1)
        alphas = [alpha]
        for frame in range(1, time):
            before = xp.concat([outside, alpha], axis=-1)
            new = emit[:, frame, :] + log_add(xp, alpha, before[:, 1:-1], before[:, :-2] + skip)
            alpha = new if lengths is None else xp.where(lives(frame), new, alpha)
            alphas.append(alpha)
        log_total = log_sum(xp, alpha + last)             # (n, 1)
        if lengths is not None:                           # without frames there is one path, the empty one, which says nothing
            log_total = xp.where(lives(0), log_total, last[:, :1])
        possible = log_total > 0.5 * NEVER

        beta, betas = last, [last]
        skip_on = xp.concat([skip[:, 2:], outside], axis=-1)[:, :skip.shape[1]]
        for frame in range(time - 2, -1, -1):
            after = xp.concat([beta + emit[:, frame + 1, :], outside], axis=-1)
            new = log_add(xp, after[:, :-2], after[:, 1:-1], after[:, 2:] + skip_on)
            beta = new if lengths is None else xp.where(lives(frame + 1), new, last)
            betas.append(beta)
        log_gamma = xp.stack(alphas, axis=1) + xp.stack(betas[::-1], axis=1) - xp.where(possible, log_total, 0.0)[:, :, None]
        dz = xp.exp(log_p) - xp.exp(log_gamma) @ said

        s = self.scale(xp, n, 1, weights)
        counted = xp.astype(possible, z.dtype) * (s if weights is None else s[:, None])
        if lengths is not None:
            frames = xp.arange(time, dtype=lengths.dtype, device=z.device)
            dz = dz * xp.astype(frames < lengths[:, None], z.dtype)[:, :, None]
        loss = xp.sum(-xp.where(possible, log_total, 0.0) * counted)
        if not self.zero_infinity:
            loss = xp.where(xp.all(possible), loss, xp.inf)
        dz = dz * counted[:, :, None]
        return loss, dz if given is None else (dz, xp.zeros_like(given))

    def _states(self, xp: Any, z: Array, t: Array) -> tuple[Array, Array, Array]:
        """The classes of the states (n, 2·labels + 1); and as logarithms, 0 or NEVER, which may be skipped to, and where a path may end."""
        blank = xp.full_like(t, self.blank)
        between = xp.reshape(xp.stack([blank, t], axis=-1), (t.shape[0], -1))
        state = xp.concat([between, xp.full_like(t[:, :1], self.blank)], axis=-1) if t.shape[1] else \
            xp.full((t.shape[0], 1), self.blank, dtype=t.dtype, device=z.device)

        def logarithm(allowed: Array) -> Array:
            return (1.0 - xp.astype(allowed, z.dtype)) * NEVER

        two_before = xp.concat([xp.full_like(state[:, :2], self.blank), state], axis=-1)[:, :state.shape[1]]
        skip = logarithm((state != self.blank) & (state != two_before))
        where = xp.arange(state.shape[1], dtype=t.dtype, device=z.device)
        labels = xp.sum(xp.astype(t != self.blank, t.dtype), axis=-1, keepdims=True)
        return state, skip, logarithm((where == 2 * labels) | (where == 2 * labels - 1))

    def __repr__(self) -> str:
        options = [*([repr(self.reduction)] if self.reduction != "mean" else []), *([f"blank={self.blank}"] if self.blank else []),
                   *(["zero_infinity=True"] if self.zero_infinity else [])]
        return f"CTC({', '.join(options)})"


def log_add(xp: Any, a: Array, b: Array, c: Array) -> Array:
    """ln(eᵃ + eᵇ + eᶜ), without overflow."""
    m = xp.maximum(xp.maximum(a, b), c)
    return m + xp.log(xp.exp(a - m) + xp.exp(b - m) + xp.exp(c - m))


def log_sum(xp: Any, a: Array) -> Array:
    """ln Σ eᵃ over the last axis, which stays."""
    m = xp.max(a, axis=-1, keepdims=True)
    return m + xp.log(xp.sum(xp.exp(a - m), axis=-1, keepdims=True))

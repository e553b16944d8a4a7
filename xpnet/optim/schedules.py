"""Learning-rate schedules: η as a function of the step, `schedule(t) -> η` for t = 0, 1, …

Give one to an optimizer, `Adam(lr=Cosine(1e-3, steps=1000))`, where t counts training steps; or to the callback `LearningRate`, where t
counts epochs. Sorted by increasing complexity.
"""

import math
from typing import Any


class Schedule:
    """η(t). lr: the rate it starts from (or, with a warmup, reaches)."""

    def __init__(self, lr: float):
        if not lr >= 0:
            raise ValueError(f"{type(self).__name__}: lr is a number from 0 on, got {lr!r}")
        self.lr = float(lr)

    def __call__(self, t: int) -> float:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.lr:g})"


class Constant(Schedule):
    """η(t) = η₀"""

    def __call__(self, t: int) -> float:
        return self.lr


class Step(Schedule):
    """η(t) = η₀ γ^⌊t / every⌋"""

    def __init__(self, lr: float, every: int, gamma: float = 0.1):
        super().__init__(lr)
        self.every, self.gamma = _positive("every", every), float(gamma)

    def __call__(self, t: int) -> float:
        return self.lr * self.gamma ** (t // self.every)


class Exponential(Schedule):
    """η(t) = η₀ γᵗ"""

    def __init__(self, lr: float, gamma: float):
        super().__init__(lr)
        self.gamma = float(gamma)

    def __call__(self, t: int) -> float:
        return self.lr * self.gamma ** t


class Polynomial(Schedule):
    """η(t) = η_end + (η₀ - η_end) (1 - t/steps)^power, and η_end after that; power = 1 is a line"""

    def __init__(self, lr: float, steps: int, power: float = 1.0, end: float = 0.0):
        super().__init__(lr)
        self.steps, self.power, self.end = _positive("steps", steps), float(power), float(end)

    def __call__(self, t: int) -> float:
        return self.end + (self.lr - self.end) * (1.0 - min(t, self.steps) / self.steps) ** self.power


class Cosine(Schedule):
    """η(t) = η_end + ½ (η₀ - η_end) (1 + cos(π t'/T)), after a linear warmup of `warmup` steps; t' counts from its end, T = steps - warmup

    Loshchilov & Hutter (2017), eq. 5, without restarts.
    """

    def __init__(self, lr: float, steps: int, warmup: int = 0, end: float = 0.0):
        super().__init__(lr)
        self.steps, self.warmup, self.end = _positive("steps", steps), int(warmup), float(end)
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"Cosine: warmup is from 0 to below steps = {steps}, got {warmup!r}")

    def __call__(self, t: int) -> float:
        if t < self.warmup:
            return self.lr * (t + 1) / self.warmup
        part = min(t - self.warmup, self.steps - self.warmup) / (self.steps - self.warmup)
        return self.end + 0.5 * (self.lr - self.end) * (1.0 + math.cos(math.pi * part))


class OneCycle(Schedule):
    """From η/start_div up to η over the first `peak` of the steps, then down to η/end_div, both by half a cosine

    Smith & Topin (2018); cosine halves as in PyTorch's OneCycleLR. lr: the peak.
    """

    def __init__(self, lr: float, steps: int, peak: float = 0.3, start_div: float = 25.0, end_div: float = 25e4):
        super().__init__(lr)
        self.steps, self.peak = _positive("steps", steps), float(peak)
        self.start_div, self.end_div = start_div, end_div
        if not 0.0 <= self.peak < 1.0:
            raise ValueError(f"OneCycle: peak is the part of the steps that rises, in [0, 1), got {peak!r}")

    def __call__(self, t: int) -> float:
        top = self.peak * self.steps - 1.0
        if t <= top:
            return _cosine(self.lr / self.start_div, self.lr, t / top if top > 0 else 1.0)
        return _cosine(self.lr, self.lr / self.end_div, min((t - top) / (self.steps - 1.0 - top), 1.0))


class Plateau(Schedule):
    """η ← γ η when the observed value has not fallen below its best by `min_delta` for more than `patience` observations

    That is one more than EarlyStopping waits, and the same as PyTorch's ReduceLROnPlateau with threshold_mode="abs".
    `fit` calls `observe` with the validation loss (the training loss where there is none) after each epoch.
    """

    def __init__(self, lr: float, gamma: float = 0.1, patience: int = 10, min_delta: float = 1e-4, min_lr: float = 0.0):
        super().__init__(lr)
        self.gamma, self.patience, self.min_delta, self.min_lr = float(gamma), int(patience), float(min_delta), float(min_lr)
        self.now, self.best, self.waited = self.lr, math.inf, 0

    def observe(self, value: float) -> None:
        if value < self.best - self.min_delta:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.now, self.waited = max(self.now * self.gamma, self.min_lr), 0

    def __call__(self, t: int) -> float:
        return self.now


def _cosine(start: float, end: float, part: float) -> float:
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * part))


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is a positive integer, got {value!r}")
    return value

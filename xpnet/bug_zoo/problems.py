"""Small problems that show the bugs: data, network, loss and optimizer, each trained in about a second."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..backend import get_backend
from ..data import moons, one_hot, sine, spirals, split
from ..layer import Layer
from ..layers import Dense, Dropout, ReLU, Residual, Sequential, Sigmoid, Softmax, Tanh
from ..losses import BinaryCrossEntropy, Loss, MeanSquaredError, SoftmaxCrossEntropy
from ..model import Model
from ..optim import SGD, Adam, AdamW, Momentum, Optimizer
from .open import Twice
from .setup import Setup


class Data(NamedTuple):
    """Training and test data, on the host."""

    x: np.ndarray
    t: np.ndarray
    x_test: np.ndarray
    t_test: np.ndarray


@dataclass(frozen=True)
class Problem:
    """data: seed -> Data; net, loss, optimizer: functions that make them."""

    data: Callable[[int], Data]
    net: Callable[[], Layer]
    loss: Callable[[], Loss]
    optimizer: Callable[[], Optimizer]
    epochs: int = 30
    batch_size: int = 32

    def setup(self, backend: Any = None, seed: int = 0) -> Setup:
        """The clean set-up, in float64 where the backend has it."""
        backend = get_backend(backend)
        try:
            backend.zeros((1,), backend.xp.float64)
            dtype = "float64"
        except (AttributeError, TypeError, ValueError):
            dtype = "float32"
        return Setup(Model(self.net(), backend, dtype, seed), self.loss(), self.optimizer())


# Data.

def _halves(x: np.ndarray, t: np.ndarray, seed: int, stratify: Any = None) -> Data:
    x, x_test, t, t_test = split(x, t, test=0.4, seed=seed, stratify=stratify)
    return Data(x, t, x_test, t_test)


def arms(seed: int) -> Data:
    """Three spiral arms, labels 0, 1, 2."""
    x, t = spirals(300, arms=3, seed=seed)
    return _halves(x, t, seed, t)


def sorted_arms(seed: int) -> Data:
    """The same, the training data class by class, as a folder of files gives them."""
    data = arms(seed)
    order = np.argsort(data.t, kind="stable")
    return Data(data.x[order], data.t[order], data.x_test, data.t_test)


def crescents(seed: int) -> Data:
    """Two moons, labels 0 and 1."""
    x, t = moons(300, noise=0.15, seed=seed)
    return _halves(x, t, seed, t)


def crescents_as_numbers(seed: int) -> Data:
    """The same with labels (n, 1) of floating numbers, for one sigmoid output."""
    x, t, x_test, t_test = crescents(seed)
    return Data(x, t[:, None].astype(np.float64), x_test, t_test[:, None].astype(np.float64))


def arms_as_rows(seed: int) -> Data:
    """The arms with one-hot labels."""
    x, t, x_test, t_test = arms(seed)
    return Data(x, one_hot(t, 3, "float64"), x_test, one_hot(t_test, 3, "float64"))


def wave(seed: int) -> Data:
    """t = sin x + noise."""
    return _halves(*sine(160, noise=0.1, seed=seed), seed)


def few(seed: int) -> Data:
    """Moons with much noise and few samples: easy to overfit."""
    x, t = moons(200, noise=0.3, seed=seed)
    return Data(x[:60], t[:60], x[60:], t[60:])


def pixels(seed: int) -> Data:
    """The moons as bytes 0 … 255, as an image file holds its pixels."""
    x, t, x_test, t_test = crescents(seed)
    return Data(*(a for x, t in ((x, t), (x_test, t_test)) for a in (np.clip(60.0 * x + 100.0, 0, 255).astype(np.uint8), t)))


def drifted(seed: int) -> Data:
    """The moons, with a test set that was measured later: shifted, with one wild value."""
    x, t, x_test, t_test = crescents(seed)
    x_test = x_test + 1.0
    x_test[0] = 40.0
    return Data(x, t, x_test, t_test)


# Problems. A network of a bug is the smallest in which it has something to break.

def _problem(data: Callable[[int], Data], layers: Callable[[], list[Layer]], loss: Callable[[], Loss] = SoftmaxCrossEntropy,
             optimizer: Callable[[], Optimizer] = lambda: SGD(0.5), **options: Any) -> Problem:
    return Problem(data, lambda: Sequential(*layers()), loss, optimizer, **options)


DEEP_TANH = _problem(arms, lambda: [Dense(2, 16), Tanh(), Dense(16, 16), Tanh(), Dense(16, 3)], optimizer=lambda: SGD(0.3), epochs=150)
SIGMOIDS = _problem(crescents, lambda: [Dense(2, 16), Sigmoid(), Dense(16, 16), Sigmoid(), Dense(16, 2)], optimizer=lambda: SGD(0.5),
                    epochs=150)
FUSED_SIGMOIDS = _problem(crescents, lambda: [Dense(2, 16, "sigmoid"), Dense(16, 16, "sigmoid"), Dense(16, 2)], optimizer=lambda: SGD(0.5),
                          epochs=150)
RELUS = _problem(crescents, lambda: [Dense(2, 16), ReLU(), Dense(16, 16), ReLU(), Dense(16, 2)], optimizer=lambda: SGD(0.1), epochs=60)
SOFTMAX = _problem(arms_as_rows, lambda: [Dense(2, 32), Tanh(), Dense(32, 3), Softmax()], MeanSquaredError, lambda: Adam(0.02), epochs=60)
NOISY = _problem(few, lambda: [Dense(2, 32), ReLU(), Dropout(0.5), Dense(32, 32), ReLU(), Dropout(0.5), Dense(32, 2)],
                 optimizer=lambda: Adam(0.01), epochs=120)
RESIDUALS = _problem(arms, lambda: [Dense(2, 16), *(Residual(Dense(16, 16), Tanh()) for _ in range(4)), Dense(16, 3)],
                     optimizer=lambda: SGD(0.05), epochs=60)
RECURRENT = _problem(arms, lambda: [Dense(2, 16), Twice(Dense(16, 16, "tanh")), Dense(16, 3)], optimizer=lambda: SGD(0.3), epochs=150)
ONE_TANH = _problem(arms, lambda: (lambda f: [Dense(2, 16), f, Dense(16, 16), f, Dense(16, 3)])(Tanh()), optimizer=lambda: SGD(0.3),
                    epochs=150)
WAVE = _problem(wave, lambda: [Dense(1, 16), Tanh(), Dense(16, 1)], MeanSquaredError, lambda: Adam(0.02), epochs=100)
WAVE_SGD = _problem(wave, lambda: [Dense(1, 16), Tanh(), Dense(16, 1)], MeanSquaredError, lambda: SGD(0.1), epochs=60)
WAVE_SIGMOID = _problem(wave, lambda: [Dense(1, 16, "sigmoid"), Dense(16, 1)], MeanSquaredError, lambda: SGD(0.1), epochs=60)
CLASSES = _problem(arms, lambda: [Dense(2, 32), Tanh(), Dense(32, 3)], optimizer=lambda: Adam(0.02), epochs=100)
YES_OR_NO = _problem(crescents_as_numbers, lambda: [Dense(2, 16), Tanh(), Dense(16, 1)], BinaryCrossEntropy, lambda: Adam(0.02))
WITH_MOMENTUM = _problem(arms, lambda: [Dense(2, 32), Tanh(), Dense(32, 3)], optimizer=lambda: Momentum(0.1), epochs=60)
WITH_L2 = _problem(few, lambda: [Dense(2, 32), Tanh(), Dense(32, 2)], optimizer=lambda: SGD(0.3, weight_decay=0.01))
WITH_ADAMW = _problem(few, lambda: [Dense(2, 32), Tanh(), Dense(32, 2)], optimizer=lambda: AdamW(0.01, weight_decay=0.1))
DEEPER = _problem(arms, lambda: [Dense(2, 64), Tanh(), *(e for _ in range(4) for e in (Dense(64, 64), Tanh())), Dense(64, 3)],
                  optimizer=lambda: SGD(0.1), epochs=20)
SORTED = _problem(sorted_arms, lambda: [Dense(2, 32), Tanh(), Dense(32, 3)], optimizer=lambda: Momentum(0.1), epochs=100)
PIXELS = _problem(pixels, lambda: [Dense(2, 16), Tanh(), Dense(16, 2)], optimizer=lambda: Adam(0.02))
DRIFTED = _problem(drifted, lambda: [Dense(2, 16), Tanh(), Dense(16, 2)], optimizer=lambda: Adam(0.02))

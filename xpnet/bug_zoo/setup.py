"""What a training run is made of, in pieces: a bug takes the place of one of them, and the others stay the library's."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import batches, standardize
from ..losses import Loss
from ..model import Model
from ..optim import Optimizer
from ..train import History

Array = Any


def train_step(model: Model, loss: Loss, optimizer: Optimizer, x: Array, t: Array) -> Array:
    """One step of gradient descent: forward, loss, backward, update. Returns L."""
    y, backward = model.forward(x)
    L, dy = loss(y, t)
    grads = backward(dy)
    optimizer.step(model, grads)
    return L


def standardized(x: np.ndarray, x_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both scaled to mean 0 and variance 1 by the statistics of x."""
    return standardize(x.astype(np.float64), x_test.astype(np.float64))


def shuffled(x: np.ndarray, t: np.ndarray, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of an epoch, in another order in each."""
    return iter(batches((x, t), batch_size, seed=seed, epoch=epoch))


@dataclass
class Setup:
    """A model, a loss and an optimizer, and what is done with them.

    prepare   (x, x_test) -> the two as the network sees them; on the host
    batches   (x, t, batch_size, seed, epoch) -> the batches of an epoch; on the host
    step      (model, loss, optimizer, x, t) -> L: one step of training on one batch
    """

    model: Model
    loss: Loss
    optimizer: Optimizer
    prepare: Callable[..., Any] = standardized
    batches: Callable[..., Any] = shuffled
    step: Callable[..., Any] = train_step

    def train_on(self, x: Array, t: Array) -> float:
        """One step on one batch, of host or device arrays. Returns L as it was before the update."""
        return float(self.step(self.model, self.loss, self.optimizer, self.model.asarray(x), self.model.asarray(t)))

    def train(self, data: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], *, epochs: int = 10, batch_size: int = 32,
              seed: int = 0, judge: Loss | None = None) -> History:
        """Train, and measure the loss on `test` after each epoch: by `judge`, which is the set-up's own loss unless given.

        Numbers that are not finite are written down as they are, and do not stop it.
        """
        history = History(("epoch", "loss", "val_loss"))
        (x, t), (x_test, t_test) = data, test
        x, x_test = self.prepare(x, x_test)
        for epoch in range(epochs):
            losses = [self.train_on(*batch) for batch in self.batches(x, t, batch_size, seed, epoch)]
            y, _ = self.model.forward(self.model.asarray(x_test), training=False)
            held_out = (judge or self.loss)(y, self.model.asarray(t_test))[0]
            history.add({"epoch": epoch + 1, "loss": math.fsum(losses) / len(losses) if np.all(np.isfinite(losses)) else math.nan,
                         "val_loss": float(held_out)})
        return history

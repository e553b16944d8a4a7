"""What a case computes on: one backend, float64."""

from typing import Any

import numpy as np

from ..backend import Backend, get_backend
from ..errors import BackendError
from ..layer import Layer
from ..losses import Loss
from ..model import Model
from ..optim import Optimizer

Array = Any


class Bench:
    """A backend, as a case uses it. Raises BackendError where the backend has no float64: float32 has 7 digits."""

    def __init__(self, backend: Any = None):
        self.backend: Backend = get_backend(backend)
        try:
            self.backend.zeros((1,), self.backend.xp.float64)
        except (AttributeError, TypeError, ValueError) as e:
            raise BackendError(f"backend {self.backend.name!r} has no float64, and verify compares up to 16 digits; use one that "
                               "has, such as 'numpy'") from e

    def asarray(self, values: Any) -> Array:
        """Numbers, lists or a host array on the backend; floating numbers as float64."""
        return self.backend.asarray(np.array(values))

    def model(self, net: Layer, dtype: str = "float64", seed: int = 0) -> Model:
        return Model(net, self.backend, dtype, seed)


def model_of(bench: Any, net: Layer, params: dict[str, Any]) -> Model:
    """A model with these parameters, by path."""
    model = bench.model(net, "float64")
    for path, values in params.items():
        model.set_param(path, np.array(values, dtype=np.float64))
    return model


def train(model: Model, loss: Loss, optimizer: Optimizer, x: Array, t: Array, steps: int) -> None:
    """The loop of training, on one batch."""
    for _ in range(steps):
        y, backward = model.forward(x)
        _, dy = loss(y, t)
        optimizer.step(model, backward(dy))


def linspace(start: float, stop: float, *shape: int) -> np.ndarray:
    """Evenly spaced numbers in the order of the rows: how CS231n's assignments fill arrays that anyone can fill again."""
    return np.linspace(start, stop, int(np.prod(shape))).reshape(shape)

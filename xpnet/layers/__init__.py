"""The layers. Each file sorts by increasing complexity."""

from .activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .containers import Checkpoint, Concat, Parallel, Residual, Sequential
from .dense import Dense
from .dropout import Dropout
from .shape import Flatten, Reshape

__all__ = ["ELU", "GELU", "SELU", "Activation", "Checkpoint", "Concat", "Dense", "Dropout", "Flatten", "HardSigmoid",
           "HardSwish", "Identity", "LeakyReLU", "LogSoftmax", "PReLU", "Parallel", "ReLU", "Reshape", "Residual",
           "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]

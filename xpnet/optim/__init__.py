"""Optimizers on the flat vector, learning-rate schedules and gradient clipping."""

from .adaptive import AdaDelta, AdaGrad, Adam, AdamW, AMSGrad, Lion, NAdam, RAdam, RMSProp
from .base import Optimizer
from .clipping import ClipNorm, ClipValue
from .schedules import Constant, Cosine, Exponential, OneCycle, Plateau, Polynomial, Schedule, Step
from .sgd import SGD, Momentum, Nesterov

__all__ = ["SGD", "AMSGrad", "AdaDelta", "AdaGrad", "Adam", "AdamW", "ClipNorm", "ClipValue", "Constant", "Cosine", "Exponential",
           "Lion", "Momentum", "NAdam", "Nesterov", "OneCycle", "Optimizer", "Plateau", "Polynomial", "RAdam", "RMSProp", "Schedule",
           "Step"]

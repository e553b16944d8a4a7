"""Losses: `loss_fn(prediction, target) -> (L, ∂L/∂prediction)`.

Each docstring says which variable the gradient is with respect to: a loss named after logits takes logits, and there is no softmax or
sigmoid in front of it.

Sorted by increasing complexity.
"""

from .base import REDUCTIONS, ClassLoss, ElementwiseLoss, Loss
from .classes import KLDivergence, MulticlassHinge, SoftmaxCrossEntropy, one_hot
from .elementwise import BinaryCrossEntropy, Hinge, Huber, LogCosh, MeanAbsoluteError, MeanSquaredError, Poisson
from .embedding import Contrastive, Triplet
from .gaussian import ELBO, GaussianNLL, NormalKL
from .sequence import CTC

__all__ = ["CTC", "ELBO", "REDUCTIONS", "BinaryCrossEntropy", "ClassLoss", "Contrastive", "ElementwiseLoss", "GaussianNLL", "Hinge",
           "Huber", "KLDivergence", "LogCosh", "Loss", "MeanAbsoluteError", "MeanSquaredError", "MulticlassHinge", "NormalKL",
           "Poisson", "SoftmaxCrossEntropy", "Triplet", "one_hot"]

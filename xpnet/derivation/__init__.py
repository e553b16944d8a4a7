"""explain: the derivation of one training step, with its numbers, as text, Markdown, JSON or a page."""

from . import attention, convolution, heads, normalization, recurrent  # noqa: F401 (their formulas are registered)
from .derive import explain
from .explanation import Check, Explanation, Line, Step
from .formulas import Formulas, layer_formulas
from .losses import loss_formulas
from .optimizers import update_formulas

__all__ = ["Check", "Explanation", "Formulas", "Line", "Step", "explain", "layer_formulas", "loss_formulas", "update_formulas"]

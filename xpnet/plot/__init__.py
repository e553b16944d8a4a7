"""Pictures of data, of training and of what happens inside a network: matplotlib, and nothing of it before the first picture.

    from xpnet import plot

    plot.learning_curves(history)
    plot.decision_boundary(model, x, t)

Every function draws into the Axes given as `ax`, or else makes a figure, and returns the Axes (an array of them where it draws several).
Arrays of any backend are welcome. Axes are labelled, titles are yours. `COLOURS` are Okabe & Ito's, which colour-blind readers can tell
apart; classes and layers differ in marker or line style too.
"""

from .boundary import decision_boundary
from .curves import learning_curves
from .diagram import network
from .distributions import activations, gradient_flow, gradients
from .fits import regression_fit, residuals
from .flame import profile
from .images import confusion_matrix, misclassified, weights
from .recorder import Recorder
from .style import COLOURS
from .surface import loss_surface

__all__ = ["COLOURS", "Recorder", "activations", "confusion_matrix", "decision_boundary", "gradient_flow", "gradients", "learning_curves",
           "loss_surface", "misclassified", "network", "profile", "regression_fit", "residuals", "weights"]

"""The bug zoo: classic mistakes of neural networks, each in one wrong line, with its symptom, how it is found, and the fix.

    from xpnet import bug_zoo

    bug = bug_zoo.get("dropout-unscaled")
    print(bug.wrong)                                      # the line, as it stands in the code that runs
    print(bug.right)
    caught, text = bug.check()                            # what gradient_check says, and what finds it if that does not
    bug.plot()                                            # clean against broken

    setup = bug_zoo.Setup(model, loss, optimizer)         # your own: the five-line loop in pieces
    broken = bug_zoo.inject("dropout-unscaled", setup)    # a copy with one piece that is broken; setup stays as it is
    broken.train((x, t), (x_test, t_test), epochs=10)

Every broken piece is a subclass of the library's own class, or a function in the place of one of the loop's: nothing of the library is
changed. `BUGS` holds all of them by name: layers, losses, the training loop, optimizers, the start, the data; the families that the
gradient check sees come first, and within a family the easiest. For mistakes of your own there are `spoiled`, `spoiled_loss` and
`gradient_of`.
"""

from . import layers, losses, training, optimizers, initialization, data  # noqa: F401, I001 (the order of BUGS)
from .bug import BUGS, KINDS, Bug, Finding, get, inject
from .checks import CHECKS
from .problems import Data, Problem
from .setup import Setup
from .spoil import gradient_of, spoiled, spoiled_loss

__all__ = ["BUGS", "CHECKS", "KINDS", "Bug", "Data", "Finding", "Problem", "Setup", "get", "gradient_of", "inject", "spoiled",
           "spoiled_loss"]

"""Losses: worked examples of a lecture, two of which are wrong, and of another library's documentation."""

import math
from typing import Any

import numpy as np

from ..initializers import normal
from ..layers import Dense, Softmax
from ..losses import BinaryCrossEntropy, LogCosh, MulticlassHinge, SoftmaxCrossEntropy
from .neurons import CLOSED
from .rows import Row, Source, erratum, row

Array = Any
LECTURE_2016 = Source("CS231n (2016), lecture 3", "Li, Karpathy & Johnson, CS231n, slides of lecture 3, 11 January 2016")
LECTURE = Source("CS231n, lecture 3, later", "Li and others, CS231n, the same slides in later years; Johnson, EECS 498, lecture 3, 2019")
KERAS = Source("Keras documentation", "Keras API documentation, examples of BinaryCrossentropy and LogCosh, tf.keras 2")
SCORES = [[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]]             # of cat, car and frog, for a picture of each


def multiclass_hinge(bench: Any) -> list[Row]:
    """Σ_{j≠c} max(0, s_j - s_c + 1). The slides of 2016 write max(0, 2.2 - (-3.1) + 1), and then 5.3: the margin was forgotten."""
    losses = [MulticlassHinge()(bench.asarray([s]), bench.asarray([c]))[0] for c, s in enumerate(SCORES)]
    mean, _ = MulticlassHinge()(bench.asarray(SCORES), bench.asarray([0, 1, 2]))
    cat, car, frog = SCORES[2]
    without = max(0.0, cat - frog) + max(0.0, car - frog)
    cause = "the margin +1 is written but not added for the frog"
    return [row(LECTURE, "hinge losses of cat, car, frog", "2.9 0.0 12.9", losses),
            row(LECTURE, "their mean", "5.27", mean),
            erratum(LECTURE_2016, "hinge loss of the frog", "10.9", losses[2], without, cause),
            erratum(LECTURE_2016, "mean hinge loss", "4.6", mean, (2.9 + 0.0 + without) / 3, cause)]


def cross_entropy(bench: Any) -> list[Row]:
    """-ln softmax(s)_c for the cat. The slides of 2016 print the logarithm to base 10, which is not what their later formulas derive."""
    s = bench.asarray(SCORES[:1])
    p, _ = Softmax()(s)
    loss, _ = SoftmaxCrossEntropy()(s, bench.asarray([0]))
    return [row(LECTURE, "softmax of the cat's scores", "0.13 0.87 0.00", p),
            row(LECTURE, "-ln 0.13", "2.04", loss),
            erratum(LECTURE_2016, "-log 0.13", "0.89", loss, float(loss) / math.log(10.0), "the logarithm is to base 10")]


def large_logits(bench: Any) -> list[Row]:
    """ℓ = ln Σ e^(s_j) - s_c, whose exponentials overflow here: the largest logit comes out of the sum, and the rest is rounding."""
    s = bench.asarray([[-431.0, 279.0, 427.0]])
    losses = [SoftmaxCrossEntropy()(s, bench.asarray([c]))[0] for c in (0, 1, 2)]
    return [row(CLOSED, "cross-entropy at logits (-431, 279, 427)", "858 148 0", losses)]


def chance(bench: Any) -> list[Row]:
    """An untrained classifier of k classes guesses: its loss is ln k. The first thing to look at when a loss is stuck."""
    model = bench.model(Dense(20, 10, init=normal(1e-9)), "float64")
    rng = np.random.default_rng(0)
    y, _ = model.forward(bench.asarray(rng.standard_normal((64, 20))))
    ten, _ = SoftmaxCrossEntropy()(y, bench.asarray(rng.integers(0, 10, 64)))
    two, _ = BinaryCrossEntropy()(bench.asarray([[0.0]]), bench.asarray([[1.0]]))
    return [row(CLOSED, "10 classes, tiny weights: loss ln 10", "2.302585", ten),
            row(CLOSED, "a yes-or-no question at z = 0: loss ln 2", "0.6931471805599453", two)]


def keras_losses(bench: Any) -> list[Row]:
    """Binary cross-entropy on logits, and log cosh, each as mean and as sum: the two reductions differ by the number of entries."""
    z, t = bench.asarray([[-18.6, 0.51], [2.94, -12.8]]), bench.asarray([[0.0, 1.0], [0.0, 0.0]])
    y, u = bench.asarray([[1.0, 1.0], [0.0, 0.0]]), bench.asarray([[0.0, 1.0], [0.0, 0.0]])
    return [row(KERAS, "binary cross-entropy", "0.865", BinaryCrossEntropy()(z, t)[0]),
            row(KERAS, "log cosh, mean", "0.108", LogCosh()(y, u)[0]),
            row(KERAS, "log cosh, sum over samples", "0.217", 0.5 * LogCosh("sum")(y, u)[0])]   # of means over the two outputs


CASES = (multiclass_hinge, cross_entropy, large_logits, chance, keras_losses)

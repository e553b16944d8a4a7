"""Training: one step, three hundred, ten thousand; and the mistake in the most copied example of the web."""

import importlib.util
import math
from typing import Any

import numpy as np

from ..layers import Dense, Sequential
from ..losses import BinaryCrossEntropy, MeanSquaredError
from ..metrics import r2
from ..optim import SGD, AdaGrad, Adam, Momentum, Optimizer, RMSProp
from .bench import linspace, model_of, train
from .networks import CS231N, GOODFELLOW, MAZUR, SCHIENDORFER, mazur_network, schiendorfer_network
from .neurons import CLOSED
from .rows import CUT, Row, Source, cut, erratum, row

Array = Any
KERAS = Source("Keras documentation, optimizers", "Keras API documentation, examples of SGD, RMSprop and Adam, tf.keras 2")
HAN = Source("Han et al. (2011), ex. 9.1", "Han, Kamber & Pei, Data Mining: Concepts and Techniques, 3rd ed., 2011, example 9.1")
NIELSEN = Source("Nielsen (2015), ch. 3", "Nielsen, Neural Networks and Deep Learning, neuralnetworksanddeeplearning.com, chapter 3")
SKLEARN = Source("scikit-learn documentation", "scikit-learn documentation, example \"Ordinary least squares\" (diabetes data, column 2)")
OUTPUT_FIRST = "the output weights are updated first, and the hidden deltas computed with the new ones"
MAZUR_BEFORE = "it is E after 9,999 steps in the right order, which step 10,000 starts from"
HALF = MeanSquaredError("half_sum")


# One step of an optimizer.

def vector(bench: Any, n: int, start: Any) -> Any:
    """A model that is nothing but n parameters."""
    return model_of(bench, Dense(n, 1, bias=False), {"W": np.reshape(start, (n, 1))})


def keras_optimizers(bench: Any) -> list[Row]:
    """One parameter, L = θ²/2, so that the gradient is θ itself."""
    def path(optimizer: Optimizer, start: float, steps: int = 1) -> list[float]:
        model, thetas = vector(bench, 1, [start]), [start]
        for _ in range(steps):
            optimizer.step(model, 1.0 * model.params)
            thetas.append(float(model.params[0]))
        return thetas

    _, sgd = path(SGD(0.1), 1.0)
    v0, v1, v2 = path(Momentum(0.1, 0.9), 1.0, steps=2)
    _, rmsprop = path(RMSProp(0.1, alpha=0.9), 10.0)
    _, adam = path(Adam(0.1), 10.0)
    return [row(KERAS, "SGD, η = 0.1: θ from 1", "0.9", sgd, exact=True),
            row(KERAS, "momentum 0.9: first and second step", "0.1 0.18", [v0 - v1, v1 - v2], exact=True),
            row(KERAS, "RMSProp, η = 0.1, α = 0.9: θ from 10", "9.683772", rmsprop),
            row(KERAS, "Adam, η = 0.1: θ from 10", "9.9", adam)]


def adam_first_step(bench: Any) -> list[Row]:
    """m̂ = g and v̂ = g² at t = 1, so the first step is η g/|g|: as long as η, whatever the size of the gradient.

    Kingma & Ba (2015), section 2.1: the effective step is about η.
    """
    steps = []
    for g in (1e-3, 1.0, 1e3):
        model = vector(bench, 1, [0.0])
        Adam(1e-3, eps=0.0).step(model, bench.asarray([g]))
        steps.append(-1.0 * model.params / 1e-3)
    model = vector(bench, 1, [0.0])
    AdaGrad(1e-3, eps=0.0).step(model, bench.asarray([-7.0]))
    return [row(CLOSED, "Adam: first step / η for g = 0.001, 1, 1000", "1 1 1", steps),
            row(CLOSED, "AdaGrad: the same, g = -7", "-1", -1.0 * model.params / 1e-3)]


def cs231n_optimizers(bench: Any) -> list[Row]:
    """One step in the middle of training, on 20 parameters. CS231n's velocity is v ← μv - ηg; ours is that over -η."""
    w, g = linspace(-0.4, 0.6, 20), linspace(-0.6, 0.4, 20)
    up, down = linspace(0.6, 0.9, 20), linspace(0.7, 0.5, 20)

    def step(optimizer: Optimizer, **state: Any) -> Array:
        model = vector(bench, 20, w)
        optimizer.load_state_dict(model, {"t": 0} | state)
        optimizer.step(model, bench.asarray(g))
        return model.params

    momentum, rmsprop, adam = Momentum(1e-3), RMSProp(1e-2), Adam(1e-2)
    after = [step(momentum, v=up / -1e-3), step(rmsprop, s=up), step(adam, t=5, m=up, v=down)]
    return [row(CS231N, "momentum, η = 0.001, μ = 0.9: θ",
                "0.1406 0.20738947 0.27417895 0.34096842 0.40775789 0.47454737 0.54133684 0.60812632 0.67491579 0.74170526 "
                "0.80849474 0.87528421 0.94207368 1.00886316 1.07565263 1.14244211 1.20923158 1.27602105 1.34281053 1.4096", after[0]),
            row(CS231N, "momentum: v",
                "0.5406 0.55475789 0.56891579 0.58307368 0.59723158 0.61138947 0.62554737 0.63970526 0.65386316 0.66802105 "
                "0.68217895 0.69633684 0.71049474 0.72465263 0.73881053 0.75296842 0.76712632 0.78128421 0.79544211 0.8096",
                -1e-3 * momentum.state["v"]),
            row(CS231N, "RMSProp, η = 0.01, α = 0.99: θ",
                "-0.39223849 -0.34037513 -0.28849239 -0.23659121 -0.18467247 -0.132737 -0.08078555 -0.02881884 0.02316247 0.07515774 "
                "0.12716641 0.17918792 0.23122175 0.28326742 0.33532447 0.38739248 0.43947102 0.49155973 0.54365823 0.59576619", after[1]),
            row(CS231N, "RMSProp: s",
                "0.5976 0.6126277 0.6277108 0.64284931 0.65804321 0.67329252 0.68859723 0.70395734 0.71937285 0.73484377 "
                "0.75037008 0.7659518 0.78158892 0.79728144 0.81302936 0.82883269 0.84469141 0.86060554 0.87657507 0.8926",
                rmsprop.state["s"]),
            row(CS231N, "Adam, η = 0.01, sixth step: θ",
                "-0.40094747 -0.34836187 -0.29577703 -0.24319299 -0.19060977 -0.1380274 -0.08544591 -0.03286534 0.01971428 0.0722929 "
                "0.1248705 0.17744702 0.23002243 0.28259667 0.33516969 0.38774145 0.44031188 0.49288093 0.54544852 0.59801459", after[2]),
            row(CS231N, "Adam: m",
                "0.48 0.49947368 0.51894737 0.53842105 0.55789474 0.57736842 0.59684211 0.61631579 0.63578947 0.65526316 "
                "0.67473684 0.69421053 0.71368421 0.73315789 0.75263158 0.77210526 0.79157895 0.81105263 0.83052632 0.85", adam.state["m"]),
            row(CS231N, "Adam: v",
                "0.69966 0.68908382 0.67851319 0.66794809 0.65738853 0.64683452 0.63628604 0.6257431 0.61520571 0.60467385 "
                "0.59414753 0.58362676 0.57311152 0.56260183 0.55209767 0.54159906 0.53110598 0.52061845 0.51013645 0.49966",
                adam.state["v"])]


# One step of a network.

def han_kamber(bench: Any) -> list[Row]:
    """3-2-1 with sigmoids, x = (1, 0, 1), t = 1, η = 0.9. The book's Err is t - o times σ': minus our δ."""
    model = model_of(bench, Sequential(Dense(3, 2, "sigmoid"), Dense(2, 1, "sigmoid")),
                     {"0.W": [[0.2, -0.3], [0.4, 0.1], [-0.5, 0.2]], "0.b": [-0.4, 0.2], "1.W": [[-0.3], [-0.2]], "1.b": [0.1]})
    x, t = bench.asarray([[1.0, 0.0, 1.0]]), bench.asarray([[1.0]])
    h, _ = Dense(3, 2, "sigmoid")(x, {"W": model.get_param("0.W"), "b": model.get_param("0.b"), "activation": {}})
    o, _ = model.forward(x)
    train(model, HALF, SGD(0.9), x, t, steps=1)
    errors, rounded = [-1.0 * model.get_grad("0.b"), -1.0 * model.get_grad("1.b")], round(float(o[0, 0]), 3)
    return [row(HAN, "outputs of units 4, 5, 6", "0.332 0.525 0.474", [h, o]),
            row(HAN, "Err of units 4, 5", "-0.0087 -0.0065", errors[0]),
            erratum(HAN, "Err of unit 6", "0.1311", errors[1], rounded * (1 - rounded) * (1 - rounded),
                    "the output is rounded to 0.474 before it is used"),
            row(HAN, "new w46 w56", "-0.261 -0.138", model.get_param("1.W")),
            row(HAN, "new w14 w15 w24 w25 w34 w35", "0.192 -0.306 0.4 0.1 -0.508 0.194", model.get_param("0.W")),
            row(HAN, "new θ6 θ4 θ5", "0.218 -0.408 0.194", [model.get_param("1.b"), model.get_param("0.b")])]


def schiendorfer_step(bench: Any) -> list[Row]:
    """η = 0.5, a batch of two: L = Σₙ Σₖ (o - t)², so the gradients of the samples add."""
    model, x, t = schiendorfer_network(bench)
    train(model, MeanSquaredError("sum"), SGD(0.5), x, t, steps=1)
    return [row(SCHIENDORFER, "W2 after one step", "1.05259373 0.11257513 -2.01327451 2.01227682", model.get_param("1.W").T),
            row(SCHIENDORFER, "W1 after one step", "6.00000016 -2.00000053 -3.00071007 4.99976331", model.get_param("0.W").T)]


def mazur_output_first(bench: Any, steps: int) -> tuple[Array, Array]:
    """(o, E) of Mazur's network trained with the mistake. `backward` of the output layer is a closure over W2: called again after W2
    was written in place, it pulls the deltas back through the new weights. (A Model refuses this: its backward raises RuntimeError.)"""
    model, x, t = mazur_network(bench)
    hidden, output = model.net.layers
    W1, b1, W2, b2 = (model.get_param(name) for name in ("0.W", "0.b", "1.W", "1.b"))
    first, second = {"W": W1, "b": b1, "activation": {}}, {"W": W2, "b": b2, "activation": {}}
    for _ in range(steps):
        h, back_h = hidden(x, first)
        o, back_o = output(h, second)
        _, do = HALF(o, t)
        _, grads = back_o(do, input_grad=False)
        W2 -= 0.5 * grads["W"]                            # too early …
        dh, _ = back_o(do)                                # … for this
        _, grads = back_h(dh, input_grad=False)
        W1 -= 0.5 * grads["W"]
    o, _ = output(hidden(x, first)[0], second)
    return o, HALF(o, t)[0]


def mazur_step(bench: Any) -> list[Row]:
    """η = 0.5, biases not trained. The post's weights are right; its error after the step is not that of these weights."""
    model, x, t = mazur_network(bench)
    train(model, HALF, SGD(0.5, freeze=("*.b",)), x, t, steps=1)
    W1, W2 = model.get_param("0.W"), model.get_param("1.W")
    E, _ = HALF(model.forward(x)[0], t)
    _, mistaken = mazur_output_first(bench, steps=1)
    more = MAZUR.recomputed
    return [row(MAZUR, "w1 … w4 after one step", "0.149780716 0.19956143 0.24975114 0.29950229", W1.T),
            row(MAZUR, "w5 … w8", "0.35891648 0.408666186 0.511301270 0.561370121", W2.T),
            erratum(MAZUR, "E after one step", "0.291027924", E, mistaken, OUTPUT_FIRST),
            row(more, "w1 … w4 after one step", "0.1497807161327628 0.19956143226552567 0.24975114363236958 0.29950228726473915", W1.T),
            row(more, "w5 … w8", "0.35891647971788465 0.4086661860762334 0.5113012702387375 0.5613701211079891", W2.T),
            row(more, "E after one step", "0.29102777369359933", E)]


def mazur_biases(bench: Any) -> list[Row]:
    """The same step with biases trained: one for each unit, or one for each layer, as the post draws them, where the gradients add."""
    model, x, t = mazur_network(bench)
    train(model, HALF, SGD(0.5), x, t, steps=1)
    each, _ = HALF(model.forward(x)[0], t)

    model, x, t = mazur_network(bench)
    o, backward = model.forward(x)
    backward(HALF(o, t)[1])
    for name in ("0.b", "1.b"):
        model.set_param(name, model.get_param(name) - 0.5 * model.xp.sum(model.get_grad(name)))
    SGD(0.5, freeze=("*.b",)).step(model)
    one, _ = HALF(model.forward(x)[0], t)
    return [row(MAZUR.recomputed, "E after a step with a trained bias per unit", "0.28047144679143016", each),
            row(MAZUR.recomputed, "E after a step with a trained bias per layer", "0.2857508866992965", one)]


# Many steps.

def mazur_ten_thousand(bench: Any) -> list[Row]:
    """10,000 steps: the mistake is in every one of them, and hardly matters: still downhill. So the loss curve does not give it away.

    The post's E belongs to its outputs neither with nor without the mistake; a step earlier it is that of the right order.
    """
    model, x, t = mazur_network(bench)
    optimizer = SGD(0.5, freeze=("*.b",))
    train(model, HALF, optimizer, x, t, steps=9_999)
    E_before, _ = HALF(model.forward(x)[0], t)
    train(model, HALF, optimizer, x, t, steps=1)
    o, _ = model.forward(x)
    E, _ = HALF(o, t)
    o_mistaken, _ = mazur_output_first(bench, steps=10_000)
    more = MAZUR.recomputed
    return [erratum(MAZUR, "out o1 o2 after 10,000 steps", "0.015912196 0.984065734", o, o_mistaken, OUTPUT_FIRST),
            erratum(MAZUR, "E after 10,000 steps", "0.0000351085", E, E_before, MAZUR_BEFORE),
            row(more, "out o1 o2 after 10,000 steps", "0.01591362044355068 0.9840642735146238", o),
            row(more, "E after 10,000 steps", "3.510187782978859e-05", E)]


def nielsen_slowdown(bench: Any) -> list[Row]:
    """One sigmoid neuron that has to say 0 when it sees 1. Badly wrong, it learns slowly: ∂L/∂z = (a - t) σ'(z), and σ' is small."""
    x, t = bench.asarray([[1.0]]), bench.asarray([[0.0]])
    outputs = []
    for w, b in ((0.6, 0.9), (2.0, 2.0)):
        model = model_of(bench, Dense(1, 1, "sigmoid"), {"W": [[w]], "b": [b]})
        before, _ = model.forward(x)
        train(model, HALF, SGD(0.15), x, t, steps=300)
        outputs.append((before, model.forward(x)[0]))
    (near, near_after), (far, far_after) = outputs
    more = NIELSEN.recomputed
    return [row(NIELSEN, "w = 0.6, b = 0.9: output, and after 300 epochs", "0.82 0.09", [near, near_after]),
            row(NIELSEN, "w = b = 2: output", "0.98", far),
            row(more, "w = 0.6, b = 0.9: output, and after 300 epochs", "0.8175744762 0.0939556949", [near, near_after]),
            row(more, "w = b = 2: output", "0.9820137900", far),
            erratum(more, "w = b = 2, after 300 epochs", "0.2028484242", far_after, cut(far_after, 10), CUT)]


def nielsen_cross_entropy(bench: Any) -> list[Row]:
    """The same with cross-entropy, where ∂L/∂z = a - t has no σ': the neuron that is worse off learns faster."""
    x, t = bench.asarray([[1.0]]), bench.asarray([[0.0]])
    loss, outputs = BinaryCrossEntropy("sum"), []
    for w, b in ((0.6, 0.9), (2.0, 2.0)):
        model = model_of(bench, Dense(1, 1), {"W": [[w]], "b": [b]})
        train(model, loss, SGD(0.005), x, t, steps=300)
        model.link = loss.link
        outputs.append(model.predict_proba(x))
    return [row(NIELSEN.recomputed, "cross-entropy, after 300 epochs, of both", "0.4177 0.7796", outputs)]


def linear_xor(bench: Any) -> list[Row]:
    """The best line through XOR is no line at all: w = 0 and b = ½, which says ½ everywhere. Gradient descent finds it."""
    model = model_of(bench, Dense(2, 1), {"W": [[1.0], [-1.0]], "b": [0.0]})
    x, t = bench.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), bench.asarray([[0.0], [1.0], [1.0], [0.0]])
    train(model, MeanSquaredError("half_batch_mean"), SGD(1.0), x, t, steps=300)
    return [row(GOODFELLOW, "a linear model of XOR: b", "0.5", model.get_param("b"), exact=True),
            row(GOODFELLOW, "a linear model of XOR: w", "0 0", model.get_param("W"))]


def least_squares(bench: Any) -> list[Row]:
    """One linear neuron and full-batch gradient descent end where the normal equations do. The last 20 patients are held out.

    The column's variance is 1/442: scaled by √442 it is 1, and one learning rate suits weight and bias.
    """
    if importlib.util.find_spec("sklearn") is None:
        return [Row(SKLEARN, "least squares on the diabetes data", "", cause="needs scikit-learn: pip install scikit-learn", missing=True)]
    from ..data import load

    x, t = load("diabetes")
    scale = math.sqrt(len(x))
    x = x[:, [2]] * scale
    model = model_of(bench, Dense(1, 1), {"W": [[0.0]], "b": [0.0]})
    train(model, MeanSquaredError("half_batch_mean"), SGD(0.9), bench.asarray(x[:-20]), bench.asarray(t[:-20]), steps=400)
    w, b = model.get_param("W") * scale, model.get_param("b")
    y, held_out = model.predict(bench.asarray(x[-20:])), bench.asarray(t[-20:])
    mse, _ = MeanSquaredError()(y, held_out)
    R2, more = r2(y, held_out), SKLEARN.recomputed
    return [row(SKLEARN, "coefficient", "938.23786125", w),
            row(SKLEARN, "test MSE, R²", "2548.07 0.47", [mse, R2]),
            row(more, "coefficient, intercept", "938.2378612513521 152.91886182616113", [w, b]),
            row(more, "test MSE, R²", "2548.07239872597 0.47257544798", [mse, R2])]


CASES = (keras_optimizers, adam_first_step, cs231n_optimizers, han_kamber, schiendorfer_step, mazur_step, mazur_biases, linear_xor,
         nielsen_slowdown, nielsen_cross_entropy, least_squares, mazur_ten_thousand)

"""Networks: forward and backward passes against published arrays, and the variances they start from."""

from typing import Any

import numpy as np

from ..backend import sum_of
from ..initializers import glorot_normal, he_normal, orthogonal
from ..layers import LSTM, RNN, Dense, Sequential
from ..losses import MeanSquaredError, SoftmaxCrossEntropy
from .bench import linspace, model_of
from .neurons import CLOSED
from .rows import Row, Source, row

Array = Any
GOODFELLOW = Source("Goodfellow et al. (2016), 6.1", "Goodfellow, Bengio & Courville, Deep Learning, MIT Press 2016, section 6.1, "
                    "deeplearningbook.org")
CS231N = Source("CS231n, assignments", "CS231n, Stanford, assignments 1 to 3: the arrays that their notebooks compare solutions with")
MAZUR = Source("Mazur (2015)", "Mazur, A Step by Step Backpropagation Example, mattmazur.com, 2015")
SCHIENDORFER = Source("Schiendorfer", "Schiendorfer, backpropagation worked through by hand and for a batch of two, blog post")
HE = Source("He et al. (2015)", "He, Zhang, Ren & Sun, Delving Deep into Rectifiers, ICCV 2015, section 2.2")


def goodfellow_xor(bench: Any) -> list[Row]:
    """Two ReLU units solve XOR exactly: W = [[1, 1], [1, 1]], c = (0, -1), w = (1, -2), b = 0."""
    x = bench.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    model = model_of(bench, Sequential(Dense(2, 2, "relu"), Dense(2, 1)),
                     {"0.W": [[1, 1], [1, 1]], "0.b": [0, -1], "1.W": [[1], [-2]], "1.b": [0]})
    first = {"W": bench.asarray([[1.0, 1.0], [1.0, 1.0]]), "b": bench.asarray([0.0, -1.0])}
    z, _ = Dense(2, 2)(x, first)
    h, _ = Dense(2, 2, "relu")(x, {**first, "activation": {}})
    y, _ = model.forward(x)
    return [row(GOODFELLOW, "XW + c", "0 -1 1 0 1 0 2 1", z),
            row(GOODFELLOW, "max(0, XW + c)", "0 0 1 0 1 0 2 1", h),
            row(GOODFELLOW, "output at 00 01 10 11", "0 1 1 0", y)]


def mazur_network(bench: Any) -> tuple[Any, Array, Array]:
    """2-2-2 with sigmoids: the model, x and t. The post's rows are the weights *into* a unit; here a unit is a column of W."""
    model = model_of(bench, Sequential(Dense(2, 2, "sigmoid"), Dense(2, 2, "sigmoid")),
                     {"0.W": np.transpose([[.15, .20], [.25, .30]]), "0.b": [.35, .35],
                      "1.W": np.transpose([[.40, .45], [.50, .55]]), "1.b": [.60, .60]})
    return model, bench.asarray([[.05, .10]]), bench.asarray([[.01, .99]])


def mazur_gradients(bench: Any) -> list[Row]:
    """E = ½ Σ (o - t)², and all gradients. A bias enters its net as it is, so the bias gradients are the deltas."""
    model, x, t = mazur_network(bench)
    names = ("0.W", "0.b", "1.W", "1.b")
    W1, b1, W2, b2 = (model.get_param(name) for name in names)
    net_h, _ = Dense(2, 2)(x, {"W": W1, "b": b1})
    h, _ = Dense(2, 2, "sigmoid")(x, {"W": W1, "b": b1, "activation": {}})
    net_o, _ = Dense(2, 2)(h, {"W": W2, "b": b2})
    o, backward = model.forward(x)
    E, do = MeanSquaredError("half_sum")(o, t)
    backward(do)
    dW1, db1, dW2, db2 = (model.get_grad(name) for name in names)
    each = 0.5 * (o - t) ** 2
    more = MAZUR.recomputed
    return [row(MAZUR, "net h1", "0.3775", net_h[0, 0]),
            row(MAZUR, "out h1, h2", "0.593269992 0.596884378", h),
            row(MAZUR, "net o1", "1.105905967", net_o[0, 0]),
            row(MAZUR, "out o1, o2", "0.75136507 0.772928465", o),
            row(MAZUR, "E o1, o2", "0.274811083 0.023560026", each),
            row(MAZUR, "E", "0.298371109", E),
            row(MAZUR, "δ o1", "0.138498562", db2[0]),
            row(MAZUR, "∂E/∂w5", "0.082167041", dW2[0, 0]),
            row(MAZUR, "∂E/∂w1", "0.000438568", dW1[0, 0]),
            row(more, "net h", "0.3775 0.3925", net_h, exact=True),
            row(more, "out h", "0.5932699921071872 0.596884378259767", h),
            row(more, "net o", "1.10590596705977 1.2249214040964653", net_o),
            row(more, "out o", "0.7513650695523157 0.7729284653214625", o),
            row(more, "E o1, o2, sum", "0.274811083176155 0.023560025583847746 0.2983711087600027", [each, E]),
            row(more, "δ o1, o2", "0.13849856162855695 -0.038098236516556236", db2),
            row(more, "δ h1, h2", "0.00877135468948693 0.009954254705217196", db1),
            row(more, "∂E/∂w5 … w8", "0.08216704056423077 0.08266762784753325 -0.02260254047747507 -0.022740242215978222", dW2.T),
            row(more, "∂E/∂w1 … w4", "0.0004385677344743465 0.000877135468948693 0.0004977127352608599 0.0009954254705217198", dW1.T)]


def schiendorfer_network(bench: Any) -> tuple[Any, Array, Array]:
    """2-2-2 with sigmoids and no biases, two samples: the model, x and t."""
    model = model_of(bench, Sequential(Dense(2, 2, "sigmoid", bias=False), Dense(2, 2, "sigmoid", bias=False)),
                     {"0.W": np.transpose([[6, -2], [-3, 5]]), "1.W": np.transpose([[1, .25], [-2, 2]])})
    return model, bench.asarray([[3.0, 1.0], [-1.0, 4.0]]), bench.asarray([[1.0, 0.0], [0.0, 1.0]])


def schiendorfer_forward(bench: Any) -> list[Row]:
    """The first sample's output, and its loss Σ (o - t)²."""
    model, x, t = schiendorfer_network(bench)
    y, _ = model.forward(x)
    loss, _ = MeanSquaredError("sum")(y[:1, ...], t[:1, ...])
    return [row(SCHIENDORFER, "output of the first sample", "0.73194171 0.12303186", y[0, ...]),
            row(SCHIENDORFER, "its loss", "0.08699208259994781", loss)]


def cs231n_affine(bench: Any) -> list[Row]:
    """z = xW + b on two samples of 4·5·6 numbers."""
    x, W, b = linspace(-0.1, 0.5, 2, 120), linspace(-0.2, 0.3, 120, 3), linspace(-0.3, 0.1, 3)
    z, _ = Dense(120, 3)(bench.asarray(x), {"W": bench.asarray(W), "b": bench.asarray(b)})
    return [row(CS231N, "an affine layer", "1.49834967 1.70660132 1.91485297 3.25553199 3.5141327 3.77273342", z)]


def cs231n_two_layers(bench: Any) -> list[Row]:
    """5-50-7 with ReLU: scores, softmax cross-entropy, and with ½λ Σ W² for λ = 1."""
    model = model_of(bench, Sequential(Dense(5, 50, "relu"), Dense(50, 7)),
                     {"0.W": linspace(-0.7, 0.3, 5, 50), "0.b": linspace(-0.1, 0.9, 50),
                      "1.W": linspace(-0.3, 0.4, 50, 7), "1.b": linspace(-0.9, 0.1, 7)})
    scores, _ = model.forward(bench.asarray(linspace(-5.5, 4.5, 5, 3).T))
    loss, _ = SoftmaxCrossEntropy()(scores, bench.asarray([0, 5, 1]))
    penalty = sum(0.5 * sum_of(model.xp, model.get_param(name) ** 2) for name in ("0.W", "1.W"))
    return [row(CS231N, "5-50-7: scores of three samples",
                "11.53165108 12.2917344 13.05181771 13.81190102 14.57198434 15.33206765 16.09215096 "
                "12.05769098 12.74614105 13.43459113 14.1230412 14.81149128 15.49994135 16.18839143 "
                "12.58373087 13.20054771 13.81736455 14.43418138 15.05099822 15.66781506 16.2846319", scores),
            row(CS231N, "5-50-7: loss", "3.4702243556", loss),
            row(CS231N, "5-50-7: loss with ½ Σ W²", "26.5948426952", loss + penalty)]


def cs231n_toy_net(bench: Any) -> list[Row]:
    """4-10-3 with ReLU, weights 0.1 N(0, 1) and inputs 10 N(0, 1) from NumPy's old generator, seeds 0 and 1; loss with 0.05 Σ W²."""
    weights, inputs = np.random.RandomState(0), np.random.RandomState(1)
    W1, W2 = 0.1 * weights.randn(4, 10), 0.1 * weights.randn(10, 3)
    model = model_of(bench, Sequential(Dense(4, 10, "relu"), Dense(10, 3)), {"0.W": W1, "1.W": W2})
    scores, _ = model.forward(bench.asarray(10.0 * inputs.randn(5, 4)))
    loss, _ = SoftmaxCrossEntropy()(scores, bench.asarray([0, 1, 2, 2, 1]))
    penalty = 0.05 * (np.sum(W1 ** 2) + np.sum(W2 ** 2))
    return [row(CS231N, "4-10-3: scores of five samples",
                "-0.81233741 -1.27654624 -0.70335995 -0.17129677 -1.18803311 -0.47310444 -0.51590475 -1.01354314 -0.8504215 "
                "-0.15419291 -0.48629638 -0.52901952 -0.00618733 -0.12435261 -0.15226949", scores),
            row(CS231N, "4-10-3: loss with 0.05 Σ W²", "1.30378789133", float(loss) + penalty)]


def cs231n_rnn_step(bench: Any) -> list[Row]:
    """h' = tanh(x Wx + h Wh + b), one step from a state that is carried in."""
    x, h = linspace(-0.4, 0.7, 3, 1, 10), linspace(-0.2, 0.5, 3, 4)
    model = model_of(bench, RNN(10, 4), {"W": linspace(-0.1, 0.9, 10, 4), "U": linspace(-0.3, 0.7, 4, 4), "b": linspace(-0.2, 0.4, 4)})
    _, after = model.forward((bench.asarray(x), bench.asarray(h)))[0]
    return [row(CS231N, "a step of a recurrent network",
                "-0.58172089 -0.50182032 -0.41232771 -0.31410098 0.66854692 0.79562378 0.87755553 0.92795967 "
                "0.97934501 0.99144213 0.99646691 0.99854353", after)]


def cs231n_rnn(bench: Any) -> list[Row]:
    """Three steps of two sequences."""
    x, h = linspace(-0.1, 0.3, 2, 3, 4), linspace(-0.3, 0.1, 2, 5)
    model = model_of(bench, RNN(4, 5), {"W": linspace(-0.2, 0.4, 4, 5), "U": linspace(-0.4, 0.1, 5, 5), "b": linspace(-0.7, 0.1, 5)})
    y, _ = model.forward((bench.asarray(x), bench.asarray(h)))[0]
    return [row(CS231N, "a recurrent network, three steps",
                "-0.42070749 -0.27279261 -0.11074945 0.05740409 0.22236251 -0.39525808 -0.22554661 -0.0409454 0.14649412 0.32397316 "
                "-0.42305111 -0.24223728 -0.04287027 0.15997045 0.35014525 -0.55857474 -0.39065825 -0.19198182 0.02378408 0.23735671 "
                "-0.27150199 -0.07088804 0.13562939 0.33099728 0.50158768 -0.51014825 -0.30524429 -0.06755202 0.17806392 0.40333043", y)]


def cs231n_lstm(bench: Any) -> list[Row]:
    """One step, and three steps from c = 0. The assignment's gates lie in the order i, f, o, g; here it is i, f, g, o."""
    def lstm(d: int, k: int, W: np.ndarray, U: np.ndarray, b: np.ndarray, x: np.ndarray, *state: np.ndarray) -> Any:
        i, f, o, g = np.split(np.arange(4 * k), 4)
        order = np.concatenate([i, f, g, o])
        model = model_of(bench, LSTM(d, k), {"W": W[:, order], "U": U[:, order], "b": b[order]})
        return model.forward(tuple(map(bench.asarray, (x, *state))))[0]

    _, h, c = lstm(4, 5, linspace(-2.1, 1.3, 4, 20), linspace(-0.7, 2.2, 5, 20), linspace(0.3, 0.7, 20), linspace(-0.4, 1.2, 3, 1, 4),
                   linspace(-0.3, 0.7, 3, 5), linspace(-0.4, 0.9, 3, 5))
    y, _, _ = lstm(5, 4, linspace(-0.2, 0.9, 5, 16), linspace(-0.3, 0.6, 4, 16), linspace(0.2, 0.7, 16), linspace(-0.4, 0.6, 2, 3, 5),
                   linspace(-0.4, 0.8, 2, 4), np.zeros((2, 4)))
    return [row(CS231N, "a step of an LSTM: h",
                "0.24635157 0.28610883 0.32240467 0.35525807 0.38474904 0.49223563 0.55611431 0.61507696 0.66844003 0.7159181 "
                "0.56735664 0.66310127 0.74419266 0.80889665 0.858299", h),
            row(CS231N, "a step of an LSTM: c",
                "0.32986176 0.39145139 0.451556 0.51014116 0.56717407 0.66382255 0.76674007 0.87195994 0.97902709 1.08751345 "
                "0.74192008 0.90592151 1.07717006 1.25120233 1.42395676", c),
            row(CS231N, "an LSTM, three steps",
                "0.01764008 0.01823233 0.01882671 0.0194232 0.11287491 0.12146228 0.13018446 0.13902939 "
                "0.31358768 0.33338627 0.35304453 0.37250975 0.45767879 0.4761092 0.4936887 0.51041945 "
                "0.6704845 0.69350089 0.71486014 0.7346449 0.81733511 0.83677871 0.85403753 0.86935314", y)]


def initial_variances(bench: Any) -> list[Row]:
    """He: the first weights' standard deviation is √(2/n), n = 3·3·d inputs of a 3×3 kernel. Glorot & Bengio (2010), eq. 12: their
    variance is 2/(n + m). Saxe et al. (2014): orthogonal, so that no direction is stretched.

    An initialiser draws on the host: a weight over the standard normal number that it was made of is the standard deviation.
    """
    def factor(init: Any, shape: tuple[int, ...]) -> float:
        return float(init(np.random.default_rng(0), shape).flat[0] / np.random.default_rng(0).standard_normal(shape).flat[0])

    Q = orthogonal(np.random.default_rng(0), (5, 3))
    return [row(HE, "√(2/n) of 3×3 kernels, 64 to 512 channels", "0.059 0.042 0.029 0.021",
                [factor(he_normal, (3, 3, d, d)) for d in (64, 128, 256, 512)]),
            row(CLOSED, "Glorot: variance of 300-100, 2/(n + m)", "0.005", factor(glorot_normal, (300, 100)) ** 2, exact=True),
            row(CLOSED, "orthogonal: singular values", "1 1 1", np.linalg.svd(Q, compute_uv=False))]


CASES = (goodfellow_xor, cs231n_affine, cs231n_two_layers, cs231n_toy_net, cs231n_rnn_step, cs231n_rnn, cs231n_lstm,
         initial_variances, schiendorfer_forward, mazur_gradients)

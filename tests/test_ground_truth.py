"""Published numbers, recomputed by xpnet. Each test names its source; tolerances are half a unit of the last published digit."""

import math

import numpy as np
import pytest
from conftest import assert_close

import xpnet as xn

pytestmark = pytest.mark.float64


def model_of(bench, net, **params):
    model = bench.model(net, "float64")
    for path, value in params.items():
        model.set_param(path.replace("__", "."), bench.asarray(np.array(value, dtype=float)))
    return model


def step(model, loss, x, t, optimizer):
    y, backward = model.forward(x)
    value, dy = loss(y, t)
    optimizer.step(model, backward(dy))
    return y, value, dy


# T1. Mazur, "A Step by Step Backpropagation Example" (2015).

W1, B1 = [[.15, .25], [.20, .30]], [.35, .35]             # columns are units, so these are the post's rows transposed
W2, B2 = [[.40, .50], [.45, .55]], [.60, .60]


def mazur(bench):
    net = xn.Sequential(xn.Dense(2, 2, "sigmoid"), xn.Dense(2, 2, "sigmoid"))
    model = model_of(bench, net, **{"0__W": W1, "0__b": B1, "1__W": W2, "1__b": B2})
    return model, bench.asarray([[.05, .10]]), bench.asarray([[.01, .99]])


def test_mazur_forward_and_gradients(backend):
    model, x, t = mazur(backend)
    y, backward = model.forward(x)
    assert_close(y, [[.7513650695523157, .7729284653214625]], backend, rtol=1e-13)
    loss, dy = xn.MeanSquaredError("half_sum")(y, t)
    assert float(loss) == pytest.approx(.2983711087600027, rel=1e-13)
    backward(dy)
    assert_close(model.get_grad("1.W"), np.transpose([[.08216704056423077, .08266762784753325], [-.02260254047747507, -.022740242215978222]]),
                 backend, rtol=1e-12)
    assert_close(model.get_grad("0.W"), np.transpose([[.0004385677344743465, .000877135468948693], [.0004977127352608599, .0009954254705217198]]),
                 backend, rtol=1e-12)
    # The bias gradients are the deltas themselves.
    assert_close(model.get_grad("1.b"), [.13849856162855695, -.038098236516556236], backend, rtol=1e-12)
    assert_close(model.get_grad("0.b"), [.00877135468948693, .009954254705217196], backend, rtol=1e-12)


def test_mazur_one_step_and_ten_thousand(backend):
    model, x, t = mazur(backend)
    loss, optimizer = xn.MeanSquaredError("half_sum"), xn.SGD(.5, freeze=("*.b",))   # the post does not train its biases
    step(model, loss, x, t, optimizer)
    assert_close(model.get_param("0.W"), np.transpose([[.1497807161327628, .19956143226552567], [.24975114363236958, .29950228726473915]]),
                 backend, rtol=1e-13)
    assert_close(model.get_param("1.W"), np.transpose([[.35891647971788465, .4086661860762334], [.5113012702387375, .5613701211079891]]),
                 backend, rtol=1e-13)
    assert_close(model.get_param("1.b"), B2, backend)
    y, _ = model.forward(x)
    assert float(loss(y, t)[0]) == pytest.approx(.29102777369359933, rel=1e-13)
    if backend.name not in ("numpy", "strict"):
        return                                            # 10,000 steps on one or two is enough
    for _ in range(9_999):
        step(model, loss, x, t, optimizer)
    y, _ = model.forward(x)
    assert_close(y, [[.01591362044355068, .9840642735146238]], backend, rtol=1e-10)
    assert float(loss(y, t)[0]) == pytest.approx(3.510187782978859e-05, rel=1e-9)


def test_mazur_with_trained_biases(backend):
    model, x, t = mazur(backend)
    loss = xn.MeanSquaredError("half_sum")
    step(model, loss, x, t, xn.SGD(.5))
    assert float(loss(model.forward(x)[0], t)[0]) == pytest.approx(.28047144679143016, rel=1e-13)


def test_mazur_the_famous_mistake(backend):
    """The post updates the output weights first and uses the *new* ones for the hidden deltas: that gives its 0.291027924."""
    model, x, t = mazur(backend)
    loss = xn.MeanSquaredError("half_sum")
    step(model, loss, x, t, xn.SGD(.5, freeze=("0.*", "*.b")))
    new_w2 = model.get_param("1.W")
    model, x, t = mazur(backend)
    y, backward = model.forward(x)
    dz = loss(y, t)[1] * y * (1.0 - y)
    h = xn.Sigmoid()(x @ model.get_param("0.W") + model.get_param("0.b"))[0]
    dW1 = x.T @ ((dz @ new_w2.T) * h * (1.0 - h))         # wrong on purpose: new_w2 for the old one
    model.set_param("0.W", model.get_param("0.W") - 0.5 * dW1)
    model.set_param("1.W", new_w2)
    assert float(loss(model.forward(x)[0], t)[0]) == pytest.approx(.291027924, abs=5e-10)


# T2-T5. One neuron and one circuit.

class Circuit(xn.Layer):
    """f = (x + y) z of CS231n's notes, for a row (x, y, z)."""

    def forward(self, params, x, ctx):
        q = x[:, 0:1] + x[:, 1:2]
        z = x[:, 2:3]

        def backward(df, input_grad=True):
            return ctx.xp.concat([df * z, df * z, df * q], axis=1), {}

        return q * z, backward


def test_cs231n_circuit(backend):
    x = backend.asarray([[-2.0, 5.0, -4.0]])
    f, backward = Circuit()(x)
    assert_close(f, [[-12.0]], backend)
    assert_close(backward(backend.asarray([[1.0]]))[0], [[-4.0, -4.0, 3.0]], backend)


def neuron(bench, x, w, b, activation):
    model = model_of(bench, xn.Sequential(xn.Dense(len(w), 1, activation)), **{"0__W": [[v] for v in w], "0__b": [b]})
    y, backward = model.forward(bench.asarray([x]))
    dx, _ = backward(bench.asarray([[1.0]]), input_grad=True)
    return model, y, dx


def test_cs231n_neuron(backend):
    model, y, dx = neuron(backend, [-1.0, -2.0], [2.0, -3.0], -3.0, "sigmoid")
    assert_close(y, [[.7310585786]], backend, atol=5e-11, rtol=0)
    assert_close(dx, [[.39322387, -.58983580]], backend, atol=5e-9, rtol=0)
    assert_close(model.get_grad("0.W"), [[-.19661193], [-.39322387]], backend, atol=5e-9, rtol=0)
    assert_close(model.get_grad("0.b"), [.19661193], backend, atol=5e-9, rtol=0)


def test_karpathy_hackers_guide(backend):
    model, s, dx = neuron(backend, [-1.0, 3.0], [1.0, 2.0], -3.0, "sigmoid")
    assert_close(s, [[.8807970779778823]], backend, rtol=1e-14)
    assert_close(model.get_grad("0.W"), [[-.10499358540350662], [.31498075621051985]], backend, rtol=1e-13)
    assert_close(model.get_grad("0.b"), [.10499358540350662], backend, rtol=1e-13)
    assert_close(dx, [[.10499358540350662, .20998717080701323]], backend, rtol=1e-13)
    # An ascent step of 0.01 on all five, inputs too.
    x = backend.asarray([[-1.0, 3.0]]) + 0.01 * dx
    xn.SGD(0.01).step(model, -1.0 * model.grads)
    assert_close(model.forward(x)[0], [[.8825501816218984]], backend, rtol=1e-14)


def test_micrograd_lecture(backend):
    b = 6.8813735870195432
    model, o, dx = neuron(backend, [2.0, 0.0], [-3.0, 1.0], b, "tanh")
    assert_close(o, [[.7071067811865476]], backend, rtol=1e-14)
    assert_close(model.get_grad("0.b"), [0.5], backend, rtol=1e-14)
    assert_close(model.get_grad("0.W"), [[1.0], [0.0]], backend, rtol=1e-14)
    assert_close(dx, [[-1.5, 0.5]], backend, rtol=1e-14)


# T7. Schiendorfer, a batch of two.

def test_schiendorfer(backend):
    net = xn.Sequential(xn.Dense(2, 2, "sigmoid", bias=False), xn.Dense(2, 2, "sigmoid", bias=False))
    model = model_of(backend, net, **{"0__W": np.transpose([[6, -2], [-3, 5]]), "1__W": np.transpose([[1, .25], [-2, 2]])})
    x, t = backend.asarray([[3.0, 1.0], [-1.0, 4.0]]), backend.asarray([[1.0, 0.0], [0.0, 1.0]])
    loss = xn.MeanSquaredError("sum")
    y, _ = model.forward(x)
    assert_close(y[:1, :], [[.73194171, .12303186]], backend, atol=5e-9, rtol=0)
    assert float(loss(y[:1, :], t[:1, :])[0]) == pytest.approx(.08699208259994781, rel=1e-13)
    step(model, loss, x, t, xn.SGD(.5))
    assert_close(model.get_param("1.W"), np.transpose([[1.05259373, .11257513], [-2.01327451, 2.01227682]]), backend, atol=5e-9, rtol=0)
    assert_close(model.get_param("0.W"), np.transpose([[6.00000016, -2.00000053], [-3.00071007, 4.99976331]]), backend, atol=5e-9, rtol=0)


# T8. Nielsen, the learning slowdown.

@pytest.mark.parametrize("w, b, before, after", [(.6, .9, .8175744762, .0939556949), (2.0, 2.0, .9820137900, .2028484242)])
def test_nielsen_quadratic_cost(backend, w, b, before, after):
    model = model_of(backend, xn.Sequential(xn.Dense(1, 1, "sigmoid")), **{"0__W": [[w]], "0__b": [b]})
    x, t = backend.asarray([[1.0]]), backend.asarray([[0.0]])
    assert_close(model.forward(x)[0], [[before]], backend, atol=5e-11, rtol=0)
    loss, optimizer = xn.MeanSquaredError("half_sum"), xn.SGD(.15)
    for _ in range(300):
        step(model, loss, x, t, optimizer)
    # The second, .202848424268…, was cut and not rounded in its last digit: a whole unit.
    assert_close(model.forward(x)[0], [[after]], backend, atol=1e-10, rtol=0)


@pytest.mark.parametrize("w, b, after", [(.6, .9, .4177), (2.0, 2.0, .7796)])
def test_nielsen_cross_entropy(backend, w, b, after):
    model = model_of(backend, xn.Sequential(xn.Dense(1, 1)), **{"0__W": [[w]], "0__b": [b]})
    x, t = backend.asarray([[1.0]]), backend.asarray([[0.0]])
    loss, optimizer = xn.BinaryCrossEntropy("sum"), xn.SGD(.005)
    for _ in range(300):
        step(model, loss, x, t, optimizer)
    model.link = loss.link
    assert_close(model.predict_proba(x), [[after]], backend, atol=5e-5, rtol=0)


# T9. Chance.

def test_chance_level_and_large_logits(backend):
    net = xn.Sequential(xn.Dense(20, 10, init=xn.initializers.normal(1e-4)))
    model = backend.model(net, "float64")
    rng = np.random.default_rng(0)
    x, t = backend.asarray(rng.standard_normal((64, 20))), backend.asarray(rng.integers(0, 10, 64))
    assert float(xn.SoftmaxCrossEntropy()(model.forward(x)[0], t)[0]) == pytest.approx(math.log(10), abs=1e-3)
    p, _ = xn.Softmax()(backend.asarray([[123.0, 456.0, 789.0]]))
    assert_close(p, [[0.0, 0.0, 1.0]], backend, atol=1e-12)
    z = backend.asarray([[-431.0, 279.0, 427.0]])
    for target, value in ((0, 858.0), (1, 148.0), (2, 0.0)):
        assert float(xn.SoftmaxCrossEntropy()(z, backend.asarray([target]))[0]) == pytest.approx(value, abs=1e-9)


# T10. scikit-learn's "Ordinary least squares" example.

def test_one_neuron_lands_on_least_squares(backend):
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_diabetes()
    x, t = bunch.data[:, [2]], bunch.target[:, None]
    # The column has a variance of 1/442, so full-batch gradient descent needs large steps for w and small ones for b.
    scale = math.sqrt(len(x))
    model = backend.model(xn.Sequential(xn.Dense(1, 1)), "float64")
    train = backend.asarray(x[:-20] * scale), backend.asarray(t[:-20])
    loss, optimizer = xn.MeanSquaredError("half_batch_mean"), xn.SGD(0.9)
    for _ in range(400):
        step(model, loss, *train, optimizer)
    w, b = model.get_param("0.W") * scale, model.get_param("0.b")
    assert_close(w, [[938.2378612513521]], backend, rtol=1e-12)
    assert_close(b, [152.91886182616113], backend, rtol=1e-12)
    y = model.predict(backend.asarray(x[-20:] * scale))
    assert float(xn.MeanSquaredError()(y, backend.asarray(t[-20:]))[0]) == pytest.approx(2548.07239872597, rel=1e-12)
    assert float(xn.metrics.r2(y, backend.asarray(t[-20:]))) == pytest.approx(.47257544798, abs=5e-12)

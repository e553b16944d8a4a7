"""explain: every formula that is shown, evaluated from the numbers that are shown beside it, gives the result that is shown."""

import json
import re
import xml.etree.ElementTree

import numpy as np
import pytest
from cases import LAYERS, draw, each
from latex import NUMPY, evaluate, key, parse, sides

import xpnet as xn
from xpnet.derivation import Explanation, explain
from xpnet.derivation.expression import _FUNCTIONS as FUNCTIONS
from xpnet.derivation.formulas import _LAYERS as LAYER_FORMULAS
from xpnet.derivation.losses import _LOSSES as LOSS_FORMULAS
from xpnet.derivation.mathml import mathml
from xpnet.derivation.optimizers import _UPDATES as OPTIMIZER_FORMULAS
from xpnet.derivation.values import Value
from xpnet.layer import Layer, Param

NOTATIONS = ("rows", "columns")
MATRICES = {name: case for name, case in LAYERS.items() if isinstance(case[1], tuple) and len(case[1]) == 2 and name not in (
    "Reshape", "Parallel")}


def model_of(bench, layer, dtype="float64"):
    """A model of the layer with parameters that are not special; float32 where the backend has no other."""
    model = xn.Model(layer, backend=bench.backend, dtype=dtype if bench.float64 else "float32", seed=1)
    noise = 0.1 * np.random.default_rng(0).standard_normal(model.layout.size)
    model.params = bench.host(model.params) + noise
    return model


def data_of(bench, shape, seed=3):
    return each(bench.asarray, draw(shape, np.random.default_rng(seed)))


def assert_consistent(e, tolerance=1e-11):
    """Each formula gives its result again, no layer is apart from its formula, and each gradient agrees with its finite difference."""
    lines = e.lines()
    assert lines
    for line in lines:
        what = (e.network, line.symbol.text, line.expression)
        assert line.apart < tolerance, (what, line.apart)
        if line.expression and all(v.array is not None for v in (*line.inputs.values(), line.value)):
            again = np.reshape(np.asarray(line.evaluate(e.notation)), line.value.shape)
            np.testing.assert_allclose(again, line.value.array, rtol=1e-10, atol=1e-13, err_msg=str(what))
        if line.symbol.grad and line in e.lines("backward") + e.lines("loss"):
            assert line.check is not None, what
            assert line.check.error < 1e-6, (what, line.check)
            if line.check.value is not None and not line.check.note:
                np.testing.assert_allclose(line.check.value.array, line.value.array, rtol=1e-5, atol=1e-8, err_msg=str(what))


class Join(Layer):
    """y = Σᵢ of the sums of squares of the arrays, (1, 1): one output for what gives several."""

    takes_tuples = True

    def forward(self, params, x, ctx):
        xp = ctx.xp
        y = xp.reshape(sum(xp.sum(e * e) for e in x), (1, 1))

        def backward(dy, input_grad=True):
            return tuple(2.0 * e * dy[0, 0] for e in x), {}

        return y, backward


def joined(layer, x):
    """A layer that gives several arrays, with what makes one output of them."""
    y, _ = xn.Model(layer, dtype="float64").forward(x)
    return xn.Sequential(layer, Join()) if isinstance(y, tuple) else layer


# Every layer, loss and optimizer.

@pytest.mark.parametrize("name", LAYERS)
def test_layer(backend, name):
    make, shape = LAYERS[name]
    layer = joined(make(), draw(shape, np.random.default_rng(3)))
    model = model_of(backend, layer)
    x = data_of(backend, shape)
    y, _ = model.forward(model.asarray(x) if not isinstance(x, tuple) else tuple(map(model.asarray, x)))
    t = data_of(backend, tuple(y.shape), seed=4)
    e = explain(model, xn.MeanSquaredError(), x, t)
    assert_consistent(e)
    assert e.after == pytest.approx(float(e["L after"])) and e.loss == float(e["L"])


@pytest.mark.parametrize("name", MATRICES)
def test_layer_in_columns(name):
    make, shape = LAYERS[name]
    model = xn.Model(make(), dtype="float64", seed=1)
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape)
    y, _ = model.forward(x)
    for loss in (xn.MeanSquaredError(), xn.MeanSquaredError("half_sum")):
        rows, columns = (explain(model, loss, x, rng.standard_normal(y.shape) * 0 + 0.3, notation=n) for n in NOTATIONS)
        assert_consistent(columns, 1e-9)                  # of a constant target the gradients of normalising layers are nearly 0
        n = len(x) if loss.reduction == "mean" else 1
        for a, b in zip(rows.lines(), columns.lines(), strict=True):
            factor = n if b.symbol.grad == "ℓ" else 1     # δ is that of each sample's own loss
            turned = a.value.array.T if a.value.ndim == 2 else np.reshape(a.value.array, b.value.shape)
            np.testing.assert_allclose(b.value.array, factor * turned, rtol=1e-12, atol=1e-15)


def test_columns_are_the_textbooks_formulas():
    model = xn.Model(xn.Sequential(xn.Dense(2, 3, "tanh"), xn.Dense(3, 1)), dtype="float64")
    e = explain(model, xn.MeanSquaredError("half_mean"), np.eye(4, 2), np.ones((4, 1)), notation="columns")
    text = e.text()
    for formula in ("z⁽⁰⁾ = W⁽⁰⁾ x + b⁽⁰⁾", "z⁽¹⁾ = W⁽¹⁾ a⁽⁰⁾ + b⁽¹⁾", "∂ℓ/∂a⁽⁰⁾ = W⁽¹⁾ᵀ δ⁽¹⁾", "∂L/∂W⁽⁰⁾ = 1/n δ⁽⁰⁾ xᵀ", "∂L/∂b⁽¹⁾ = 1/n Σₙ δ⁽¹⁾",
                    "δ⁽⁰⁾ = ∂ℓ/∂a⁽⁰⁾ ⊙ (1 - (a⁽⁰⁾)²)", "δ⁽¹⁾ = 1/k r"):
        assert formula in text, text


LOSSES = [
    *((cls(reduction=reduction), "real") for cls in (xn.MeanSquaredError, xn.MeanAbsoluteError, xn.Huber, xn.LogCosh)
      for reduction in ("mean", "batch_mean", "sum", "half_mean", "half_batch_mean", "half_sum")),
    (xn.Poisson(), "counts"), (xn.Hinge(), "signs"), (xn.BinaryCrossEntropy(), "unit"), (xn.BinaryCrossEntropy("half_sum"), "unit"),
    (xn.BinaryCrossEntropy(pos_weight=3.0), "unit"), (xn.KLDivergence(), "distribution"), (xn.KLDivergence("batch_mean"), "distribution"),
    (xn.MulticlassHinge(), "labels"), (xn.MulticlassHinge("sum"), "labels"), (xn.SoftmaxCrossEntropy(), "labels"),
    (xn.SoftmaxCrossEntropy("sum"), "labels"), (xn.SoftmaxCrossEntropy("half_mean"), "distribution"),
    (xn.SoftmaxCrossEntropy(label_smoothing=0.1), "labels"), (xn.SoftmaxCrossEntropy(label_smoothing=0.1), "distribution"),
    (xn.SoftmaxCrossEntropy(class_weights=[1.0, 2.0, 0.5]), "labels"), (xn.SoftmaxCrossEntropy("sum", class_weights=[1.0, 2.0, 0.5]), "labels"),
    (xn.SoftmaxCrossEntropy("half_batch_mean", class_weights=[1.0, 2.0, 0.5]), "labels"),
    (xn.SoftmaxCrossEntropy(class_weights=[1.0, 2.0, 0.5]), "distribution"),
]


def targets(kind, shape, rng):
    if kind == "labels":
        return rng.integers(0, shape[-1], shape[:-1])
    if kind == "distribution":
        p = rng.uniform(0.1, 1.0, shape)
        return p / p.sum(axis=-1, keepdims=True)
    return {"real": lambda: rng.standard_normal(shape), "counts": lambda: rng.integers(0, 5, shape).astype(float),
            "signs": lambda: np.sign(rng.standard_normal(shape)), "unit": lambda: rng.uniform(0, 1, shape)}[kind]()


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3)], ids=str)
@pytest.mark.parametrize("loss, kind", LOSSES, ids=lambda v: repr(v) if isinstance(v, xn.Loss) else v)
def test_loss(loss, kind, shape, weighted):
    rng = np.random.default_rng(5)
    t, x = targets(kind, shape, rng), rng.standard_normal((*shape[:-1], 2))
    model = xn.Model(xn.Dense(2, 3), dtype="float64", seed=2)
    w = rng.uniform(0.5, 2.0, shape[0]) if weighted else None
    for notation in NOTATIONS[:1 if len(shape) > 2 else 2]:
        e = explain(model, loss, x, t, weights=w, notation=notation)
        assert_consistent(e)
        assert all(line.expression for line in e.lines("loss"))


OPTIONS = {"plain": {}, "L2": {"weight_decay": 0.1}, "decoupled": {"weight_decay": 0.1, "decoupled": True, "decay_biases": False},
           "ClipNorm": {"clip": xn.ClipNorm(0.1)}, "ClipValue": {"clip": xn.ClipValue(0.05), "weight_decay": 0.2},
           "paths": {"lr_scale": {"0.*": 0.1}, "freeze": ("1.b",), "clip": xn.ClipNorm(0.2)}}
OPTIMIZERS = [xn.SGD, xn.Momentum, xn.Nesterov, xn.AdaGrad, xn.RMSProp, xn.AdaDelta, xn.Adam, xn.AdamW, xn.AMSGrad, xn.NAdam, xn.RAdam, xn.Lion]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_optimizer(cls, options):
    """The update, at the first step and at a later one, is what the optimizer then does; and explain does not do it."""
    rng = np.random.default_rng(6)
    x, t = rng.standard_normal((4, 3)), rng.integers(0, 2, 4)
    model = xn.Model(xn.Sequential(xn.Dense(3, 4, "tanh"), xn.Dense(4, 2)), dtype="float64")
    loss, optimizer = xn.SoftmaxCrossEntropy(), cls(0.05, **options)
    for steps in range(7):
        if steps in (0, 6):                               # RAdam's rectified form starts at the sixth
            e = explain(model, loss, x, t, optimizer=optimizer, notation=NOTATIONS[steps % 2])
            assert_consistent(e)
            assert all(line.expression for line in e.lines("update"))
            promised = {step.path: step.lines for step in e.steps if step.phase == "update"}
        y, backward = model.forward(x)
        optimizer.step(model, backward(loss(y, t)[1]))
        if steps in (0, 6):
            for path, lines in promised.items():
                line = next(line for line in reversed(lines) if line.result == "p")
                np.testing.assert_allclose(line.value.array, model.get_param(path), rtol=1e-12, atol=1e-15)
            assert e.after == pytest.approx(float(loss(model.forward(x)[0], t)[0]), rel=1e-12)


def test_everything_has_formulas():
    """A new layer, loss or optimizer is explained by its formulas, not by its numbers alone."""
    def made(base):
        return {v for v in vars(xn).values() if isinstance(v, type) and issubclass(v, base) and v is not base}

    assert {c for c in made(Layer) - {xn.Activation} if not any(k in LAYER_FORMULAS for k in c.__mro__)} == set()
    assert made(xn.Loss) - set(LOSS_FORMULAS) == set()
    assert made(xn.Optimizer) - set(OPTIMIZER_FORMULAS) == set()


# The published example.

def mazur(bench):
    net = xn.Sequential(xn.Dense(2, 2, "sigmoid"), xn.Dense(2, 2, "sigmoid"))
    model = xn.Model(net, backend=bench.backend, dtype="float64")
    for path, value in {"0.W": [[.15, .25], [.20, .30]], "0.b": [.35, .35], "1.W": [[.40, .50], [.45, .55]], "1.b": [.60, .60]}.items():
        model.set_param(path, bench.asarray(np.array(value)))
    return model, bench.asarray([[.05, .10]]), bench.asarray([[.01, .99]])


@pytest.mark.float64
@pytest.mark.parametrize("notation", NOTATIONS)
def test_mazur_to_nine_digits(backend, notation):
    """T1: each published number stands in the text with nine digits, and so does the famous mistake."""
    model, x, t = mazur(backend)
    e = explain(model, xn.MeanSquaredError("half_sum"), x, t, optimizer=xn.SGD(.5, freeze=("*.b",)), notation=notation)
    published = [
        .3775, .3925, .5932699921071872, .596884378259767, 1.10590596705977, 1.2249214040964653, .7513650695523157, .7729284653214625,
        .2983711087600027, .13849856162855695, -.038098236516556236, .00877135468948693, .009954254705217196, .08216704056423077,
        .08266762784753325, -.02260254047747507, -.022740242215978222, .0004385677344743465, .000877135468948693, .0004977127352608599,
        .0009954254705217198, .1497807161327628, .19956143226552567, .24975114363236958, .29950228726473915, .35891647971788465,
        .4086661860762334, .5113012702387375, .5613701211079891, .29102777369359933]
    text, markdown = e.text(9), e.markdown(9)
    for number in published:
        assert f"{number:.9g}" in text, number
        assert f"{number:.9g}" in markdown, number
    assert "L with the mistake = 0.291027924" in text      # what the post prints
    assert e.sequential == pytest.approx(.291027924, abs=5e-10) and e.after == pytest.approx(.29102777369359933, rel=1e-13)
    assert "the famous mistake" in text
    # A text with other numbers would not do.
    assert "0.291027925" not in text


# What is wrong is said.

def test_a_broken_layer_is_seen():
    class Transposed(xn.Dense):
        def forward(self, params, x, ctx):
            y, back = super().forward(params, x, ctx)
            return y, lambda dy, input_grad=True: (dy @ params["W"], back(dy, False)[1])

    rng = np.random.default_rng(0)
    model = xn.Model(xn.Sequential(xn.Dense(3, 3, "tanh"), Transposed(3, 3)), dtype="float64")
    e = explain(model, xn.MeanSquaredError(), rng.standard_normal((4, 3)), rng.standard_normal((4, 3)))
    line = e.find("∂L/∂a⁽⁰⁾", "backward")
    assert line.apart > 0.1 and line.check.error > 0.1
    for text in (e.text(), e.markdown()):
        assert text.lower().count("the layer gives another result than this formula") == 1
        assert text.count("DIFFERS") == 1
    np.testing.assert_allclose(line.value.array, e["δ⁽¹⁾"] @ e.find("∂L/∂a⁽⁰⁾", "backward").inputs["W"].array if "δ⁽¹⁾" in str(e) else 0,
                               rtol=1e-12)


class Wave(Layer):
    """y = x sin(ωx)"""

    keeps_features = True

    def __init__(self):
        self.w = Param((3,), "ones")

    def params(self):
        return {"w": self.w}

    def forward(self, params, x, ctx):
        xp, w = ctx.xp, params["w"]
        s, c = xp.sin(w * x), xp.cos(w * x)
        return x * s, lambda dy, input_grad=True: (dy * (s + w * x * c), {"w": xp.sum(dy * x * x * c, axis=0)})


def test_a_layer_without_formulas_is_explained_by_its_numbers(backend):
    model = model_of(backend, xn.Sequential(xn.Dense(2, 3), Wave(), xn.Dense(3, 1)))
    e = explain(model, xn.MeanSquaredError(), data_of(backend, (4, 2)), data_of(backend, (4, 1)))
    assert_consistent(e)
    assert "a⁽¹⁾ = f(z⁽⁰⁾, w⁽¹⁾)" in e.text() and "y = x sin(ωx)" in e.text()
    lines = [line for line in e.lines("backward") if not line.expression]
    assert [line.symbol.text for line in lines] == ["∂L/∂w⁽¹⁾", "δ⁽⁰⁾"]


def test_an_activation_of_ones_own_within_dense(backend):
    class Cube(xn.Activation):
        def f(self, xp, x):
            return x * x * x

        def df(self, xp, dy, x):
            return dy * (3.0 * (x * x))

    for bias in (True, False):
        model = model_of(backend, xn.Dense(2, 3, Cube(), bias=bias))
        e = explain(model, xn.MeanSquaredError(), data_of(backend, (4, 2)), data_of(backend, (4, 3)))
        assert_consistent(e, 1e-9)
        assert e.find("δ").expression == "" and e.find("∂L/∂W").expression == "x.T @ dz"


def test_kinks_are_said():
    model = xn.Model(xn.Sequential(xn.ReLU(), xn.Dense(2, 1)), dtype="float64")
    e = explain(model, xn.MeanSquaredError(), np.array([[0.0, 1.0]]), np.ones((1, 1)))
    assert "kink" in e.find("∂L/∂x").check.words and e.find("∂L/∂x").check.entries == 1


# What is given stays as it is.

def test_nothing_changes(backend, dtype):
    x, t = data_of(backend, (4, 3)), data_of(backend, (4, 2))
    model = backend.model(xn.Sequential(xn.Dense(3, 4, "tanh"), xn.Dropout(0.5), xn.Dense(4, 2)), dtype)
    x, t = model.asarray(x), model.asarray(t)
    optimizer, loss = xn.Adam(0.1), xn.MeanSquaredError()
    y, backward = model.forward(x)
    optimizer.step(model, backward(loss(y, t)[1]))
    before = [np.array(backend.host(v)) for v in (model.params, model.grads, x, t, *optimizer.state.values())], model.step, optimizer.t
    e = explain(model, loss, x, t, optimizer=optimizer)
    after = [np.array(backend.host(v)) for v in (model.params, model.grads, x, t, *optimizer.state.values())], model.step, optimizer.t
    assert all(np.array_equal(a, b) for a, b in zip(before[0], after[0])) and before[1:] == after[1:]
    y, backward = model.forward(x)                        # the same masks as the explanation's
    value, dy = loss(y, t)
    assert e.loss == pytest.approx(float(value), rel=1e-5)
    optimizer.step(model, backward(dy))
    step = {s.path: s for s in e.steps if s.phase == "update"}["0.W"]
    np.testing.assert_allclose(step.lines[-1].value.array, backend.host(model.get_param("0.W")), rtol=2e-4, atol=2e-6)


# The forms.

@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(1)
    net = xn.Sequential(xn.Dense(3, 4, "relu"), xn.Residual(xn.Dense(4, 4, "tanh")), xn.Dropout(0.5), xn.Dense(4, 3))
    model = xn.Model(net, dtype="float64", seed=3)
    return explain(model, xn.SoftmaxCrossEntropy(), rng.standard_normal((3, 3)), rng.integers(0, 3, 3), optimizer=xn.Adam(0.1))


@pytest.mark.parametrize("most", [100, 5])
def test_json_round_trips(most):
    rng = np.random.default_rng(1)
    model = xn.Model(xn.Sequential(xn.Dense(3, 4, "relu"), xn.Dense(4, 3)), dtype="float64", seed=3)
    for notation in NOTATIONS:
        e = explain(model, xn.SoftmaxCrossEntropy(), rng.standard_normal((3, 3)), rng.integers(0, 3, 3), max_entries=most, notation=notation)
        again = Explanation.from_json(e.json())
        assert again == e and again.json() == e.json()
        assert again.text(9) == e.text(9) and again.markdown(9) == e.markdown(9)
    changed = json.loads(e.json())
    changed["steps"][0]["lines"][0]["value"]["shape" if most == 5 else "dtype"] = [9] if most == 5 else "int"
    assert Explanation.from_json(json.dumps(changed)) != e if most == 5 else True


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 1}'])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match="not an explanation"):
        Explanation.from_json(text)


def test_numbers_that_are_not_finite_survive_json():
    for a in (np.array([np.nan, np.inf, -np.inf, 1.5]), np.array([[1, 2], [3, 4]]), np.zeros((2, 0, 3)), np.array(3.0)):
        again = Value.from_json(json.loads(json.dumps(Value.of(a, 100).to_json(), allow_nan=False)))
        assert again.array.dtype.kind == a.dtype.kind and again.shape == a.shape
        np.testing.assert_array_equal(again.array, a)


def test_mathml_is_well_formed_and_holds_the_numbers(small):
    for line in small.lines():
        for node in (line.formula(), line.filled()):
            if node is not None:
                tree = xml.etree.ElementTree.fromstring(f"<math>{mathml(node)}</math>")
                assert tree.tag == "math"
                for fraction in tree.iter("mfrac"):
                    assert len(fraction) == 2
                for power in tree.iter("msup"):
                    assert len(power) == 2


def test_large_arrays_are_statistics():
    rng = np.random.default_rng(0)
    model = xn.Model(xn.Sequential(xn.Dense(784, 128, "relu"), xn.Dense(128, 10)), dtype="float64")
    e = explain(model, xn.SoftmaxCrossEntropy(), rng.standard_normal((8, 784)), rng.integers(0, 10, 8), optimizer=xn.Adam())
    assert_consistent(e)
    assert len(e.text()) < 30_000 and len(e.json()) < 100_000
    assert "784 x 128 numbers from" in e.text() and "in 8 entries" in e.text()
    assert e["δ⁽⁰⁾"] is None


def test_save_and_errors(small, tmp_path):
    for ending, made in ((".txt", small.text(8)), (".md", small.markdown(8)), (".json", small.json())):
        small.save(tmp_path / f"step{ending}", 8)
        assert (tmp_path / f"step{ending}").read_text(encoding="utf-8") == made
    with pytest.raises(ValueError, match="unknown ending"):
        small.save(tmp_path / "step.pdf")
    with pytest.raises(ValueError, match=r"unknown symbol.*did you mean"):
        small.find("∂L/∂W⁽7⁾")
    model, x, t = xn.Model(xn.Dense(2, 3)), np.ones((4, 2)), np.ones((4, 3))
    for wrong, words in (
            (lambda: explain(xn.Dense(2, 3), xn.MeanSquaredError(), x, t), "takes a Model"),
            (lambda: explain(model, xn.MeanSquaredError, x, t), "takes a loss such as"),
            (lambda: explain(model, xn.MeanSquaredError(), x, t, optimizer=0.1), "takes an optimizer such as"),
            (lambda: explain(model, xn.MeanSquaredError(), x, t, notation="row"), "did you mean 'rows'"),
            (lambda: explain(model, xn.MeanSquaredError(), x, t[:2]), "target of the prediction's shape"),
            (lambda: explain(model, xn.MeanSquaredError(), x[:, :1], t), r"takes x of shape \(batch, 2\)"),
            (lambda: explain(xn.Model(xn.Parallel(xn.Dense(2, 1), xn.Dense(2, 1))), xn.MeanSquaredError(), x, t), "gives 2"),
            (lambda: explain(xn.Model(xn.Flatten()), xn.MeanSquaredError(), np.ones((2, 2, 2)), np.ones((2, 4)), notation="columns"), "Use 'rows'")):
        with pytest.raises((TypeError, ValueError), match=words):
            wrong()


def test_print_with_and_without_rich(small, capsys, monkeypatch):
    pytest.importorskip("rich")
    small.print(7)
    coloured = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    small.print(7)
    plain = capsys.readouterr().out
    assert plain == small.text(7)
    assert [line.rstrip() for line in coloured.splitlines()] == [line.rstrip() for line in plain.splitlines()]


# What is printed, read back: the Markdown's LaTeX, parsed (tests/latex.py) and evaluated from the printed numbers.

OWN = {"onehot": lambda t, k: np.asarray(np.ravel(t)[..., None] == np.arange(k), dtype=float), "rows": lambda a: np.reshape(a, (-1, a.shape[-1])),
       "reshape": lambda a, *shape: np.reshape(a, tuple(map(int, shape))), "concat": lambda *a: np.concatenate(a, axis=-1),
       "channels": lambda a: np.reshape(np.moveaxis(a, 1, -1), (-1, a.shape[1])),
       "images": lambda a, n, c, *space: np.moveaxis(np.reshape(a, (n, *space, c)), -1, 1),
       "largest": lambda a: np.eye(a.shape[-1])[np.argmax(a, axis=-1)], "softplus": lambda x: np.logaddexp(0, x), "xlogx": lambda t: t * np.log(t)}
OVER = {"": np.sum, "n": lambda a: np.sum(a, axis=1, keepdims=True), "k": lambda a: np.sum(a, axis=0, keepdims=True),
        "d": lambda a: np.sum(a, axis=1, keepdims=True)}
OWN |= {name: FUNCTIONS[name] for name in ("step", "steps", "turned", "take", "mT", "batchsum", "first", "padded", "before", "after", "pair", "entry", "behind", "rotate",
                                          "heads", "joined")}
COLUMNS = {**OWN, "onehot": lambda t, k: OWN["onehot"](t, k).T, "concat": lambda *a: np.concatenate(a, axis=0), "sum over": OVER,
           "max over": {"k": lambda a: np.max(a, axis=0, keepdims=True)}, "part": lambda a, start, stop: a[start:stop]}


def math_blocks(markdown):
    return iter(re.findall(r"```math\n(.*?)\n```", markdown, re.DOTALL))


def assert_printed_formulas_hold(e):
    """Returns how many were evaluated."""
    blocks, count = math_blocks(e.markdown(17)), 0
    functions = OWN if e.notation == "rows" else COLUMNS
    for line in e.lines():
        formula = next(blocks).partition(" \\qquad")[0]
        printed = {}
        if line.filled() is not None:
            _, (left, right) = sides(parse(next(blocks)))
            tree = left
        else:
            names = [line.names[n].latex for n, v in line.inputs.items() if v.array is not None and v.ndim <= 2]
            names += [line.symbol.latex] if line.inputs and line.value.array is not None and line.value.ndim <= 2 else []
            for name in names:
                latex = next(blocks)
                assert latex.startswith(f"{name} = ")
                _, (symbol, number) = sides(parse(latex))
                if latex is not None and name == line.symbol.latex:
                    result = number
                printed.setdefault(key(symbol), evaluate(number, {}))
            if not line.expression or any(v.array is None or v.ndim > 2 for v in (*line.inputs.values(), line.value)):
                continue
            right = result if line.inputs else sides(parse(formula))[1][1]
            tree = sides(parse(formula))[1][1]
        value = evaluate(tree, printed, functions=functions)
        expected = np.reshape(evaluate(right, {}), line.value.shape)
        np.testing.assert_allclose(np.reshape(value, line.value.shape), expected, rtol=1e-9, atol=1e-12, err_msg=formula)
        count += 1
    assert next(blocks, None) is None
    return count


@pytest.mark.parametrize("name", LAYERS)
def test_printed_layer(name):
    make, shape = LAYERS[name]
    rng = np.random.default_rng(3)
    x = draw(shape, rng)
    model = xn.Model(joined(make(), x), dtype="float64", seed=1)
    t = rng.standard_normal(model.forward(x)[0].shape)
    for notation in NOTATIONS[:2 if name in MATRICES else 1]:
        assert assert_printed_formulas_hold(explain(model, xn.MeanSquaredError(), x, t, notation=notation, checks=False)) >= (3 if name in MATRICES else 0)   # arrays with three axes are not printed as matrices


@pytest.mark.parametrize("loss, kind", LOSSES, ids=lambda v: repr(v) if isinstance(v, xn.Loss) else v)
def test_printed_loss(loss, kind):
    rng = np.random.default_rng(5)
    model = xn.Model(xn.Dense(2, 3), dtype="float64", seed=2)
    for w in (None, rng.uniform(0.5, 2.0, 4)):
        for notation in NOTATIONS:
            e = explain(model, loss, rng.standard_normal((4, 2)), targets(kind, (4, 3), rng), weights=w, notation=notation, checks=False)
            assert assert_printed_formulas_hold(e) >= 5


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_printed_optimizer(cls, options):
    rng = np.random.default_rng(6)
    x, t = rng.standard_normal((4, 3)), rng.integers(0, 2, 4)
    model = xn.Model(xn.Sequential(xn.Dense(3, 4, "tanh"), xn.Dense(4, 2)), dtype="float64")
    for notation in NOTATIONS:
        e = explain(model, xn.SoftmaxCrossEntropy(), x, t, optimizer=cls(0.05, **options), notation=notation, checks=False)
        assert assert_printed_formulas_hold(e) >= 15


def test_a_printed_formula_that_does_not_hold_is_seen():
    """The test of the tests: a transposed matrix, a wrong sign, a changed number."""
    model = xn.Model(xn.Sequential(xn.Dense(3, 3, "tanh"), xn.Dense(3, 1)), dtype="float64")
    rng = np.random.default_rng(0)
    e = explain(model, xn.MeanSquaredError(), rng.standard_normal((3, 3)), np.ones((3, 1)), checks=False)
    text = e.markdown(17)
    for old, new in (("^{\\top}", ""), (" - ", " + "), ("0.1", "0.2"), ("\\tanh", "\\sigma")):
        assert old in text
        changed = text.replace(old, new)
        e.markdown = lambda digits, changed=changed: changed
        with pytest.raises((AssertionError, ValueError, KeyError)):
            assert_printed_formulas_hold(e)
    assert NUMPY


# The command.

@pytest.mark.float64
@pytest.mark.parametrize("network", ["mazur", "xor", "classes", "regression", "residual"])
def test_command(network, backend, tmp_path, capsys):
    from xpnet.cli import main

    if backend.name != "strict":                          # its device is not named in a command
        assert main(["explain", network, "--backend", backend.backend.name, "--out", str(tmp_path / "step.json")]) == 0
        e = Explanation.from_json((tmp_path / "step.json").read_text(encoding="utf-8"))
        assert_consistent(e)
        assert main(["explain", network, "--notation", "columns", "--digits", "5"]) == 0
        assert "samples are columns" in capsys.readouterr().out


def test_command_says_what_is_wrong(tmp_path, capsys):
    from xpnet.cli import main

    assert main(["explain", "--out", str(tmp_path / "step.pdf")]) == 2
    assert "unknown ending '.pdf'" in capsys.readouterr().err
    assert main(["explain", "--out", str(tmp_path / "no" / "step.md")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_the_readme_shows_what_explain_prints(capsys):
    from pathlib import Path

    from xpnet.cli import main

    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- explain -->\n```text\n(.*?)```", readme, re.DOTALL)[1]
    assert main(["explain", "mazur"]) == 0

    def but_errors(text):
        return re.sub(r"\s+", " ", re.sub(r"relative error \S+", "", re.sub(r"\x1b\[[\d;]*m", "", text)))

    assert but_errors(shown).strip() in but_errors(capsys.readouterr().out)


def test_what_fit_refuses_is_refused():
    model, x = xn.Model(xn.Dense(2, 3), dtype="float64"), np.ones((2, 2))
    for run in (explain, lambda m, loss, x, t: xn.gradient_check(m, x, loss, t)):
        with pytest.raises(ValueError, match="3 classes are numbered 0 to 2"):
            run(model, xn.SoftmaxCrossEntropy(), x, np.array([0, 7]))
        with pytest.raises(ValueError, match="probabilities in"):
            run(model, xn.BinaryCrossEntropy(), x, np.full((2, 3), 5.0))
    for wrong in (0, -1, "all"):
        with pytest.raises((ValueError, TypeError), match="max_entries is an integer"):
            explain(model, xn.MeanSquaredError(), x, np.ones((2, 3)), max_entries=wrong)
    optimizer, other = xn.Adam(), xn.Model(xn.Dense(2, 3), dtype="float64")
    y, backward = other.forward(x)
    optimizer.step(other, backward(y))
    with pytest.raises(ValueError, match="state of another model after 1 steps"):
        explain(model, xn.MeanSquaredError(), x, np.ones((2, 3)), optimizer=optimizer)
    e = explain(model, xn.MeanSquaredError(), x.tolist(), np.ones((2, 3)), weights=[1, 2])
    assert_consistent(e)


def test_a_loss_without_formulas_and_a_frozen_layer():
    class Own(xn.MeanSquaredError):
        pass

    model = xn.Model(xn.Sequential(xn.Dense(2, 3), xn.Dense(3, 1)), dtype="float64")
    e = explain(model, Own(), np.ones((2, 2)), np.ones((2, 1)), optimizer=xn.SGD(0.1, freeze=("0.*",)))
    assert "δ⁽¹⁾ = f′(z⁽¹⁾, t)" in e.text()
    assert e.sequential is None and "mistake" not in e.text()   # nothing below a layer that moves is updated

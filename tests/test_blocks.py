"""A rule on NumPy, three times: its text, in blocks with `out=`, and as numba's loop. All give the same bits."""

import importlib
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from cases import ACTIVATIONS, LAYERS, each
from cases import draw as draw_input
from hypothesis import given, settings
from hypothesis import strategies as st
from test_losses import ALL as LOSSES
from test_losses import draw, make
from test_sequence_losses import LOSSES as SEQUENCE_LOSSES
from test_sequence_losses import draw as draw_sequence

import xpnet
from xpnet import Dense, Model, Optimizer, Sequential, SoftmaxCrossEntropy
from xpnet.backend import Rule, blocks, elementwise, get_backend, loops
from xpnet.backend.tracing import NotTraceable, Trace

elementwise_module = sys.modules["xpnet.backend.elementwise"]   # the package's attribute of that name is the decorator
xp = get_backend("numpy").xp


def library_rules():
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(xpnet.__path__, "xpnet.")]
    return {rule for module in modules for rule in vars(module).values() if isinstance(rule, Rule)}


def copies(args):
    """The same arrays once more, in the same order in memory."""
    return [a.copy(order="K") if isinstance(a, np.ndarray) else a for a in args]


def assert_same(ours, theirs, name):
    for a, b in zip(ours, theirs, strict=True):
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape) == (b.dtype, b.shape), name
            np.testing.assert_array_equal(a, b, err_msg=name)


def results(value):
    return [] if value is None else list(value) if isinstance(value, tuple) else [value]


def single(a):
    a = np.asarray(a)
    return a.astype("float32") if a.dtype.kind == "f" else a


def run_as(how, text, args, made=None):
    """What a rule gives and what it leaves in its arguments; None where it cannot be run so. made: what was compiled before."""
    key = how, text, *((a.shape, a.strides, a.dtype) if isinstance(a, np.ndarray) else type(a) for a in args)
    made = {} if made is None else made
    mine = copies(args)
    if key not in made:
        made[key] = None
        trace = Trace(text, tuple(a.dtype if isinstance(a, np.ndarray) else type(a) for a in args))
        if how == "blocks" or loops.is_exact(trace):
            made[key] = (blocks.in_blocks if how == "blocks" else loops.as_loop)(trace, tuple(mine))
    return made[key] and [*results(made[key](*mine)), *mine]


@pytest.fixture
def checked(monkeypatch):
    """Within this, each call of a rule is also made in blocks and as a loop. {how: the rules that were}"""
    seen, compiled = {"blocks": set(), "loop": set()}, {}

    def both(self, xp, *args):
        given = copies(args)
        made = self.text(xp, *args)
        if any(isinstance(a, np.ndarray) and a.dtype == np.float16 for a in args):
            return made
        for how in seen:
            if how == "loop" and not elementwise_module.numba_is_installed():
                continue
            try:
                found = run_as(how, self.text, given, compiled)
            except NotTraceable:
                continue
            if found is not None:
                assert_same(found, [*results(made), *args], f"{self.text.__qualname__} as {how}")
                seen[how].add(self.text)
        return made

    monkeypatch.setattr(Rule, "__call__", both)
    monkeypatch.setattr(blocks, "BLOCK", 16)
    yield seen


@pytest.mark.filterwarnings("ignore::RuntimeWarning")     # what overflows in the text overflows in the blocks too
def test_every_rule_of_the_library_gives_the_same_bits(checked):
    rng = np.random.default_rng(0)
    nets = [(make_layer, draw_input(shape, rng)) for make_layer, shape in LAYERS.values()]
    nets += [(lambda f=f: Dense(5, 5, f()), rng.standard_normal((4, 5))) for f in ACTIVATIONS.values()]
    for make_layer, x in nets:
        model = Model(make_layer(), "numpy")
        y, backward = model.forward(each(single, x))
        backward(y, input_grad=True)
    for name in LOSSES:
        y, t = draw(name)
        make(name)(single(y), single(t))
    for name, row in SEQUENCE_LOSSES.items():
        y, t = draw_sequence(name)
        row[0]("sum")(each(single, y), single(t))
    x, t = rng.standard_normal((24, 6)).astype("float32"), np.arange(24) % 3
    optimizers = [c for c in vars(xpnet).values() if isinstance(c, type) and issubclass(c, Optimizer) and c is not Optimizer]
    for i, cls in enumerate(optimizers):
        clip = (xpnet.ClipValue, xpnet.ClipNorm)[i % 2](1.0)
        model, optimizer = Model(Sequential(Dense(6, 4, "relu"), Dense(4, 3))), cls(0.1, weight_decay=0.1, clip=clip)
        for _ in range(65):                               # as far as the first sweep
            y, backward = model.forward(x)
            optimizer.step(model, backward(SoftmaxCrossEntropy()(y, t)[1]))
    ran = {rule.text for rule in library_rules()} & checked["blocks"]
    left = {rule.__name__ for rule in library_rules() if rule.text not in ran}
    assert left <= NOT_IN_BLOCKS, left
    assert len(checked["blocks"]) > 60
    if elementwise_module.numba_is_installed():
        assert len(checked["loop"]) > 30


# torch's integers; mixed precision and what adds losses up; a norm, which is a NumPy scalar; and two arguments that get one value.
NOT_IN_BLOCKS = {"hash_rule_int64", "add_rule", "keep_rule", "scale_rule", "unscale_rule", "clip_norm_rule", "gru_step_back"}


@elementwise
def leaky(xp, x, y, a):
    return a * xp.maximum(x, 0.25) + xp.astype(x > y, x.dtype) * x - y, xp.astype(x > y, x.dtype) - xp.abs(y) * (a - 1.0)


@elementwise(inplace=True)
def chain(xp, p, g, m, a):
    m += (1.0 - a) * (g - m)
    p -= a * m / (xp.sqrt(g * g) + 0.5)
    g[...] = xp.minimum(p * m, 0.125)


SHAPES = st.sampled_from([((7,), (7,)), ((40,), (40,)), ((5, 9), (9,)), ((5, 9), (5, 1)), ((5, 9), (1, 9)), ((3, 4, 5), (3, 4, 5)),
                          ((3, 4, 5), (4, 5)), ((3, 4, 5), (5,)), ((3, 4, 5), (3, 4, 1)), ((1, 6), (6,)), ((2, 1), (1,))])


@given(shapes=SHAPES, block=st.integers(1, 30), dtype=st.sampled_from(["float32", "float64"]), order=st.sampled_from("CFT"),
       how=st.sampled_from(["blocks", "loop"]), threads=st.integers(1, 3), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_any_shapes_in_any_order(shapes, block, dtype, order, how, threads, seed):
    """And in the same order in memory."""
    if how == "loop" and not elementwise_module.numba_is_installed():
        return
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    if order == "F":
        x, y = np.asfortranarray(x), np.asfortranarray(y)
    if order == "T":
        x, y = (np.moveaxis(np.ascontiguousarray(np.moveaxis(a, -1, 0)), 0, -1) for a in (x, y))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", block)
        patch.setattr(loops, "BLOCK", block)
        patch.setattr(blocks, "THREADED", 1)
        patch.setattr(blocks, "threads", lambda: threads)
        try:
            found = run_as(how, leaky.text, (x, y, 0.5))
        except NotTraceable:
            return
        assert_same(found, [*leaky.text(xp, x, y, 0.5), x, y, 0.5], how)
        assert [a.strides for a in found[:2]] == [a.strides for a in leaky.text(xp, x, y, 0.5)] or x.size == 1 or min(x.shape) == 1
        if x.shape == y.shape:
            args = (x, y, x * y, 0.3)
            plain = copies(args)
            chain.text(xp, *plain)
            assert_same(run_as(how, chain.text, args), plain, how)


@pytest.mark.parametrize("how", ["blocks", "loop"])
def test_nan_infinity_and_zero(how):
    if how == "loop" and not elementwise_module.numba_is_installed():
        pytest.skip("numba is not installed")
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 3e38, 1e-40], "float32")
    x, y = (a.ravel() for a in np.meshgrid(odd, odd))
    with np.errstate(all="ignore"):
        assert_same(run_as(how, leaky.text, (x, y, 0.5))[:2], leaky.text(xp, x, y, 0.5), how)

        def rule(xp, x, y):
            return xp.maximum(x, y), xp.minimum(x, y), xp.sign(x), x / y, xp.sqrt(x)

        assert_same(run_as(how, rule, (x, y))[:5], rule(xp, x, y), how)


def test_what_cannot_be_traced_runs_as_it_stands(monkeypatch):
    monkeypatch.setattr(elementwise_module, "SMALL", 0)

    @elementwise
    def asks(xp, x):
        return x * 2.0 if float(x[0]) > 0 else x

    @elementwise
    def sorts(xp, x):
        return xp.sort(x)

    @elementwise
    def gives_back(xp, x):
        return x

    x = np.array([2.0, 1.0], "float32")
    assert asks(xp, x).tolist() == [4.0, 2.0] and sorts(xp, x).tolist() == [1.0, 2.0] and gives_back(xp, x) is x


X, Y = (np.random.default_rng(0).standard_normal((2, 40, 16)) - 0.2).astype("float32")


def merged(xp, x, y):
    m = x > 0.0
    x *= y
    x -= xp.astype(m, x.dtype)


def chosen(xp, x, y):
    x[...] = xp.where(y > 0.0, x, y)


def chosen_from_a_scratch(xp, x, y):
    t = x * 2.0
    return xp.where(y > 0.0, t, y)


def two_sizes(xp, x, y):
    return x * y, y * 2.0


def grows(xp, x, y):
    x *= y
    y *= 0.5


ODD = {
    "merged": (merged, (X, Y)), "chosen": (chosen, (X, Y)), "a scratch": (chosen_from_a_scratch, (X, Y)),
    "two sizes": (two_sizes, (X, Y[0])), "a row is written": (grows, (X, Y[0])), "column and row": (two_sizes, (X[:, :1], Y[0])),
    "integers": (lambda xp, x, y: x * 0.5 + y, (np.arange(640).reshape(40, 16), X)), "whole numbers": (lambda xp, x: xp.maximum(x, 2 ** 53 + 1), (
        np.arange(640) + 2 ** 53,)), "a bool": (lambda xp, x, f: x * (1.0 - f), (X, True)), "a NumPy number": (lambda xp, x, f: x * f, (X, np.float64(0.3))),
    "infinity": (lambda xp, x: xp.minimum(x + np.inf, 3.0) * 2.0, (X,)), "a NumPy constant": (lambda xp, x: x * np.sqrt(2.0) + 1.0, (X,)),
    "a remainder": (lambda xp, x: x % 0.5, (X,)), "a shape": (lambda xp, x: x * float(x.shape[0]), (X,)), "half": (
        lambda xp, x: x * x + x * 2.0 - x * 3.0 + x, (X.astype("float16"),)), "a row of a block": (
        lambda xp, x, y: (xp.maximum(y, 0.0) + x * x) * x - x * x * x, (np.tile(X, (8, 16))[:300], np.tile(Y[0], 16))),
    "no numbers": (lambda xp, x, y: x + y, (np.ones((5, 0), "float32"), np.ones((5, 1), "float32"))),
    "minus zero": (lambda xp, x: xp.maximum(x, 0.0), (np.full(20, -0.0, "float32"),)), "to integers": (
        lambda xp, x: xp.astype(x, xp.uint32), (np.abs(X),)), "with copy": (lambda xp, x: xp.astype(x > 0.0, x.dtype, copy=True) * 2.0, (X,)),
}


@pytest.mark.parametrize("block", [16, 256])
@pytest.mark.parametrize("numba", ["0", "1"])
@pytest.mark.parametrize("name", ODD)
def test_odd_rules_give_what_their_text_gives(name, numba, block, monkeypatch):
    if numba == "1" and not elementwise_module.numba_is_installed():
        pytest.skip("numba is not installed")
    monkeypatch.setenv("XPNET_NUMBA", numba)
    for module, limits in ((elementwise_module, ("SMALL", "LARGE")), (blocks, ("LARGE", "MANY"))):
        for limit in limits:
            monkeypatch.setattr(module, limit, 0)
    monkeypatch.setattr(blocks, "BLOCK", block)
    text, args = ODD[name]
    rule = Rule(text)
    for _ in range(2):
        mine, plain = copies(args), copies(args)
        expected = text(xp, *plain)
        assert_same([*results(rule(xp, *mine)), *mine], [*results(expected), *plain], name)
        for a, b in zip(results(rule(xp, *copies(args))), results(expected)):
            assert a.tobytes() == b.tobytes()             # the sign of a zero too


def test_a_formula_may_change_its_numbers():
    layer, x = xpnet.LeakyReLU(0.01), np.full((300, 256), -1.0, "float32")
    assert layer(x)[0][0, 0] == np.float32(-0.01)
    layer.alpha = 0.5
    assert layer(x)[0][0, 0] == np.float32(-0.5)


def test_a_subclass_of_gelu_has_its_own_formula():
    class Twice(xpnet.GELU):
        def f(self, xp, x):
            return 2.0 * x

        def df(self, xp, dy, x):
            return 2.0 * dy

    model = Model(Twice())
    y, backward = model.forward(np.ones((2, 3), "float32"))
    assert np.all(y == 2.0) and np.all(backward(y, input_grad=True)[0] == 4.0)


def test_arrays_that_overlap_are_computed_in_the_texts_order(monkeypatch):
    for limit in ("LARGE", "MANY"):
        monkeypatch.setattr(blocks, limit, 0)
    monkeypatch.setattr(elementwise_module, "SMALL", 0)
    monkeypatch.setattr(elementwise_module, "LARGE", 0)
    monkeypatch.setattr(blocks, "BLOCK", 4)

    @elementwise(inplace=True)
    def rule(xp, p, g):
        p += 1.0
        p *= g

    rule(xp, np.ones(20), np.ones(20))                    # arrays apart, of the same shapes, come first
    x = np.arange(20.0)
    rule(xp, x, x[:])
    assert np.array_equal(x, (np.arange(20.0) + 1.0) ** 2)


def test_gradients_that_a_layer_swaps_stay_apart():
    class Swap(xpnet.Layer):
        def __init__(self):
            self.a, self.b = Dense(80, 80, bias=False), Dense(80, 80, bias=False)

        def children(self):
            return {"a": self.a, "b": self.b}

        def forward(self, params, x, ctx):
            h, one = ctx.forward("a", self.a, params, x)
            y, two = ctx.forward("b", self.b, params, h)

            def backward(dy, input_grad=True):
                dh, g = two(dy)
                dx, h = one(dh, input_grad)
                return dx, {"a": g, "b": h}

            return y, backward

    x, found = np.random.default_rng(0).standard_normal((9, 80)).astype("float32"), []
    for in_place in (True, False):
        model = Model(Swap())
        if not in_place:
            model._places = {}
        y, backward = model.forward(x)
        found.append(backward(y).copy())
    np.testing.assert_array_equal(*found)


def test_an_array_given_twice_is_not_cut(monkeypatch):
    for limit in ("LARGE", "MANY"):
        monkeypatch.setattr(blocks, limit, 0)
    monkeypatch.setattr(elementwise_module, "SMALL", 0)

    @elementwise(inplace=True)
    def rule(xp, p, g):
        p += 1.0
        p *= g

    x = np.array([1.0, 2.0])
    rule(xp, x, x)
    assert x.tolist() == [4.0, 9.0]


def test_a_wrong_shape_is_numpys_error(monkeypatch):
    monkeypatch.setattr(elementwise_module, "SMALL", 0)
    with pytest.raises(ValueError, match="broadcast"):
        leaky(xp, np.ones(3), np.ones(4), 0.5)


def test_a_loop_takes_over_when_it_pays(monkeypatch):
    pytest.importorskip("numba")
    made = []
    monkeypatch.setattr(elementwise_module, "WORTH", 1000.0)
    monkeypatch.setattr(elementwise_module, "SMALL", 0)
    monkeypatch.setattr(loops, "as_loop", lambda trace, args, real=loops.as_loop: made.append(1) or real(trace, args))

    @elementwise(inplace=True)
    def rule(xp, p):
        p += 1.0

    p = np.zeros(100)
    for _ in range(10):
        rule(xp, p)
    assert not made
    for _ in range(2):
        rule(xp, p)
    assert made == [1] and p[0] == 12.0


@pytest.mark.parametrize("wanted", ["0", "1", ""])
def test_the_variable_says_when(wanted, monkeypatch):
    monkeypatch.setenv("XPNET_NUMBA", wanted)
    monkeypatch.setattr(elementwise_module, "numba_is_installed", lambda: True)
    assert elementwise_module.worth() == {"0": float("inf"), "1": 0.0, "": elementwise_module.WORTH}[wanted]
    monkeypatch.setattr(elementwise_module, "numba_is_installed", lambda: False)
    if wanted == "1":
        with pytest.raises(ImportError, match=r"pip install 'xpnet\[numba\]'"):
            elementwise_module.worth()
    else:
        assert elementwise_module.worth() == float("inf")


def test_threads_keep_what_numpy_ignores(monkeypatch):
    """np.errstate of the caller holds in the threads; an error in one is raised."""
    monkeypatch.setattr(blocks, "threads", lambda: 2)
    monkeypatch.setattr(blocks, "THREADED", 1)
    monkeypatch.setattr(blocks, "BLOCK", 4)
    x = np.full(16, 1e30, "float32")

    def rule(xp, x):
        return x * x

    with np.errstate(over="ignore"):
        assert np.all(np.isinf(run_as("blocks", rule, (x,))[0]))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        run_as("blocks", rule, (x,))


def test_the_core_imports_neither_tracing_nor_numba():
    code = ("import sys, numpy as np, xpnet as xn; m = xn.Model(xn.Dense(3, 2)); m.forward(np.ones((4, 3), 'float32')); "
            "print('numba' in sys.modules, 'xpnet.backend.blocks' in sys.modules)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


"""Mixed precision: float16 activations, float32 parameters and sums, and a loss scale that moves without a host synchronisation."""

import warnings

import numpy as np
import pytest
from cases import LAYERS, Case, arrays, leaves
from conftest import STATE, Bench, assert_close

import xpnet as xn
from xpnet import SGD, Adam, Dense, Dropout, Model, Sequential, SoftmaxCrossEntropy, fit
from xpnet.backend.accumulate import accumulating
from xpnet.layer import Context

BACKENDS = [n for n in ("numpy", "torch", "cupy") if STATE[n] is None]   # the standard has no float16


@pytest.fixture(params=BACKENDS)
def bench(request):
    only = request.config.getoption("--backend")
    if only and request.param not in only:
        pytest.skip(f"not chosen: {request.param}")
    return Bench(request.param)


def blobs(n=120):
    rng = np.random.default_rng(0)
    t = np.arange(n) % 3
    return rng.standard_normal((n, 4)) + 2.0 * np.eye(4)[t], t


def network():
    return Sequential(Dense(4, 16, "tanh"), Dropout(0.2), Dense(16, 16, "gelu"), Dense(16, 3))


def test_it_trains_as_float32_does(bench):
    x, t = blobs()
    histories = [fit(Model(network(), backend=bench.backend, dtype=dtype), SoftmaxCrossEntropy(), Adam(0.01), (x, t), epochs=12, batch_size=24,
                     progress=False, metrics=["accuracy"]) for dtype in ("float32", "mixed")]
    full, mixed = histories
    np.testing.assert_allclose(mixed["loss"], full["loss"], rtol=0.02)
    assert mixed["accuracy"][-1] >= full["accuracy"][-1] - 0.02 > 0.8


def test_what_is_float16_and_what_is_float32(bench):
    seen = []

    class Look(xn.Layer):
        def forward(self, params, x, ctx):
            seen.append(str(x.dtype))

            def backward(dy, input_grad=True):
                seen.append(str(dy.dtype))
                return dy * 1.0, {}

            return x * 1.0, backward

    model = Model(Sequential(Dense(4, 5), Look(), Dense(5, 3)), backend=bench.backend, dtype="mixed")
    x, t = blobs()
    y, backward = model.forward(model.asarray(x))
    loss, dy = SoftmaxCrossEntropy()(y, model.asarray(t))
    backward(dy)
    assert all(name.endswith("float16") for name in seen) and len(seen) == 2
    for a in (y, loss, dy, model.params, model.grads):
        assert str(a.dtype).endswith("float32")
    assert model.predict(x).dtype == np.float32


def test_gradients_are_those_of_float32(bench):
    x, t = blobs()
    grads = []
    for dtype in ("float32", "mixed"):
        model = Model(network(), backend=bench.backend, dtype=dtype)
        y, backward = model.forward(model.asarray(x))
        dx, g = backward(SoftmaxCrossEntropy()(y, model.asarray(t))[1], input_grad=True)
        grads.append((bench.host(g), bench.host(dx)))
    for full, mixed in zip(*grads):
        assert np.linalg.norm(mixed - full) < 5e-3 * np.linalg.norm(full)


def test_gradients_too_small_for_float16_survive(bench):
    """∂L/∂y of 1e-9 is 0 in float16; scaled by 2¹⁶ it is not."""
    model = Model(Sequential(Dense(4, 3)), backend=bench.backend, dtype="mixed")
    x, _ = blobs(8)
    y, backward = model.forward(model.asarray(x))
    g = backward(y * 0.0 + 1e-9)
    assert_close(g[12:], np.full(3, 8e-9), bench, rtol=1e-2, atol=0)


def test_an_overflow_makes_no_step_and_halves_the_scale(bench):
    model = Model(network(), backend=bench.backend, dtype="mixed")
    x, t = blobs()
    x, t = model.asarray(x), model.asarray(t)
    optimizer = Adam(0.01, weight_decay=0.1, decoupled=True)

    def step(factor):
        with warnings.catch_warnings():                   # NumPy warns where float16 overflows
            warnings.simplefilter("ignore")
            y, backward = model.forward(x)
            optimizer.step(model, backward(SoftmaxCrossEntropy()(y, t)[1] * factor))

    step(1.0)
    before = bench.host(model.params), *(bench.host(v) for v in optimizer.state.values())
    scale = float(model.mixed.scale[0])
    step(1e6)
    after = bench.host(model.params), *(bench.host(v) for v in optimizer.state.values())
    for a, b in zip(before, after):
        np.testing.assert_array_equal(a, b)
    assert float(model.mixed.scale[0]) == scale / 2 and float(model.mixed.finite[0]) == 0.0
    step(1.0)
    assert np.all(np.isfinite(bench.host(model.params))) and not np.array_equal(bench.host(model.params), before[0])


def test_the_scale_doubles_after_the_interval(bench):
    model = Model(Sequential(Dense(4, 3)), backend=bench.backend, dtype="mixed")
    model.mixed.interval = 3.0
    x = model.asarray(blobs()[0])
    scales = []
    for _ in range(7):
        y, backward = model.forward(x)
        backward(y * 1e-3)
        scales.append(float(model.mixed.scale[0]) / 2 ** 16)
    assert scales == [1, 1, 2, 2, 2, 4, 4]


def test_sums_accumulate_in_float32(bench):
    xp = accumulating(bench.xp)
    ones = bench.xp.astype(bench.asarray(np.ones(5000), "float32"), bench.xp.float16)
    assert float(xp.sum(ones)) == 5000 and str(xp.sum(ones).dtype).endswith("float16")
    assert float(xp.mean(ones * 2.0)) == 2.0
    assert xp.maximum is bench.xp.maximum


@pytest.mark.parametrize("name", list(LAYERS))
def test_every_layer_keeps_float16(name, bench):
    case = Case(name, bench, "float16")
    ctx = Context(accumulating(bench.xp), True, state=case.state)
    y, backward = case.layer.forward(case.params, case.x, ctx)
    dx, grads = backward(case.dy_like(y))
    reference = Case(name, bench, "float32")
    y32, backward32 = reference.layer.forward(reference.params, reference.x, Context(bench.xp, True, state=reference.state))
    dx32, grads32 = backward32(reference.dy_like(y32))
    inputs = [(half, full) for half, full in zip(arrays(dx), arrays(dx32)) if full is not None]   # of integers there is none
    pairs = [*zip(arrays(y), arrays(y32)), *inputs,
             *((dict(leaves(grads))[path], g) for path, g in leaves(grads32))]
    for half, full in pairs:
        assert str(half.dtype).endswith("float16"), name
        np.testing.assert_allclose(bench.host(half).astype(float), bench.host(full), rtol=2e-2, atol=2e-2)


def test_a_step_waits_for_nothing_on_the_device():
    cuda_on_cpu = pytest.importorskip("cuda_on_cpu", reason="counts need the emulated device")
    if STATE["cupy"] is not None:
        pytest.skip(STATE["cupy"])
    model = Model(network(), backend="cupy", dtype="mixed")
    x, t = blobs()
    x, t, loss_fn, optimizer = model.asarray(x), model.asarray(t), SoftmaxCrossEntropy(), SGD(0.1)

    def step():
        y, backward = model.forward(x)
        optimizer.step(model, backward(loss_fn(y, t)[1]))

    for _ in range(3):
        step()
    cuda_on_cpu.reset()
    step()
    counts = cuda_on_cpu.counters()
    assert not {k: v for k, v in counts.items() if v and ("d2h" in k or "h2d" in k or "sync" in k)}, counts


def test_a_backend_without_float16_says_so():
    if STATE["strict"] is not None:
        pytest.skip(STATE["strict"])
    with pytest.raises(ValueError, match="has no float16, which dtype='mixed' needs"):
        Model(network(), backend="array-api-strict", dtype="mixed")


def test_files_hold_the_float32_parameters(tmp_path):
    model = Model(network(), dtype="mixed", seed=1)
    model.save(tmp_path / "m.npz")
    again = Model(network(), dtype="float64", seed=2).load(tmp_path / "m.npz")
    np.testing.assert_array_equal(again.params, model.params.astype(float))

"""`fit(..., capture=True)`: the numbers of an eager run bit for bit, fewer calls, and an eager run with a warning where it cannot be."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import STATE

import xpnet as xn
from xpnet import Adam, AdamW, ClipNorm, Cosine, Dense, Dropout, EarlyStopping, Model, Residual, Sequential, SoftmaxCrossEntropy, fit
from xpnet.backend import DeviceRandom, Random, Recorder
from xpnet.callbacks import restore, snapshot
from xpnet.capture import Captured, captured, eager
from xpnet.layer import Buffer, Layer, Param

on_cupy = pytest.mark.skipif(STATE["cupy"] is not None, reason=str(STATE["cupy"]))
BATCH, BATCHES = 8, 10


@pytest.fixture
def counters():
    """The emulated device's: a function that gives those that are not 0 since it was last called."""
    cuda_on_cpu = pytest.importorskip("cuda_on_cpu", reason="only the emulated device counts")
    try:
        cuda_on_cpu.reset()
    except RuntimeError:
        pytest.skip("only the emulated device counts, and it is not on")

    def read():
        found = {name: n for name, n in cuda_on_cpu.counters().items() if n}
        cuda_on_cpu.reset()
        return found

    return read


@pytest.fixture
def replays(monkeypatch):
    """A list that grows by one with each replay."""
    made, replay = [], Recorder.replay
    monkeypatch.setattr(Recorder, "replay", lambda self: made.append(replay(self)))
    return made


# Layers with what a capture may stumble over.


class RunningMean(Layer):
    """x minus a running mean of the batches'."""

    def __init__(self, features=8):
        self.mean = Buffer((features,))

    def buffers(self):
        return {"mean": self.mean}

    def forward(self, params, x, ctx):
        m = ctx.state[self.mean]
        if ctx.training:
            ctx.update(self.mean, 0.9 * m + 0.1 * ctx.xp.mean(x, axis=0))
        return x - ctx.xp.astype(m, x.dtype), lambda dy, input_grad=True: (dy, {})


class Delay(Layer):
    """x plus the mean of the batch before the last: a buffer takes another's old value."""

    def __init__(self, features=8):
        self.last, self.older = Buffer((features,)), Buffer((features,))

    def buffers(self):
        return {"last": self.last, "older": self.older}

    def forward(self, params, x, ctx):
        if ctx.training:
            ctx.update(self.last, ctx.xp.mean(x, axis=0))
            ctx.update(self.older, ctx.state[self.last])
        return x + ctx.state[self.older], lambda dy, input_grad=True: (dy, {})


class ReadsAValue(Layer):
    """Waits for the device in each forward pass."""

    def forward(self, params, x, ctx):
        return (x * 0.5 if float(ctx.xp.max(x)) > 1e9 else x), lambda dy, input_grad=True: (dy, {})


class Matmul(Layer):
    """y = xW by the namespace's function, which does not pass by the operator."""

    def __init__(self, features=8):
        self.W = Param((features, features), "glorot_uniform")

    def params(self):
        return {"W": self.W}

    def forward(self, params, x, ctx):
        xp, W = ctx.xp, params["W"]
        return xp.matmul(x, W), lambda dy, input_grad=True: (xp.matmul(dy, W.T), {"W": xp.matmul(x.T, dy)})


class Widens(RunningMean):
    """Updates its buffer with another dtype."""

    def forward(self, params, x, ctx):
        ctx.update(self.mean, ctx.xp.astype(ctx.xp.mean(x, axis=0), ctx.xp.float64))
        return x, lambda dy, input_grad=True: (dy, {})


class First(Layer):
    """The first of a tuple of arrays."""

    takes_tuples = True

    def forward(self, params, x, ctx):
        return x[0], lambda dy, input_grad=True: ((dy, ctx.xp.zeros_like(x[1])), {})


def shared():
    d = Dense(8, 8)
    return Sequential(d, Residual(d, xn.ReLU()), Dense(8, 10))


def after(layer):
    return Sequential(Dense(8, 8, "tanh"), layer, Dense(8, 10))


def data(shape=(8,), weights=False, n=BATCH * BATCHES + 5):
    """Ten batches and a smaller one."""
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((n, *shape)), rng.integers(0, 10, n)
    return (x, t, rng.random(n)) if weights else (x, t)


def train(net, capture, dtype="float32", arrays=None, epochs=10, backend="cupy", optimizer=None, callbacks=(), **options):
    """Everything that a run of fit leaves: the arrays of the model, its step, the history."""
    model, arrays = Model(net, backend, dtype, seed=1), arrays or data()
    optimizer = optimizer or AdamW(Cosine(0.01, 60), clip=ClipNorm(1.0))
    if model.mixed is not None:                           # overflows at first, and then again and again
        model.mixed.scale[...] = 2.0 ** 24
        model.mixed.interval = 3.0
    history = fit(model, SoftmaxCrossEntropy(), optimizer, arrays, epochs=epochs, batch_size=BATCH, progress=False, callbacks=callbacks,
                  capture=capture, **options)
    columns = {name: column for name, column in history.columns.items() if name != "time"}
    vectors, state, step = snapshot(model)
    return [model.backend.to_host(v) for v in (*vectors, *state.values())], step, columns, history.stopped


def assert_same(run, expected):
    for ours, theirs in zip(run[0], expected[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert run[1:] == expected[1:]


# The numbers of an eager run.

RUNS = {
    "dropout": {"net": lambda: Sequential(Dense(8, 16, "relu"), Dropout(0.3), Dense(16, 16, "gelu"), Dropout(0.1), Dense(16, 10))},
    "float64": {"net": lambda: Sequential(Dense(8, 16, "relu"), Dropout(0.3), Dense(16, 10)), "dtype": "float64"},
    "mixed": {"net": lambda: Sequential(Dense(8, 16, "relu"), Dropout(0.3), RunningMean(16), Dense(16, 10)), "dtype": "mixed"},
    "sample weights": {"net": lambda: Sequential(Dense(8, 16, "relu"), Dense(16, 10)), "arrays": data(weights=True)},
    "running statistics": {"net": lambda: after(RunningMean())},
    "buffer of a buffer": {"net": lambda: after(Delay())},
    "leading axes": {"net": lambda: Sequential(Dense(8, 8, "tanh"), xn.Flatten(), Dense(24, 10)), "arrays": data((3, 8))},
    "checkpoint": {"net": lambda: Sequential(xn.Checkpoint(Dense(8, 8), Dropout(0.5)), Dropout(0.2), Dense(8, 10))},
    "shared": {"net": shared},
    "products side by side": {"net": lambda: Sequential(Dense(8, 8, bias=False), Dense(8, 8, bias=False), Dense(8, 10, bias=False))},
    "branches": {"net": lambda: Sequential(xn.Concat(Dense(8, 4, "elu"), Dense(8, 4, "prelu")), Dense(8, 10))},
}


@on_cupy
@pytest.mark.parametrize("name", RUNS)
def test_captured_equals_eager_bit_for_bit(name, replays):
    """With a schedule, clipping, validation between epochs, and a best epoch to go back to."""
    run = {**RUNS[name], "validation": data(RUNS[name].get("arrays", data())[0].shape[1:], n=20)}
    net = run.pop("net")
    expected = train(net(), False, callbacks=[EarlyStopping(patience=100)], **run)
    assert not replays
    assert_same(train(net(), True, callbacks=[EarlyStopping(patience=100)], **run), expected)
    assert len(replays) == 10 * BATCHES                   # the partial batches ran eagerly


@on_cupy
def test_batches_from_an_iterable(replays):
    x, t = data()
    some = [(x[i:i + n], t[i:i + n]) for i, n in ((0, 8), (8, 5), (13, 8), (21, 1), (22, 8))]
    runs = [train(after(RunningMean()), capture, arrays=some, epochs=4) for capture in (False, True)]
    assert_same(runs[1], runs[0])
    assert len(replays) == 4 * 3


@on_cupy
@pytest.mark.parametrize("between", ["nothing", "eager step", "restore", "load", "free memory", "other stream"])
def test_what_comes_between_two_replays(between, tmp_path):
    def run(gradient_of):
        import cupy

        model, loss, optimizer = Model(after(Sequential(Delay(), Dropout(0.3))), "cupy", seed=3), SoftmaxCrossEntropy(), Adam(0.01)
        gradient, (x, t) = gradient_of(model, loss), (model.asarray(a) for a in data())
        kept, junk, losses = snapshot(model), [], []
        model.save(tmp_path / "m.npz")
        for i in range(24):
            rows = slice(i, i + BATCH)
            if i % 5 == 3 and between == "eager step":
                eager(model, loss, x[rows], t[rows])
            if i == 12 and between == "restore":
                restore(model, kept)
            if i == 12 and between == "load":
                model.load(tmp_path / "m.npz")
            if between == "free memory":                  # the temporary arrays of a recorded step are nobody else's
                cupy.get_default_memory_pool().free_all_blocks()
                junk.append(cupy.full((2000 + i,), 7e7, "float32"))
            with cupy.cuda.Stream(non_blocking=True) if between == "other stream" else cupy.cuda.Stream.null as stream:
                losses.append(float(gradient(x[rows], t[rows])))
                optimizer.step(model)
                stream.synchronize()
        assert all((j.get() == 7e7).all() for j in junk)
        return [v.get() for v in (model.params, *model.state.values())], losses, model.step

    assert_same(run(captured), run(lambda model, loss: functools.partial(eager, model, loss)))


@on_cupy
def test_a_loss_that_becomes_infinite_is_found_as_ever():
    runs = []
    for capture in (False, True):
        with pytest.warns(RuntimeWarning, match="became non-finite"):
            runs.append(train(Sequential(Dense(8, 8, "relu"), RunningMean(), Dense(8, 10)), capture, optimizer=xn.SGD(1e30), epochs=2))
    assert_same(runs[1], runs[0])
    assert "at training step" in runs[1][3]


@pytest.mark.parametrize("seed,step,site", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (12345, 678, 9), (2**64 - 1, 2**40, 3)])
def test_random_numbers_of_a_step_on_the_device(seed, step, site, backend):
    if backend.name not in ("numpy", "cupy"):
        pytest.skip("graphs are CuPy's")
    xp, device = backend.xp, backend.backend.device
    random = DeviceRandom(seed, backend.asarray(np.asarray([step], dtype=np.uint64)), site)
    for _ in range(2):
        expected = Random(seed, step, random.site).bits(xp, 50, device)
        found = random.bits(xp, 50, device)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(backend.host(found), backend.host(expected))
    assert not DeviceRandom.keys_rule.fell_back


# What a step asks for.


@on_cupy
@pytest.mark.parametrize("p", [0.0, 0.3], ids=["", "dropout"])
def test_the_calls_of_a_replayed_step(p, counters):
    """784-256-128-10, batch 128: the step's number and Adam are launches; x, t copied; products as ever, and a graph around each."""
    net = Sequential(Dense(784, 256, "relu"), Dropout(p), Dense(256, 128, "relu"), Dropout(p), Dense(128, 10))
    model, optimizer, rng = Model(net, "cupy"), Adam(), np.random.default_rng(0)
    x, t = model.asarray(rng.standard_normal((128, 784))), model.asarray(rng.integers(0, 10, 128))
    gradient = captured(model, SoftmaxCrossEntropy())
    for _ in range(4):
        gradient(x, t)
        optimizer.step(model)
    counters()
    gradient(x, t)
    optimizer.step(model)
    found = counters()
    calls = {"kernel_launches": 2, "blas_calls": 8, "graph_launches": 9, "d2d_copies": 2}
    assert {name: found.pop(name) for name in calls} == calls
    assert set(found) == {"graph_nodes", "kernel_threads", "d2d_bytes"}   # no allocation, no copy from or to the host, no waiting


@on_cupy
def test_products_on_another_stream_are_not_recorded():
    """Another thread's, say."""
    import cupy

    recorder, a = Recorder(), cupy.ones((2, 2))
    with recorder.aside(), recorder.recording(), cupy.cuda.Stream(non_blocking=True) as other:
        b = a @ a
        other.synchronize()
    assert len(recorder.parts) == 1 and (b.get() == 2.0).all()


# Where it cannot be.


def test_another_backend_runs_eagerly():
    expected = train(after(Dropout(0.3)), False, backend="numpy", epochs=2)
    with pytest.warns(RuntimeWarning, match="CUDA graphs need backend='cupy', the model's is 'numpy'.*training runs eagerly") as warned:
        assert_same(train(after(Dropout(0.3)), True, backend="numpy", epochs=2), expected)
    assert [w.filename for w in warned] == [__file__]     # once, and at the call of fit


@on_cupy
@pytest.mark.parametrize("layer,why", [(ReadsAValue, "D2H transfers are disallowed"), (Matmul, "cuBLAS API during stream capture"),
                                       (Widens, "a buffer of .* float32 was updated with .* float64")])
def test_what_cannot_be_recorded_runs_eagerly(layer, why, replays):
    def net():
        return Sequential(RunningMean(), Dense(8, 8, "relu"), Dropout(0.2), layer(), Dense(8, 10))

    expected = train(net(), False, epochs=2)
    with pytest.warns(RuntimeWarning, match=f"capture=True: .*{why}.*training runs eagerly") as warned:
        assert_same(train(net(), True, epochs=2), expected)
    assert not replays and len(warned) == 1


@on_cupy
def test_tuples_run_eagerly():
    x, t = data()
    expected = train(Sequential(First(), Dense(8, 10)), False, arrays=((x, x), t), epochs=2)
    with pytest.warns(RuntimeWarning, match="tuples of arrays.*training runs eagerly"):
        assert_same(train(Sequential(First(), Dense(8, 10)), True, arrays=((x, x), t), epochs=2), expected)


@on_cupy
@pytest.mark.parametrize("dtype", ["float32", "mixed"])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_failed_recording_leaves_all_as_it_was(where, dtype):
    import cupy

    class Fails(Layer):
        calls = 0

        def forward(self, params, x, ctx):
            def fail(place):
                self.calls += place == where
                if self.calls == 2 and place == where:    # the first is the run before the recording
                    raise KeyboardInterrupt

            def backward(dy, input_grad=True):
                fail("backward")
                return dy, {}

            fail("forward")
            return x, backward

    model = Model(Sequential(RunningMean(), Dense(8, 8), Fails(), Dense(8, 10)), "cupy", dtype)
    x, t = (model.asarray(a[:BATCH]) for a in data())
    eager(model, SoftmaxCrossEntropy(), x, t)
    before, stream, allocator = snapshot(model), cupy.cuda.get_current_stream(), cupy.cuda.get_allocator()
    with pytest.raises(KeyboardInterrupt):
        Captured(model, SoftmaxCrossEntropy(), (x, t))
    now = snapshot(model)
    for ours, theirs in zip((*now[0], *now[1].values()), (*before[0], *before[1].values()), strict=True):
        np.testing.assert_array_equal(ours.get(), theirs.get())
    assert now[2] == before[2] == 1
    assert "__matmul__" not in vars(cupy.ndarray)
    assert (cupy.cuda.get_current_stream(), cupy.cuda.get_allocator()) == (stream, allocator)
    x @ model.asarray(np.eye(8))                          # cuBLAS is free again


@on_cupy
def test_hyper_parameters_of_layers_are_frozen_and_of_the_optimizer_not():
    """As the docstrings of fit and of xpnet.capture say."""
    def run(capture, changes):
        net = Sequential(Dense(8, 8), Dropout(0.1), Dense(8, 10))

        def change(run):
            run.optimizer.lr = 0.05
            if changes:
                net.layers[1].p = 0.9
        return train(net, capture, optimizer=Adam(0.01), arrays=data(n=2 * BATCH), epochs=3, callbacks=[change])

    assert_same(run(True, changes=True), run(False, changes=False))


# Work that the device does late.

LATE = """
import numpy as np
from test_capture import RUNS, assert_same, train
for name in ("dropout", "buffer of a buffer", "mixed"):
    runs = [train(**{**RUNS[name], "net": RUNS[name]["net"](), "capture": capture, "epochs": 3}) for capture in (True, False)]
    assert_same(*runs)
"""


def test_work_that_is_done_late_gives_the_same_numbers(counters):
    """CUDA_ON_CPU_ASYNC=1: a copy or kernel runs only when something waits for it, so a missing wait would show."""
    subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", LATE], check=True, cwd=os.path.dirname(__file__),
                   env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(xn.__file__)), "CUDA_ON_CPU": "1", "CUDA_ON_CPU_ASYNC": "1"})

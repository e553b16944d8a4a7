"""The forecast of a step on a GPU: by hand, and against what the emulated device counted and the memory pool held."""

import contextlib
import os

import numpy as np
import pytest
from conftest import STATE

import xpnet as xn
from xpnet import Concat, Dense, Dropout, Model, Residual, Sequential, SoftmaxCrossEntropy
from xpnet.advice import GPUS, Work, advise
from xpnet.backend.abstract import AbstractArray, Op, abstract, recorder

emulated = pytest.mark.skipif(os.environ.get("CUDA_ON_CPU") != "1" or STATE["cupy"] is not None,
                              reason="counts on the emulated CUDA device: ci/cuda_on_cpu/run")
SIMPLE = {"name": "simple", "bandwidth": 1.0, "float32": 1.0, "launch_us": 1.0}   # 10⁶ bytes or FLOPs, or a launch, a microsecond
SHARED = Dense(8, 8, "tanh")
W3 = Sequential(Dense(784, 256, "relu"), Dense(256, 128, "relu"), Dense(128, 10))
NETWORKS = {
    "W3": (W3, (784,)),
    "dropout": (Sequential(Dense(12, 16, "relu"), Dropout(0.3), Dense(16, 10)), (12,)),
    "mixture": (Sequential(Dense(12, 8, "gelu"), Residual(Dense(8, 8, "silu"), Dense(8, 8)), xn.GELU("tanh"),
                           Concat(xn.Identity(), Dense(8, 3, "prelu"), Dense(8, 5, "softmax")), xn.Softmax(), Dense(16, 4)), (12,)),
    "shared": (Sequential(Dense(5, 8), SHARED, xn.Tanh(), SHARED, Dense(8, 3)), (5,)),
    "checkpoint": (Sequential(Dense(6, 8), xn.Checkpoint(Dense(8, 8, "elu"), Dropout(0.5)), xn.LogSoftmax()), (6,)),
    "one output": (Sequential(Dense(5, 4, "sigmoid", bias=False), Dense(4, 1)), (5,)),
    "one of everything": (Dense(1, 1), (1,)),
    "sequences": (Sequential(Dense(6, 8, "tanh"), xn.Flatten(), Dense(24, 2)), (3, 6)),
    "reshape": (Sequential(xn.Reshape(2, 3), xn.PReLU(3), Dense(3, 4, "softplus"), xn.Flatten(), Dense(8, 2)), (6,)),
}
OPTIMIZERS = [
    xn.SGD(0.1), xn.Momentum(0.1), xn.Nesterov(0.1), xn.AdaGrad(), xn.RMSProp(), xn.AdaDelta(), xn.Adam(), xn.AdamW(), xn.AMSGrad(), xn.NAdam(),
    xn.RAdam(), xn.Lion(), xn.Adam(clip=xn.ClipNorm(1.0)), xn.SGD(0.1, clip=xn.ClipValue(1.0), weight_decay=0.1),
    xn.AdamW(decay_biases=False), xn.Adam(xn.Cosine(0.1, 100), lr_scale={"0.*": 0.1}), xn.AdamW(freeze=("0.*",)),
    xn.SGD(0.1, weight_decay=0.1, decay_biases=False)]


# By hand.


def test_a_dense_layer_by_hand():
    advice = advise(Model(Dense(20, 30)), 10, SIMPLE)
    forward, backward, copies = advice.lines
    f4 = 4
    assert (forward.path, forward.name, forward.phase) == ("", "Dense(20, 30)", "forward")
    assert forward.work.flops == 2 * 10 * 20 * 30 + 10 * 30
    assert forward.work.bytes == f4 * (10 * 20 + 20 * 30 + 10 * 30) + f4 * (10 * 30 + 30 + 10 * 30)
    assert (forward.work.kernels, forward.work.products, forward.work.copies) == (1, 1, 0)
    assert backward.work.bytes == f4 * (10 * 20 + 10 * 30 + 20 * 30) + f4 * (10 * 30 + 30)
    assert (backward.work.kernels, backward.work.products) == (1, 1)
    assert (copies.work.flops, copies.work.bytes, copies.work.copies) == (0, 2 * f4 * 630, 2)
    total = advice.total
    assert (total.kernels, total.products, total.copies, total.launches) == (2, 2, 2, 6)
    assert total.bytes == sum(line.work.bytes for line in advice.lines) and total.flops == sum(line.work.flops for line in advice.lines)
    assert total.host_us == 6.0 and advice.bound_by == "launches" == total.bound_by and total.us == 6.0


def test_a_rule_reads_its_arguments_and_writes_its_results():
    """Bias and activation: z and b in, z and y out, nothing between them."""
    (forward, *_) = advise(Model(Dense(20, 30, "tanh")), 10, SIMPLE).lines
    assert forward.work.bytes == 4 * (200 + 600 + 300) + 4 * (300 + 30 + 300 + 300)
    assert (forward.work.kernels, forward.work.products) == (1, 1)


def test_each_launch_takes_the_longer_of_memory_and_arithmetic():
    ops = [Op("a", 1, 3_000_000, 1_000_000), Op("b", 1, 1_000_000, 2_000_000)]
    gpu = advise(Model(Dense(1, 1)), 1, SIMPLE).gpu
    work = Work(ops, gpu)
    assert (work.host_us, work.arithmetic_us, work.memory_us, work.gpu_us, work.us) == pytest.approx((2.0, 3.0, 2.0, 5.0, 5.0))
    assert work.bound_by == "arithmetic"
    assert Work(ops[1:] * 2 + ops[:1], gpu).bound_by == "memory"
    assert Work([op._replace(bytes=0, flops=0) for op in ops], gpu).bound_by == "launches"
    assert Work([], gpu).bound_by == ""
    faster = gpu._replace(float16=10.0)
    assert Work([ops[0]._replace(dtype="float16")], faster).gpu_us == pytest.approx(1.0)


def test_what_bounds_a_step_depends_on_the_gpu_and_the_batch():
    model = Model(W3)
    assert advise(model, 128, "H100").bound_by == "launches"
    assert advise(model, 128, {**SIMPLE, "launch_us": 1e-3, "bandwidth": 1e-3}).bound_by == "memory"
    assert advise(model, 128, {**SIMPLE, "launch_us": 1e-3, "float32": 1e-3}).bound_by == "arithmetic"
    small = advise(model, 64, "T4")
    n = small.pays_from
    assert n > 64 and n % 64 == 0
    assert advise(model, n, "T4").bound_by != "launches" and advise(model, n // 2, "T4").bound_by == "launches"
    assert advise(model, n, "T4").pays_from == n
    assert advise(Model(xn.Identity()), 4, input_shape=(3,)).verdict == "There is nothing to do."


def test_no_batch_is_large_enough():
    advice = advise(Model(Dense(2, 2)), 2 ** 23, {**SIMPLE, "bandwidth": 1e9, "float32": 1e9})
    assert advice.pays_from is None and "whatever its size" in advice.verdict


def test_loss_and_optimizer_are_counted_where_they_are_given():
    bare = advise(Model(W3), 128)
    whole = advise(Model(W3), 128, loss=SoftmaxCrossEntropy(), optimizer=xn.Adam())
    assert (bare.total.kernels, whole.total.kernels) == (8, 14)
    assert bare.missing == ["loss", "optimizer"] and "Not counted, because not given: loss and optimizer." in str(bare)
    assert whole.missing == [] and "Not counted" not in str(whole)
    assert [line.name for line in whole.lines if not line.path] == ["loss and its gradient", "gradients into their vector", "optimizer"]


def test_the_table():
    net = Sequential(Dense(784, 100, "relu"), Dense(100, 10))
    assert str(advise(Model(net), 64, loss=SoftmaxCrossEntropy(), optimizer=xn.SGD(0.1))) == """\
path  layer                        pass           FLOPs      bytes  kernels  GEMMs  copies     µs  bound by
-----------------------------------------------------------------------------------------------------------
0     Dense(784, 100, ReLU())      forward   10,048,000    617,104        1      1       0   20.0  launches
0     Dense(784, 100, ReLU())      backward  10,054,400    642,704        2      1       0   30.0  launches
1     Dense(100, 10)               forward      128,640     37,320        1      1       0   20.0  launches
1     Dense(100, 10)               backward     256,640     66,920        1      2       0   30.0  launches
      loss and its gradient                       7,744     27,220        5      0       0   50.0  launches
      gradients into their vector                     0    636,080        0      0       4   40.0  launches
      optimizer                                 159,020    954,120        1      0       0   10.0  launches
-----------------------------------------------------------------------------------------------------------
      step                                   20,654,444  2,981,468       11      5       4  200.0  launches

On H100 a step on 64 samples is bound by launches: the host issues 20 of them in 200 µs, and at its peaks the GPU does their work in 1 µs; below \
a batch of about 65,536 it idles.
H100: 3.35 TB/s, 67 TFLOP/s in float32, 10 µs of the host a launch. A forecast from published figures, no measurement; launches are CuPy's, \
without CUB."""


def test_nothing_is_changed(backend):
    model = backend.model(Sequential(Dense(4, 5, "relu"), Dropout(0.5), Dense(5, 3)))
    x, t = backend.asarray(np.ones((6, 4)), "float32"), backend.asarray(np.arange(6) % 3)
    optimizer, loss = xn.Adam(clip=xn.ClipNorm(1.0)), SoftmaxCrossEntropy()

    def step():
        y, backward = model.forward(x)
        optimizer.step(model, backward(loss(y, t)[1]))

    step()
    before = backend.host(model.params), model.step, optimizer.t, optimizer.state["m"]
    advice = advise(model, 6, loss=loss, optimizer=optimizer)
    assert (model.step, optimizer.t) == before[1:3] and optimizer.state["m"] is before[3]
    np.testing.assert_array_equal(backend.host(model.params), before[0])
    step()
    assert advice.total.launches == advise(Model(model.net, backend="numpy"), 6, loss=loss, optimizer=xn.Adam(clip=xn.ClipNorm(1.0))).total.launches


@pytest.mark.parametrize("gpu,error,message", [
    ("H1000", ValueError, "unknown GPU 'H1000'; did you mean 'H100'"), (3, TypeError, "gpu is a name such as 'H100' or a dictionary .* got 3"),
    ({"bandwith": 1.0}, ValueError, "unknown figure of a GPU 'bandwith'; did you mean 'bandwidth'"),
    ({"bandwidth": 1.0}, ValueError, "gpu has no 'float32', which this model needs: it has bandwidth"),
    ({**SIMPLE, "bandwidth": 0.0}, ValueError, "the figures of a GPU are positive")])
def test_bad_figures(gpu, error, message):
    with pytest.raises(error, match=message):
        advise(Model(Dense(3, 2)), 4, gpu)


def test_float64_needs_its_own_figure():
    with pytest.raises(ValueError, match="gpu has no 'float64'"):
        advise(Model(Dense(3, 2), dtype="float64"), 4, SIMPLE)


def test_the_figures_are_plausible():
    """A digit too many would show: bytes and FLOPs a second of real GPUs lie within these."""
    for name, gpu in GPUS.items():
        assert gpu.name == name and 0.1 < gpu.bandwidth < 10 and 1 < gpu.float32 < 200 and gpu.float64 <= gpu.float32 <= gpu.float16


# Against the counters.


def counted(step):
    """What a call asks of the device after two warm-ups."""
    import cuda_on_cpu

    step()
    step()
    cuda_on_cpu.reset()
    step()
    found = cuda_on_cpu.counters()
    return found["kernel_launches"], found["blas_calls"], found["d2d_copies"]


def predicted(total):
    return total.kernels, total.products, total.copies


def on_device(net, shape, loss, optimizer, n=6, dtype="float32"):
    """A model on the emulated device, and a training step of it on a batch that is there already."""
    model = Model(net, backend="cupy", dtype=dtype)
    rng = np.random.default_rng(0)
    x = model.asarray(rng.standard_normal((n, *shape)).astype(model.dtype))
    y, _ = model.forward(x, training=False)
    t = model.asarray(np.zeros(y.shape[:-1], np.int64) if loss.takes_classes(y, y[..., 0]) else np.full(y.shape, 0.5, model.dtype))

    def step():
        y, backward = model.forward(x)
        _, dy = loss(y, t)
        optimizer.step(model, backward(dy))

    return model, step


@emulated
@pytest.mark.parametrize("optimizer", [xn.SGD(0.1), xn.Adam()], ids=repr)
def test_launches_of_the_measured_network(optimizer):
    """784-256-128-10, batch 128: bias + activation 3, loss and gradient 5, ReLU backward 2, bias sums 3, optimizer 1."""
    model, step = on_device(*NETWORKS["W3"], SoftmaxCrossEntropy(), optimizer, n=128)
    assert counted(step) == predicted(advise(model, 128, loss=SoftmaxCrossEntropy(), optimizer=optimizer).total) == (14, 8, 6)


@emulated
@pytest.mark.parametrize("dtype", ["float32", "mixed"])
@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "W3"])
def test_launches_of_every_network(name, dtype):
    net, shape = NETWORKS[name]
    loss = xn.MeanSquaredError()
    model, step = on_device(net, shape, loss, xn.Adam(), dtype=dtype)
    assert counted(step) == predicted(advise(model, 6, loss=loss, optimizer=xn.Adam(), input_shape=shape).total)


@emulated
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_launches_of_every_optimizer(optimizer):
    net, shape = NETWORKS["dropout"]
    loss = xn.MeanSquaredError()
    model, step = on_device(net, shape, loss, optimizer)
    assert counted(step) == predicted(advise(model, 6, loss=loss, optimizer=optimizer).total)


@emulated
@pytest.mark.parametrize("loss", [
    xn.MeanAbsoluteError(), xn.Huber(), xn.LogCosh(), xn.Poisson(), xn.Hinge(), xn.BinaryCrossEntropy(), xn.BinaryCrossEntropy(pos_weight=2.0),
    xn.KLDivergence(), xn.MulticlassHinge(), SoftmaxCrossEntropy("sum"), SoftmaxCrossEntropy(label_smoothing=0.1),
    SoftmaxCrossEntropy(class_weights=range(1, 11))], ids=repr)
def test_launches_of_every_loss(loss):
    net, shape = NETWORKS["dropout"]
    model, step = on_device(net, shape, loss, xn.SGD(0.1))
    assert counted(step) == predicted(advise(model, 6, loss=loss, optimizer=xn.SGD(0.1)).total)


# a: (6, 5), b: (5,), c: (4, 6, 5), h: c in float16, i: (6,) integers; z and v are written into
OPERATIONS = [
    "a + b", "1.0 - a", "abs(a)", "a > 0.0", "xp.exp(a)", "xp.where(a > 0.0, a, 0.0)", "xp.logical_not(a > 0.0)",
    "xp.sum(a)", "xp.sum(a, axis=0)", "xp.max(c, axis=-1, keepdims=True)", "xp.mean(c, axis=(0, 2))", "xp.var(a, axis=0)", "xp.std(a)",
    "xp.all(a > 0.0)", "xp.argmax(a, axis=-1)", "xp.count_nonzero(a)", "xp.linalg.vector_norm(a)", "a @ a.T", "a.T @ a", "a @ b", "b @ b",
    "a[:1] @ a[:1].T", "a[:, :3] @ a[:3, :4]", "a[:, :1].T @ a[:, 1:2]", "a[:, :3].T @ a", "c @ c.mT", "c.mT @ c", "c @ a.T", "c @ b", "a @ c.mT",
    "c[:1] @ a.T", "c[:, None] @ c.mT", "c[None] @ c.mT[None]", "h @ h.mT", "h[0] @ h[0].T", "h @ h[0].T", "h[0, :, ::2].T @ h[0]",
    "xp.tensordot(a, a, axes=([0], [0]))", "xp.tensordot(c, c, axes=([1, 2], [1, 2]))", "xp.vecdot(a, a)", "xp.reshape(a, (-1,))",
    "xp.reshape(a.T, (-1,))", "xp.permute_dims(c, (2, 0, 1))", "xp.flip(a)", "xp.broadcast_to(b, (6, 5))", "a[1:, ::2]", "a[i]", "a[i, i[:, None] % 5]",
    "xp.astype(a, xp.float64)", "xp.astype(a, xp.float32, copy=False)", "xp.asarray(a, copy=True)", "xp.zeros((3, 4))", "xp.zeros_like(a)",
    "xp.ones((3, 4))", "xp.full((3,), 2.0)", "xp.full_like(a, 0.0)", "xp.empty((3,))", "xp.arange(7)", "xp.linspace(0.0, 1.0, 5)", "xp.asarray(2.0)",
    "xp.asarray([2.0, 3.0])", "xp.concat([a, a], axis=1)", "xp.concat([a, a, a[:, :2]], axis=1)", "xp.stack([a] * 8)", "xp.concat([a] * 9)",
    "xp.take(a, i, axis=0)", "xp.take_along_axis(a, i[:, None], axis=1)", "xp.sort(a, axis=-1)", "xp.argsort(a)", "xp.cumulative_sum(a, axis=0)",
    "xp.cumulative_prod(a, axis=1)", "xp.tril(a)", "xp.triu(a, k=1)", "xp.repeat(a, 2, axis=0)", "xp.tile(a, (2, 1))", "xp.diff(a, axis=0)",
    "xp.searchsorted(b, b)", "xp.isin(i, i)", "xp.meshgrid(b, b, indexing='ij')", "xp.expm1(a[:0]) + 1.0",
    "z.__iadd__(a)", "z[:, 1:3].__imul__(2.0)", "z.__setitem__(..., a)", "z.__setitem__(..., a[:1])", "z.__setitem__(slice(0, 2), a[2:4])",
    "z.__setitem__((slice(None), 1), a[:, 1])", "z.__setitem__(..., 0.0)", "z.__setitem__((slice(None), 1), 0.0)", "z.__setitem__(..., 1.0)",
    "z.__setitem__(..., h[0])", "z.T.__setitem__(..., a.T)", "z[:, :1].__setitem__(..., a[:, :1])", "xp.reshape(v[:6], (6, 1)).__setitem__(..., a @ b[:, None])",
    "v[:1].__setitem__(..., b[:1])", "xp.reshape(v[:5], (1, 5)).__setitem__(..., xp.sum(a, axis=0, keepdims=True))", "v[0].__setitem__(..., xp.sum(a))",
    "v[:0].__setitem__(..., b[:0])",
]
IN_PLACE = "z[1:3] += a[1:3]; z[:, 2] *= 2.0; z += b; z[0] = b; z[2:4] = z[:2]"


def recorded(run):
    ops = []
    token = recorder.set(lambda op, out: ops.append(op))
    try:
        run()
    finally:
        recorder.reset(token)
    return sum(op.launches for op in ops), sum(op.products for op in ops), sum(op.copies for op in ops)


def operands(make):
    f32 = "float32"
    return {"a": make((6, 5), f32), "b": make((5,), f32), "c": make((4, 6, 5), f32), "h": make((4, 6, 5), "float16"), "i": make((6,), "int64"),
            "z": make((6, 5), f32), "v": make((30,), f32)}


@emulated
@pytest.mark.parametrize("text", [*OPERATIONS, IN_PLACE])
def test_launches_of_every_operation(text):
    import cupy

    compiled = compile(text, text, "exec")
    real = operands(cupy.zeros) | {"xp": xn.get_backend("cupy").xp}
    dry = operands(AbstractArray) | {"xp": abstract}
    assert counted(lambda: exec(compiled, dict(real))) == recorded(lambda: exec(compiled, dict(dry)))


# Against the memory pool.


@contextlib.contextmanager
def pool():
    """The bytes that the default pool hands out and gets back, as it rounds them (to 512), with their peak."""
    import cupy

    class Hook(cupy.cuda.MemoryHook):
        name = "peak"

        def __init__(self):
            self.now = self.peak = 0

        def malloc_postprocess(self, **call):
            self.now += call["mem_size"]
            self.peak = max(self.peak, self.now)

        def free_postprocess(self, **call):
            self.now -= call["mem_size"]

    with Hook() as hook:
        yield hook


MEMORY = {"W3": (W3, 128), "deep": (Sequential(*[Dense(64, 64, "tanh") for _ in range(8)]), 256),
          "dropout": (Sequential(Dense(100, 200, "gelu"), Dropout(0.5), Dense(200, 50, "relu"), Dropout(0.2), Dense(50, 10)), 200),
          "wide": (Sequential(Dense(500, 1000, "relu"), Dense(1000, 20)), 16),
          "residual": (Sequential(Dense(64, 96), Residual(xn.LogSoftmax(), Dense(96, 96, "silu"), Dense(96, 96)),
                                  Concat(xn.Identity(), Dense(96, 32, "prelu"))), 150),
          "checkpoint": (Sequential(Dense(64, 128), xn.Checkpoint(*[Dense(128, 128, "elu") for _ in range(3)]), Dense(128, 10)), 200)}


@emulated
@pytest.mark.parametrize("dtype", ["float32", "mixed"])
@pytest.mark.parametrize("name", MEMORY)
def test_summary_says_what_the_pool_holds(name, dtype):
    """Parameters and gradients when the model is made; what a forward pass leaves; the peak of both passes, within 20 %."""
    net, n = MEMORY[name]
    with pool() as made:
        model = Model(net, backend="cupy", dtype=dtype)
    x = model.asarray(np.ones((n, net.in_features), np.float32))
    y, backward = model.forward(x)                        # kernels are compiled, what is made once is made
    dy = model.xp.ones_like(y)
    backward(dy)
    del y, backward, dy
    s = model.summary(batch_size=n)
    half = 0 if dtype == "float32" else 2 * s.total_params + 4096
    assert s.params_bytes <= made.now <= s.params_bytes + half + 1024

    with pool() as kept:
        y, backward = model.forward(x)
        del y
    few = 512 * 40                                        # rounding: 512 bytes an array
    assert s.cached_bytes <= kept.now <= s.cached_bytes + few and kept.now < 1.2 * s.cached_bytes
    del backward

    with pool() as step:
        y, backward = model.forward(x)
        dy = model.xp.empty_like(y)
        backward(dy)
    assert s.peak_bytes <= step.peak <= min(1.2 * s.peak_bytes, s.peak_bytes + few)


@emulated
@pytest.mark.parametrize("optimizer", [xn.SGD(0.1), xn.Adam(clip=xn.ClipNorm(1.0)), xn.AdamW(), xn.Lion()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("name", ["dropout", "mixture", "checkpoint"])
def test_no_device_memory_is_allocated_after_the_warm_up(name, optimizer):
    """From a pool that was empty before it."""
    import cuda_on_cpu
    import cupy

    net, shape = NETWORKS[name]
    with cupy.cuda.using_allocator(cupy.cuda.MemoryPool().malloc):
        cuda_on_cpu.reset()
        _, step = on_device(net, shape, xn.MeanSquaredError(), type(optimizer)(clip=optimizer.clip, lr=optimizer.lr))
        for _ in range(2):
            step()
        assert cuda_on_cpu.counters()["device_mallocs"] > 0
        cuda_on_cpu.reset()
        for _ in range(5):
            step()
        found = cuda_on_cpu.counters()
        assert (found["device_mallocs"], found["device_frees"]) == (0, 0)

"""The dry run against counts by hand, and against what NumPy does: shapes, dtypes, layouts, what closures keep."""

import functools
import re

import numpy as np
import pytest
from cases import LAYERS, Ints
from conftest import lock
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet as xn
from xpnet.backend import Random, index_add, namespace
from xpnet.backend.abstract import AbstractArray, Memory, abstract
from xpnet.dryrun import held, summarize
from xpnet.layer import Context, Layer, Param

numpy = xn.get_backend("numpy").xp
LOSSES = (xn.MeanSquaredError, xn.MeanAbsoluteError, xn.Huber, xn.LogCosh, xn.Poisson, xn.Hinge, xn.BinaryCrossEntropy,
          xn.KLDivergence, xn.MulticlassHinge, xn.SoftmaxCrossEntropy)


class Windows(Layer):
    """A 3 by 3 convolution, for its operations: slices, stack, permute, reshape, product; setitem and += on slices."""

    def __init__(self):
        self.W = Param((9 * 2, 4), "glorot_uniform")

    def params(self):
        return {"W": self.W}

    def forward(self, params, x, ctx):
        xp, W = ctx.xp, params["W"]
        n, c, h, w = x.shape
        places = [(i, j) for i in range(3) for j in range(3)]
        parts = xp.stack([x[:, :, i:i + h - 2, j:j + w - 2] for i, j in places], axis=-1)
        columns = xp.reshape(xp.permute_dims(parts, (0, 2, 3, 1, 4)), (-1, c * 9))
        y = xp.permute_dims(xp.reshape(columns @ W, (n, h - 2, w - 2, -1)), (0, 3, 1, 2))

        def backward(dy, input_grad=True):
            dy = xp.reshape(xp.permute_dims(dy, (0, 2, 3, 1)), (-1, W.shape[1]))
            dW = columns.T @ dy
            if not input_grad:
                return None, {"W": dW}
            dparts = xp.permute_dims(xp.reshape(dy @ W.T, (n, h - 2, w - 2, c, 9)), (0, 3, 1, 2, 4))
            dx = xp.zeros_like(x)
            for k, (i, j) in enumerate(places):
                dx[:, :, i:i + h - 2, j:j + w - 2] += dparts[..., k]
            return dx, {"W": dW}

        return y, backward


class Heads(Layer):
    """Attention within x by two heads, for its operations."""

    def forward(self, params, x, ctx):
        xp = ctx.xp
        n, time, d = x.shape
        split = xp.permute_dims(xp.reshape(x, (n, time, 2, d // 2)), (0, 2, 1, 3))
        later = xp.arange(time, device=x.device)[:, None] < xp.arange(time, device=x.device)[None, :]
        scores = xp.where(later, xp.asarray(-1e9, dtype=x.dtype, device=x.device), split @ split.mT)
        e = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
        a = e / xp.sum(e, axis=-1, keepdims=True)
        y = xp.reshape(xp.permute_dims(a @ split, (0, 2, 1, 3)), x.shape)

        def backward(dy, input_grad=True):
            if not input_grad:
                return None, {}
            dy = xp.permute_dims(xp.reshape(dy, (n, time, 2, d // 2)), (0, 2, 1, 3))
            da = dy @ split.mT
            ds = a * (da - xp.sum(a * da, axis=-1, keepdims=True))
            dx = a.mT @ dy + ds @ split + ds.mT @ split
            return xp.reshape(xp.permute_dims(dx, (0, 2, 1, 3)), x.shape), {}

        return y, backward


class Recurrent(Layer):
    """One cell run over time through the context, for its loops: the same child again and again."""

    def __init__(self):
        self.cell = xn.Dense(5, 5, "tanh")

    def children(self):
        return {"cell": self.cell}

    def forward(self, params, x, ctx):
        xp = ctx.xp
        h, tape, hs = xp.zeros_like(x[:, 0, :]), [], []
        for t in range(x.shape[1]):
            h, back = ctx.forward("cell", self.cell, params, h + x[:, t, :])
            tape.append(back)
            hs.append(h)

        def backward(dy, input_grad=True):
            dh, dxs, total = xp.zeros_like(dy[:, 0, :]), [], None
            for t in reversed(range(len(tape))):
                dh, grads = tape[t](dh + dy[:, t, :])
                total = grads if total is None else {k: total[k] + grads[k] for k in ("W", "b")} | {"activation": {}}
                dxs.append(dh)
            return (xp.stack(dxs[::-1], axis=1) if input_grad else None), {"cell": total}

        return xp.stack(hs, axis=1), backward


CASES = {**LAYERS, "windows": (Windows, (2, 2, 5, 6)), "heads": (Heads, (2, 3, 8)), "recurrent": (Recurrent, (4, 3, 5))}


def row(summary, path):
    return next(r for r in summary.rows if r.path == path)


def of_shape(shape, make, dtype):
    """An array, or a tuple of arrays where `shape` is a list of shapes; of integers where it is Ints."""
    if isinstance(shape, list):
        return tuple(of_shape(s, make, dtype) for s in shape)
    return make(shape.shape, "int64") if isinstance(shape, Ints) else make(shape, dtype)


def summary_args(shape, dtype):
    """What Model.summary is told of an input of this shape."""
    entries = [(s.shape, "int64") if isinstance(s, Ints) else (s, dtype) for s in (shape if isinstance(shape, list) else [shape])]
    shapes, dtypes = tuple(s[1:] for s, _ in entries), tuple(d for _, d in entries)
    many = isinstance(shape, list)
    return {"input_shape": shapes if many else shapes[0], "batch_size": entries[0][0][0], "input_dtype": dtypes if many else dtypes[0]}


def shapes(value):
    if isinstance(value, dict):
        return {k: shapes(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(map(shapes, value))
    return None if value is None else (tuple(value.shape), str(value.dtype))


# FLOPs and bytes, by hand.


def test_dense_by_hand():
    n = 5
    net = xn.Sequential(xn.Dense(3, 4), xn.Dense(4, 2))
    s = xn.Model(net).summary(batch_size=n)
    first, second = s.rows
    assert (first.path, first.name, first.output_shape, first.params) == ("0", "Dense(3, 4)", (n, 4), 16)
    assert first.flops_forward == 2 * n * 3 * 4 + n * 4        # xW, and b added to every entry
    assert first.flops_backward == 2 * n * 3 * 4 + n * 4       # dW, db; training has no use for dx here
    assert second.flops_forward == 2 * n * 4 * 2 + n * 2
    assert second.flops_backward == 2 * (2 * n * 4 * 2) + n * 2   # dW, dx, db
    assert first.cached_bytes == 0                             # it keeps x, which is the network's input
    assert second.cached_bytes == n * 4 * 4                    # its own x, in float32
    assert (s.total_params, s.params_bytes) == (26, 2 * 26 * 4)
    assert s.flops_forward == first.flops_forward + second.flops_forward
    assert s.flops_backward == first.flops_backward + second.flops_backward
    assert (s.cached_bytes, s.recomputed_bytes) == (80, 0)


def test_leading_axes_are_rows():
    s = xn.Model(xn.Dense(3, 4)).summary((7, 3), batch_size=2)
    assert row(s, "").output_shape == (2, 7, 4)
    assert s.flops_forward == 2 * 14 * 3 * 4 + 14 * 4


@pytest.mark.parametrize("layer,forward,backward", [
    (xn.ReLU(), 1, 2),                                    # max(x, 0); y > 0 and a product (converting is moving)
    (xn.Sigmoid(), 5, 3),                                 # max, -, exp, 1 +, 1 /; 1 - y, y ·, dy ·
    (xn.Tanh(), 1, 3), (xn.Identity(), 0, 0), (xn.Flatten(), 0, 0)], ids=repr)
def test_elementwise_by_hand(layer, forward, backward):
    s = xn.Model(xn.Sequential(xn.Dense(3, 4), layer)).summary(batch_size=5)
    assert (row(s, "1").flops_forward, row(s, "1").flops_backward) == (forward * 20, backward * 20)


def test_softmax_by_hand():
    """Σ and max are n·k; the exponentials, the difference and the quotient too."""
    s = xn.Model(xn.Sequential(xn.Dense(3, 4), xn.Softmax())).summary(batch_size=5)
    assert row(s, "1").flops_forward == 5 * 20
    assert row(s, "1").flops_backward == 4 * 20           # y dy, Σ, difference, product
    assert row(s, "1").cached_bytes == 20 * 4


def test_operations_are_recorded():
    """Launches, products and bytes of each layer: what a forecast of its time is made from."""
    s = xn.Model(xn.Sequential(xn.Dense(3, 4), xn.Dense(4, 2))).summary(batch_size=5)
    f4 = 4
    assert [op[:4] for op in row(s, "1").forward] == [("matmul", 10, 2 * 5 * 4 * 2, f4 * (20 + 8 + 10)),
                                                    ("add", 10, 10, f4 * (10 + 2 + 10))]
    assert [op.name for op in row(s, "1").backward] == ["matmul", "sum", "matmul"]
    assert [op.name for op in row(s, "0").backward] == ["matmul", "sum"]


def test_a_gather_reads_what_it_writes():
    class Embedding(Layer):
        table = Param((10, 3), "zeros")

        def params(self):
            return {"E": self.table}

        def forward(self, params, x, ctx):
            xp = ctx.xp
            y = xp.take(params["E"], xp.reshape(x, (-1,)), axis=0)

            def backward(dy, input_grad=True):
                return None, {"E": index_add(xp, 10, xp.reshape(x, (-1,)), dy)}

            return y, backward

    s = summarize(xn.Model(Embedding()), (4,), batch_size=2, input_dtype="int64")
    assert [op[:4] for op in row(s, "").forward] == [("take", 24, 0, 24 * 4 * 2 + 8 * 8)]
    assert row(s, "").output_shape == (8, 3)
    assert s.cached_bytes == 0


# Every layer against a real run.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_layer_has_the_shapes_of_a_real_run(name, dtype):
    make, shape = CASES[name]
    net = make()
    model = xn.Model(net, backend="numpy", dtype=dtype)
    found = []
    for xp, x, params, state in (
            (numpy, of_shape(shape, np.ones, dtype), model._views, model.state),
            (abstract, of_shape(shape, AbstractArray, dtype),
             model.layout.views(abstract, AbstractArray((model.layout.size,), dtype)), {b: AbstractArray(b.shape, dtype) for b in model.state})):
        y, backward = net.forward(params, x, Context(xp, True, state=state))
        dx, grads = backward(y)                           # y stands in for dy
        none, again = backward(y, False)
        assert none is None
        found.append((shapes(y), shapes(dx), shapes(grads), shapes(again)))
    assert found[0] == found[1]


def really_kept(model, x):
    """Bytes that the closure of a real forward pass keeps, found in the same way, and each child's output shape."""
    outputs = {}

    class Listening(Context):
        def __init__(self, *args):
            super().__init__(*args)
            self.path = ""

        def forward(self, name, layer, params, x):
            before = self.path
            self.path = path = f"{before}.{name}" if before else name
            y, backward = super().forward(name, layer, params, x)
            self.path = before
            outputs[path] = tuple(e.shape for e in y) if isinstance(y, tuple) else y.shape
            return y, backward

    def owner(a):
        while isinstance(a, np.ndarray) and a.base is not None:
            a = a.base
        return a

    _, backward = model.net.forward(model._views, x, Listening(numpy, True, Random(0, 0), model.state))
    known = [id(owner(a)) for a in (model.params, *model.state.values(), *(x if isinstance(x, tuple) else (x,)))]
    kept = {id(owner(a)): owner(a).nbytes for a in held(backward, (np.ndarray, np.generic))}
    return sum(nbytes for key, nbytes in kept.items() if key not in known), outputs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_layer_keeps_what_a_real_run_keeps(name, dtype):
    make, shape = CASES[name]
    model = xn.Model(make(), backend="numpy", dtype=dtype)
    kept, outputs = really_kept(model, of_shape(shape, np.ones, dtype))
    s = model.summary(**summary_args(shape, dtype))
    assert s.cached_bytes == kept
    assert all(r.output_shape == outputs[r.path] for r in s.rows if r.path)
    assert sum(r.params for r in s.rows) == s.total_params == model.layout.size


def test_a_network_keeps_what_a_real_run_keeps():
    net = xn.Sequential(xn.Dense(6, 8, "relu"), xn.Dropout(0.5), xn.Residual(xn.Dense(8, 8, "softmax"), xn.Tanh()),
                        xn.Reshape(2, 4), xn.Checkpoint(xn.Dense(4, 6), xn.GELU(), xn.Dense(6, 6, "sigmoid")),
                        xn.Concat(xn.Dense(6, 3), xn.Sequential(xn.Identity(), xn.ELU())), xn.Flatten(),
                        xn.LogSoftmax())
    model = xn.Model(net, backend="numpy")
    s = model.summary(batch_size=7)
    assert s.cached_bytes == really_kept(model, np.ones((7, 6), np.float32))[0] > 0
    assert s.cached_bytes == sum(r.cached_bytes for r in s.rows)


def keeps(make):
    """A layer whose backward is made by make(x·2)."""
    class Keeping(Layer):
        def forward(self, params, x, ctx):
            return x, make(ctx.xp, x * 2.0)

    return Keeping()


def in_default(xp, a):
    return lambda dy, input_grad=True, a=a: (dy, {})


def in_partial(xp, a):
    return functools.partial(lambda kept, dy, input_grad=True: (dy, {}), {"kept": [(a,)]})


def in_the_function_of_a_partial(xp, a):
    return functools.partial(in_nested(xp, a))


def in_nested(xp, a):
    def inner():
        return a

    return lambda dy, input_grad=True: (dy if inner() is not None else None, {})


def in_views(xp, a):
    """A slice, its transpose and a reshape are the same memory, all of it; a copy is another."""
    part, turned = a[:1, 1:], xp.reshape(a, (-1, 2)).T
    return lambda dy, input_grad=True: (dy, {} if (part, turned) else {})


def in_copy(xp, a):
    flat = xp.reshape(a.T, (-1,))
    return lambda dy, input_grad=True: (dy, {} if (a, flat) else {})


def dropped(xp, a):
    return lambda dy, input_grad=True: (dy, {})


@pytest.mark.parametrize("make,arrays", [(in_default, 1), (in_partial, 1), (in_nested, 1), (in_views, 1), (in_copy, 2),
                                         (in_the_function_of_a_partial, 1), (dropped, 0)])
def test_a_closure_keeps_arrays_wherever_it_has_them(make, arrays):
    model = xn.Model(keeps(make), backend="numpy")
    assert model.summary((6,), batch_size=4).cached_bytes == arrays * 4 * 6 * 4
    assert really_kept(model, np.ones((4, 6), np.float32))[0] == arrays * 4 * 6 * 4


def test_buffers_are_not_counted():
    class Mean(Layer):
        running = xn.Buffer((3,))

        def buffers(self):
            return {"running": self.running}

        def forward(self, params, x, ctx):
            mean = ctx.state[self.running]
            ctx.update(self.running, 0.9 * mean + 0.1 * ctx.xp.mean(x, axis=0))
            return x - mean, lambda dy, input_grad=True: (dy + 0.0 * mean if input_grad else None, {})

    s = xn.Model(xn.Sequential(xn.Dense(3, 3), Mean())).summary(batch_size=2)
    assert [r.cached_bytes for r in s.rows] == [0, 0]
    assert row(s, "1").flops_forward == 2 * 3 + 3 * 3 + 2 * 3  # the mean; two products and a sum; the difference


# Sharing, checkpoints, containers.


def test_a_shared_layer_counts_once():
    d = xn.Dense(5, 5)
    s = xn.Model(xn.Sequential(d, xn.Tanh(), d)).summary()
    assert [(r.params, r.shared) for r in s.rows] == [(30, 0), (0, 0), (0, 30)]
    assert s.total_params == 30
    assert "(30)" in str(s).splitlines()[4] and "counted there" in str(s)
    assert row(s, "2").flops_forward == row(s, "0").flops_forward      # work is done twice


def test_a_tied_param_counts_once():
    a, b = xn.Dense(5, 5), xn.Dense(5, 5)
    b.W = a.W
    s = xn.Model(xn.Sequential(a, b)).summary()
    assert [(r.params, r.shared) for r in s.rows] == [(30, 0), (5, 25)]
    assert "5 + (25)" in str(s)
    assert "(in brackets)" not in str(xn.Model(a).summary())


def test_an_array_that_two_layers_keep_counts_once_at_the_first():
    s = xn.Model(xn.Sequential(xn.Dense(3, 4), xn.ReLU(), xn.Dense(4, 2))).summary(batch_size=5)
    assert [r.cached_bytes for r in s.rows] == [0, 80, 0]                # ReLU's output is the second Dense's input


def test_checkpoint_shows_its_saving():
    inner = xn.Dense(4, 6, "tanh"), xn.Dense(6, 6, "tanh"), xn.Dense(6, 4, "tanh")
    n = 10
    plain = xn.Model(xn.Sequential(xn.Dense(3, 4), *inner, xn.Dense(4, 2))).summary(batch_size=n)
    saving = xn.Model(xn.Sequential(xn.Dense(3, 4), xn.Checkpoint(*inner), xn.Dense(4, 2))).summary(batch_size=n)
    assert saving.recomputed_bytes == n * (6 + 6) * 4      # its last output is the next layer's input, which is kept
    assert plain.cached_bytes - saving.cached_bytes == saving.recomputed_bytes
    assert row(saving, "1").cached_bytes == n * 4 * 4
    assert [row(saving, f"1.{i}").cached_bytes for i in range(3)] == [0, 0, 0]
    assert saving.flops_forward == plain.flops_forward
    again = sum(row(saving, f"1.{i}").flops_forward for i in range(3))
    assert saving.flops_backward == plain.flops_backward + again
    assert re.search(r"recomputed, not kept +480 B", str(saving)) and "recomputed" not in str(plain)


def test_a_container_has_a_row_for_its_own_work():
    s = xn.Model(xn.Sequential(xn.Dense(3, 4), xn.Residual(xn.Dense(4, 4)))).summary(batch_size=5)
    assert [r.path for r in s.rows] == ["0", "1", "1.0"]   # the Sequential does nothing itself
    assert (row(s, "1").flops_forward, row(s, "1").flops_backward, row(s, "1").params) == (20, 20, 0)


def test_a_child_that_its_parent_runs_by_itself():
    class Own(Layer):
        inner = xn.Dense(3, 2)

        def children(self):
            return {"inner": self.inner}

        def forward(self, params, x, ctx):
            y, back = self.inner.forward(params["inner"], x, ctx)
            return y, lambda dy, input_grad=True: (lambda dx, grads: (dx, {"inner": grads}))(*back(dy, input_grad))

    s = xn.Model(xn.Sequential(Own())).summary((3,))
    assert [(r.path, r.params, r.flops_forward) for r in s.rows] == [("0", 8, 14)]


def test_inputs_and_outputs_may_be_tuples():
    net = xn.Parallel(xn.Dense(3, 2), xn.Dense(4, 5, "relu"), split=True)
    s = xn.Model(net).summary(((3,), (4,)), batch_size=2)
    assert [r.output_shape for r in s.rows if r.path] == [(2, 2), (2, 5)]
    assert s.flops_forward == 2 * 2 * 3 * 2 + 4 + 2 * 2 * 4 * 5 + 2 * 10


# The table.


def test_the_table():
    net = xn.Sequential(xn.Flatten(), xn.Dense(784, 100, "relu"), xn.Dropout(0.5), xn.Dense(100, 10))
    s = xn.Model(net).summary((28, 28), batch_size=64)
    assert str(s) == repr(s) == """\
path  layer                    output shape  parameters  FLOPs forward  FLOPs backward      kept
------------------------------------------------------------------------------------------------
0     Flatten()                (64, 784)              0              0               0       0 B
1     Dense(784, 100, ReLU())  (64, 100)         78,500     10,048,000      10,054,400  25.0 KiB
2     Dropout(0.5)             (64, 100)              0        140,800           6,400  25.0 KiB
3     Dense(100, 10)           (64, 10)           1,010        128,640         256,640  25.0 KiB
------------------------------------------------------------------------------------------------
trainable parameters      79,510
parameters and gradients  621.2 KiB
FLOPs of a step           20,634,880 (10,317,440 forward, 10,317,440 backward)
kept for backward         75.0 KiB
most at once in a step    440.6 KiB
A multiply-add is 2 FLOPs, an elementwise operation or a reduction 1 an element. Loss and optimizer are not counted."""


def test_a_long_name_is_cut():
    s = xn.Model(xn.Residual(*(xn.Dense(100, 100, "tanh") for _ in range(9)))).summary()
    assert "Residual(...)" in str(s) and row(s, "").name == repr(s.rows[0].name).strip("'")
    assert max(map(len, str(s).splitlines())) < 120


def test_summary_is_the_same_on_every_backend_and_changes_nothing(backend):
    net = xn.Sequential(xn.Dense(5, 4, "gelu"), xn.Dropout(0.5), xn.Residual(xn.Dense(4, 4)), xn.Softmax())
    model = backend.model(net)
    if backend.readonly:
        lock({"flat": model.params})
    before = backend.host(model.params)
    s = model.summary(batch_size=3)
    assert str(s) == str(xn.Model(net, backend="numpy").summary(batch_size=3))
    np.testing.assert_array_equal(backend.host(model.params), before)
    assert (model.step, model.xp) == (0, backend.xp)
    y, backward = model.forward(backend.asarray(np.ones((3, 5)), "float32"))   # rules run on this backend as before
    assert namespace(backward(y)) is namespace(model.params)


# Errors.


def test_a_shape_that_the_network_does_not_fix():
    with pytest.raises(ValueError, match=r"shape of one sample is not fixed by Sequential: give it, .*input_shape="):
        xn.Model(xn.Sequential(xn.Flatten(), xn.Dense(4, 2))).summary()


@pytest.mark.parametrize("net,shape", [
    (xn.Sequential(xn.Dense(3, 4), xn.Residual(xn.ReLU(), xn.Sequential(xn.Dense(4, 4)))), (5,)),
    (xn.Sequential(xn.Flatten(), xn.Residual(xn.ReLU(), xn.Sequential(xn.Dense(4, 4)))), (5, 2)),
    (xn.Dense(3, 4), (7,)), (xn.Sequential(xn.Residual(xn.Flatten())), (2, 3)), (xn.Sequential(xn.Reshape(4)), (5,)),
    (xn.Concat(xn.Dense(3, 2), xn.Flatten()), (2, 3))], ids=repr)
def test_a_wrong_shape_has_the_error_of_a_real_run(net, shape):
    model = xn.Model(net, backend="numpy")
    with pytest.raises(xn.LayerError) as real:
        model.forward(np.ones((2, *shape), np.float32))
    with pytest.raises(xn.LayerError) as dry:
        model.summary(shape, batch_size=2)
    assert str(dry.value) == str(real.value) and dry.value.path == real.value.path


@pytest.mark.parametrize("args,message", [
    ({"input_shape": 784}, r"input_shape is the shape of one sample, such as \(784,\), got 784"),
    ({"input_shape": (3, None)}, r"one sample, .* got \(3, None\)"), ({"input_shape": (0,)}, r"one sample, .* got \(0,\)"),
    ({"input_shape": ((3,), 4)}, r"one sample, .* got \(\(3,\), 4\)"),
    ({"batch_size": 0}, "batch_size is a positive integer, got 0"), ({"batch_size": 2.0}, "positive integer, got 2.0")])
def test_bad_arguments(args, message):
    with pytest.raises(ValueError, match=message):
        xn.Model(xn.Dense(3, 2)).summary(**args)


def test_unknown_input_dtype():
    with pytest.raises(ValueError, match="unknown dtype 'int46'; did you mean 'int64'"):
        summarize(xn.Model(xn.Dense(3, 2)), input_dtype="int46")


@pytest.mark.parametrize("ask", [float, int, bool, np.asarray, lambda x: x.item(), lambda x: 1 if x > 0 else 0,
                                 [1, 2].__getitem__], ids=["float", "int", "bool", "asarray", "item", "if", "index"])
def test_a_layer_that_asks_for_a_number_is_told_so(ask):
    with pytest.raises(TypeError, match="a dry run has no numbers"):
        ask(AbstractArray((), "float32"))


def test_what_depends_on_the_numbers_is_refused():
    x = AbstractArray((4, 5), "float32")
    with pytest.raises(AttributeError, match="knows no function 'unique_values'"):
        abstract.unique_values(x)
    with pytest.raises(IndexError, match="boolean"):
        x[x > 0.0]


@pytest.mark.parametrize("wrong", [
    "x + xp.ones(3)", "x.__iadd__(xp.ones((2, 4, 5)))", "x.__imul__(xp.ones((4, 1, 5)))",
    "xp.ones(2, dtype=xp.int64).__iadd__(0.5)", "x @ x", "x[4]", "x[0, 0, 0]", "x[:, -6]",
    "x.__setitem__(0, xp.ones(4))", "xp.reshape(x, (3, -1))", "xp.reshape(x, (21,))", "xp.reshape(x, (-2, -10))",
    "xp.sum(x, axis=2)", "xp.permute_dims(x, (0, 0))", "xp.permute_dims(x, (0,))", "xp.squeeze(x, axis=0)",
    "xp.broadcast_to(x, (4,))", "xp.broadcast_to(x, (4, 4))", "xp.concat([x, xp.ones((4, 5, 1))])",
    "xp.concat([x, x.T])", "xp.tensordot(x, x, axes=1)", "xp.unstack(x, axis=2)", "xp.matrix_transpose(x[0])",
    "xp.take(x, xp.zeros(2, dtype=xp.int64), axis=3)", "len(xp.sum(x))", "xp.maximum(x, 'a')",
])
def test_what_numpy_refuses_is_refused(wrong):
    for xp, x in ((numpy, np.ones((4, 5), np.float32)), (abstract, AbstractArray((4, 5), "float32"))):
        with pytest.raises((ValueError, IndexError, TypeError)):
            eval(wrong, {"xp": xp, "x": x})


def test_host_arrays_do_not_take_part():
    x, host = AbstractArray((3,), "float32"), np.ones(3, np.float32)
    for mix in (lambda: x + host, lambda: host + x, lambda: abstract.maximum(x, host), lambda: x @ host):
        with pytest.raises(TypeError):
            mix()


# The namespace against NumPy's.


def spread(a):
    """Strides in elements, 0 where they say nothing."""
    step = a.strides if isinstance(a, AbstractArray) else tuple(s // a.itemsize for s in a.strides)
    return tuple(s if n != 1 else 0 for n, s in zip(a.shape, step))


def alike(real, dry, layout=True):
    if isinstance(real, (tuple, list)):
        assert len(real) == len(dry)
        for r, d in zip(real, dry):
            alike(r, d, layout)
        return
    if not isinstance(dry, AbstractArray):
        assert real == dry
        return
    real = np.asarray(real)
    assert (dry.shape, dry.dtype) == (real.shape, real.dtype)
    if layout:
        assert spread(dry) == spread(real)


# a: (4, 5, 6), b: (5, 1), c: (4, 5, 6) of another memory order, i: (4, 5) integers
CALLS = [
    "a + b", "2 - a", "a * c", "c / 3.0", "i / 2", "i // 2", "i % 3", "a ** 2", "2 ** i", "i & 3", "i | i", "i ^ 1",
    "i << 2", "i >> 1", "~i", "-c", "+a", "abs(c)", "a > 0.0", "a == c", "1.0 - a >= a", "a != b",
    "a + np.float64(2.0)", "np.float32(2.0) * a", "a + i[..., None]", "a.mT", "i.T", "a[0]", "a[-1, ..., 2]",
    "a[:, None, 1:4:2]", "a[..., ::-1]", "a[3:1, 1]", "a[..., None]", "a[()]", "a[i[:2, :3], 2]", "a[i[:2, :3]]",
    "a @ a.mT", "a @ a[0].T", "a[0, 0] @ a.mT", "a @ a[0, 0]", "a[0, 0] @ a[0, 0]", "xp.matmul(i, i.T)",
    "xp.exp(c)", "xp.sign(a)", "xp.floor(c)", "xp.maximum(a, 0.0)", "xp.minimum(c, b)", "xp.logical_not(a > 0)",
    "xp.isfinite(c)", "xp.where(a > 0, a, b)", "xp.where(c > 0, 1.0, c)", "xp.clip(a, -1.0, 1.0)",
    "xp.clip(a, max=2.0)", "xp.pow(a, 2.0)", "xp.sum(a)", "xp.sum(c, axis=1)", "xp.sum(c, axis=0, keepdims=True)",
    "xp.sum(a, axis=(0, -1))", "xp.sum(a > 0)", "xp.sum(a, axis=())", "xp.sum(i, axis=0, dtype=xp.float32)",
    "xp.prod(a, axis=2)", "xp.max(c, axis=-1, keepdims=True)", "xp.min(i)", "xp.mean(c, axis=1)",
    "xp.var(a, axis=0, correction=1)", "xp.std(a)", "xp.any(a > 0, axis=0)", "xp.all(a > 0)",
    "xp.argmax(a, axis=-1)", "xp.argmin(a)", "xp.count_nonzero(i, axis=0)", "xp.linalg.vector_norm(a)",
    "xp.linalg.vector_norm(a, axis=(0, 1), keepdims=True)", "xp.linalg.matmul(a, a.mT)",
    "xp.tensordot(a, c[:, :5, :5], axes=([1], [2]))", "xp.tensordot(a, c, axes=([0, 2], [0, 2]))",
    "xp.tensordot(a, i, axes=((0,), (0,)))", "xp.vecdot(a, c, axis=-2)", "xp.reshape(a, (20, -1))",
    "xp.reshape(c, (-1,))", "xp.reshape(a, (2, 2, 5, 6))", "xp.reshape(c, (4, 5, 2, 3))",
    "xp.reshape(xp.sum(a), (1, 1))", "xp.permute_dims(a, (2, 0, 1))", "xp.permute_dims(a, (-1, 0, 1))",
    "xp.matrix_transpose(c)", "xp.moveaxis(a, 0, -1)", "xp.moveaxis(a, (0, 2), (1, 0))",
    "xp.broadcast_to(b, (2, 5, 6))", "xp.broadcast_arrays(a, b)", "xp.broadcast_shapes((4, 1), (5,))",
    "xp.expand_dims(a, axis=-2)", "xp.squeeze(b, axis=1)", "xp.flip(a)", "xp.flip(c, axis=1)",
    "xp.unstack(a, axis=1)", "xp.concat([a, c], axis=1)", "xp.concat([c, c], axis=-1)",
    "xp.concat([a, c], axis=None)", "xp.stack([a, a], axis=-1)", "xp.stack([b, b])",
    "xp.take(a, xp.asarray([0, 2]), axis=1)", "xp.take(a, i[:2, :3], axis=0)",
    "xp.take_along_axis(a, xp.argmax(a, axis=1, keepdims=True), axis=1)", "xp.astype(c, xp.float64)",
    "xp.astype(a > 0, xp.float32)", "xp.asarray(c, copy=True)", "xp.asarray(1.5, dtype=xp.float32)",
    "xp.asarray([[1, 2]])", "xp.empty_like(c)", "xp.zeros_like(c)", "xp.ones_like(i, dtype=xp.float32)",
    "xp.full_like(a, 2.0)", "xp.empty((2, 3))", "xp.zeros(3)", "xp.ones((2, 1), dtype=xp.int32)",
    "xp.full((2,), 7)", "xp.full((2,), True)", "xp.arange(7)", "xp.arange(1, 8, 3)", "xp.arange(1.0, 2.0, 0.25)",
    "xp.arange(5, 1, -1, dtype=xp.float32)", "xp.linspace(0.0, 1.0, 5)", "xp.eye(3, 4)",
    "xp.meshgrid(xp.arange(3), xp.arange(4), indexing='ij')", "xp.roll(a, 1, axis=0)", "xp.repeat(a, 3, axis=1)",
    "xp.tile(a, (2, 1))", "xp.tril(a)", "xp.triu(a, k=1)", "xp.diff(a, axis=1)", "xp.cumulative_sum(a, axis=1)",
    "xp.cumulative_prod(a, axis=0)", "xp.sort(a, axis=0)", "xp.argsort(a)", "xp.searchsorted(xp.arange(9), i)",
    "xp.isin(i, xp.arange(3))", "xp.isdtype(a.dtype, 'real floating')", "float(xp.finfo(a.dtype).max)",
    "xp.iinfo(i.dtype).max", "xp.result_type(a, xp.float64)", "xp.can_cast(a.dtype, xp.float64)",
    "(a.ndim, a.size, a.shape, len(a), a.nbytes)", "list(iter(b))",
]
# These have a row-major result in the dry run, whatever NumPy does.
ROW_MAJOR = ("meshgrid", "roll", "tril", "triu", "repeat", "tile", "sort", "argsort", "cumulative_sum", "cumulative_prod",
             "diff", "searchsorted", "isin", "linspace", "eye")


@pytest.mark.parametrize("call", CALLS)
def test_function_has_numpys_shape_dtype_and_layout(call):
    a, b = np.ones((4, 5, 6), np.float32), np.ones((5, 1), np.float32)
    c, i = np.ones((4, 6, 5), np.float32).transpose(0, 2, 1), np.ones((4, 5), np.int64)
    real = dict(zip("abci", (a, b, c, i)))
    dry = {k: AbstractArray(e.shape, e.dtype, spread(e)) for k, e in real.items()}
    found = [eval(call, {"xp": xp, "np": np} | arrays) for xp, arrays in ((numpy, real), (abstract, dry))]
    alike(*found, layout=not any(f"xp.{name}(" in call for name in ROW_MAJOR))


def test_in_place_operators_write_into_the_same_memory():
    for xp, x, y in ((numpy, np.ones((4, 5), np.float32), np.ones(5, np.float32)),
                     (abstract, AbstractArray((4, 5), "float32"), AbstractArray((5,), "float32"))):
        before, part = x, x[:2]
        x += y
        x -= 1.0
        x *= y
        x /= 2.0
        x **= 2
        x[:, 1:3] = 0.0
        x[0] = y
        x[1:] += y
        x[...] = xp.exp(y)
        assert x is before and x.dtype == numpy.float32
        k = xp.ones((3,), dtype=xp.int64)
        k //= 2
        k %= 2
        k &= 3
        k |= 1
        k ^= 2
        k <<= 3
        k >>= 1
        assert k.dtype == numpy.int64
        if isinstance(x, AbstractArray):
            assert part.memory is x.memory and (x + y).memory is not x.memory and isinstance(x.memory, Memory)


def test_the_namespace_has_the_standards_functions():
    strict = pytest.importorskip("array_api_strict")
    no_shape = {"unique_all", "unique_counts", "unique_inverse", "unique_values", "nonzero"}   # it depends on the numbers
    no_array_function = {name for name in strict.__all__ if "strict_flags" in name} | {
        "from_dlpack", "fft", "Device", "ArrayAPIStrictFlags", "__array_api_version__", "__version__"}
    assert {name for name in strict.__all__ if not hasattr(abstract, name)} == no_shape | no_array_function


def test_a_copy_is_made_where_it_is_asked_for():
    x = AbstractArray((4, 5), "float32")
    assert abstract.astype(x, "float32", copy=False) is abstract.asarray(x) is x
    for made in (abstract.astype(x, "float32"), abstract.asarray(x, copy=True), abstract.reshape(x, (20,), copy=True), +x):
        assert made.memory is not x.memory
    for view in (abstract.reshape(x, (20,)), x.T, x[1:], abstract.broadcast_to(x, (2, 4, 5)), abstract.flip(x)):
        assert view.memory is x.memory


def test_nothing_is_recorded_outside_of_a_summary():
    s = xn.Model(xn.Dense(3, 2)).summary()
    with pytest.raises(xn.LayerError):
        xn.Model(xn.Dense(3, 2)).summary((4,))
    launches = len(s.rows[0].forward + s.rows[0].backward)
    assert launches == 4 and AbstractArray((3,), "float32") + 1.0 is not None
    assert len(s.rows[0].forward + s.rows[0].backward) == launches


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_layouts_are_numpys(data):
    """Any chain of views, elementwise operations and reshapes: the same strides, and a copy just where NumPy copies."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    real, dry = np.zeros(shape, np.float32), AbstractArray(shape, "float32")
    for _ in range(4):
        kind = data.draw(st.sampled_from(["permute", "slice", "none", "add", "exp", "sum", "concat", "reshape"]))
        before, memory = real, dry.memory
        if kind == "permute":
            axes = tuple(data.draw(st.permutations(range(real.ndim))))
            real, dry = numpy.permute_dims(real, axes), abstract.permute_dims(dry, axes)
        elif kind == "slice":
            cut = tuple(slice(data.draw(st.integers(0, n - 1)), None, data.draw(st.integers(1, 2))) for n in real.shape)
            cut = tuple(slice(None, None, -1) if data.draw(st.booleans()) else c for c in cut)
            real, dry = real[cut], dry[cut]
        elif kind == "none":
            real, dry = real[..., None, :], dry[..., None, :]
        elif kind == "add":
            other = data.draw(st.sampled_from([real.shape, real.shape[-1:]]))
            real, dry = real + np.zeros(other, np.float32), dry + AbstractArray(other, "float32")
        elif kind == "exp":
            real, dry = numpy.exp(real), abstract.exp(dry)
        elif kind == "sum" and real.ndim > 1:
            axis = data.draw(st.integers(0, real.ndim - 1))
            real, dry = numpy.sum(real, axis=axis), abstract.sum(dry, axis=axis)
        elif kind == "concat" and real.size > 1:          # (along an axis of size 1 NumPy nests the axes otherwise)
            axis = data.draw(st.sampled_from([a for a, n in enumerate(real.shape) if n > 1]))
            real, dry = numpy.concat([real, real], axis=axis), abstract.concat([dry, dry], axis=axis)
        elif kind == "reshape":
            parts = [] if real.size > 1 else [1]
            for p in data.draw(st.permutations(factors(real.size))):
                parts.append(p if not parts or data.draw(st.booleans()) else parts.pop() * p)
            real, dry = numpy.reshape(real, tuple(parts)), abstract.reshape(dry, tuple(parts))
            assert (dry.memory is memory) == np.may_share_memory(real, before)
        alike(real, dry)


def factors(n):
    """The prime factors of n."""
    found = []
    for p in range(2, n + 1):
        while n % p == 0:
            n //= p
            found.append(p)
    return found


@pytest.mark.parametrize("make", LOSSES, ids=lambda c: c.__name__)
def test_losses_run_dry(make):
    """A loss looks its namespace up from the prediction."""
    classes = make in (xn.MulticlassHinge, xn.SoftmaxCrossEntropy)
    found = []
    for xp, y in ((numpy, np.ones((4, 5), np.float32)), (abstract, AbstractArray((4, 5), "float32"))):
        t = xp.ones((4,), dtype=xp.int64) if classes else xp.ones_like(y)
        loss, dy = make()(y, t, xp.ones((4,), dtype=xp.float32))
        found.append((shapes(dy), loss.shape, loss.dtype))
    assert found[0] == found[1]


def test_a_norm_is_a_multiply_add_an_element():
    class Norm(Layer):
        def forward(self, params, x, ctx):
            return ctx.xp.linalg.vector_norm(x, axis=-1), lambda dy, input_grad=True: (None, {})

    assert xn.Model(Norm()).summary((3,), batch_size=2).flops_forward == 2 * 6


def test_random_numbers_run_dry():
    u = Random(0).normal(abstract, (3, 4), np.float32, abstract.zeros(1).device)
    assert (u.shape, u.dtype) == ((3, 4), np.float32)


def test_no_memory_is_taken():
    """A batch that fits into no memory."""
    net = xn.Sequential(xn.Dense(10, 10, "tanh"), xn.Dropout(0.5), xn.LogSoftmax())
    s = xn.Model(net).summary(batch_size=10 ** 12)
    assert s.cached_bytes == 3 * 10 ** 13 * 4
    assert "36.4 TiB" in str(s) and "109.1 TiB" in str(s)

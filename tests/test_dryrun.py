"""The dry run against hand-made counts, and against what NumPy really does: shapes, dtypes, layouts, and what closures keep."""

import functools
import math
import re

import numpy as np
import pytest
from cases import LAYERS
from conftest import lock
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet as xn
from xpnet.backend import Random, index_add, namespace
from xpnet.dryrun import AbstractArray, Memory, abstract, held, summarize
from xpnet.layer import Context, Layer, Param

numpy = xn.get_backend("numpy").xp
LOSSES = (xn.MeanSquaredError, xn.MeanAbsoluteError, xn.Huber, xn.LogCosh, xn.Poisson, xn.Hinge, xn.BinaryCrossEntropy,
          xn.KLDivergence, xn.MulticlassHinge, xn.SoftmaxCrossEntropy)


def row(summary, path):
    return next(r for r in summary.rows if r.path == path)


def of_shape(shape, make):
    """An array, or a tuple of arrays where `shape` is a list of shapes."""
    return tuple(make(s) for s in shape) if isinstance(shape, list) else make(shape)


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
    assert first.flops_forward == 2 * n * 3 * 4 + n * 4                        # xW, and b added to every entry
    assert first.flops_backward == 2 * n * 3 * 4 + n * 4                       # dW, db; no dx: nobody wants the input's gradient
    assert second.flops_forward == 2 * n * 4 * 2 + n * 2
    assert second.flops_backward == 2 * (2 * n * 4 * 2) + n * 2                # dW, dx, db
    assert first.cached_bytes == 0                                             # it keeps x, which is the network's input
    assert second.cached_bytes == n * 4 * 4                                    # its own x, in float32
    assert (s.total_params, s.params_bytes) == (26, 2 * 26 * 4)
    assert s.flops_forward == first.flops_forward + second.flops_forward
    assert s.flops_backward == first.flops_backward + second.flops_backward
    assert (s.cached_bytes, s.recomputed_bytes) == (80, 0)


def test_leading_axes_are_rows():
    s = xn.Model(xn.Dense(3, 4)).summary((7, 3), batch_size=2)
    assert row(s, "").output_shape == (2, 7, 4)
    assert s.flops_forward == 2 * 14 * 3 * 4 + 14 * 4


@pytest.mark.parametrize("layer,forward,backward", [
    (xn.ReLU(), 1, 2),                                    # max(x, 0); y > 0 and a product (the conversion of the mask moves numbers)
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
    assert row(s, "1").forward == [("matmul", 10, 2 * 5 * 4 * 2, f4 * (20 + 8 + 10)), ("add", 10, 10, f4 * (10 + 2 + 10))]
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
    assert row(s, "").forward == [("take", 24, 0, 24 * 4 * 2 + 8 * 8)]
    assert row(s, "").output_shape == (8, 3)
    assert s.cached_bytes == 0


# Every layer against a real run.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_has_the_shapes_of_a_real_run(name, dtype):
    make, shape = LAYERS[name]
    net = make()
    model = xn.Model(net, backend="numpy", dtype=dtype)
    found = []
    for xp, x, params in ((numpy, of_shape(shape, lambda s: np.ones(s, dtype)), model._views),
                          (abstract, of_shape(shape, lambda s: AbstractArray(s, dtype)),
                           model.layout.views(abstract, AbstractArray((model.layout.size,), dtype)))):
        y, backward = net.forward(params, x, Context(xp, True))
        dx, grads = backward(y)                           # y stands in for dy
        none, again = backward(y, False)
        assert none is None
        found.append((shapes(y), shapes(dx), shapes(grads), shapes(again)))
    assert found[0] == found[1]


def really_kept(model, x):
    """Bytes that the closure of a real forward pass keeps, and the output shape of each child, found in the same way."""
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
@pytest.mark.parametrize("name", LAYERS)
def test_layer_keeps_what_a_real_run_keeps(name, dtype):
    make, shape = LAYERS[name]
    model = xn.Model(make(), backend="numpy", dtype=dtype)
    kept, outputs = really_kept(model, of_shape(shape, lambda s: np.ones(s, dtype)))
    if isinstance(shape, list):
        s = model.summary(tuple(e[1:] for e in shape), batch_size=shape[0][0])
    else:
        s = model.summary(shape[1:], batch_size=shape[0])
    assert s.cached_bytes == kept
    assert {r.path: r.output_shape for r in s.rows if r.path} == {p: outputs[p] for p in outputs if p in {r.path for r in s.rows}}
    assert set(outputs) >= {r.path for r in s.rows if r.path}
    assert sum(r.params for r in s.rows) == s.total_params == model.layout.size


def test_a_network_keeps_what_a_real_run_keeps():
    net = xn.Sequential(xn.Dense(6, 8, "relu"), xn.Dropout(0.5), xn.Residual(xn.Dense(8, 8, "softmax"), xn.Tanh()), xn.Reshape(2, 4),
                        xn.Checkpoint(xn.Dense(4, 6), xn.GELU(), xn.Dense(6, 6, "sigmoid")),
                        xn.Concat(xn.Dense(6, 3), xn.Sequential(xn.Identity(), xn.ELU())), xn.Flatten(), xn.LogSoftmax())
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


@pytest.mark.parametrize("make,arrays", [(in_default, 1), (in_partial, 1), (in_nested, 1), (in_views, 1), (in_copy, 2), (dropped, 0)])
def test_a_closure_keeps_arrays_wherever_it_has_them(make, arrays):
    model = xn.Model(keeps(make), backend="numpy")
    assert model.summary((6,), batch_size=4).cached_bytes == arrays * 4 * 6 * 4
    assert really_kept(model, np.ones((4, 6), np.float32))[0] == arrays * 4 * 6 * 4


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
2     Dropout(0.5)             (64, 100)              0        147,200           6,400  25.0 KiB
3     Dense(100, 10)           (64, 10)           1,010        128,640         256,640  25.0 KiB
------------------------------------------------------------------------------------------------
trainable parameters      79,510
parameters and gradients  621.2 KiB
FLOPs of a step           20,641,280 (10,323,840 forward, 10,317,440 backward)
kept for backward         75.0 KiB
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
    assert str(dry.value) == str(real.value) and dry.value.path == real.value.path != ""


@pytest.mark.parametrize("args,message", [
    ({"input_shape": 784}, r"shape of one sample, such as \(784,\), got 784"), ({"input_shape": (3, None)}, "shape of one sample"),
    ({"input_shape": (0,)}, "shape of one sample"), ({"input_shape": ((3,), 4)}, "shape of one sample"),
    ({"batch_size": 0}, "batch_size is a positive integer, got 0"), ({"batch_size": 2.0}, "batch_size is a positive integer")])
def test_bad_arguments(args, message):
    with pytest.raises(ValueError, match=message):
        xn.Model(xn.Dense(3, 2)).summary(**args)


def test_unknown_input_dtype():
    with pytest.raises(ValueError, match="unknown dtype 'int46'; did you mean 'int64'"):
        summarize(xn.Model(xn.Dense(3, 2)), input_dtype="int46")


@pytest.mark.parametrize("ask", [float, int, bool, np.asarray, lambda x: x.item(), lambda x: 1 if x > 0 else 0, [1, 2].__getitem__],
                         ids=["float", "int", "bool", "asarray", "item", "if", "index"])
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
    lambda xp, x: x + xp.ones((3,), dtype=xp.float32), lambda xp, x: x.__iadd__(xp.ones((2, 4, 5), dtype=xp.float32)),
    lambda xp, x: x @ x, lambda xp, x: x[4], lambda xp, x: x[0, 0, 0], lambda xp, x: xp.reshape(x, (3, -1)),
    lambda xp, x: xp.reshape(x, (21,)), lambda xp, x: xp.sum(x, axis=2), lambda xp, x: xp.permute_dims(x, (0, 0)),
    lambda xp, x: xp.permute_dims(x, (0,)), lambda xp, x: xp.squeeze(x, axis=0), lambda xp, x: xp.broadcast_to(x, (4,)),
    lambda xp, x: xp.concat([x, xp.ones((4, 5, 1))]), lambda xp, x: xp.concat([x, x.T]), lambda xp, x: xp.tensordot(x, x, axes=1),
    lambda xp, x: xp.astype(x, xp.int64).__iadd__(0.5), lambda xp, x: xp.unstack(x, axis=2),
    lambda xp, x: x.__setitem__(0, xp.ones((4,))), lambda xp, x: xp.take(x, xp.zeros((2,), dtype=xp.int64), axis=3)])
def test_what_numpy_refuses_is_refused(wrong):
    for xp, x in ((numpy, np.ones((4, 5), np.float32)), (abstract, AbstractArray((4, 5), "float32"))):
        with pytest.raises((ValueError, IndexError, TypeError)):
            wrong(xp, x)


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


def index_array(xp):
    return xp.asarray([[0, 1, 1], [3, 0, 2]])


# a: (4, 5, 6), b: (5, 1), c: (4, 5, 6) of another memory order, i: (4, 5) integers
CALLS = [
    lambda xp, a, b, c, i: a + b, lambda xp, a, b, c, i: 2 - a, lambda xp, a, b, c, i: a * c, lambda xp, a, b, c, i: c / 3.0,
    lambda xp, a, b, c, i: i / 2, lambda xp, a, b, c, i: i // 2, lambda xp, a, b, c, i: i % 3, lambda xp, a, b, c, i: a ** 2,
    lambda xp, a, b, c, i: 2 ** i, lambda xp, a, b, c, i: i & 3, lambda xp, a, b, c, i: i | i, lambda xp, a, b, c, i: i ^ 1,
    lambda xp, a, b, c, i: i << 2, lambda xp, a, b, c, i: i >> 1, lambda xp, a, b, c, i: ~i, lambda xp, a, b, c, i: -c,
    lambda xp, a, b, c, i: +a, lambda xp, a, b, c, i: abs(c), lambda xp, a, b, c, i: a > 0.0, lambda xp, a, b, c, i: a == c,
    lambda xp, a, b, c, i: 1.0 >= a, lambda xp, a, b, c, i: a != b, lambda xp, a, b, c, i: a + np.float64(2.0),
    lambda xp, a, b, c, i: np.float32(2.0) * a, lambda xp, a, b, c, i: a + i[..., None], lambda xp, a, b, c, i: a.mT,
    lambda xp, a, b, c, i: i.T, lambda xp, a, b, c, i: a[0], lambda xp, a, b, c, i: a[-1, ..., 2], lambda xp, a, b, c, i: a[:, None, 1:4:2],
    lambda xp, a, b, c, i: a[..., ::-1], lambda xp, a, b, c, i: a[3:1, 1], lambda xp, a, b, c, i: a[..., None],
    lambda xp, a, b, c, i: a[()], lambda xp, a, b, c, i: a[index_array(xp), 2], lambda xp, a, b, c, i: a[index_array(xp)],
    lambda xp, a, b, c, i: a @ a.mT, lambda xp, a, b, c, i: a @ a[0].T, lambda xp, a, b, c, i: a[0, 0] @ a.mT,
    lambda xp, a, b, c, i: a @ a[0, 0], lambda xp, a, b, c, i: a[0, 0] @ a[0, 0], lambda xp, a, b, c, i: xp.matmul(i, i.T),
    lambda xp, a, b, c, i: xp.exp(c), lambda xp, a, b, c, i: xp.sign(a), lambda xp, a, b, c, i: xp.floor(c),
    lambda xp, a, b, c, i: xp.maximum(a, 0.0), lambda xp, a, b, c, i: xp.minimum(c, b), lambda xp, a, b, c, i: xp.logical_not(a > 0),
    lambda xp, a, b, c, i: xp.isfinite(c), lambda xp, a, b, c, i: xp.where(a > 0, a, b), lambda xp, a, b, c, i: xp.where(c > 0, 1.0, c),
    lambda xp, a, b, c, i: xp.clip(a, -1.0, 1.0), lambda xp, a, b, c, i: xp.clip(a, max=2.0), lambda xp, a, b, c, i: xp.pow(a, 2.0),
    lambda xp, a, b, c, i: xp.sum(a), lambda xp, a, b, c, i: xp.sum(c, axis=1), lambda xp, a, b, c, i: xp.sum(c, axis=0, keepdims=True),
    lambda xp, a, b, c, i: xp.sum(a, axis=(0, -1)), lambda xp, a, b, c, i: xp.sum(a > 0), lambda xp, a, b, c, i: xp.sum(a, axis=()),
    lambda xp, a, b, c, i: xp.sum(i, axis=0, dtype=xp.float32), lambda xp, a, b, c, i: xp.prod(a, axis=2),
    lambda xp, a, b, c, i: xp.max(c, axis=-1, keepdims=True), lambda xp, a, b, c, i: xp.min(i), lambda xp, a, b, c, i: xp.mean(c, axis=1),
    lambda xp, a, b, c, i: xp.var(a, axis=0, correction=1), lambda xp, a, b, c, i: xp.std(a), lambda xp, a, b, c, i: xp.any(a > 0, axis=0),
    lambda xp, a, b, c, i: xp.all(a > 0), lambda xp, a, b, c, i: xp.argmax(a, axis=-1), lambda xp, a, b, c, i: xp.argmin(a),
    lambda xp, a, b, c, i: xp.count_nonzero(i, axis=0), lambda xp, a, b, c, i: xp.linalg.vector_norm(a),
    lambda xp, a, b, c, i: xp.linalg.vector_norm(a, axis=(0, 1), keepdims=True), lambda xp, a, b, c, i: xp.linalg.matmul(a, a.mT),
    lambda xp, a, b, c, i: xp.tensordot(a, c[:, :5, :5], axes=([1], [2])), lambda xp, a, b, c, i: xp.tensordot(a, c, axes=([0, 2], [0, 2])),
    lambda xp, a, b, c, i: xp.tensordot(a, i, axes=((0,), (0,))), lambda xp, a, b, c, i: xp.vecdot(a, c, axis=-2),
    lambda xp, a, b, c, i: xp.reshape(a, (20, -1)), lambda xp, a, b, c, i: xp.reshape(c, (-1,)),
    lambda xp, a, b, c, i: xp.reshape(a, (2, 2, 5, 6)), lambda xp, a, b, c, i: xp.reshape(c, (4, 5, 2, 3)),
    lambda xp, a, b, c, i: xp.reshape(xp.sum(a), (1, 1)), lambda xp, a, b, c, i: xp.permute_dims(a, (2, 0, 1)),
    lambda xp, a, b, c, i: xp.permute_dims(a, (-1, 0, 1)), lambda xp, a, b, c, i: xp.matrix_transpose(c),
    lambda xp, a, b, c, i: xp.moveaxis(a, 0, -1), lambda xp, a, b, c, i: xp.moveaxis(a, (0, 2), (1, 0)),
    lambda xp, a, b, c, i: xp.broadcast_to(b, (2, 5, 6)), lambda xp, a, b, c, i: xp.broadcast_arrays(a, b),
    lambda xp, a, b, c, i: xp.broadcast_shapes((4, 1), (5,)), lambda xp, a, b, c, i: xp.expand_dims(a, axis=-2),
    lambda xp, a, b, c, i: xp.squeeze(b, axis=1), lambda xp, a, b, c, i: xp.flip(a), lambda xp, a, b, c, i: xp.flip(c, axis=1),
    lambda xp, a, b, c, i: xp.unstack(a, axis=1), lambda xp, a, b, c, i: xp.concat([a, c], axis=1),
    lambda xp, a, b, c, i: xp.concat([c, c], axis=-1), lambda xp, a, b, c, i: xp.concat([a, c], axis=None),
    lambda xp, a, b, c, i: xp.stack([a, a], axis=-1), lambda xp, a, b, c, i: xp.stack([b, b]),
    lambda xp, a, b, c, i: xp.take(a, xp.asarray([0, 2]), axis=1), lambda xp, a, b, c, i: xp.take(a, index_array(xp), axis=0),
    lambda xp, a, b, c, i: xp.take_along_axis(a, xp.argmax(a, axis=1, keepdims=True), axis=1),
    lambda xp, a, b, c, i: xp.astype(c, xp.float64), lambda xp, a, b, c, i: xp.astype(a > 0, xp.float32),
    lambda xp, a, b, c, i: xp.asarray(c, copy=True), lambda xp, a, b, c, i: xp.asarray(1.5, dtype=xp.float32),
    lambda xp, a, b, c, i: xp.asarray([[1, 2]]), lambda xp, a, b, c, i: xp.empty_like(c), lambda xp, a, b, c, i: xp.zeros_like(c),
    lambda xp, a, b, c, i: xp.ones_like(i, dtype=xp.float32), lambda xp, a, b, c, i: xp.full_like(a, 2.0),
    lambda xp, a, b, c, i: xp.empty((2, 3)), lambda xp, a, b, c, i: xp.zeros(3), lambda xp, a, b, c, i: xp.ones((2, 1), dtype=xp.int32),
    lambda xp, a, b, c, i: xp.full((2,), 7), lambda xp, a, b, c, i: xp.full((2,), True), lambda xp, a, b, c, i: xp.arange(7),
    lambda xp, a, b, c, i: xp.arange(1, 8, 3), lambda xp, a, b, c, i: xp.arange(1.0, 2.0, 0.25),
    lambda xp, a, b, c, i: xp.arange(5, 1, -1, dtype=xp.float32), lambda xp, a, b, c, i: xp.linspace(0.0, 1.0, 5),
    lambda xp, a, b, c, i: xp.eye(3, 4), lambda xp, a, b, c, i: xp.meshgrid(xp.arange(3), xp.arange(4), indexing="ij"),
    lambda xp, a, b, c, i: xp.roll(a, 1, axis=0), lambda xp, a, b, c, i: xp.repeat(a, 3, axis=1), lambda xp, a, b, c, i: xp.tile(a, (2, 1)),
    lambda xp, a, b, c, i: xp.tril(a), lambda xp, a, b, c, i: xp.triu(a, k=1), lambda xp, a, b, c, i: xp.diff(a, axis=1),
    lambda xp, a, b, c, i: xp.cumulative_sum(a, axis=1), lambda xp, a, b, c, i: xp.cumulative_prod(a, axis=0),
    lambda xp, a, b, c, i: xp.sort(a, axis=0), lambda xp, a, b, c, i: xp.argsort(a),
    lambda xp, a, b, c, i: xp.searchsorted(xp.arange(9), i), lambda xp, a, b, c, i: xp.isin(i, xp.arange(3)),
    lambda xp, a, b, c, i: xp.isdtype(a.dtype, "real floating"), lambda xp, a, b, c, i: float(xp.finfo(a.dtype).max),
    lambda xp, a, b, c, i: xp.iinfo(i.dtype).max, lambda xp, a, b, c, i: xp.result_type(a, xp.float64),
    lambda xp, a, b, c, i: xp.can_cast(a.dtype, xp.float64), lambda xp, a, b, c, i: (a.ndim, a.size, a.shape, len(a), a.nbytes),
    lambda xp, a, b, c, i: list(iter(b)),
]
BY_NUMPY = {"meshgrid", "roll", "tril", "triu", "repeat", "tile", "sort", "argsort", "cumulative_sum", "cumulative_prod", "diff",
            "searchsorted", "isin", "linspace", "eye"}     # whose memory order is taken to be row-major


@pytest.mark.parametrize("call", CALLS, ids=[str(k) for k in range(len(CALLS))])
def test_function_has_numpys_shape_dtype_and_layout(call):
    a, b = np.ones((4, 5, 6), np.float32), np.ones((5, 1), np.float32)
    c, i = np.ones((4, 6, 5), np.float32).transpose(0, 2, 1), np.ones((4, 5), np.int64)
    dry = [AbstractArray(e.shape, e.dtype, spread(e)) for e in (a, b, c, i)]
    alike(call(numpy, a, b, c, i), call(abstract, *dry), layout=not BY_NUMPY & set(call.__code__.co_names))


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
    refused = {"unique_all", "unique_counts", "unique_inverse", "unique_values", "nonzero",   # shapes that depend on numbers
               "from_dlpack", "fft", "Device", "ArrayAPIStrictFlags", "get_array_api_strict_flags", "set_array_api_strict_flags",
               "reset_array_api_strict_flags", "__array_api_version__", "__version__"}
    assert [name for name in strict.__all__ if not hasattr(abstract, name)] == [n for n in strict.__all__ if n in refused]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_layouts_are_numpys(data):
    """Any chain of views, elementwise operations and reshapes: the same strides, and a copy just where NumPy copies."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    real, dry = np.zeros(shape, np.float32), AbstractArray(shape, "float32")
    for _ in range(4):
        kind = data.draw(st.sampled_from(["permute", "slice", "none", "add", "exp", "sum", "concat", "reshape", "reshape"]))
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
        elif kind == "concat" and real.size > 1:           # (along an axis of size 1 NumPy nests the axes in another way)
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
    for p in (2, 3, 5, 7):
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


def test_random_numbers_run_dry():
    u = Random(0).normal(abstract, (3, 4), np.float32, abstract.zeros(1).device)
    assert (u.shape, u.dtype) == ((3, 4), np.float32)


def test_no_memory_is_taken():
    """A network and a batch that would not fit into any memory."""
    s = xn.Model(xn.Sequential(xn.Dense(10, 10, "tanh"), xn.Dropout(0.5), xn.LogSoftmax())).summary(batch_size=10 ** 12)
    assert s.cached_bytes == 3 * 10 ** 13 * 4 and "TiB" in str(s)
    assert math.isclose(s.flops_forward, 10 ** 12 * (2 * 100 + 10 * 2 + 10 * 23 + 10 * 4 + 11), rel_tol=0.1)

"""ONNX Runtime as a second opinion: values of layers where PyTorch has another convention, or none.

"same" padding with a stride is TensorFlow's (ONNX: SAME_UPPER), PyTorch has it for stride 1 only; ONNX numbers the gates of a GRU and an LSTM
in another order and knows both places of the reset gate; and its Resize names the convention of bilinear upsampling.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import xpnet as xn

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.full


def run(op, inputs, outputs=1, opset=18, **attributes):
    """The outputs of one ONNX operator on float32 arrays; None stands for an input that is left out."""
    names = [f"i{k}" if a is not None else "" for k, a in enumerate(inputs)]
    made = [f"o{k}" for k in range(outputs)]
    kinds = {np.dtype("float32"): onnx.TensorProto.FLOAT, np.dtype("int32"): onnx.TensorProto.INT32}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, names, made, **attributes)], "one",
        [onnx.helper.make_tensor_value_info(n, kinds[a.dtype], a.shape) for n, a in zip(names, inputs) if n],
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in made])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {n: a for n, a in zip(names, inputs) if n})


def float32(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def model_of(net, seed=0):
    model = xn.Model(net, seed=seed)
    model.params = model.params + 0.1 * np.random.default_rng(seed).standard_normal(model.layout.size).astype(np.float32)
    return model


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(h=st.integers(3, 9), w=st.integers(3, 9), kernel=st.tuples(st.integers(1, 4), st.integers(1, 3)), stride=st.integers(1, 3),
       groups=st.sampled_from([1, 2]), n=st.integers(1, 2))
def test_convolution_same_with_a_stride(h, w, kernel, stride, groups, n):
    model = model_of(xn.Conv2D(2, 4, kernel, stride=stride, padding="same", groups=groups))
    x = float32(np.random.default_rng(h * w), n, 2, h, w)
    W = np.transpose(model.get_param("W"), (3, 2, 0, 1))  # (kernel, in / groups, out) -> (out, in / groups, kernel)
    theirs, = run("Conv", [x, np.ascontiguousarray(W), model.get_param("b")], auto_pad="SAME_UPPER", strides=[stride, stride], group=groups)
    close(model.predict(x), theirs)


@settings(max_examples=30, deadline=None)
@given(h=st.integers(3, 9), w=st.integers(3, 9), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.integers(1, 3))
def test_pooling_same(h, w, kernel, stride):
    assume(all((size - 1) // stride * stride + k >= size for size, k in zip((h, w), kernel)))   # else ONNX Runtime says: negative padding
    x = float32(np.random.default_rng(h + w), 2, 3, h, w)
    options = {"auto_pad": "SAME_UPPER", "kernel_shape": list(kernel), "strides": [stride, stride]}
    close(xn.Model(xn.MaxPool2D(kernel, stride=stride, padding="same")).predict(x), run("MaxPool", [x], **options)[0])
    for count in (False, True):
        layer = xn.AvgPool2D(kernel, stride=stride, padding="same", count_include_pad=count)
        close(xn.Model(layer).predict(x), run("AveragePool", [x], count_include_pad=int(count), **options)[0])


@pytest.mark.parametrize("mode, onnx_mode", [("nearest", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                                                          "nearest_mode": "floor"}),
                                             ("bilinear", {"mode": "linear", "coordinate_transformation_mode": "half_pixel"})])
def test_upsample(mode, onnx_mode):
    x = float32(np.random.default_rng(0), 2, 3, 4, 5)
    theirs, = run("Resize", [x, None, np.array([1, 1, 3, 3], dtype=np.float32)], **onnx_mode)
    close(xn.Model(xn.Upsample(3, mode)).predict(x), theirs)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 3), time=st.integers(1, 5), d=st.integers(1, 3), k=st.integers(1, 4))
def test_gru_with_the_reset_gate_after_the_product(n, time, d, k):
    """Gates here r, z, n, as in PyTorch; ONNX has z, r, h, and linear_before_reset=1 for this place of r."""
    model = model_of(xn.GRU(d, k), seed=1)
    x = float32(np.random.default_rng(2), n, time, d)
    params = {path: np.asarray(model.get_param(path)) for path in model.paths()}

    def turned(a):
        r, z, h = np.split(a, 3, axis=-1)
        return np.concatenate([z, r, h], axis=-1)

    W, R = (np.ascontiguousarray(turned(params[name]).T[None]) for name in "WU")
    recurrent = np.zeros(3 * k, dtype=np.float32)
    recurrent[2 * k:] = params["b_q"]
    b = np.concatenate([turned(params["b"]), recurrent])[None]
    y, _ = run("GRU", [np.ascontiguousarray(np.swapaxes(x, 0, 1)), W, R, b.astype(np.float32)], outputs=2, hidden_size=k, linear_before_reset=1)
    close(model.predict(x), np.swapaxes(y[:, 0], 0, 1))


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 3), time=st.integers(1, 5), d=st.integers(1, 3), k=st.integers(1, 4))
def test_lstm(n, time, d, k):
    """Gates here i, f, g, o, as in PyTorch; ONNX has i, o, f, g."""
    model = model_of(xn.LSTM(d, k), seed=1)
    x = float32(np.random.default_rng(2), n, time, d)

    def turned(a):
        i, f, g, o = np.split(np.asarray(a), 4, axis=-1)
        return np.concatenate([i, o, f, g], axis=-1)

    W, R = (np.ascontiguousarray(turned(model.get_param(name)).T[None]) for name in "WU")
    b = np.concatenate([turned(model.get_param("b")), np.zeros(4 * k, dtype=np.float32)])[None]
    y, _, _ = run("LSTM", [np.ascontiguousarray(np.swapaxes(x, 0, 1)), W, R, b], outputs=3, hidden_size=k)
    close(model.predict(x), np.swapaxes(y[:, 0], 0, 1))


def test_normalisation():
    rng = np.random.default_rng(0)
    model = model_of(xn.LayerNorm(5))
    x = float32(rng, 3, 5)
    close(model.predict(x), run("LayerNormalization", [x, model.get_param("gamma"), model.get_param("beta")], axis=-1, epsilon=1e-5)[0])
    images = float32(rng, 2, 4, 3, 3)
    one, zero = np.ones(4, dtype=np.float32), np.zeros(4, dtype=np.float32)
    close(xn.Model(xn.InstanceNorm(4)).predict(images), run("InstanceNormalization", [images, one, zero], epsilon=1e-5)[0])

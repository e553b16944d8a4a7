"""Model and Layout: one vector, names, sharing, prediction in kind, files."""

import copy
import os
import pickle

import numpy as np
import pytest
from conftest import NAMES, STATE, Bench, assert_close

import xpnet as xn


def small(bench, dtype="float32", seed=0):
    return bench.model(xn.Sequential(xn.Dense(3, 4, "tanh"), xn.Dense(4, 2)), dtype, seed)


def data(bench, dtype="float32", n=7):
    rng = np.random.default_rng(0)
    return bench.asarray(rng.standard_normal((n, 3)), dtype)


# Layout.

def test_paths_slices_and_flat_vectors(backend, dtype):
    model = small(backend, dtype)
    assert model.paths() == ["0.W", "0.b", "1.W", "1.b"]
    assert tuple(model.params.shape) == tuple(model.grads.shape) == (3 * 4 + 4 + 4 * 2 + 2,)
    start = 0
    host = backend.host(model.params)
    for path in model.paths():
        p = model.get_param(path)
        size = p.shape[0] * (p.shape[1] if p.ndim == 2 else 1)
        np.testing.assert_array_equal(backend.host(p).reshape(-1), host[start:start + size])
        start += size


def test_forward_reads_what_set_param_writes_and_get_param_is_a_copy(backend, dtype):
    model, x = small(backend, dtype), data(backend, dtype)
    vector = model.params
    before = model.get_param("1.b")
    y = backend.host(model.forward(x)[0])
    model.set_param("1.b", backend.asarray([10.0, 20.0], dtype))
    assert_close(before, [0.0, 0.0], backend, dtype=dtype)
    assert_close(model.forward(x)[0], y + [10.0, 20.0], backend, rtol=1e-4, atol=1e-4)
    assert model.params is vector


def test_gradients_arrive_by_path(backend, dtype):
    model, x = small(backend, dtype), data(backend, dtype)
    y, backward = model.forward(x)
    grads = backward(y * 0.0 + 1.0)
    assert grads is model.grads
    assert_close(model.get_grad("1.b"), [7.0, 7.0], backend, dtype=dtype)
    dx, grads = backward(y * 0.0 + 1.0, input_grad=True)
    assert tuple(dx.shape) == (7, 3) and grads is model.grads


def test_shared_layers_and_tied_params_are_one_slice(backend):
    shared = xn.Dense(4, 4)
    model = backend.model(xn.Sequential(shared, xn.Tanh(), shared))
    assert model.layout.size == 20 and model.paths() == ["0.W", "0.b", "2.W", "2.b"]
    tied = xn.Dense(4, 4)
    tied.W = shared.W                                     # one Param given to two layers
    model = backend.model(xn.Sequential(shared, tied))
    assert model.layout.size == 16 + 4 + 4
    model.set_param("1.W", backend.asarray(np.eye(4), "float32"))
    assert_close(model.get_param("0.W"), np.eye(4), backend)


def test_initial_weights_do_not_depend_on_later_layers():
    one = xn.Model(xn.Sequential(xn.Dense(3, 4), xn.Dense(4, 2)), seed=5)
    two = xn.Model(xn.Sequential(xn.Dense(3, 4), xn.Dense(4, 2), xn.Dense(2, 2)), seed=5)
    np.testing.assert_array_equal(one.get_param("1.W"), two.get_param("1.W"))
    assert not np.array_equal(one.params, xn.Model(one.net, seed=6).params)


def test_a_user_writes_a_layer_with_a_buffer_and_the_model_commits_it(backend):
    class Count(xn.Layer):
        def __init__(self):
            self.seen = xn.Buffer((1,), "zeros")

        def buffers(self):
            return {"seen": self.seen}

        def forward(self, params, x, ctx):
            if ctx.training:
                ctx.update(self.seen, ctx.state[self.seen] + x.shape[0])
            return x * 1.0, lambda dy, input_grad=True: (dy, {})

    layer = Count()
    model = backend.model(xn.Sequential(layer, xn.Dense(3, 2)))
    x = data(backend)
    y, backward = model.forward(x)
    assert_close(model.state[layer.seen], [0.0], backend)   # not before the backward pass
    backward(y)
    backward(y)                                           # twice is the same step
    assert_close(model.state[layer.seen], [7.0], backend)
    assert model.step == 1
    y, backward = model.forward(x, training=False)
    backward(y)
    assert_close(model.state[layer.seen], [7.0], backend)
    assert model.step == 1


def test_dropout_masks_change_with_the_step_only(backend):
    model = backend.model(xn.Sequential(xn.Dropout(0.5), xn.Dense(3, 3, init=np.eye(3))))
    x = backend.asarray(np.ones((20, 3)), "float32")
    first, backward = model.forward(x)
    again, _ = model.forward(x)
    np.testing.assert_array_equal(backend.host(first), backend.host(again))
    backward(first)
    other, _ = model.forward(x)
    assert not np.array_equal(backend.host(first), backend.host(other))


def test_two_models_of_one_net_are_independent(backend):
    net = xn.Sequential(xn.Dense(3, 2))
    a, b = backend.model(net), backend.model(net)
    a.set_param("0.b", backend.asarray([1.0, 1.0], "float32"))
    assert_close(b.get_param("0.b"), [0.0, 0.0], backend)


# Prediction.

def test_predict_answers_in_kind_and_in_batches(backend, dtype):
    model = small(backend, dtype)
    x = data(backend, dtype)
    on_device = model.predict(x, batch_size=3)
    assert_close(on_device, backend.host(model.forward(x, training=False)[0]), backend, dtype=dtype)
    on_host = model.predict(backend.host(x), batch_size=3)
    assert type(on_host) is np.ndarray and on_host.dtype == dtype
    np.testing.assert_allclose(on_host, backend.host(on_device), rtol=1e-6)
    np.testing.assert_allclose(model.predict([[1, 2, 3.0]]), model.predict(np.array([[1.0, 2, 3]])))   # a list is host data


def test_predict_proba_and_classes(backend):
    model, x = small(backend), data(backend)
    z = backend.host(model.predict(x)).astype(float)
    model.link = "softmax"
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert_close(model.predict_proba(x), p, backend, dtype="float32")
    assert_close(model.predict_classes(x), z.argmax(axis=1), backend)
    binary = backend.model(xn.Sequential(xn.Dense(3, 1)))
    score = backend.host(binary.predict(x))[:, 0]
    for link, low in (("sigmoid", 0), ("sign", -1)):
        binary.link = link
        assert_close(binary.predict_classes(x), np.where(score > 0, 1, low), backend)
    model.link = "sigmoid"
    assert_close(model.predict_proba(x), 1 / (1 + np.exp(-z)), backend, dtype="float32")
    assert_close(model.predict_classes(x), (z > 0).astype(int), backend)
    model.link = "exp"
    assert_close(model.predict_proba(x), np.exp(z), backend, dtype="float32")
    assert model.predict_classes(backend.host(x)).dtype == np.int64


def test_tuples_go_in_and_come_out(backend):
    model = backend.model(xn.Parallel(xn.Dense(3, 2), xn.Dense(2, 1), split=True))
    rng = np.random.default_rng(0)
    x = backend.asarray(rng.standard_normal((5, 3)), "float32"), backend.asarray(rng.standard_normal((5, 2)), "float32")
    y = model.predict(x, batch_size=2)
    assert [tuple(a.shape) for a in y] == [(5, 2), (5, 1)]
    out, backward = model.forward(x)
    dx, _ = backward(out, input_grad=True)
    assert [tuple(a.shape) for a in dx] == [(5, 3), (5, 2)]


# Files.

def test_save_and_load(backend, dtype, tmp_path):
    model, x = small(backend, dtype, seed=1), data(backend, dtype)
    model.link, model.step = "softmax", 12
    model.save(tmp_path / "m.npz")
    again = small(backend, dtype, seed=2).load(tmp_path / "m.npz")
    np.testing.assert_array_equal(backend.host(again.params), backend.host(model.params))
    np.testing.assert_array_equal(backend.host(again.predict(x)), backend.host(model.predict(x)))
    assert (again.link, again.step) == ("softmax", 12)
    assert [f.name for f in tmp_path.iterdir()] == ["m.npz"]


def test_a_file_goes_from_any_backend_to_any_other(tmp_path):
    made = {}
    for name in [n for n in NAMES if STATE[n] is None]:
        model = small(Bench(name), seed=3)
        model.save(tmp_path / f"{name}.npz")
        made[name] = np.load(tmp_path / f"{name}.npz")["param:0.W"]
    for name in made:
        np.testing.assert_array_equal(made[name], made["numpy"])
        for other in made:
            loaded = small(Bench(name), seed=4).load(tmp_path / f"{other}.npz")
            np.testing.assert_array_equal(Bench(name).host(loaded.get_param("0.W")), made["numpy"])


def test_a_file_holds_no_pickle_and_readable_paths(tmp_path):
    small(Bench("numpy")).save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as f:
        assert sorted(f.files) == ["header", "param:0.W", "param:0.b", "param:1.W", "param:1.b"]
        assert all(f[name].dtype != object for name in f.files)


@pytest.mark.parametrize("other, message", [
    (lambda: xn.Sequential(xn.Dense(3, 5, "tanh"), xn.Dense(5, 2)), r"it has 0\.W \(3, 4\) where the model has 0\.W \(3, 5\)"),
    (lambda: xn.Sequential(xn.Dense(3, 4, "tanh"), xn.Tanh(), xn.Dense(4, 2)), r"it has 1\.W \(4, 2\) where the model has 2\.W \(4, 2\)"),
    (lambda: xn.Sequential(xn.Dense(3, 4, "tanh")), r"it has 1\.W \(4, 2\), the other ends before"),
    (lambda: xn.Sequential(xn.Dense(3, 4, "tanh"), xn.Dense(4, 2), xn.Dense(2, 2)), r"the model has 2\.W \(2, 2\), the other ends before"),
])
def test_loading_another_architecture_names_the_first_difference(tmp_path, other, message):
    small(Bench("numpy")).save(tmp_path / "m.npz")
    model = xn.Model(other())
    before = model.params.copy()
    with pytest.raises(ValueError, match=message):
        model.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(model.params, before)


def test_a_foreign_or_broken_file_is_refused(tmp_path):
    model = small(Bench("numpy"))
    model.save(tmp_path / "good.npz")
    good = (tmp_path / "good.npz").read_bytes()
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    for name, content in (("pickle", b"\x80\x04N."), ("empty", b""), ("cut", good[:200]), ("text", b"hello")):
        (tmp_path / name).write_bytes(content)
    for name in ("other.npz", "array.npy", "pickle", "empty", "cut", "text"):
        with pytest.raises(ValueError, match="is not a file of Model.save, or is damaged"):
            model.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        model.load(tmp_path / "none.npz")


def test_a_file_knows_its_network_too(tmp_path):
    small(Bench("numpy")).save(tmp_path / "m.npz")
    relu = xn.Model(xn.Sequential(xn.Dense(3, 4, "relu"), xn.Dense(4, 2)))
    with pytest.raises(ValueError, match=r"another architecture: it is Sequential\(Dense\(3, 4, Tanh\(\)\).*strict=False"):
        relu.load(tmp_path / "m.npz")
    relu.load(tmp_path / "m.npz", strict=False)
    assert (tmp_path / "m.npz").stat().st_mode & 0o044    # as readable as any file the user makes


def test_saving_is_atomic(tmp_path, monkeypatch):
    model = small(Bench("numpy"))
    model.save(tmp_path / "m.npz")
    good = (tmp_path / "m.npz").read_bytes()

    def crash(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        model.save(tmp_path / "m.npz")
    assert (tmp_path / "m.npz").read_bytes() == good
    assert [f.name for f in tmp_path.iterdir()] == ["m.npz"]


def test_networks_losses_and_optimizers_can_be_copied_and_pickled_after_use(backend):
    model = backend.model(xn.Sequential(xn.Dense(3, 4, "gelu"), xn.Tanh(), xn.Dense(4, 2)))
    loss, x = xn.MeanSquaredError(), data(backend)
    y, backward = model.forward(x)
    backward(loss(y, y * 0.5)[1])
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert float(again(y, y * 0.5)[0]) == float(loss(y, y * 0.5)[0])
    for net in (copy.deepcopy(model.net), pickle.loads(pickle.dumps(model.net))):
        np.testing.assert_array_equal(backend.host(backend.model(net).forward(x)[0]), backend.host(y))


# What is easily done wrong.

def test_assigning_the_vector_writes_into_it(backend):
    model, x = small(backend), data(backend)
    vector = model.params
    model.params = model.params * 0.0
    assert model.params is vector
    assert_close(model.predict(x), np.zeros((7, 2)), backend)
    model.params -= 1.0
    assert_close(model.get_param("1.b"), [-1.0, -1.0], backend)


def test_backward_after_an_update_is_refused(backend):
    model, x = small(backend), data(backend)
    changes = (lambda: xn.SGD(0.1).step(model), lambda: model.set_param("0.b", backend.asarray(np.ones(4), "float32")),
               lambda: setattr(model, "params", model.params * 2.0))
    for change in changes:
        y, backward = model.forward(x)
        backward(y)
        change()
        with pytest.raises(RuntimeError, match="the parameters have changed since this forward pass"):
            backward(y)


def test_an_answer_is_never_the_callers_own_array(backend):
    x = data(backend)
    for net in (xn.Dropout(0.5), xn.Identity(), xn.Flatten()):
        host = np.array(backend.host(x))
        y = backend.model(xn.Sequential(net)).predict(host)
        y *= 0.0
        assert host.any()


def test_a_layers_gradients_are_checked_the_first_time(backend):
    class Wrong(xn.Dense):
        def forward(self, params, x, ctx):
            y, back = super().forward(params, x, ctx)
            return y, lambda dy, input_grad=True: (lambda dx, g: (dx, self.spoil(ctx.xp, g)))(*back(dy, input_grad))

    class Scalar(Wrong):
        def spoil(self, xp, g):
            return {**g, "b": xp.sum(g["b"])}

    class Missing(Wrong):
        def spoil(self, xp, g):
            return {"W": g["W"]}

    for layer, message in ((Scalar(3, 2), r"gradient of shape \(\) for '0.b', the parameter has \(2,\)"),
                           (Missing(3, 2), r"missing \['0.b'\], unknown \[\]")):
        y, backward = backend.model(xn.Sequential(layer)).forward(data(backend))
        with pytest.raises(ValueError, match=message):
            backward(y)


def test_params_must_be_the_same_objects_at_every_call():
    class Anew(xn.Layer):
        def params(self):
            return {"W": xn.Param((3, 3), "zeros")}

    with pytest.raises(TypeError, match="made new Param objects; make them in __init__"):
        xn.Model(xn.Sequential(Anew()))


def test_a_model_can_be_copied(backend):
    model, x = small(backend, seed=4), data(backend)
    model.params = model.params * 2.0
    model.step = 3
    again = copy.deepcopy(model)
    np.testing.assert_array_equal(backend.host(again.predict(x)), backend.host(model.predict(x)))
    again.params = again.params * 0.0
    assert again.step == 3 and np.any(backend.host(model.params))


def test_an_input_of_torchs_autograd_stays_outside_of_it():
    torch = pytest.importorskip("torch")
    model = small(Bench("torch"))
    x = torch.ones((4, 3), requires_grad=True)
    y, backward = model.forward(x)
    assert not y.requires_grad and not backward(y).requires_grad
    assert not model.predict(x).requires_grad

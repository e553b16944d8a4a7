"""The nine laws of xpnet/layer.py, for every layer of tests/cases.py on every backend."""

import numpy as np
import pytest
from cases import ACTIVATIONS, LAYERS, Case, arrays, each, leaves
from conftest import TOLERANCE, Bench, assert_close

import xpnet as xn
from xpnet.layer import tree_map

every_layer = pytest.mark.parametrize("name", list(LAYERS))


def flat(case, dx, grads):
    """dx and all gradients as host arrays, in a fixed order."""
    return [case.bench.host(a) for a in arrays(dx) if a is not None] + [case.bench.host(g) for _, g in sorted(leaves(grads), key=lambda e: e[0])]


def assert_same(got, want, dtype, rtol=None):
    assert len(got) == len(want)
    tol = TOLERANCE[dtype] if rtol is None else rtol
    for g, w in zip(got, want):
        np.testing.assert_allclose(g, w, rtol=tol, atol=tol)


@every_layer
def test_law_1_nothing_given_is_changed(name, backend, dtype):
    case = Case(name, backend, dtype)
    x, params = case.x, case.params
    y, backward = case.forward(x, params)
    dy = case.dy_like(y)
    before = [backend.host(a) for a in (*arrays(dy), *arrays(y))]
    backward(dy)
    for a, b in zip((*arrays(dy), *arrays(y)), before):
        np.testing.assert_array_equal(backend.host(a), b)
    for a, b in zip(arrays(x), arrays(case.x)):
        np.testing.assert_array_equal(backend.host(a), backend.host(b))
    for (_, a), (_, b) in zip(leaves(params), leaves(case.params)):
        np.testing.assert_array_equal(backend.host(a), backend.host(b))


@every_layer
def test_law_2_backward_is_repeatable_and_linear(name, backend, dtype):
    case = Case(name, backend, dtype)
    y, backward = case.forward()
    u, v = case.dy_like(y, 1), case.dy_like(y, 2)
    of_u = flat(case, *backward(u))
    of_v = flat(case, *backward(v))
    for again, first in zip(flat(case, *backward(u)), of_u):
        np.testing.assert_array_equal(again, first)
    mixed = flat(case, *backward(each(lambda a, b: a * 2.0 - b, u, v)))
    assert_same(mixed, [2.0 * a - b for a, b in zip(of_u, of_v)], dtype, rtol=10 * TOLERANCE[dtype])


@every_layer
def test_law_3_interleaved_forwards_do_not_disturb_each_other(name, backend, dtype):
    case = Case(name, backend, dtype)
    other = Case(name, backend, dtype, seed=5)
    y1, backward1 = case.forward()
    y2, backward2 = case.layer.forward(other.params, other.x, case.context(step=3))
    dy = case.dy_like(y1)
    backward2(case.dy_like(y2, 9))
    got = flat(case, *backward1(dy))
    _, alone = case.forward()
    for g, w in zip(got, flat(case, *alone(dy))):
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("name", [n for n, (make, shape) in LAYERS.items()
                                  if n in ("PReLU", "PReLU(5)", "Dense(tanh, bias=False)", "Residual", "Checkpoint", "shared")])
def test_law_4_a_layer_used_twice_shares_its_parameters_and_adds_its_gradients(name, backend, dtype):
    make, shape = LAYERS[name]
    layer, first, second = make(), make(), make()
    shared = backend.model(xn.Sequential(layer, xn.Tanh(), layer), dtype)
    apart = backend.model(xn.Sequential(first, xn.Tanh(), second), dtype)
    assert shared.layout.size * 2 == apart.layout.size
    for path in apart.paths():
        apart.set_param(path, shared.get_param(path))
    rng = np.random.default_rng(0)
    x, dy = (backend.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
    shared.forward(x)[1](dy)
    apart.forward(x)[1](dy)
    # Where a layer itself shares (the case "shared"), a slot of `apart` has more than one path: count each once.
    total = {}
    for slot in apart.layout.slots:
        part, _, rest = slot.paths[0].partition(".")
        total.setdefault(rest, []).append(backend.host(apart.get_grad(slot.paths[0])))
    for rest, (a, b) in total.items():
        assert_close(shared.get_grad(f"0.{rest}"), a + b, backend, dtype=dtype)
        assert_close(shared.get_grad(f"2.{rest}"), a + b, backend)


@pytest.mark.float64
@every_layer
def test_law_5_adjoint_identity(name, backend):
    dtype, h, tol = "float64", 1e-6, 1e-7
    case = Case(name, backend, dtype)
    y, backward = case.forward()
    dy = case.dy_like(y)
    dx, grads = backward(dy)

    def along(x_host, params_host):
        case_y, _ = case.forward(case.to(x_host), tree_map(lambda p: backend.asarray(p, dtype), params_host))
        return sum(float(np.sum(backend.host(a).astype(np.float64) * backend.host(b))) for a, b in zip(arrays(case_y), arrays(dy)))

    def check(label, g, directional):
        v = case.rng.standard_normal(tuple(g.shape))
        numeric = (directional(v * h) - directional(v * -h)) / (2 * h)
        exact = float(np.sum(backend.host(g).astype(np.float64) * v))
        assert abs(numeric - exact) <= tol * (1.0 + abs(exact)), (label, numeric, exact)

    for i, g in enumerate(arrays(dx)):
        if g is None:                                     # of integers
            continue
        check(f"x[{i}]", g, lambda d, i=i: along(each_at(case.x_host, i, d), case.params_host))
    by_identity = {}
    for path, g in leaves(grads):                         # a shared parameter is moved in all its places at once
        node = host_leaf(case.params_host, path)
        by_identity.setdefault(id(node), []).append((path, g))
    for uses in by_identity.values():
        total = uses[0][1]
        for _, g in uses[1:]:
            total = total + g
        check(uses[0][0], total, lambda d, uses=uses: along(case.x_host, moved(case.params_host, [p for p, _ in uses], d)))


def each_at(x, i, d):
    return tuple(a + d if j == i else a for j, a in enumerate(x)) if isinstance(x, tuple) else x + d


def host_leaf(tree, path):
    for k in path.split("."):
        tree = tree[k]
    return tree


def moved(tree, paths, d, path=""):
    if isinstance(tree, dict):
        return {k: moved(v, paths, d, f"{path}.{k}" if path else k) for k, v in tree.items()}
    return tree + d if path in paths else tree


@every_layer
def test_law_6_dtype_and_device_are_those_of_the_input(name, backend, dtype):
    case = Case(name, backend, dtype)
    y, backward = case.forward()
    dx, grads = backward(case.dy_like(y))
    for a in (*arrays(y), *(a for a in arrays(dx) if a is not None), *(g for _, g in leaves(grads))):
        assert_close(a, backend.host(a), backend, dtype=dtype)
    for a, b in zip(arrays(dx), arrays(case.x)):
        assert tuple(a.shape) == tuple(b.shape) if a is not None else str(b.dtype).rpartition(".")[2].startswith("int")
    for (path, g), (path_p, p) in zip(sorted(leaves(grads), key=lambda e: e[0]), sorted(leaves(case.params), key=lambda e: e[0])):
        assert path == path_p and tuple(g.shape) == tuple(p.shape)


@every_layer
def test_law_7_a_training_step_does_not_wait_for_the_host(name, no_sync):
    bench = Bench("strict")
    case = Case(name, bench, "float32")
    model = xn.Model(case.layer, backend=bench.backend)
    optimizer = xn.Adam(1e-3)
    x = case.x
    for _ in range(2):
        y, backward = model.forward(x)
        optimizer.step(model, backward(each(lambda a: a * 0.5, y)))
    with pytest.raises(AssertionError, match="host synchronisation"):   # the fixture does what it says
        float(model.xp.sum(model.params))


@every_layer
def test_law_8_the_same_seed_gives_the_same_numbers_on_every_backend(name, backend, dtype):
    here, there = Case(name, backend, dtype), Case(name, Bench("numpy"), dtype)
    model, reference = backend.model(here.layer, dtype, seed=3), xn.Model(there.layer, "numpy", dtype, seed=3)
    np.testing.assert_array_equal(backend.host(model.params), reference.params)
    y, backward = here.forward()
    y_ref, backward_ref = there.forward()
    got = [*(backend.host(a) for a in arrays(y)), *flat(here, *backward(here.dy_like(y)))]
    want = [*(np.asarray(a) for a in arrays(y_ref)), *flat(there, *backward_ref(there.dy_like(y_ref)))]
    assert_same(got, want, dtype)
    # Dropped units are exactly the same ones.
    for g, w in zip(got, want):
        if "Dropout" in repr(here.layer) and g.shape == w.shape:
            np.testing.assert_array_equal(g == 0, w == 0)


@every_layer
def test_law_9_the_gradient_of_the_input_can_be_left_out(name, backend, dtype):
    case = Case(name, backend, dtype)
    y, backward = case.forward()
    dy = case.dy_like(y)
    dx, grads = backward(dy)
    none, same = backward(dy, input_grad=False)
    assert none is None and (dx is not None or all(a.dtype.kind == "i" for a in arrays(case.x_host)))
    for (_, a), (_, b) in zip(sorted(leaves(grads), key=lambda e: e[0]), sorted(leaves(same), key=lambda e: e[0]), strict=True):
        np.testing.assert_array_equal(backend.host(a), backend.host(b))


@every_layer
def test_inference_draws_no_random_numbers_and_agrees_with_itself(name, backend):
    case = Case(name, backend, "float32", training=False)
    y1, _ = case.forward(step=1)
    y2, _ = case.forward(step=2)
    for a, b in zip(arrays(y1), arrays(y2)):
        np.testing.assert_array_equal(backend.host(a), backend.host(b))


def test_every_exported_layer_is_under_the_laws():
    exported = {n for n in dir(xn) if isinstance(getattr(xn, n), type) and issubclass(getattr(xn, n), xn.Layer)} - {"Layer", "Activation"}
    tested = {type(make()).__name__ for make, _ in LAYERS.values()}
    assert exported <= tested, exported - tested


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_an_activation_with_a_bias_is_the_two_layers_in_one(name, backend, dtype):
    rng = np.random.default_rng(0)
    one = backend.model(xn.Sequential(xn.Dense(5, 5, ACTIVATIONS[name]())), dtype)
    two = backend.model(xn.Sequential(xn.Dense(5, 5), ACTIVATIONS[name]()), dtype)
    one.set_param("0.b", backend.asarray(rng.standard_normal(5), dtype))
    x, dy = (backend.asarray(rng.standard_normal((4, 5)), dtype) for _ in range(2))
    for path_1, path_2 in zip(one.paths(), two.paths(), strict=True):
        two.set_param(path_2, one.get_param(path_1))
    y, back = one.forward(x)
    y2, back2 = two.forward(x)
    assert_close(y, backend.host(y2), backend, dtype=dtype)
    assert_close(back(dy), backend.host(back2(dy)), backend, dtype=dtype)

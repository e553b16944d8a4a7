"""Backends: how one is named, found and refused, and each seam against its plain fallback.

The statistics of the random numbers are of fixed seeds; each bound is five standard deviations of what is measured.
"""

import importlib
import importlib.util
import inspect
import itertools
import math
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import NAMES, STATE, Bench, assert_close

from xpnet.backend import (
    Random,
    Rule,
    available_backends,
    backend_of,
    blocks,
    elementwise,
    erf,
    get_backend,
    index_add,
    kind,
    namespace,
    sum_of,
    sum_outer,
    times_transposed,
)
from xpnet.backend.random import _mix64
from xpnet.backend.scatter import index_add_plain
from xpnet.backend.special import erf_plain
from xpnet.errors import BackendError
from xpnet.layer import Layer
from xpnet.layers import Dense
from xpnet.model import Model
from xpnet.optim import adaptive, base, clipping, sgd

elementwise_module = sys.modules["xpnet.backend.elementwise"]   # the package's attribute of that name is the decorator


# Naming a backend.


def test_by_name_namespace_and_object(backend):
    name = NAMES[backend.name]
    made = get_backend(name)
    assert made.name == name and made.kind == name.partition(":")[0]
    assert made.xp is backend.xp                          # one namespace object a library
    assert get_backend(made) is made
    by_namespace = get_backend(made.xp)
    assert by_namespace.kind == made.kind and by_namespace.xp is made.xp
    assert kind(made.xp) == made.kind and kind(object()) == "other"


def test_by_bare_module():
    assert get_backend(np).xp is get_backend("numpy").xp
    for name in ("torch", "cupy"):
        if STATE[name] is None:
            assert get_backend(importlib.import_module(name)).xp is get_backend(name).xp


def test_from_the_environment(monkeypatch):
    assert get_backend().name == "numpy"                  # conftest clears the variable
    monkeypatch.setenv("XPNET_BACKEND", "")
    assert get_backend().name == "numpy"
    monkeypatch.setenv("XPNET_BACKEND", "nunpy")
    with pytest.raises(ValueError, match="unknown backend 'nunpy'; did you mean 'numpy'"):
        get_backend()
    assert get_backend("numpy").name == "numpy"           # the argument goes first
    if STATE["strict"] is None:
        monkeypatch.setenv("XPNET_BACKEND", "array-api-strict:device1")
        assert get_backend().name == "array-api-strict:device1"


@pytest.mark.parametrize("name,message", [
    ("cupi", "unknown backend 'cupi'; did you mean 'cupy'"),
    ("tensorflow", "unknown backend 'tensorflow' .valid: array-api-strict, cupy, numpy, torch"),
    (math, "unknown backend 'math'"),
    (3, "unknown backend 3"),
    (types.ModuleType("jax.numpy"), "unknown backend 'jax.numpy'"),
])
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        get_backend(name)


@pytest.mark.parametrize("name,needs,message", [
    ("numpy:1", "numpy", "NumPy has no devices; use 'numpy'"),
    ("torch:nonsense", "torch", "backend 'torch:nonsense'"),
    ("array-api-strict:nonsense", "strict", "backend 'array-api-strict:nonsense'"),
    ("cupy:one", "cupy", "the device is a number, as in 'cupy:0'"),
    ("cupy:99", "cupy", "there is no such GPU, the driver reports"),
])
def test_devices_that_do_not_exist(name, needs, message):
    if STATE[needs] is not None:
        pytest.skip(STATE[needs])
    with pytest.raises(BackendError, match=message):
        get_backend(name)


def test_available_backends():
    """The same as conftest found; what is missing says what to do."""
    state = available_backends()
    assert set(state) == {"numpy", "cupy", "torch", "array-api-strict"}
    assert state["numpy"] == "available"
    for name in ("cupy", "torch"):
        assert state[name] == ("available" if STATE[name] is None else STATE[name])


@pytest.mark.parametrize("name,advice", [("cupy", r"pip install 'xpnet\[cupy\]'.*'xpnet\[cupy12\]'"),
                                         ("torch", "pip install torch"),
                                         ("array-api-strict", "pip install array-api-strict")])
def test_a_package_that_is_missing(name, advice, monkeypatch):
    find, module = importlib.util.find_spec, name.replace("-", "_")
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == module else find(asked))
    with pytest.raises(BackendError, match=f"backend '{name}': the package is not installed; {advice}"):
        get_backend(name)
    assert "not installed" in available_backends()[name]


def test_cupy_without_a_driver():
    """`import cupy` works without a GPU: the question goes to the driver."""
    pytest.importorskip("cupy")
    if STATE["cupy"] is None:
        pytest.skip("a device answers here")
    with pytest.raises(BackendError, match="no NVIDIA driver answers .*install the NVIDIA driver, or use backend="):
        get_backend("cupy")


def test_cupy_without_a_gpu(monkeypatch):
    cupy = pytest.importorskip("cupy")
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    with pytest.raises(BackendError, match="driver reports no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES"):
        get_backend("cupy")


def test_training_on_numpy_imports_no_other_library():
    code = ("import sys, numpy as np, xpnet as xn\n"
            "model = xn.Model(xn.Sequential(xn.Dense(3, 4, 'relu'), xn.Dropout(0.5), xn.Dense(4, 2)))\n"
            "y, backward = model.forward(np.ones((5, 3), 'float32'))\n"
            "loss, dy = xn.SoftmaxCrossEntropy()(y, np.zeros(5, int))\n"
            "xn.Adam().step(model, backward(dy))\n"
            "print([m for m in ('cupy', 'torch', 'array_api_strict', 'scipy', 'sklearn') if m in sys.modules])")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# To the device and back.


@pytest.mark.parametrize("kind_of_number", ["floating", "int32", "int64", "uint8", "bool"])
def test_host_transfer_round_trip(kind_of_number, backend):
    for shape in ((2, 3), (4,), (), (0, 3)):
        host = np.arange(math.prod(shape)) % 2
        host = host.reshape(shape).astype(backend.widest if kind_of_number == "floating" else kind_of_number)
        x = backend.backend.asarray(host)
        assert namespace(x) is backend.xp and backend.backend.owns(x)
        back = backend.backend.to_host(x)
        assert type(back) is np.ndarray and back.dtype == host.dtype
        np.testing.assert_array_equal(back, host)


def test_any_memory_layout_is_taken(backend):
    """Views that are transposed, reversed, spread out or read-only, as slicing a data set gives them."""
    host = np.arange(24, dtype="float32").reshape(4, 6)
    locked = host.copy()
    locked.flags.writeable = False
    for view in (host.T, host[::-1], host[:, ::-2], host[1::2, 1:4], np.asfortranarray(host), locked):
        np.testing.assert_array_equal(backend.host(backend.backend.asarray(view)), view)


def test_asarray_casts(backend):
    """float64 on the host may become float32 on a device that has no float64."""
    x = backend.backend.asarray(np.array([[0.1, 0.2]]), "float32")
    assert_close(x, np.array([[0.1, 0.2]], "float32"), backend, dtype="float32", rtol=0, atol=0)
    again = backend.backend.asarray(x, backend.xp.float32)
    assert again is x                                     # what fits already is not copied
    assert_close(backend.backend.asarray([1, 2, 3], "int32"), [1, 2, 3], backend, dtype="int32")
    assert_close(backend.backend.asarray(backend.asarray([1, 2]), "float32"), [1.0, 2.0], backend, dtype="float32")


def test_only_its_own_arrays_are_owned(backend):
    for other in (name for name in NAMES if STATE[name] is None):
        x = Bench(other).asarray([1.0, 2.0], "float32")
        same = NAMES[other] == NAMES[backend.name]
        assert backend.backend.owns(x) == same
        assert backend.backend.owns(backend.backend.asarray(x))
        assert (backend_of(x).xp is backend.xp) == (NAMES[other].partition(":")[0] == backend.backend.kind)
    for x in ([1.0], 1.0, None):
        assert not backend.backend.owns(x)
        with pytest.raises(TypeError, match="expected an array of numpy, cupy, torch, array-api-strict, got builtins"):
            namespace(x)


def test_backend_of_an_array_is_where_it_is(backend):
    found = backend_of(backend.asarray([1.0]))
    assert found.kind == backend.backend.kind and found.device == backend.backend.device
    assert found.owns(found.zeros((2,), backend.xp.float32))


def test_a_backend_describes_itself(backend):
    assert backend.backend.kind in backend.backend.describe()
    assert repr(backend.backend) == f"Backend({NAMES[backend.name]!r})"
    backend.backend.synchronize()
    assert backend.backend.free_memory() > 0


def test_slices_and_their_reshapes_alias_their_owner(backend):
    """The whole design of one parameter vector stands on this."""
    xp = backend.xp
    flat = backend.backend.zeros((12,), xp.float32)
    view = xp.reshape(flat[2:8], (2, 3))
    flat[3:5] = backend.backend.asarray(np.array([1.0, 2.0], "float32"))
    assert_close(view, [[0, 1, 2], [0, 0, 0]], backend)
    flat += 1.0
    assert_close(view, [[1, 2, 3], [1, 1, 1]], backend)
    view[...] = xp.ones_like(view) * 5.0
    view += xp.ones_like(view)
    assert_close(flat, [1, 1, 6, 6, 6, 6, 6, 6, 1, 1, 1, 1], backend)
    part = flat[4:6]                                      # what an elementwise rule in blocks writes to
    part *= 2.0
    assert_close(view, [[6, 6, 12], [12, 6, 6]], backend)


# Scatter-add.


@pytest.mark.parametrize("index_dtype", ["int32", "int64"])
def test_index_add(index_dtype, backend, dtype):
    rng = np.random.default_rng(0)
    index, values = rng.integers(0, 5, 20), rng.standard_normal((20, 3))
    index[index == 3] = 1                                 # a row that nothing is added to
    expected = np.zeros((6, 3))
    for i, row in zip(index, values):
        expected[i] += row
    for f in (index_add, index_add_plain):
        out = f(backend.xp, 6, backend.asarray(index, index_dtype), backend.asarray(values, dtype))
        assert_close(out, expected, backend, dtype=dtype)


# erf.


@pytest.mark.parametrize("f", [erf, erf_plain])
def test_erf(f, backend, dtype):
    x = np.concatenate([np.linspace(-7.0, 7.0, 281), [0.0, -0.0, 1.0, -1.0, 1e-8, 1e-30, 9.0, -30.0, 1e4, -1e4]])
    given_x = x.astype(dtype).astype(float)               # erf of the number that the array holds
    expected = np.array([math.erf(v) for v in given_x])
    tolerance = 1e-15 if dtype == "float64" else 3e-7
    assert_close(f(backend.xp, backend.asarray(x, dtype)), expected, backend, dtype=dtype, rtol=tolerance, atol=0)


def test_erf_plain_keeps_what_is_not_a_number(backend):
    out = backend.host(erf_plain(backend.xp, backend.asarray([math.nan, math.inf, -math.inf])))
    np.testing.assert_array_equal(out, [math.nan, 1.0, -1.0])


# Random numbers: the definition in Python integers.

LOW32, LOW64 = 2**32 - 1, 2**64 - 1


def splitmix(x):
    x = (x + 0x9E3779B97F4A7C15) & LOW64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & LOW64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & LOW64
    return x ^ x >> 31


def bits_plainly(seed, step, site, count):
    key = splitmix(splitmix(splitmix(seed & LOW64) ^ step) ^ site)
    for h in range(count):
        h ^= key & LOW32
        h = (h ^ h >> 16) * 0x7FEB352D & LOW32
        h = (h ^ h >> 15) * 0x846CA68B & LOW32
        h ^= h >> 16
        h ^= key >> 32
        h = (h ^ h >> 16) * 0x21F0AAAD & LOW32
        h = (h ^ h >> 15) * 0x735A2D97 & LOW32
        yield h ^ h >> 15


def bits(bench, count, seed=0, step=0, site=0):
    return bench.host(Random(seed, step, site).bits(bench.xp, count, bench.backend.device)).astype(np.int64)


def test_keys_are_splitmix64():
    """Its published first numbers, for the seeds 0 and 1234567."""
    assert _mix64(0) == splitmix(0) == 0xE220A8397B1DCDAF
    assert _mix64(1234567) == splitmix(1234567) == 6457827717110365317


@pytest.mark.parametrize("seed,step,site", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (12345, 678, 9),
                                            (2**64 - 1, 2**40, 3)])
def test_the_same_bits_on_every_backend(seed, step, site, backend):
    assert bits(backend, 500, seed, step, site).tolist() == list(bits_plainly(seed, step, site, 500))


def test_blocks_draw_the_same_bits(monkeypatch):
    numpy = Bench("numpy")
    whole = bits(numpy, 500)
    monkeypatch.setattr(elementwise_module, "SMALL", 0)
    monkeypatch.setattr(blocks, "LARGE", 0)
    monkeypatch.setattr(blocks, "BLOCK", 64)
    np.testing.assert_array_equal(bits(numpy, 500), whole)


def test_each_call_is_a_site_of_its_own(backend):
    random = Random(seed=3, step=4)
    draws = [backend.host(random.bits(backend.xp, 50, backend.backend.device)).astype(np.int64) for _ in range(3)]
    for site, drawn in enumerate(draws):
        np.testing.assert_array_equal(drawn, bits(backend, 50, 3, 4, site))
    assert random.site == 3


def test_uniform(backend, dtype):
    """The upper 24 bits over 2²⁴: the very same numbers in each dtype, in [0, 1)."""
    u = Random(5).uniform(backend.xp, (40, 5), getattr(backend.xp, dtype), backend.backend.device)
    expected = np.array([h >> 8 for h in bits_plainly(5, 0, 0, 200)]).reshape(40, 5) / 2**24
    assert_close(u, expected, backend, dtype=dtype, rtol=0, atol=0)
    assert expected.max() < 1.0


def test_normal(backend, dtype):
    """Box and Muller's formula, from two sites."""
    z = Random(5).normal(backend.xp, (40, 5), getattr(backend.xp, dtype), backend.backend.device)
    u1, u2 = (np.array([h >> 8 for h in bits_plainly(5, 0, site, 200)]).reshape(40, 5) / 2**24 for site in (0, 1))
    expected = np.sqrt(-2.0 * np.log(1.0 - u1)) * np.cos(2.0 * np.pi * u2)
    assert_close(z, expected, backend, dtype=dtype, atol=2e-6 if dtype == "float32" else None)


N = 2**16


def draw_uniform(seed=0, step=0, site=0):
    return bits(Bench("numpy"), N, seed, step, site) / 2.0**32


def correlation(a, b):
    return float(np.mean((a - 0.5) * (b - 0.5)) * 12.0)   # of uniform numbers: the variance is 1/12


@pytest.mark.parametrize("key", [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (7, 100, 3)])
def test_bits_are_uniform(key):
    u = draw_uniform(*key)
    assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / N)
    assert abs(u.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / N)
    counts = np.bincount((u * 256).astype(int), minlength=256)
    chi_squared = float(np.sum((counts - N / 256) ** 2) / (N / 256))
    assert abs(chi_squared - 255) < 5 * math.sqrt(2 * 255)
    each_bit = [np.mean((u * 2.0**32).astype(np.int64) >> i & 1) for i in range(32)]
    np.testing.assert_allclose(each_bit, 0.5, rtol=0, atol=5 * 0.5 / math.sqrt(N))
    for lag in (1, 2, 3, 4, 7, 8, 16, 64, 128, 256, 784, 1024, 4096):
        assert abs(correlation(u[:-lag], u[lag:])) < 5 / math.sqrt(N - lag), lag


def test_sites_steps_and_seeds_are_independent():
    keys = [(seed, step, site) for seed in (0, 1, 2**31) for step in (0, 1, 1000) for site in (0, 1, 2)]
    drawn = [draw_uniform(*key) for key in keys]
    for i, a in enumerate(drawn):
        for b in drawn[:i]:
            assert abs(correlation(a, b)) < 5 / math.sqrt(N)


def test_no_stream_comes_twice():
    """Neither within a stream, nor at the start of 8,000 streams of neighbouring seeds, steps and sites."""
    assert len(np.unique(draw_uniform())) == N            # for one key the hash is one-to-one
    keys = itertools.product(range(20), repeat=3)
    assert len({tuple(bits_plainly(*key, 2)) for key in keys}) == 20**3


def test_normal_is_normal():
    numpy = Bench("numpy")
    z = numpy.host(Random(1).normal(numpy.xp, (N,), numpy.xp.float64, "cpu"))
    assert abs(z.mean()) < 5 / math.sqrt(N)
    assert abs(z.var() - 1.0) < 5 * math.sqrt(2 / N)
    assert abs(np.mean(z ** 3)) < 5 * math.sqrt(15 / N)
    assert abs(np.mean(z ** 4) - 3.0) < 5 * math.sqrt(96 / N)
    u = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z.tolist()])            # uniform, if z is normal
    assert np.abs(np.sort(u) - (np.arange(N) + 0.5) / N).max() < 2.2 / math.sqrt(N)   # Kolmogorov: p = 1e-4
    assert abs(correlation(u[:-1], u[1:])) < 5 / math.sqrt(N)


# Elementwise rules.


@elementwise
def pair_rule(xp, x, y, a):
    """Two results, of broadcast arguments."""
    return a * xp.maximum(x, y), xp.astype(x > y, x.dtype) - xp.abs(y)


@elementwise(inplace=True)
def leak_rule(xp, p, g, a):
    p -= a * g
    p[...] = xp.maximum(p, 0.0) + a * p


def test_rules_give_what_their_text_gives(backend, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((4, 1))
    first, second = pair_rule(backend.xp, backend.asarray(x, dtype), backend.asarray(y, dtype), 0.25)
    assert_close(first, 0.25 * np.maximum(x, y), backend, dtype=dtype)
    assert_close(second, (x > y) - np.abs(y), backend, dtype=dtype)

    p, g = rng.standard_normal(50), rng.standard_normal(50)
    owner = backend.backend.asarray(p.astype(dtype))
    assert leak_rule(backend.xp, owner, backend.asarray(g, dtype), 0.1) is None
    q = p - 0.1 * g
    assert_close(owner, np.maximum(q, 0) + 0.1 * q, backend, dtype=dtype)


def test_an_argument_may_be_an_array_or_a_number(backend):
    """As a step size is, for per-path learning rates: each kind in turn, on the same rule."""
    for a in (0.5, np.linspace(0.0, 1.0, 6), 0.5):
        p, g = backend.backend.asarray(np.ones(6, "float32")), backend.asarray(np.ones(6), "float32")
        leak_rule(backend.xp, p, g, a if isinstance(a, float) else backend.asarray(a, "float32"))
        q = 1.0 - a * np.ones(6)
        assert_close(p, np.maximum(q, 0.0) + a * q, backend, dtype="float32")


def test_rules_keep_their_name_and_text():
    assert pair_rule.__name__ == "pair_rule" and pair_rule.__doc__.startswith("Two results")
    assert not pair_rule.inplace and leak_rule.inplace


# CuPy's fused kernels.


@pytest.fixture
def cupy():
    if STATE["cupy"] is not None:
        pytest.skip(STATE["cupy"])
    return Bench("cupy")


RULES = {name: rule for module in (sgd, adaptive, base, clipping) for name, rule in vars(module).items()
         if isinstance(rule, Rule)}
RATES = {"lr", "step_size", "ahead", "now", "rate", "decay"}   # a number, or a vector where paths differ


@pytest.mark.parametrize("by_path", [False, True], ids=["one_rate", "rates_by_path"])
@pytest.mark.parametrize("name", RULES)
def test_fused_equals_plain(name, by_path, cupy):
    """One kernel, and the text operation by operation, on the same device: equal to rounding."""
    rule, rng = RULES[name], np.random.default_rng(0)
    arguments = []
    for parameter in list(inspect.signature(rule.text).parameters.values())[1:]:
        is_number = parameter.annotation is float or parameter.name in RATES and not by_path
        arguments.append(0.125 if is_number else np.abs(rng.standard_normal(50)))
    for dtype in ("float32", "float64"):
        fused, plain = ([a if isinstance(a, float) else cupy.asarray(a, dtype) for a in arguments] for _ in range(2))
        rule(cupy.xp, *fused)
        rule.text(cupy.xp, *plain)
        for a, b in zip(fused, plain):
            if not isinstance(a, float):
                assert_close(a, cupy.host(b), cupy, dtype=dtype)
    assert not rule.fell_back


def test_a_fused_rule_is_one_launch(cupy):
    emulator = pytest.importorskip("cuda_on_cpu", reason="only the emulated device counts its launches")
    vectors = [cupy.asarray(np.ones(50), "float32") for _ in range(4)]
    launches = []
    for _ in range(2):                                    # the first call compiles
        before = emulator.counters()["kernel_launches"]
        adaptive.adam_rule(cupy.xp, *vectors, 0.1, 0.1, 0.1, 1e-8)
        launches.append(emulator.counters()["kernel_launches"] - before)
    assert launches[1] == 1


def test_a_rule_that_cannot_be_fused_falls_back_and_says_so(cupy):
    @elementwise
    def sorted_rule(xp, x):
        return xp.sort(x)

    x = cupy.asarray([3.0, 1.0, 2.0])
    with pytest.warns(RuntimeWarning, match="rule 'sorted_rule' could not be fused by CuPy .*runs as separate kernels"):
        assert_close(sorted_rule(cupy.xp, x), [1.0, 2.0, 3.0], cupy)
    assert_close(sorted_rule(cupy.xp, x), [1.0, 2.0, 3.0], cupy)   # and says so once


def test_a_wrong_argument_is_the_callers_error_and_no_fall_back(cupy):
    @elementwise
    def add_rule(xp, x, y):
        return x + y

    with pytest.raises(ValueError, match="broadcast"):
        add_rule(cupy.xp, cupy.asarray(np.ones(3)), cupy.asarray(np.ones(4)))
    assert not add_rule.fell_back
    assert_close(add_rule(cupy.xp, cupy.asarray(np.ones(3)), cupy.asarray(np.ones(3))), 2 * np.ones(3), cupy)


@pytest.mark.parametrize("shapes", [((1, 100), (1, 90)), ((1, 3), (1, 2)), ((7, 100), (7, 90)), ((1, 5000), (1, 1))])
def test_sum_outer_is_the_product(shapes, backend, dtype):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s) for s in shapes)
    found = sum_outer(backend.xp, backend.asarray(a, dtype), backend.asarray(b, dtype))
    assert_close(found, a.T @ b, backend, dtype=dtype)


@pytest.mark.parametrize("n, d, k", [(4, 6, 3), (1, 5, 4), (4, 6, 1), (4, 1, 1), (3, 200, 100), (3, 20_000, 1)])
def test_times_transposed_is_the_product(n, d, k, backend, dtype):
    rng = np.random.default_rng(0)
    a, W = rng.standard_normal((n, k)), rng.standard_normal((d, k))
    assert_close(times_transposed(backend.xp, backend.asarray(a, dtype), backend.asarray(W, dtype)), a @ W.T, backend, dtype=dtype)


def test_the_gradient_of_weights_is_written_where_it_belongs_once():
    """A layer that runs twice in one pass adds a second array to the first, and the two must not be one."""
    class Twice(Layer):
        def __init__(self):
            self.inner = Dense(80, 70)

        def children(self):
            return {"inner": self.inner}

        def forward(self, params, x, ctx):
            (y, one), (z, two) = (ctx.forward("inner", self.inner, params, v) for v in (x, 2.0 * x))

            def backward(dy, input_grad=True):
                (dx, g), (dz, h) = one(dy, input_grad), two(dy, input_grad)
                found.append((g["W"], h["W"]))
                return (dx + 2.0 * dz if input_grad else None), {"inner": {k: g[k] + h[k] for k in "Wb"} | {"activation": {}}}

            return y + z, backward

    found = []
    model = Model(Twice())
    x, dy = np.ones((6, 80), "float32"), np.ones((6, 70), "float32")
    for _ in range(2):
        _, backward = model.forward(x)
        grads = backward(dy)
        np.testing.assert_array_equal(model.get_grad("inner.W"), np.full((80, 70), 18.0))
    first, second = found[-1]
    assert np.may_share_memory(first, grads) and not np.may_share_memory(second, grads)
    _, backward = model.net(x)
    assert not np.may_share_memory(backward(dy)[1]["inner"]["W"], grads)   # a lone layer writes nowhere but into arrays of its own


def test_sum_of_is_the_sum(backend, dtype):
    rng = np.random.default_rng(0)
    for shape in ((5,), (4, 3), (1, 1), (40, 17)):
        x = backend.asarray(rng.standard_normal(shape), dtype)
        for axis in (None, 0):
            assert_close(backend.xp.asarray(sum_of(backend.xp, x, axis=axis)), backend.host(backend.xp.sum(x, axis=axis)), backend, dtype=dtype)

"""Losses of sequences, of distributions and of several arrays: against plain formulas, against PyTorch, and in training."""

import itertools
import math

import numpy as np
import pytest
from conftest import Bench, assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from test_explain import assert_consistent, assert_printed_formulas_hold
from test_losses import differences, reduce_plainly

import xpnet as xn
from xpnet.derivation import explain
from xpnet.dryrun import dry_step
from xpnet.layer import Context
from xpnet.losses import REDUCTIONS

MANY = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**16)


def to(backend, value, dtype=None):
    """A prediction or target on the backend; integers stay."""
    if isinstance(value, tuple):
        return tuple(to(backend, a, dtype) for a in value)
    return backend.asarray(value, dtype if np.asarray(value).dtype.kind == "f" else None)


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


# Each loss with an example, and its value of one sample in Python floats.

def kl_plainly(y, t):
    k = len(y) // 2
    return sum((m * m + math.exp(s) - s - 1) / 2 for m, s in zip(y[:k], y[k:]))


def nll_plainly(y, t):
    k = len(y) // 2
    return sum(-math.log(math.exp(-(x - m) ** 2 / (2 * math.exp(s))) / math.sqrt(2 * math.pi * math.exp(s))) for m, s, x in zip(y[:k], y[k:], t))


def contrastive_plainly(a, b, t):
    d = math.dist(a, b)
    return t * d ** 2 + (1 - t) * max(0.0, 1.5 - d) ** 2


def triplet_plainly(a, p, q, t):
    return max(0.0, math.dist(a, p) ** 2 - math.dist(a, q) ** 2 + 0.2)


def elbo_plainly(z, stats, t):
    cross = sum(math.log(1 + math.exp(zk)) - tk * zk for zk, tk in zip(z, t))
    return cross + 0.5 * kl_plainly(stats, None)


def ctc_plainly(z, t, blank=0, frames=None):
    """-ln of the sum over every path."""
    z = z[:frames]
    p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    want, total = [c for c in t if c != blank], 0.0
    for path in itertools.product(range(z.shape[1]), repeat=len(z)):
        if [c for c, _ in itertools.groupby(path) if c != blank] == want:
            total += math.prod(p[i, c] for i, c in enumerate(path))
    return -math.log(total) if total else math.inf


LABELS = np.array([[1, 2, 0], [2, 2, 0], [1, 0, 0], [0, 0, 0]])


def draw(name, n=4, seed=0):
    """A prediction (an array or a tuple) and a target."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal
    return {
        "kl": lambda: (normal((n, 6)), np.zeros(n)), "nll": lambda: (normal((n, 4)), normal((n, 2))),
        "contrastive": lambda: ((normal((n, 3)), normal((n, 3))), np.array([1.0, 0.0] * n)[:n]),
        "triplet": lambda: ((normal((n, 3)), normal((n, 3)), normal((n, 3))), np.zeros(n)),
        "elbo": lambda: ((normal((n, 5)), normal((n, 4))), rng.random((n, 5))),
        "ctc": lambda: (normal((n, 4, 3)), LABELS[:n]),
        "ctc_lengths": lambda: ((normal((n, 4, 3)), np.array([4, 3, 1, 2])[:n]), LABELS[:n]),
    }[name]()


# name: (the loss by its reduction, the value of one sample, the outputs that "mean" counts, the reductions it has)
LOSSES = {
    "kl": (xn.NormalKL, kl_plainly, 3, REDUCTIONS), "nll": (xn.GaussianNLL, nll_plainly, 2, REDUCTIONS),
    "contrastive": (lambda r: xn.Contrastive(1.5, r), contrastive_plainly, 1, REDUCTIONS), "triplet": (lambda r: xn.Triplet(0.2, r), triplet_plainly, 1, REDUCTIONS),
    "elbo": (lambda r: xn.ELBO(xn.BinaryCrossEntropy(r), beta=0.5), elbo_plainly, 1, [r for r in REDUCTIONS if r not in ("mean", "half_mean")]),
    "ctc": (xn.CTC, ctc_plainly, 1, REDUCTIONS), "ctc_lengths": (xn.CTC, lambda z, frames, t: ctc_plainly(z, t, frames=frames), 1, REDUCTIONS),
}
every_loss = pytest.mark.parametrize("name, reduction", [(name, r) for name, row in LOSSES.items() for r in row[3]])


def value_plainly(name, reduction, y, t):
    losses = [LOSSES[name][1](*sample) for sample in zip(*as_tuple(y), t)]
    return reduce_plainly(reduction, losses, LOSSES[name][2])


@every_loss
def test_value_and_gradient(name, reduction, backend, dtype):
    y, t = draw(name)
    given_y = to(backend, y, dtype)
    loss, dy = LOSSES[name][0](reduction)(given_y, to(backend, t, dtype))
    assert_close(loss, value_plainly(name, reduction, y, t), backend, rtol=5e-5 if dtype == "float32" else 1e-12, dtype=dtype)
    assert isinstance(dy, tuple) == isinstance(y, tuple)
    for i, (a, b, d) in enumerate(zip(as_tuple(y), as_tuple(given_y), as_tuple(dy), strict=True)):
        np.testing.assert_array_equal(backend.host(b), a.astype(dtype if a.dtype.kind == "f" else a.dtype))     # as it was
        if a.dtype.kind != "f":
            assert_close(d, np.zeros_like(a), backend)
            continue

        def of(v, i=i):
            return value_plainly(name, reduction, tuple(v if j == i else e for j, e in enumerate(y)) if isinstance(y, tuple) else v, t)

        assert_close(d, differences(of, a), backend, rtol=1e-5, atol=1e-4 if dtype == "float32" else 1e-7, dtype=dtype)


@every_loss
def test_a_sample_weight_repeats_the_sample(name, reduction, backend):
    y, t = draw(name)
    times = np.array([1, 3, 0, 2])
    loss_fn = LOSSES[name][0](reduction)
    loss, dy = loss_fn(to(backend, y), to(backend, t), backend.asarray(times.astype(float)))
    copies = tuple(np.repeat(a, times, axis=0) for a in as_tuple(y))
    loss_r, dy_r = loss_fn(to(backend, copies if isinstance(y, tuple) else copies[0]), to(backend, np.repeat(t, times, axis=0)))
    assert_close(loss, backend.host(loss_r), backend, dtype=backend.widest)
    for a, d, d_r in zip(as_tuple(y), as_tuple(dy), as_tuple(dy_r)):
        summed = np.zeros(a.shape)
        np.add.at(summed, np.repeat(np.arange(4), times), backend.host(d_r))
        assert_close(d, summed, backend, rtol=1e-5)
    w = backend.asarray(times.astype(float))
    mass = loss_fn.mass(backend.xp, to(backend, y), to(backend, t), w)
    assert float(mass) == (1.0 if reduction.endswith("sum") else 6.0)


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_does_not_wait_for_the_host(name, no_sync):
    bench = Bench("strict")
    y, t = draw(name)
    loss, dy = LOSSES[name][0]("sum")(to(bench, y, "float32"), to(bench, t, "float32"))
    assert_close(loss * 0.0, 0.0, bench)


# CTC.

@MANY
@given(n=st.integers(1, 4), time=st.integers(1, 8), k=st.integers(2, 5), s=st.integers(0, 4), seed=seeds, with_lengths=st.booleans(), last=st.booleans())
def test_ctc_against_torch(n, time, k, s, seed, with_lengths, last):
    """Any lengths, also such that cannot be aligned, and any blank."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    blank = k - 1 if last else 0
    said, frames = rng.integers(0, s + 1, n), rng.integers(1, time + 1, n) if with_lengths else np.full(n, time)
    t = np.full((n, s), blank)
    for i in range(n):
        t[i, :said[i]] = rng.integers(0, k - 1, said[i]) + (0 if last else 1)
    z = 2.0 * rng.standard_normal((n, time, k))
    leaf = torch.tensor(z, requires_grad=True)
    each = torch.nn.functional.ctc_loss(torch.log_softmax(leaf, -1).transpose(0, 1), torch.tensor(t), torch.tensor(frames), torch.tensor(said),
                                        blank=blank, reduction="none", zero_infinity=True)
    each.sum().backward()
    y = (z, frames) if with_lengths else z
    loss, dy = xn.CTC("sum", blank, zero_infinity=True)(y, t)
    np.testing.assert_allclose(loss, each.sum().item(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(as_tuple(dy)[0], leaf.grad.numpy(), atol=1e-10)


def test_ctc_that_cannot_be_aligned(backend):
    """Two equal labels need a blank between them: three frames. The others' losses and gradients are as without it."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((2, 2, 3))
    t = np.array([[1, 1], [1, 2]])
    loss, dz = xn.CTC("sum")(backend.asarray(z), backend.asarray(t))
    assert backend.host(loss) == math.inf
    loss, dz_zero = xn.CTC("sum", zero_infinity=True)(backend.asarray(z), backend.asarray(t))
    assert_close(loss, ctc_plainly(z[1], t[1]), backend, dtype=backend.widest)
    for gradient in (dz, dz_zero):
        assert_close(gradient[0, :, :], np.zeros((2, 3)), backend)
        assert np.all(backend.host(gradient)[1] != 0)


@pytest.mark.parametrize("time", [200])
def test_ctc_of_long_sequences_stays_finite(time, backend, dtype):
    """The probability of one path is about 10^-300; the gradient of each frame sums to 0."""
    z = np.random.default_rng(0).standard_normal((1, time, 30)) * 3.0
    loss, dz = xn.CTC()(backend.asarray(z, dtype), backend.asarray(np.arange(1, 21)[None, :]))
    assert 100 < float(loss) < 2000
    np.testing.assert_allclose(backend.host(dz).sum(axis=-1), 0.0, atol=2e-3 if dtype == "float32" else 1e-11)


@pytest.mark.full
def test_ctc_learns_where_the_labels_are():
    """Frames show a label for some time; the network is told the labels only, and then reads them."""
    rng = np.random.default_rng(0)
    t = rng.integers(1, 4, (64, 3))
    x = np.zeros((64, 12, 4))
    for i, row in enumerate(t):
        frames = np.repeat([0, row[0], 0, row[1], 0, row[2]], 2)
        x[i, np.arange(12), frames] = 1.0
    model = xn.Model(xn.Sequential(xn.Dense(4, 16, "tanh"), xn.Dense(16, 4)), seed=0)
    history = xn.fit(model, xn.CTC(), xn.Adam(0.02), (x.astype("float32"), t), epochs=60, batch_size=16, progress=False)
    read = [[c for c, _ in itertools.groupby(row) if c] for row in model.predict_classes(x)]
    assert history["loss"][-1] < 0.2 < history["loss"][0]
    assert np.mean([r == list(row) for r, row in zip(read, t)]) > 0.95


# Sequence cross-entropy.

@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignore_index_against_torch(reduction):
    @MANY
    @given(n=st.integers(1, 5), k=st.integers(2, 5), between=st.sampled_from([(), (1,), (4,)]), seed=seeds,
           smoothing=st.sampled_from([0.0, 0.2]), weighted=st.booleans(), ignore=st.sampled_from([-100, 0, 1]))
    def check(n, k, between, seed, smoothing, weighted, ignore):
        torch = pytest.importorskip("torch")
        rng = np.random.default_rng(seed)
        z, t = rng.standard_normal((n, *between, k)), rng.integers(0, k, (n, *between))
        t = np.where(rng.random(t.shape) < 0.4, ignore, t)
        v = list(rng.uniform(0.2, 2.0, k)) if weighted else None
        loss, dz = xn.SoftmaxCrossEntropy(reduction, smoothing, v, ignore_index=ignore)(z, t)
        if np.all(t == ignore):
            assert loss == 0.0 and np.all(dz == 0.0)      # PyTorch: 0/0
            return
        leaf = torch.tensor(z, requires_grad=True)
        value = torch.nn.functional.cross_entropy(torch.movedim(leaf, -1, 1), torch.tensor(t), weight=None if v is None else torch.tensor(v),
                                                  ignore_index=ignore, reduction=reduction, label_smoothing=smoothing)
        value.backward()
        np.testing.assert_allclose(loss, value.item(), rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(dz, leaf.grad.numpy(), rtol=1e-10, atol=1e-13)

    check()


@pytest.mark.parametrize("options", [{}, {"class_weights": [1.0, 5.0, 0.5]}, {"label_smoothing": 0.1}, {"reduction": "batch_mean"}, {"reduction": "half_sum"}], ids=repr)
def test_what_is_ignored_counts_for_nothing(options, backend, dtype):
    """As if it were not there; and batches add up by their mass."""
    rng = np.random.default_rng(1)
    z, t = rng.standard_normal((6, 3)), np.array([0, 2, -1, 1, -1, 2])
    loss = xn.SoftmaxCrossEntropy(ignore_index=-1, **options)
    value, dz = loss(backend.asarray(z, dtype), backend.asarray(t))
    kept = t >= 0
    expected, d_kept = xn.SoftmaxCrossEntropy(**options)(z[kept], t[kept])
    assert_close(value, expected, backend, dtype=dtype)
    full = np.zeros_like(z)
    full[kept] = d_kept
    assert_close(dz, full, backend, dtype=dtype)
    values, masses = [], []
    for rows in (slice(0, 3), slice(3, 6)):
        args = backend.asarray(z[rows], dtype), backend.asarray(t[rows])
        values.append(float(loss(*args)[0]))
        masses.append(float(loss.mass(backend.xp, *args, None)))
    whole = sum(values) if options.get("reduction", "").endswith("sum") else np.average(values, weights=masses)
    assert whole == pytest.approx(float(expected), rel=1e-5)


def test_fit_takes_padding_and_refuses_what_is_neither_class_nor_padding():
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((8, 5, 3)), rng.integers(0, 4, (8, 5))
    t[:, 3:] = -100
    model = xn.Model(xn.Dense(3, 4))
    xn.fit(model, xn.SoftmaxCrossEntropy(ignore_index=-100), xn.SGD(0.1), (x, t), epochs=1, progress=False)
    with pytest.raises(ValueError, match="targets run from -100"):
        xn.fit(model, xn.SoftmaxCrossEntropy(), xn.SGD(0.1), (x, t), epochs=1, progress=False)
    t[0, 0] = 7
    with pytest.raises(ValueError, match="first outside is 7"):
        xn.fit(model, xn.SoftmaxCrossEntropy(ignore_index=-100), xn.SGD(0.1), (x, t), epochs=1, progress=False)


# The others, against PyTorch.

@MANY
@given(n=st.integers(1, 5), k=st.integers(1, 4), seed=seeds, reduction=st.sampled_from(["mean", "sum"]))
def test_gaussian_losses_against_torch(n, k, seed, reduction):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    y, t = rng.standard_normal((n, 2 * k)), rng.standard_normal((n, k))
    leaf = torch.tensor(y, requires_grad=True)
    mean, std = leaf[:, :k], torch.exp(0.5 * leaf[:, k:])
    value = torch.nn.functional.gaussian_nll_loss(mean, torch.tensor(t), std ** 2, full=True, eps=1e-300, reduction=reduction)
    value.backward()
    loss, dy = xn.GaussianNLL(reduction)(y, t)
    np.testing.assert_allclose(loss, value.item(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(dy, leaf.grad.numpy(), rtol=1e-11, atol=1e-13)

    leaf.grad = None
    mean, std = leaf[:, :k], torch.exp(0.5 * leaf[:, k:])
    of = torch.distributions.Normal
    value = getattr(torch.distributions.kl_divergence(of(mean, std), of(0.0, 1.0)), reduction)()
    value.backward()
    loss, dy = xn.NormalKL(reduction)(y, t)
    np.testing.assert_allclose(loss, value.item(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(dy, leaf.grad.numpy(), rtol=1e-11, atol=1e-13)


@MANY
@given(n=st.integers(1, 5), d=st.integers(1, 4), seed=seeds, margin=st.sampled_from([0.2, 1.0, 3.0]))
def test_distances_against_torch(n, d, seed, margin):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    arrays, t = [rng.standard_normal((n, d)) for _ in range(3)], rng.integers(0, 2, n).astype(float)
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    distance = torch.linalg.norm(leaves[0] - leaves[1], dim=1)
    value = torch.mean(torch.tensor(t) * distance ** 2 + (1 - torch.tensor(t)) * torch.clamp(margin - distance, min=0) ** 2)
    value.backward()
    loss, dy = xn.Contrastive(margin)(tuple(arrays[:2]), t)
    np.testing.assert_allclose(loss, value.item(), rtol=1e-12, atol=1e-14)
    for got, leaf in zip(dy, leaves):
        np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-11, atol=1e-13)
        leaf.grad = None
    value = torch.nn.functional.triplet_margin_with_distance_loss(*leaves, margin=margin, distance_function=lambda a, b: ((a - b) ** 2).sum(dim=1))
    value.backward()
    loss, dy = xn.Triplet(margin)(tuple(arrays), t)
    np.testing.assert_allclose(loss, value.item(), rtol=1e-12, atol=1e-14)
    for got, leaf in zip(dy, leaves, strict=True):
        np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-11, atol=1e-13)


def test_points_that_coincide(backend, dtype):
    """D = 0: what is to be apart costs the whole margin, and no direction is better than another."""
    a = backend.asarray(np.ones((2, 3)), dtype)
    loss, (da, db) = xn.Contrastive(2.0, "sum")((a, a * 1.0), backend.asarray([1.0, 0.0], dtype))
    assert_close(loss, 4.0, backend, dtype=dtype)
    assert_close(da, np.zeros((2, 3)), backend)
    assert_close(db, np.zeros((2, 3)), backend)


def test_the_best_means_and_variances_are_the_datas():
    """The minimum of the Gaussian NLL over constants is the mean and the variance of the data."""
    t = np.random.default_rng(0).normal(2.0, 3.0, (500, 1)).astype("float32")
    model = xn.Model(xn.Dense(1, 2, init="zeros"), seed=0)
    xn.fit(model, xn.GaussianNLL(), xn.Adam(0.05), (np.zeros((500, 1), "float32"), t), epochs=600, batch_size=None, progress=False)
    mean, log_var = model.predict(np.zeros((1, 1), "float32"))[0]
    assert mean == pytest.approx(t.mean(), abs=0.02) and math.exp(log_var) == pytest.approx(t.var(), rel=0.02)


# The sample that gradients pass through.

def test_reparametrize_draws_from_the_distribution(backend, dtype):
    x = np.concatenate([np.full((4000, 1), 2.0), np.full((4000, 1), math.log(9.0))], axis=1)
    model = backend.model(xn.Reparametrize(1), dtype)
    z, _ = model.forward(backend.asarray(x, dtype))
    assert backend.host(z).mean() == pytest.approx(2.0, abs=0.15) and backend.host(z).std() == pytest.approx(3.0, rel=0.05)
    assert_close(model.predict(backend.asarray(x, dtype)), x[:, :1], backend, dtype=dtype)


def test_a_small_variational_autoencoder_trains():
    """Its bound falls, and the tuple of outputs goes through fit, evaluate and the gradient check."""
    rng = np.random.default_rng(0)
    x = (rng.random((64, 1)) < 0.5).astype("float32") * np.ones((1, 6), "float32")      # all 0 or all 1: ln 2 nats at best
    encoder = xn.Sequential(xn.Dense(6, 8, "tanh"), xn.Dense(8, 4))
    decoder = xn.Sequential(xn.Reparametrize(2), xn.Dense(2, 8, "tanh"), xn.Dense(8, 6))
    model = xn.Model(xn.Sequential(encoder, xn.Parallel(decoder, xn.Identity())), seed=0)
    before = xn.evaluate(model, xn.ELBO(), (x, x))["loss"]
    history = xn.fit(model, xn.ELBO(), xn.Adam(0.02), (x, x), validation=(x[:30], x[:30]), epochs=60, batch_size=24, progress=False)
    assert before > 4.0 > 1.6 > history["loss"][-1] > math.log(2.0)
    report = xn.gradient_check(model, x[:3], xn.ELBO(), x[:3])
    assert report.ok, report


def test_siamese_networks_share_and_learn():
    rng = np.random.default_rng(0)
    x, kinds = rng.standard_normal((60, 4)), rng.integers(0, 2, 60)
    x[:, 0] += 4.0 * kinds
    i, j = rng.integers(0, 60, (2, 400))
    net = xn.Sequential(xn.Dense(4, 8, "tanh"), xn.Dense(8, 2))
    model = xn.Model(xn.Parallel(net, net, split=True), seed=0)
    assert model.layout.size == 4 * 8 + 8 + 8 * 2 + 2
    pairs = (x[i].astype("float32"), x[j].astype("float32"))
    xn.fit(model, xn.Contrastive(), xn.Adam(0.01), (pairs, kinds[i] == kinds[j]), epochs=30, batch_size=32, progress=False)
    a, b = model.predict(pairs)
    d = np.linalg.norm(a - b, axis=1)
    assert np.mean((d < 0.5) == (kinds[i] == kinds[j])) > 0.95
    with pytest.raises(ValueError, match="t holds 1 for pairs of the same kind"):
        xn.fit(model, xn.Contrastive(), xn.Adam(0.01), (pairs, 2.0 * (kinds[i] == kinds[j])), epochs=1, progress=False)


# The tools around a loss.

def net_for(name):
    """A network whose output is what the loss takes, and its input."""
    rng = np.random.default_rng(5)
    if name in ("kl", "nll"):
        return xn.Dense(3, 6 if name == "kl" else 4), rng.standard_normal((4, 3))
    if name in ("contrastive", "triplet"):
        shared, many = xn.Dense(3, 2, "tanh"), 2 + (name == "triplet")
        return xn.Parallel(*[shared] * many, split=True), tuple(rng.standard_normal((4, 3)) for _ in range(many))
    if name == "elbo":
        return xn.Sequential(xn.Dense(3, 4), xn.Parallel(xn.Sequential(xn.Reparametrize(2), xn.Dense(2, 5)), xn.Identity())), rng.standard_normal((4, 3))
    return xn.Dense(2, 3), rng.standard_normal((4, 4, 2))


TOOLS = [name for name in LOSSES if name != "ctc_lengths"]


@pytest.mark.parametrize("name", TOOLS)
def test_gradient_check_and_dry_run(name):
    net, x = net_for(name)
    _, t = draw(name)
    loss = LOSSES[name][0]("batch_mean")
    report = xn.gradient_check(xn.Model(net, dtype="float64"), x, loss, t)
    assert report.ok, report
    shapes = x if isinstance(x, tuple) else (x,)
    from xpnet.backend.abstract import AbstractArray

    dry = tuple(AbstractArray(a.shape, "float32") for a in shapes)
    trace = dry_step(xn.Model(net), dry if isinstance(x, tuple) else dry[0], loss, xn.SGD(0.1))
    assert sum(op.flops for op in trace.parts["loss"]) > 0


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("reduction", ["batch_mean", "sum"])
@pytest.mark.parametrize("weighted", [False, pytest.param(True, marks=pytest.mark.full)], ids=["", "weights"])
def test_explain(name, reduction, weighted):
    net, x = net_for(name)
    _, t = draw(name)
    model = xn.Model(net, dtype="float64", seed=2)
    w = np.random.default_rng(1).uniform(0.5, 2.0, 4) if weighted else None
    columns = [] if name in ("ctc",) else ["columns"]
    for notation in ["rows", *columns]:
        e = explain(model, LOSSES[name][0](reduction), x, t, weights=w, notation=notation)
        assert_consistent(e, 1e-9)
        assert all(line.expression for line in e.lines("loss"))
        assert_printed_formulas_hold(e)


@pytest.mark.parametrize("reduction", ["mean", "half_batch_mean", "sum"])
@pytest.mark.parametrize("options", [{}, {"class_weights": [1.0, 2.0, 0.5]}, {"label_smoothing": 0.1}], ids=repr)
@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3)], ids=str)
def test_explain_ignored_targets(shape, options, reduction):
    rng = np.random.default_rng(5)
    t = rng.integers(0, 3, shape[:-1])
    t.flat[1] = -1
    loss = xn.SoftmaxCrossEntropy(reduction, ignore_index=-1, **options)
    for w in (None, rng.uniform(0.5, 2.0, shape[0])):
        e = explain(xn.Model(xn.Dense(2, 3), dtype="float64"), loss, rng.standard_normal((*shape[:-1], 2)), t, weights=w)
        assert_consistent(e)


def test_explain_ctc_with_lengths():
    """The lengths pass beside the logits."""
    rng = np.random.default_rng(0)
    model = xn.Model(xn.Parallel(xn.Dense(2, 3), xn.Identity(), split=True), dtype="float64")
    x = (rng.standard_normal((4, 4, 2)), np.array([4, 3, 1, 2]))
    y, backward = model.forward(x)
    value, dy = xn.CTC()(y, LABELS)
    assert np.all(np.isfinite(backward(dy)))
    frames = y[0]
    assert value == pytest.approx(np.mean([ctc_plainly(frames[i], LABELS[i], frames=n) for i, n in enumerate(x[1])]))


# Errors.

Y, Z = np.zeros((4, 6)), np.zeros((4, 5, 3))
MISTAKES = {
    "one_for_two": (xn.Contrastive(), Y, np.zeros(4), ValueError, "takes a tuple of 2 arrays as its prediction, got one array"),
    "two_for_one": (xn.MeanSquaredError(), (Y, Y), Y, ValueError, "takes one array as its prediction, got 2 arrays"),
    "three": (xn.CTC(), (Z, Z, Z), LABELS, ValueError, "one array or a tuple of 2 arrays"),
    "shapes": (xn.Triplet(), (Y, Y, Y[:, :2]), np.zeros(4), ValueError, r"of one shape \(n, d\)"),
    "pairs": (xn.Contrastive(), (Y, Y), np.zeros((4, 1)), ValueError, r"shape \(4,\), one a pair, got \(4, 1\)"),
    "anchors": (xn.Triplet(), (Y, Y, Y), np.zeros(3), ValueError, "a target of 4 samples"),
    "odd": (xn.GaussianNLL(), Y[:, :3], np.zeros((4, 1)), ValueError, r"side by side, \(n, ..., 2k\), got \(4, 3\)"),
    "nll_target": (xn.GaussianNLL(), Y, Y, ValueError, r"target of shape \(4, 3\)"),
    "nll_dtype": (xn.GaussianNLL(), Y, np.zeros((4, 3), int), TypeError, "prediction's dtype"),
    "kl_rank": (xn.NormalKL(), np.zeros(4), np.zeros(4), ValueError, "side by side"),
    "elbo_target": (xn.ELBO(), (Y, Y), np.zeros((4, 2)), ValueError, "target of the prediction's shape"),
    "frames": (xn.CTC(), Y, LABELS, ValueError, r"logits of shape \(n, time, classes\)"),
    "blank": (xn.CTC(blank=3), Z, LABELS, ValueError, r"class 3"),
    "labels": (xn.CTC(), Z, np.zeros(4, int), ValueError, r"labels of shape \(4, labels\)"),
    "label_dtype": (xn.CTC(), Z, np.zeros((4, 2)), TypeError, "integer labels"),
    "lengths": (xn.CTC(), (Z, np.zeros(4)), LABELS, ValueError, r"integer lengths of shape \(4,\)"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_named(case, backend):
    loss, y, t, error, message = MISTAKES[case]
    with pytest.raises(error, match=message):
        loss(to(backend, y), to(backend, t))


def test_a_blank_between_labels_is_seen_where_targets_enter():
    model = xn.Model(xn.Dense(2, 3))
    t = np.array([[1, 0, 2]])
    with pytest.raises(ValueError, match="the blank, class 0, only at their ends"):
        xn.fit(model, xn.CTC(), xn.SGD(0.1), (np.zeros((1, 5, 2), "float32"), t), epochs=1, progress=False)


@pytest.mark.parametrize("make, message", [
    (lambda: xn.ELBO(xn.BinaryCrossEntropy()), "sums over a sample's outputs"), (lambda: xn.ELBO(beta=-1.0), "beta is a number from 0"),
    (lambda: xn.Contrastive(0.0), "margin is a positive number"), (lambda: xn.Triplet("wide"), "margin is a positive number"),
    (lambda: xn.CTC("average"), "unknown reduction"), (lambda: xn.CTC(blank=-1), "blank"), (lambda: xn.Reparametrize(0), "features")])
def test_wrong_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_losses_are_written_as_they_are_made():
    for text in ("CTC()", "CTC('sum', blank=2, zero_infinity=True)", "Contrastive(1)", "Triplet(0.5, 'sum')", "NormalKL('sum')",
                 "GaussianNLL()", "ELBO(BinaryCrossEntropy('batch_mean'), beta=4)"):
        assert repr(eval(text, vars(xn))) == text


def test_reparametrize_takes_pairs():
    with pytest.raises(xn.LayerError, match="3 means and 3 log-variances"):
        xn.Reparametrize(3).forward({}, np.zeros((4, 5)), Context(xn.get_backend("numpy").xp))

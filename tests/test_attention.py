"""Embedding, positions, attention and transformer blocks, beside PyTorch and by their own laws."""

import math

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet as xn
from xpnet.layers.attention import attend

float64 = pytest.mark.float64


def model_of(bench, net, seed=1):
    model = xn.Model(net, backend=bench.backend, dtype="float64" if bench.float64 else "float32", seed=seed)
    model.params = bench.host(model.params) + 0.1 * np.random.default_rng(0).standard_normal(model.layout.size)
    return model


def run(model, *xs, dy=None, seed=5):
    """y, dx (both tuples) and the gradients by path, of host arrays."""
    xs = tuple(model.asarray(x) for x in xs)
    y, backward = model.forward(xs if len(xs) > 1 else xs[0])
    rng = np.random.default_rng(seed)
    many = isinstance(y, tuple)
    dy = [rng.standard_normal(e.shape) for e in (y if many else (y,))] if dy is None else dy
    dx, _ = backward(tuple(map(model.asarray, dy)) if many else model.asarray(dy[0]), input_grad=True)
    host = model.backend.to_host
    return ([host(e) for e in (y if many else (y,))], [None if d is None else host(d) for d in (dx if isinstance(dx, tuple) else (dx,))],
            {p: host(model.get_grad(p)) for p in model.paths()}, dy)


# Embedding.

def test_embedding_adds_the_gradients_of_a_token_that_comes_twice(backend, dtype):
    model = backend.model(xn.Embedding(5, 2), dtype)
    t = np.array([[3, 1], [3, 3]])
    y, backward = model.forward(model.asarray(t))
    W = backend.host(model.get_param("W"))
    assert_close(y, W[t], backend, dtype=dtype)
    dy = np.arange(8.0).reshape(2, 2, 2)
    backward(model.asarray(dy))
    want = np.zeros((5, 2))
    np.add.at(want, t, dy)
    assert_close(model.get_grad("W"), want, backend, dtype=dtype)
    assert want[3].tolist() == [0 + 4 + 6, 1 + 5 + 7] and not want[[0, 2, 4]].any()


def test_embedding_is_the_product_with_the_one_hot_matrix(backend):
    t = np.random.default_rng(0).integers(0, 6, (4, 3))
    for deterministic in (False, True):
        table, dense = xn.Embedding(6, 4, deterministic=deterministic), xn.Dense(6, 4, bias=False)
        a, b = model_of(backend, table), model_of(backend, dense)
        b.set_param("W", a.get_param("W"))
        y, _, grads, dy = run(a, t)
        y2, _, grads2, _ = run(b, np.eye(6)[t], dy=dy)
        tol = 1e-12 if backend.float64 else 1e-5
        np.testing.assert_allclose(y[0], y2[0], atol=tol)
        np.testing.assert_allclose(grads["W"], grads2["W"], atol=tol)


def test_embedding_takes_integers_only(backend):
    model = backend.model(xn.Sequential(xn.Embedding(5, 2)))
    with pytest.raises(xn.LayerError, match=r"layer 0 \(Embedding\(5, 2\)\) takes integers"):
        model.forward(backend.asarray(np.ones((2, 3)), "float32"))


@pytest.mark.parametrize("token", [5, -1])
def test_fit_refuses_a_token_that_is_out_of_range(backend, token):
    """On a device it would wrap, or be read from elsewhere, and nobody would see."""
    model = backend.model(xn.Sequential(xn.Embedding(5, 2), xn.Flatten(), xn.Dense(6, 2)))
    tokens, t = np.array([[0, 1, 2], [3, 4, token]]), np.arange(2)
    for data in ((tokens, t), (backend.asarray(tokens), backend.asarray(t))):
        with pytest.raises(ValueError, match=f"data: x holds tokens from 0 to 4 for Embedding.5, 2., got values from {min(token, 0)}"):
            xn.fit(model, xn.SoftmaxCrossEntropy(), xn.SGD(0.1), data, progress=False)
    xn.fit(model, xn.SoftmaxCrossEntropy(), xn.SGD(0.1), (np.abs(tokens) % 5, t), progress=False)


@pytest.mark.parametrize("length", [4, -1])
def test_fit_refuses_a_length_that_is_out_of_range(backend, length):
    model = backend.model(xn.Sequential(xn.RNN(2, 3, last=True)))
    x, lengths, t = np.ones((2, 3, 2)), np.array([3, length]), np.ones((2, 3))
    with pytest.raises(ValueError, match="data: x has lengths from 0 to 3, the number of steps"):
        xn.fit(model, xn.MeanSquaredError(), xn.SGD(0.1), ((x, lengths), t), progress=False)


def test_tied_weights_are_one_parameter_whose_gradients_add(backend):
    embedding = xn.Embedding(6, 3)
    tied = model_of(backend, xn.Sequential(embedding, xn.Tanh(), xn.Unembedding(embedding)))
    apart = model_of(backend, xn.Sequential(xn.Embedding(6, 3), xn.Tanh(), xn.Unembedding(xn.Embedding(6, 3))))
    assert tied.layout.size * 2 == apart.layout.size
    for path in apart.paths():
        apart.set_param(path, tied.get_param("0.W"))
    t = np.array([[0, 3, 3]])
    _, _, grads, dy = run(tied, t)
    _, _, parts, _ = run(apart, t, dy=dy)
    np.testing.assert_allclose(grads["0.W"], parts["0.W"] + parts["2.W"], rtol=1e-5 if not backend.float64 else 1e-12, atol=1e-6)
    with pytest.raises(TypeError, match="takes the Embedding whose table it shares"):
        xn.Unembedding(xn.Dense(3, 6))


# Positions.

def test_sinusoids_are_those_of_the_paper(backend):
    y, _ = xn.SinusoidalPositions(6)(backend.asarray(np.zeros((1, 4, 6))))
    want = [[math.sin(p / 10000 ** (2 * (i // 2) / 6)) if i % 2 == 0 else math.cos(p / 10000 ** (2 * (i // 2) / 6)) for i in range(6)]
            for p in range(4)]
    assert_close(y, [want], backend)


def test_rotary_products_depend_on_the_distance_only(backend):
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal(8), rng.standard_normal(8)
    rotated = {}
    for start in (0, 5):
        q_all, _ = xn.RotaryPositions(8, start=start)(backend.asarray(np.tile(q, (1, 7, 1))))
        k_all, _ = xn.RotaryPositions(8, start=start)(backend.asarray(np.tile(k, (1, 7, 1))))
        rotated[start] = backend.host(q_all)[0] @ backend.host(k_all)[0].T
    s = rotated[0]
    tol = 1e-10 if backend.float64 else 1e-4
    for distance in range(-6, 7):
        np.testing.assert_allclose(np.diag(s, distance), np.diag(s, distance)[0], atol=tol)
    np.testing.assert_allclose(rotated[0], rotated[5], atol=tol)
    assert abs(s[0, 1] - s[1, 0]) > 0.1


def test_positions_refuse():
    for make, words in ((lambda: xn.SinusoidalPositions(5), "features is even"), (lambda: xn.RotaryPositions(3), "features is even"),
                        (lambda: xn.LearnedPositions(0, 3), "length is an integer from 1")):
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(xn.LayerError, match=r"\(batch, time, 3\) with time up to 4"):
        xn.LearnedPositions(4, 3)(np.zeros((1, 5, 3)))


# Attention.

def test_attention_of_one_key_is_its_value(backend):
    q, k, v = (backend.asarray(np.random.default_rng(i).standard_normal((2, 1, 3))) for i in range(3))
    o, _ = attend(backend.xp, q, k, v)
    assert_close(o, backend.host(v), backend)


def test_no_look_ahead(backend):
    """The output at t does not change with what comes later, and the gradient of what comes later is 0."""
    model = model_of(backend, xn.MultiHeadAttention(6, 3, causal=True))
    x = np.random.default_rng(0).standard_normal((2, 5, 6))
    changed = x.copy()
    changed[:, 3:] += 1.0
    y, _, _, _ = run(model, x)
    y2, _, _, _ = run(model, changed)
    np.testing.assert_allclose(y[0][:, :3], y2[0][:, :3], atol=1e-6)
    assert np.abs(y[0][:, 3:] - y2[0][:, 3:]).max() > 1e-3
    dy = np.zeros_like(x)
    dy[:, 1] = 1.0
    _, dx, _, _ = run(model, x, dy=[dy])
    assert np.abs(dx[0][:, 2:]).max() < 1e-6 < 1e-3 < np.abs(dx[0][:, :2]).max()


def test_padding_is_not_seen(backend):
    model = model_of(backend, xn.EncoderBlock(6, 2, masked=True))
    x = np.random.default_rng(0).standard_normal((2, 5, 6))
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    short, _, _, _ = run(model, x[:1, :3], np.ones((1, 3), dtype=int))
    padded, _, _, _ = run(model, x, mask)
    np.testing.assert_allclose(padded[0][0, :3], short[0][0], atol=1e-5 if not backend.float64 else 1e-12)
    y, dx, grads, _ = run(model, x, np.zeros((2, 5), dtype=int))   # nothing to look at: a plain mean, not NaN
    assert all(np.all(np.isfinite(a)) for a in (*y, dx[0], *grads.values()))


def test_grouped_queries_are_heads_with_equal_keys(backend):
    """kv_heads=2 of 4: the same as four heads whose keys and values come in two equal pairs; and the gradients of the pairs add."""
    grouped, full = (model_of(backend, xn.MultiHeadAttention(8, 4, kv_heads=g)) for g in (2, 4))
    def twice(a): return np.concatenate([a[..., :2], a[..., :2], a[..., 2:], a[..., 2:]], axis=-1)
    for path in full.paths():
        value = backend.host(grouped.get_param(path))
        full.set_param(path, backend.asarray(twice(value) if path[1] in "kv" else value))
    x = np.random.default_rng(1).standard_normal((2, 3, 8))
    y, dx, grads, dy = run(grouped, x)
    y2, dx2, grads2, _ = run(full, x, dy=dy)
    tol = 1e-12 if backend.float64 else 2e-5
    np.testing.assert_allclose(y[0], y2[0], atol=tol)
    np.testing.assert_allclose(dx[0], dx2[0], atol=tol)
    g = grads2["Wk"]
    np.testing.assert_allclose(grads["Wk"], np.concatenate([g[:, 0:2] + g[:, 2:4], g[:, 4:6] + g[:, 6:8]], axis=1), atol=tol)


@pytest.mark.parametrize("rotary", [False, True])
def test_a_cache_gives_what_the_whole_gives(backend, rotary):
    """Token by token with a cache, in pieces of 1 and 3: the outputs of the whole sequence at once."""
    net = xn.Decoder(*(xn.DecoderBlock(8, 4, 16, kv_heads=2, rotary=rotary) for _ in range(2)))
    model = model_of(backend, net)
    x = model.asarray(np.random.default_rng(2).standard_normal((2, 6, 8)))
    whole, _ = model.forward(x, training=False)
    cache, parts = net.empty_cache(model.xp, x), []
    for start, stop in ((0, 1), (1, 2), (2, 5), (5, 6)):
        (y, cache), _ = model.forward((x[:, start:stop, :], cache), training=False)
        parts.append(backend.host(y))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), backend.host(whole), atol=1e-12 if backend.float64 else 2e-5)
    assert tuple(cache.shape) == (2, 2, 2, 2, 6, 2)


def test_shuffled_positions_give_shuffled_outputs(backend):
    """Without positions attention knows no order."""
    model = model_of(backend, xn.EncoderBlock(6, 2))
    x = np.random.default_rng(0).standard_normal((1, 5, 6))
    order = [3, 0, 4, 1, 2]
    y, _, _, _ = run(model, x)
    y2, _, _, _ = run(model, x[:, order])
    np.testing.assert_allclose(y[0][:, order], y2[0], atol=1e-12 if backend.float64 else 2e-5)


def test_attention_refuses(backend):
    for make, words in ((lambda: xn.MultiHeadAttention(6, 4), "heads divide the features"),
                        (lambda: xn.MultiHeadAttention(6, 3, kv_heads=2), "heads divide the features"),
                        (lambda: xn.MultiHeadAttention(6, 2, rotary=True), "heads of an even size"),
                        (lambda: xn.MultiHeadAttention(6, 2, cross=True, causal=True), "cross looks at another"),
                        (lambda: xn.MultiHeadAttention(6, 2, dropout=1.0), "probability"),
                        (lambda: xn.MultiHeadAttention(6, 2, memory_features=3), "is for cross=True"),
                        (lambda: xn.Decoder(xn.Dense(3, 3)), "takes transformer blocks"), (lambda: xn.Decoder(), "at least one")):
        with pytest.raises((ValueError, TypeError), match=words):
            make()
    x, memory = (backend.asarray(np.ones(s), "float32") for s in ((2, 3, 6), (2, 4, 6)))
    mask = backend.asarray(np.ones((2, 3), dtype=np.int64))
    for layer, given_, words in ((xn.MultiHeadAttention(6, 2), (x, memory, memory), "takes x, and a cache where there is one, got 3 arrays"),
                                 (xn.MultiHeadAttention(6, 2), (x, memory), r"a cache of shape \(2, 2, 2, past, 3\)"),
                                 (xn.MultiHeadAttention(5, 1), (x,), r"takes x of shape \(batch, time, 5\)"),
                                 (xn.MultiHeadAttention(6, 2, cross=True), (x,), "takes a tuple of x, memory, got 1 array"),
                                 (xn.MultiHeadAttention(6, 2, masked=True), (x, backend.asarray(np.ones((2, 4)), "float32")), "mask of integers"),
                                 (xn.EncoderBlock(6, 2, masked=True), (x,), "takes a tuple of x, mask, got 1 array")):
        model = backend.model(xn.Sequential(layer))
        with pytest.raises(xn.LayerError, match=words):
            model.forward(given_ if len(given_) > 1 else given_[0])
    assert backend.model(xn.MultiHeadAttention(6, 2, masked=True)).forward((x, mask))


def test_summary_counts_the_products():
    """2 · (3 projections and the output: 4 n t d²) and 2 · 2 n h t² d/h for the scores and the means, forward."""
    n, t, d = 2, 16, 32
    rows = xn.Model(xn.Sequential(xn.MultiHeadAttention(d, 4, bias=False))).summary((t, d), batch_size=n).rows
    row = next(r for r in rows if r.path == "0")
    products = 2 * 4 * n * t * d * d + 2 * 2 * n * t * t * d
    assert products <= row.flops_forward <= 1.2 * products
    assert row.params == 4 * d * d
    tokens = xn.Model(xn.Sequential(xn.Embedding(10, d), xn.Dense(d, 3)))
    assert tokens.layout.size == 10 * d + 3 * d + 3


@pytest.mark.parametrize("make, shapes", [
    (lambda: xn.Sequential(xn.MultiHeadAttention(4, 2, causal=True, rotary=True)), [(2, 3, 4)]),
    (lambda: xn.Sequential(xn.LearnedPositions(5, 4), xn.DecoderBlock(4, 2, 6)), [(2, 3, 4)]),
    (lambda: xn.DecoderBlock(4, 2, 6, cross=True), [(2, 3, 4), (2, 2, 4)])])
def test_gradient_check(backend, make, shapes):
    xs = tuple(backend.asarray(np.random.default_rng(0).standard_normal(s)) for s in shapes)
    report = xn.gradient_check(model_of(backend, make()), xs if len(xs) > 1 else xs[0])
    assert report.ok, report


# Beside PyTorch.

def torch_attention(torch, model, d, h, path="", **options):
    """torch.nn.MultiheadAttention with the model's weights."""
    other = torch.nn.MultiheadAttention(d, h, batch_first=True, dtype=torch.float64, **options)
    get = lambda name: torch.tensor(np.asarray(model.get_param(f"{path}{name}")))   # noqa: E731
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([get(f"W{n}").T for n in "qkv"]))
        other.in_proj_bias.copy_(torch.cat([get(f"b{n}") for n in "qkv"]))
        other.out_proj.weight.copy_(get("Wo").T)
        other.out_proj.bias.copy_(get("bo"))
    return other


def gradients_of(other, grads, path=""):
    """xpnet's gradients beside those of torch.nn.MultiheadAttention."""
    for i, name in enumerate("qkv"):
        d = other.out_proj.weight.shape[0]
        np.testing.assert_allclose(grads[f"{path}W{name}"], other.in_proj_weight.grad[i * d:(i + 1) * d].T.numpy(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(grads[f"{path}b{name}"], other.in_proj_bias.grad[i * d:(i + 1) * d].numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(grads[f"{path}Wo"], other.out_proj.weight.grad.T.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(grads[f"{path}bo"], other.out_proj.bias.grad.numpy(), rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 3), t=st.integers(1, 5), s=st.integers(1, 4), h=st.sampled_from([1, 2, 3]), e=st.integers(1, 3),
       kind=st.sampled_from(["self", "causal", "cross", "masked", "causal masked"]), seed=st.integers(0, 9))
def test_attention_beside_pytorch(n, t, s, h, e, kind, seed):
    torch = pytest.importorskip("torch")
    d, rng = h * e, np.random.default_rng(seed)
    net = xn.MultiHeadAttention(d, h, causal="causal" in kind, cross=kind == "cross", masked="masked" in kind)
    model = xn.Model(net, dtype="float64", seed=seed)
    model.params = model.params + 0.1 * rng.standard_normal(model.layout.size)
    x, memory = rng.standard_normal((n, t, d)), rng.standard_normal((n, s, d))
    mask = np.ones((n, t), dtype=np.int64)
    for row in mask:                                      # at least the first key is there: PyTorch gives NaN where none is
        row[rng.integers(1, t + 1):] = 0
    given_ = {"cross": (x, memory)}.get(kind, (x, mask) if "masked" in kind else (x,))
    y, dx, grads, dy = run(model, *given_)
    other = torch_attention(torch, model, d, h)
    tx = torch.tensor(x, requires_grad=True)
    tm = torch.tensor(memory, requires_grad=True) if kind == "cross" else tx
    options = {"attn_mask": torch.triu(torch.ones(t, t, dtype=torch.bool), 1)} if "causal" in kind else {}
    if "masked" in kind:
        options["key_padding_mask"] = torch.tensor(mask == 0)
    ty, _ = other(tx, tm, tm, need_weights=False, **options)
    ty.backward(torch.tensor(dy[0]))
    np.testing.assert_allclose(y[0], ty.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dx[0], tx.grad.numpy(), rtol=1e-8, atol=1e-11)
    if kind == "cross":
        np.testing.assert_allclose(dx[1], tm.grad.numpy(), rtol=1e-8, atol=1e-11)
    gradients_of(other, grads)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 2), t=st.integers(1, 4), h=st.sampled_from([1, 2]), causal=st.booleans(), seed=st.integers(0, 9))
def test_block_beside_pytorch(n, t, h, causal, seed):
    torch = pytest.importorskip("torch")
    d, hidden, rng = 4 * h, 6, np.random.default_rng(seed)
    model = xn.Model(xn.TransformerBlock(d, h, hidden, causal=causal), dtype="float64", seed=seed)
    model.params = model.params + 0.1 * rng.standard_normal(model.layout.size)
    x = rng.standard_normal((n, t, d))
    y, dx, grads, dy = run(model, x)
    other = torch.nn.TransformerEncoderLayer(d, h, hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64)
    other.self_attn = torch_attention(torch, model, d, h, "attention.")
    names = {"norm.gamma": other.norm1.weight, "norm.beta": other.norm1.bias, "mlp_norm.gamma": other.norm2.weight,
             "mlp_norm.beta": other.norm2.bias, "mlp.0.W": other.linear1.weight, "mlp.0.b": other.linear1.bias,
             "mlp.1.W": other.linear2.weight, "mlp.1.b": other.linear2.bias}
    with torch.no_grad():
        for path, parameter in names.items():
            parameter.copy_(torch.tensor(np.asarray(model.get_param(path)).T))
    tx = torch.tensor(x, requires_grad=True)
    ty = other(tx, src_mask=torch.triu(torch.ones(t, t, dtype=torch.bool), 1) if causal else None)
    ty.backward(torch.tensor(dy[0]))
    np.testing.assert_allclose(y[0], ty.detach().numpy(), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(dx[0], tx.grad.numpy(), rtol=1e-8, atol=1e-10)
    for path, parameter in names.items():
        np.testing.assert_allclose(grads[path], parameter.grad.numpy().T, rtol=1e-8, atol=1e-10)
    gradients_of(other.self_attn, grads, "attention.")

"""Recurrent layers: PyTorch's numbers and gradients, sequences of different lengths, carried state, and truncated backpropagation."""

import copy
import pickle

import numpy as np
import pytest
from conftest import assert_close

import xpnet as xn
from xpnet.backend.gates import block_products, block_products_plain
from xpnet.derivation import explain
from xpnet.errors import LayerError

RTOL = 1e-10
MAKE = {"RNN": lambda d, k, **o: xn.RNN(d, k, **o), "RNN(relu)": lambda d, k, **o: xn.RNN(d, k, "relu", **o),
        "LSTM": lambda d, k, **o: xn.LSTM(d, k, **o), "GRU": lambda d, k, **o: xn.GRU(d, k, **o)}


def model_of(net, seed=0):
    model = xn.Model(net, dtype="float64", seed=seed)
    model.params = model.params + 0.3 * np.random.default_rng(seed).standard_normal(model.layout.size)
    return model


# PyTorch.

def from_torch(torch_net, layer, level=0, reverse=False):
    """PyTorch's parameters of one level and direction as those of an xpnet layer: this is the layout that the docstrings promise."""
    W, U, bi, bh = (getattr(torch_net, f"{name}_l{level}{'_reverse' if reverse else ''}").detach().numpy()
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    if not isinstance(layer, xn.GRU):
        return {"W": W.T, "U": U.T, "b": bi + bh}
    k = layer.out_features
    return {"W": W.T, "U": U.T, "b": bi + np.concatenate([bh[:2 * k], np.zeros(k)]), "b_q": bh[2 * k:]}


def torch_grads(torch_net, layer, level=0, reverse=False):
    """PyTorch's gradients in the same layout. Where it adds two biases, both have the gradient of the sum."""
    grad = {name: getattr(torch_net, f"{name}_l{level}{'_reverse' if reverse else ''}").grad.numpy()
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    found = {"W": grad["weight_ih"].T, "U": grad["weight_hh"].T, "b": grad["bias_ih"]}
    return found | ({"b_q": grad["bias_hh"][2 * layer.out_features:]} if isinstance(layer, xn.GRU) else {})


def torch_of(torch, kind, d, k, **options):
    cls = {"RNN": torch.nn.RNN, "RNN(relu)": torch.nn.RNN, "LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}[kind]
    if kind == "RNN(relu)":
        options["nonlinearity"] = "relu"
    return cls(d, k, batch_first=True, dtype=torch.float64, **options)


def check_against_torch(kind, n, time, d, k, seed, lengths, carried, directions, last):
    """Values and all gradients, of a layer or two in both directions, from the same random dy."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    theirs = torch_of(torch, kind, d, k, bidirectional=directions == 2)
    layers = [MAKE[kind](d, k, last=last) for _ in range(directions)]
    net = layers[0] if directions == 1 else xn.Bidirectional(*layers)
    model = xn.Model(net, dtype="float64")
    prefix = [""] if directions == 1 else ["0.", "1."]
    for i, layer in enumerate(layers):
        for name, value in from_torch(theirs, layer, reverse=i == 1).items():
            model.set_param(prefix[i] + name, value)

    x = rng.standard_normal((n, time, d))
    arrays = len(layers[0].state_features)
    state = [rng.standard_normal((n, k)) for _ in range(arrays * directions)] if carried else []
    tx = torch.tensor(x, requires_grad=True)
    # PyTorch's h_0 is (directions, n, k); xpnet's state is h, c of the first direction, then h, c of the second.
    ts = [torch.tensor(np.stack([state[i * arrays + j] for i in range(directions)]), requires_grad=True) for j in range(arrays)] if carried else []
    given = tx if lengths is None else torch.nn.utils.rnn.pack_padded_sequence(tx, torch.tensor(lengths), batch_first=True,
                                                                               enforce_sorted=False)
    out, end = theirs(given, *([] if not carried else [tuple(ts) if arrays == 2 else ts[0]]))
    if lengths is not None:
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=time)
    ends = list(end) if arrays == 2 else [end]
    ty = torch.concat(list(ends[0]), dim=-1) if last else out

    parts = (x, *state, *([] if lengths is None else [lengths]))
    y, backward = model.forward(parts if len(parts) > 1 else x)
    ys = y if carried else (y,)
    np.testing.assert_allclose(ys[0], ty.detach().numpy(), rtol=RTOL, atol=RTOL)
    for i, array in enumerate(ys[1:]):
        np.testing.assert_allclose(array, ends[i % arrays][i // arrays].detach().numpy(), rtol=RTOL, atol=RTOL)

    dys = [rng.standard_normal(a.shape) for a in ys]
    total = (ty * torch.tensor(dys[0])).sum()
    for i, d_end in enumerate(dys[1:]):
        total = total + (ends[i % arrays][i // arrays] * torch.tensor(d_end)).sum()
    total.backward()
    dx, _ = backward(tuple(dys) if carried else dys[0], True)
    dxs = dx if isinstance(dx, tuple) else (dx,)
    np.testing.assert_allclose(dxs[0], tx.grad.numpy(), rtol=RTOL, atol=RTOL)
    for i in range(len(state)):
        np.testing.assert_allclose(dxs[1 + i], ts[i % arrays].grad.numpy()[i // arrays], rtol=RTOL, atol=RTOL)
    assert lengths is None or dxs[-1] is None             # integers have no gradient
    for i, layer in enumerate(layers):
        for name, value in torch_grads(theirs, layer, reverse=i == 1).items():
            np.testing.assert_allclose(model.get_grad(prefix[i] + name), value, rtol=RTOL, atol=RTOL, err_msg=name)


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("n, time, d, k", [(3, 4, 2, 5), (1, 1, 1, 1), (1, 6, 3, 2), (4, 1, 2, 2)])
def test_like_pytorch(kind, directions, n, time, d, k):
    for lengths in (None, np.random.default_rng(0).integers(1, time + 1, n)):
        for carried in (False, True):
            check_against_torch(kind, n, time, d, k, 3, lengths, carried, directions, last=carried != (lengths is None))


@pytest.mark.full
def test_like_pytorch_for_any_shape():
    pytest.importorskip("torch")
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies

    @hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
    @hypothesis.given(st.sampled_from(list(MAKE)), st.integers(1, 5), st.integers(1, 7), st.integers(1, 5), st.integers(1, 6),
                      st.integers(0, 10 ** 6), st.booleans(), st.booleans(), st.sampled_from([1, 2]), st.booleans())
    def check(kind, n, time, d, k, seed, padded, carried, directions, last):
        lengths = np.random.default_rng(seed).integers(1, time + 1, n) if padded else None
        check_against_torch(kind, n, time, d, k, seed, lengths, carried, directions, last)

    check()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_stacked_like_pytorch(kind):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    theirs = torch_of(torch, kind, 3, 4, num_layers=2)
    layers = [MAKE[kind](3, 4), MAKE[kind](4, 4)]
    model = xn.Model(xn.Stacked(*layers), dtype="float64")
    for i, layer in enumerate(layers):
        for name, value in from_torch(theirs, layer, i).items():
            model.set_param(f"{i}.{name}", value)
    x, dy = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5, 4))
    arrays = len(layers[0].state_features)
    h0 = [torch.tensor(rng.standard_normal((2, 2, 4)), requires_grad=True) for _ in range(arrays)]   # (layers, n, k)
    out, end = theirs(torch.tensor(x), tuple(h0) if arrays == 2 else h0[0])
    ends = list(end) if arrays == 2 else [end]
    (out * torch.tensor(dy)).sum().backward()
    state = [a.detach().numpy()[level] for level in range(2) for a in h0]
    (y, *after), backward = model.forward((x, *state))
    np.testing.assert_allclose(y, out.detach().numpy(), rtol=RTOL, atol=RTOL)
    for i, a in enumerate(after):
        np.testing.assert_allclose(a, ends[i % arrays][i // arrays].detach().numpy(), rtol=RTOL, atol=RTOL)
    dx, _ = backward((dy, *map(np.zeros_like, after)), True)
    for i in range(len(state)):
        np.testing.assert_allclose(dx[1 + i], h0[i % arrays].grad.numpy()[i // arrays], rtol=RTOL, atol=RTOL)
    for i, layer in enumerate(layers):
        for name, value in torch_grads(theirs, layer, i).items():
            np.testing.assert_allclose(model.get_grad(f"{i}.{name}"), value, rtol=RTOL, atol=RTOL)


# Lengths.

@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("both_ways", [False, True])
def test_a_padded_batch_is_each_sequence_alone(kind, both_ways, backend):
    rng = np.random.default_rng(0)
    lengths, time, d = np.array([3, 0, 5, 1]), 5, 2
    x = rng.standard_normal((4, time, d))

    def net(last):
        layers = [MAKE[kind](d, 3, last=last) for _ in range(2)]
        return xn.Bidirectional(*layers) if both_ways else layers[0]

    for last in (False, True):
        model = backend.model(net(last), backend.widest, seed=2)
        y, backward = model.forward((model.asarray(x), model.asarray(lengths)))
        dy = rng.standard_normal(tuple(y.shape))
        dx, _ = backward(model.asarray(dy), True)
        y, dx, grads = backend.host(y), backend.host(dx[0]), backend.host(model.grads)
        total = 0.0
        tolerance = {"rtol": 1e-10, "atol": 1e-10} if backend.float64 else {"rtol": 1e-4, "atol": 1e-5}
        for i, length in enumerate(lengths):
            if length == 0:
                assert not np.any(y[i]) and not np.any(dx[i])   # the initial state, which is 0
                continue
            alone, back = model.forward(model.asarray(x[i:i + 1, :length]))
            d_alone, _ = back(model.asarray(dy[i:i + 1] if last else dy[i:i + 1, :length]), True)
            np.testing.assert_allclose(y[i] if last else y[i, :length], backend.host(alone)[0], **tolerance)
            np.testing.assert_allclose(dx[i, :length], backend.host(d_alone)[0], **tolerance)
            assert not np.any(dx[i, length:]) and (last or not np.any(y[i, length:]))
            total = total + backend.host(model.grads)
        np.testing.assert_allclose(grads, total, **tolerance)


@pytest.mark.parametrize("kind", MAKE)
def test_values_of_the_padding_do_not_matter(kind):
    rng = np.random.default_rng(0)
    model = model_of(xn.Bidirectional(MAKE[kind](2, 3), MAKE[kind](2, 3)))
    x, lengths = rng.standard_normal((3, 4, 2)), np.array([2, 4, 1], dtype=np.uint8)
    other = np.where(np.arange(4)[None, :, None] < lengths[:, None, None], x, 9.0)
    y, back = model.forward((x, lengths))
    dy = rng.standard_normal(y.shape)
    grads = back(dy).copy()
    y_other, back = model.forward((other, lengths))
    np.testing.assert_array_equal(y, y_other)
    np.testing.assert_allclose(back(dy), grads, rtol=1e-12)


# Carried state.

@pytest.mark.parametrize("kind", [*MAKE, "stacked"])
def test_parts_with_carried_state_are_the_whole_sequence(kind, backend, dtype):
    net = MAKE[kind](2, 3) if kind in MAKE else xn.Stacked(xn.LSTM(2, 3), xn.Dense(3, 3, "tanh"), xn.GRU(3, 2), xn.Dense(2, 2))
    model = backend.model(net, dtype, seed=1)
    x = backend.asarray(np.random.default_rng(0).standard_normal((4, 9, 2)), dtype)
    whole, _ = model.forward(x)
    state, parts = net.initial_state(4, x), []
    for start, stop in ((0, 2), (2, 3), (3, 9)):
        (y, *state), _ = model.forward((x[:, start:stop, ...], *state))
        parts.append(backend.host(y))
    assert_close(whole, np.concatenate(parts, axis=1), backend)
    (_, *after), _ = model.forward((x, *net.initial_state(4, x)))
    for a, b in zip(state, after):
        assert_close(a, backend.host(b), backend, dtype=dtype)


@pytest.mark.parametrize("kind", MAKE)
def test_truncated_backpropagation(kind):
    """With 0 for the gradient of the state that goes out, a part's gradient is that of the part alone, as PyTorch's with a detached state.
    Handing back what the later part says of its first state instead gives the gradient of the whole.
    """
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    theirs = torch_of(torch, kind, 2, 3)
    layer = MAKE[kind](2, 3)
    model = xn.Model(layer, dtype="float64")
    for name, value in from_torch(theirs, layer).items():
        model.set_param(name, value)
    x, dy = rng.standard_normal((4, 6, 2)), rng.standard_normal((4, 6, 3))
    _, backward = model.forward(x)
    whole = backward(dy).copy()

    (_, *state), back_1 = model.forward((x[:, :4], *layer.initial_state(4, x)))
    _, back_2 = model.forward((x[:, 4:], *state))
    zeros = [np.zeros_like(s) for s in state]
    (_, *dstate), g2 = back_2((dy[:, 4:], *zeros), True)
    g2 = g2.copy()
    truncated = back_1((dy[:, :4], *zeros)).copy() + g2
    handed = back_1((dy[:, :4], *dstate)).copy() + g2
    np.testing.assert_allclose(handed, whole, rtol=1e-10, atol=1e-12)
    assert np.max(np.abs(truncated - whole)) > 1e-3       # it is another gradient

    out, state = theirs(torch.tensor(x[:, :4]))
    (out * torch.tensor(dy[:, :4])).sum().backward()
    state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
    out, _ = theirs(torch.tensor(x[:, 4:]), state)
    (out * torch.tensor(dy[:, 4:])).sum().backward()      # PyTorch adds it
    for name, value in torch_grads(theirs, layer).items():
        slot = model.layout.slot(name)
        np.testing.assert_allclose(truncated[slot.start:slot.stop].reshape(value.shape), value, rtol=1e-10, atol=1e-12)


def test_initial_state(backend, dtype):
    net = xn.Stacked(xn.LSTM(2, 3), xn.Bidirectional(xn.GRU(3, 4), xn.RNN(3, 5)))
    model = backend.model(net, dtype)
    state = net.initial_state(7, model.params)
    for a, k in zip(state, (3, 3, 4, 5), strict=True):
        assert_close(a, np.zeros((7, k)), backend, dtype=dtype)


# The gradient check, on every layer and kind of input.

@pytest.mark.float64
@pytest.mark.parametrize("kind", MAKE)
def test_gradient_check(kind, backend):
    rng = np.random.default_rng(2)
    x, lengths = backend.asarray(rng.standard_normal((3, 2, 1))), backend.asarray(np.array([2, 0, 1]))
    for net in (MAKE[kind](1, 2), xn.Bidirectional(MAKE[kind](1, 1, last=True), MAKE[kind](1, 1, last=True))):
        state = tuple(backend.asarray(rng.standard_normal((3, k))) for k in net.state_features)
        report = xn.gradient_check(net, (x, *state, lengths))
        assert report.ok, report


@pytest.mark.parametrize("kind", MAKE)
def test_gradient_check_sees_a_wrong_step(kind):
    """The test of the test: a step whose gradient is a little wrong."""
    layer = MAKE[kind](2, 3)

    class Wrong(type(layer)):
        def steps(self, params, X, start, time, xp):
            states, back = super().steps(params, X, start, time, xp)

            def wrong(arriving, input_grad, start_grad):
                dX, dstart, grads = back(arriving, input_grad, start_grad)
                return dX, dstart, grads | {"U": grads["U"] * 1.001}

            return states, wrong

    layer.__class__ = Wrong
    report = xn.gradient_check(layer, np.random.default_rng(0).standard_normal((2, 3, 2)))
    assert not report.ok and report.first_wrong.parameter == "U"


# Products with the gates.

@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_block_products(blocks, backend, dtype):
    rng = np.random.default_rng(0)
    A, W = rng.standard_normal((5, 3)), rng.standard_normal((3, 2 * blocks))
    for make in (block_products, block_products_plain):
        found = make(backend.xp, backend.asarray(W, dtype), blocks)(backend.asarray(A, dtype))
        assert len(found) == blocks
        for j, product in enumerate(found):
            assert_close(product, A @ W[:, 2 * j:2 * j + 2], backend, rtol=1e-5 if dtype == "float32" else 1e-12, dtype=dtype)
            product += 1.0                                # it may be written into


# What they start from, cost, and refuse.

def test_each_gate_is_drawn_by_itself():
    for layer, gates in ((xn.LSTM(6, 5), 4), (xn.GRU(6, 5), 3), (xn.RNN(6, 5), 1)):
        params = layer.initial_params(0)
        limit = np.sqrt(6 / 11)                           # Glorot's for 6 inputs and 5 outputs
        assert 0.8 * limit < np.max(np.abs(params["W"])) <= limit
        for U in np.split(params["U"], gates, axis=1):
            np.testing.assert_allclose(U.T @ U, np.eye(5), atol=1e-12)
    b = xn.LSTM(2, 3).initial_params(0)["b"]
    np.testing.assert_array_equal(b, [0] * 3 + [1] * 3 + [0] * 6)
    np.testing.assert_array_equal(xn.LSTM(2, 3, forget_bias=0.5).initial_params(0)["b"][3:6], [0.5] * 3)
    np.testing.assert_array_equal(xn.LSTM(2, 3, bias_init="ones").initial_params(0)["b"], np.ones(12))
    W = np.arange(24.0).reshape(2, 12)
    np.testing.assert_array_equal(xn.LSTM(2, 3, init=W).initial_params(0)["W"], W)


@pytest.mark.parametrize("kind, gates", [("RNN", 1), ("LSTM", 4), ("GRU", 3)])
def test_summary_counts_the_products(kind, gates):
    n, time, d, k = 8, 7, 5, 6
    layer = MAKE[kind](d, k, last=True)
    summary = xn.Model(xn.Sequential(layer, xn.Dense(k, 2))).summary((time, d), batch_size=n)
    row = summary.rows[0]
    assert row.output_shape == (n, k) and row.params == xn.Model(layer).layout.size
    products = [sum(op.flops for op in ops if op.name == "matmul") for ops in (row.forward, row.backward)]
    forward = 2 * n * time * (d + k) * gates * k
    # Backward: as many for W and U, and for the state before each step but the first; none for the network's input.
    assert products == [forward, forward + 2 * n * (time - 1) * gates * k * k]
    kept = {"RNN": (time + 1) * k + time * d, "LSTM": 2 * (time + 1) * k + 5 * time * k + time * d, "GRU": (time + 1) * k + 4 * time * k + time * d}
    assert row.cached_bytes == pytest.approx(4 * n * kept[kind], rel=0.05)
    assert summary.peak_bytes >= row.cached_bytes
    model = xn.Model(layer)
    padded = model.summary(((time, d), *((k,) for _ in layer.state_features), ()), n, ("float32",) * (1 + len(layer.state_features)) + ("int64",))
    assert padded.rows[0].output_shape == ((n, k),) * (1 + len(layer.state_features))
    with pytest.raises(ValueError, match="one for each array of x"):
        model.summary(((time, d), ()), n, ("float32", "int64", "int64"))


def test_errors():
    rng = np.random.default_rng(0)
    x, h = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 5))
    layer = xn.GRU(4, 5)

    def run(*given, net=layer):
        xn.Model(net, dtype="float64").forward(given if len(given) > 1 else given[0])

    for given, words in (
            ((x[:, 0],), r"takes x of shape \(batch, time, 4\), got \(2, 4\)"),
            ((x[:, :, :3],), r"takes x of shape \(batch, time, 4\), got \(2, 3, 3\)"),
            ((x[:, :0],), r"takes x of shape \(batch, time, 4\), got \(2, 0, 4\)"),
            ((x, h, h), r"carries a state of 1 arrays, got 2 beside x"),
            ((x, h[:1]), r"takes a state of \(2, 5\) floating numbers, got \(1, 5\)"),
            ((x, h, np.array([1, 2, 3])), r"takes lengths of shape \(2,\), one a sequence, got \(3,\)")):
        with pytest.raises(LayerError, match=words):
            run(*given)
    with pytest.raises(LayerError, match=r"layer 1 \(LSTM\(5, 2\)\) carries a state of 2 arrays, got 1"):
        run(x, net=xn.Sequential(Beside(), xn.LSTM(5, 2)))
    with pytest.raises(LayerError, match="has parameters of dtype float64, got x of dtype float32"):
        layer.forward(layer.initial_params(), x.astype(np.float32), xn.Context(np))
    with pytest.raises(LayerError, match="has parameters of dtype float64, got a state of dtype float32"):
        layer.forward(layer.initial_params(), (x, h.astype(np.float32)), xn.Context(np))
    with pytest.raises(ValueError, match="unknown RNN activation 'tanhh'; did you mean 'tanh'"):
        xn.RNN(2, 3, "tanhh")
    with pytest.raises(ValueError, match="LSTM: hidden_features is an integer from 1 on, got 0"):
        xn.LSTM(2, 0)
    with pytest.raises(ValueError, match="unknown initializer 'gloro'"):
        xn.LSTM(2, 3, init="gloro")
    with pytest.raises(TypeError, match="takes two recurrent layers"):
        xn.Bidirectional(xn.GRU(2, 3), xn.Dense(2, 3))
    with pytest.raises(ValueError, match="both give all states or both the last one"):
        xn.Bidirectional(xn.GRU(2, 3), xn.GRU(2, 3, last=True))
    with pytest.raises(ValueError, match=r"takes 4 features, but layer 0 \(GRU\(2, 3\)\) gives 3"):
        xn.Stacked(xn.GRU(2, 3), xn.GRU(4, 3))
    assert repr(xn.RNN(2, 3, "relu", last=True, bias=False)) == "RNN(2, 3, 'relu', last=True, bias=False)"
    assert repr(xn.Bidirectional(xn.GRU(2, 3), xn.GRU(2, 3))) == "Bidirectional(GRU(2, 3), GRU(2, 3))"


class Beside(xn.Layer):
    """(x, h): one state where an LSTM carries two."""

    def forward(self, params, x, ctx):
        return (x, x[:, 0, :2]), None


def test_copies_and_pickles():
    model = model_of(xn.Sequential(xn.RNN(2, 3, "relu"), xn.LSTM(3, 2, last=True)))
    x = np.random.default_rng(0).standard_normal((3, 4, 2))
    y, _ = model.forward(x)
    for again in (copy.deepcopy(model.net), pickle.loads(pickle.dumps(model.net))):
        other = xn.Model(again, dtype="float64")
        other.params = model.params
        np.testing.assert_array_equal(other.forward(x)[0], y)


# Within a model.

def test_fit_and_predict_with_lengths(backend):
    """Which of two symbols came first, in sequences of different lengths; batch by batch the answer is that of all at once."""
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((96, 6, 2)), rng.integers(1, 7, 96)
    t = (x[:, 0, 0] > 0).astype(np.int64)
    model = backend.model(xn.Sequential(xn.GRU(2, 8, last=True), xn.Dense(8, 2)), "float32", seed=1)
    if backend.readonly:
        return                                            # fit writes into the parameters
    history = xn.fit(model, xn.SoftmaxCrossEntropy(), xn.Adam(0.02), ((x, lengths), t), validation=((x, lengths), t), epochs=3, batch_size=16,
                     metrics=["accuracy"], progress=False)
    assert history["loss"][-1] < history["loss"][0]
    y = model.predict((x.astype(np.float32), lengths), batch_size=10)
    np.testing.assert_allclose(y, model.predict((x.astype(np.float32), lengths), batch_size=None), rtol=1e-4, atol=1e-5)


@pytest.mark.full
def test_an_lstm_remembers():
    """The first of 40 numbers, after 39 others."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((512, 40, 1)).astype(np.float32)
    model = xn.Model(xn.Sequential(xn.LSTM(1, 16, last=True, forget_bias=4.0), xn.Dense(16, 1)), seed=0)
    history = xn.fit(model, xn.MeanSquaredError(), xn.Adam(0.01), (x, x[:, 0]), epochs=60, batch_size=32, progress=False)
    assert history["loss"][-1] < 0.05, history["loss"][-1]


def test_mixed_precision():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 5, 3)).astype(np.float32)
    net = xn.Sequential(xn.Bidirectional(xn.LSTM(3, 4), xn.GRU(3, 4)), xn.RNN(8, 4, last=True))
    wide, mixed = xn.Model(net, seed=0), xn.Model(net, dtype="mixed", seed=0)
    y, back = wide.forward(x)
    y_mixed, back_mixed = mixed.forward(x)
    np.testing.assert_allclose(y_mixed, y, atol=5e-3)
    np.testing.assert_allclose(back_mixed(1e-2 * y), back(1e-2 * y), atol=2e-4)


@pytest.mark.parametrize("kind", MAKE)
def test_explain_shows_a_long_sequence_by_its_first_and_last_steps(kind):
    rng = np.random.default_rng(0)
    for given in ((rng.standard_normal((2, 20, 1)),), (rng.standard_normal((2, 20, 1)), np.array([20, 7]))):
        model = model_of(MAKE[kind](1, 2))
        x = given if len(given) > 1 else given[0]
        e = explain(model, xn.MeanSquaredError(), x, rng.standard_normal((2, 20, 2)))
        for line in e.lines():
            assert line.apart < 1e-10 and (not line.check or line.check.error < 1e-6), line
        shown = {line.symbol.text for line in e.lines()}
        assert {"h₁", "h₂", "h₂₀", "∂L/∂h₂₀", "∂L/∂h₁", "∂L/∂W", "∂L/∂U", "∂L/∂b"} <= shown and "h₃" not in shown and "∂L/∂h₁₉" not in shown
        assert "steps 3 to 19 are alike and not shown" in e.text()

"""Where a step's time goes: exactly, by a clock that only what is tested moves; and on the real one without any absolute time."""

import json
import math
import time

import numpy as np
import pytest

import xpnet as xn
from xpnet import profiling
from xpnet.backend.abstract import Op
from xpnet.layer import Layer
from xpnet.profiling import Machine, bandwidth, gemm_rate, measure, profile

MACHINE = Machine("a machine", {"float32": 1e9, "float64": 1e9}, {1000: 4e9, 1000000: 1e9})
X, LABELS = np.random.default_rng(0).standard_normal((6, 4)), np.array([0, 1, 2, 0, 1, 2])
TARGETS = np.random.default_rng(1).standard_normal((6, 3))


def quick(model, loss, optimizer, x, t, weights=None, **options):
    return profile(model, loss, optimizer, x, t, weights, **{"steps": 2, "warmup": 1, "machine": MACHINE, **options})


# A clock that stands still but where these move it.

class Hand:
    def __init__(self, monkeypatch):
        self.seconds = 0.0
        monkeypatch.setattr(profiling, "now", lambda: self.seconds)


class Ticking(Layer):
    """x, after some seconds."""

    keeps_features = True

    def __init__(self, hand, forward, backward):
        self.hand, self.of_forward, self.of_backward = hand, forward, backward

    def forward(self, params, x, ctx):
        self.hand.seconds += self.of_forward

        def backward(dy, input_grad=True):
            self.hand.seconds += self.of_backward
            return dy, {}

        return 1.0 * x, backward


class TickingSequential(xn.Sequential):
    """A container that takes time itself, before and after its layers."""

    def __init__(self, hand, *layers):
        self.hand = hand
        super().__init__(*layers)

    def forward(self, params, x, ctx):
        self.hand.seconds += 100.0
        y, back = super().forward(params, x, ctx)
        self.hand.seconds += 200.0

        def backward(dy, input_grad=True):
            self.hand.seconds += 400.0
            return back(dy, input_grad)

        return y, backward


def ticking(hand, base, method, seconds):
    class Slow(base):
        pass

    def slow(self, *args):
        hand.seconds += seconds
        return getattr(base, method)(self, *args)

    setattr(Slow, method, slow)
    return Slow


@pytest.fixture
def hand(monkeypatch):
    return Hand(monkeypatch)


def test_each_part_has_its_own_time(backend, hand):
    net = xn.Sequential(xn.Dense(4, 3), Ticking(hand, 1.0, 2.0), TickingSequential(hand, Ticking(hand, 4.0, 8.0), xn.Tanh()),
                        xn.Residual(Ticking(hand, 16.0, 32.0)))
    loss, optimizer = ticking(hand, xn.MeanSquaredError, "value_and_grad", 1000.0)(), ticking(hand, xn.SGD, "update", 2000.0)(0.1)
    p = quick(backend.model(net), loss, optimizer, X, TARGETS)
    found = {(row.kind, row.path): (row.forward and row.forward.seconds, row.backward and row.backward.seconds, row.total.seconds)
             for row in p.rows}
    assert found == {("layer", "0"): (0.0, 0.0, 0.0), ("layer", "1"): (1.0, 2.0, 3.0), ("layer", "2.0"): (4.0, 8.0, 12.0),
                     ("layer", "2.1"): (0.0, 0.0, 0.0), ("container", "3"): (0.0, 0.0, 0.0), ("layer", "3.0"): (16.0, 32.0, 48.0),
                     ("loss", ""): (None, None, 1000.0), ("gradients", ""): (None, None, 0.0), ("optimizer", ""): (None, None, 2000.0),
                     ("remainder", ""): (None, None, 700.0)}   # a container without operations has no line of its own
    assert p.seconds == p.step_seconds == 3763.0 and p.steps == 2
    assert {path: (s.forward, s.backward) for path, s in p.spans.items() if path in ("", "2", "3")} == \
        {"": (321.0, 442.0), "2": (304.0, 408.0), "3": (16.0, 32.0)}


def test_what_a_checkpoint_runs_again_is_backward_time(backend, hand):
    net = xn.Sequential(xn.Dense(4, 3), xn.Checkpoint(Ticking(hand, 1.0, 2.0)))
    row = next(r for r in quick(backend.model(net), xn.MeanSquaredError(), xn.SGD(0.1), X, TARGETS).rows if r.path == "1.0")
    assert (row.forward.seconds, row.backward.seconds) == (1.0, 3.0)


def test_a_layer_in_two_places_has_two_lines(backend, hand):
    twice = Ticking(hand, 1.0, 2.0)
    p = quick(backend.model(xn.Sequential(xn.Dense(4, 3), twice, xn.Tanh(), twice)), xn.MeanSquaredError(), xn.SGD(0.1), X, TARGETS)
    assert [r.total.seconds for r in p.rows if r.path in ("1", "3")] == [3.0, 3.0]


def test_the_median_of_the_steps_counts(backend, hand):
    layer = Ticking(hand, 0.0, 0.0)
    model = backend.model(xn.Sequential(xn.Dense(4, 3), layer))
    forward, passes = layer.forward, iter([0.0, *[9.0, 9.0], *[5.0, 1.0], *[2.0, 4.0], *[3.0, 2.0], *[0.0] * 9])   # checked; warmed up; three

    def slower(*args):
        layer.of_forward = next(passes)
        return forward(*args)

    layer.forward = slower
    p = quick(model, xn.MeanSquaredError(), xn.SGD(0.1), X, TARGETS, steps=3)
    assert next(r for r in p.rows if r.path == "1").forward.seconds == 2.0 and p.step_seconds == 3.0


def test_the_device_is_waited_for_at_each_boundary(backend, monkeypatch):
    model, waits = backend.model(xn.Sequential(xn.Dense(4, 3), xn.Tanh())), []
    monkeypatch.setattr(model.backend, "synchronize", lambda: waits.append(1))
    quick(model, xn.MeanSquaredError(), xn.SGD(0.1), X, TARGETS, steps=1, warmup=0)
    parts = 2 * 3 + 3                                     # both passes of the network and its two layers; loss, gradients, optimizer
    assert len(waits) == 2 + 2 + 2 * parts                # a step without timers, and one with them


# On the real clock.

class Sleeping(Layer):
    keeps_features = True

    def forward(self, params, x, ctx):
        time.sleep(0.02)

        def backward(dy, input_grad=True):
            time.sleep(0.02)
            return dy, {}

        return 1.0 * x, backward


def test_the_slow_layer_is_the_largest(backend):
    p = quick(backend.model(xn.Sequential(xn.Dense(4, 3), xn.Tanh(), Sleeping())), xn.SoftmaxCrossEntropy(), xn.Adam(), X, LABELS)
    largest = max(p.rows, key=lambda row: row.total.seconds)
    assert largest.path == "2" and largest.forward.seconds >= 0.02 <= largest.backward.seconds
    assert largest.total.seconds >= 0.04 and p.step_seconds >= 0.04


NETWORKS = {
    "one layer": (lambda: xn.Dense(4, 3), X, LABELS, xn.SoftmaxCrossEntropy()),
    "dropout and batch norm": (lambda: xn.Sequential(xn.Dense(4, 8, "relu"), xn.BatchNorm(8), xn.Dropout(0.5), xn.Residual(xn.Dense(8, 8)),
                                                     xn.Dense(8, 3)), X, LABELS, xn.SoftmaxCrossEntropy()),
    "branches": (lambda: xn.Sequential(xn.Parallel(xn.Dense(4, 2), xn.Dense(4, 2), split=True), xn.Parallel(xn.Tanh(), xn.Identity(),
                                                                                                           split=True)),
                 (X, X[::-1].copy()), np.array([0, 1, 1, 0, 1, 1]), xn.Contrastive()),
    "recurrent": (lambda: xn.Stacked(xn.LSTM(2, 3), xn.Bidirectional(xn.GRU(3, 2, last=True), xn.RNN(3, 1, last=True))),
                  (X.reshape(6, 2, 2), np.array([2, 1, 2, 2, 0, 1])), LABELS, xn.SoftmaxCrossEntropy()),
    "transformer": (lambda: xn.Sequential(xn.Embedding(5, 4), xn.Decoder(xn.DecoderBlock(4, 2, dropout=0.1)), xn.Dense(4, 5)),
                    np.arange(12).reshape(4, 3) % 5, np.arange(12).reshape(4, 3) % 4, xn.SoftmaxCrossEntropy(ignore_index=0)),
    "images": (lambda: xn.Sequential(xn.Conv2D(1, 2, 2, activation="relu"), xn.MaxPool2D(2), xn.Flatten(), xn.Dense(2, 3)),
               np.ones((6, 1, 3, 3)), LABELS, xn.SoftmaxCrossEntropy()),
    "sequence labels": (lambda: xn.Sequential(xn.RNN(2, 3)), np.ones((3, 4, 2)), np.array([[1, 2], [2, 0], [0, 0]]), xn.CTC()),
    "checkpoint": (lambda: xn.Sequential(xn.Checkpoint(xn.Dense(4, 4), xn.Dropout(0.5)), xn.WeightNorm(xn.Dense(4, 3))), X, LABELS,
                   xn.SoftmaxCrossEntropy()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_are_within_the_whole_and_counts_are_those_of_the_summary(backend, name):
    net, x, t, loss = NETWORKS[name]
    model = backend.model(net())
    p = quick(model, loss, xn.Adam(1e-3), x, t)
    assert not p.uncounted and p.seconds > 0.0 < p.step_seconds
    assert math.isclose(p.seconds, sum(row.total.seconds for row in p.rows))
    assert all(0.0 <= row.total.seconds <= p.seconds and row.total.floor >= 0.0 for row in p.rows)
    assert all(math.isclose(row.forward.seconds + row.backward.seconds, row.total.seconds) for row in p.rows if row.forward)
    for path, span in p.spans.items():
        inside = [s for other, s in p.spans.items() if other and other.rpartition(".")[0] == path]
        assert sum(s.forward for s in inside) <= span.forward * (1 + 1e-9) and sum(s.backward for s in inside) <= span.backward * (1 + 1e-9)
    shapes, dtypes = ([f(a) for a in x] if isinstance(x, tuple) else f(x) for f in
                      (lambda a: a.shape[1:], lambda a: "int64" if a.dtype.kind == "i" else None))
    counted = model.summary(shapes, batch_size=t.shape[0], input_dtype=dtypes).rows
    assert [(r.path, r.forward.flops, r.backward.flops) for r in p.rows if r.forward] == \
        [(r.path, r.flops_forward, r.flops_backward) for r in counted]
    assert {r.path for r in counted} <= set(p.spans)


def test_the_optimizer_and_the_loss_are_counted():
    rows = {row.kind: row.total for row in quick(xn.Model(xn.Dense(4, 3)), xn.SoftmaxCrossEntropy(), xn.SGD(0.1), X, LABELS).rows}
    assert rows["optimizer"].flops == 2 * 15 and rows["gradients"].bytes == 2 * 4 * 15 and rows["loss"].flops > 0
    assert rows["layer"].floor == pytest.approx(MACHINE.floor([Op("matmul", 18, 144, 4 * (24 + 12 + 18)), Op("rule", 18, 18, 4 * 39),
                                                               Op("matmul", 12, 144, 4 * 54), Op("sum", 3, 18, 4 * 21)]))


# Nothing is changed.

def host(model, value):
    return np.array(model.backend.to_host(value))


def everything(model, optimizer):
    """All that training changes."""
    vectors = [model.params, model.grads, *model.state.values(), *optimizer.state.values()]
    if model.mixed is not None:
        vectors += [model.mixed.half, model.mixed.scale, model.mixed.good, model.mixed.finite]
    return [host(model, v) for v in vectors], (model.step, model.epoch, model.version, model.link, optimizer.t)


def train(model, optimizer, steps):
    x, t, loss = model.asarray(X), model.asarray(LABELS), xn.SoftmaxCrossEntropy()
    for _ in range(steps):
        y, backward = model.forward(x)
        backward(loss(y, t)[1])
        optimizer.step(model)


@pytest.mark.parametrize("optimizer", [lambda: xn.SGD(0.1), lambda: xn.Adam(0.1, clip=xn.ClipNorm(1.0)), lambda: xn.NAdam(0.1)])
@pytest.mark.parametrize("trained", [0, 3])
def test_profiling_changes_nothing(backend, optimizer, trained):
    net = NETWORKS["dropout and batch norm"][0]
    twins = [(backend.model(net()), optimizer()) for _ in range(2)]
    for model, opt in twins:
        train(model, opt, trained)
    model, opt = twins[0]
    before, kept_state, arrays = everything(model, opt), model.state, dict(model.state)
    y, backward = model.forward(model.asarray(X))
    p = quick(model, xn.SoftmaxCrossEntropy(), opt, X, LABELS)
    assert "Dropout" in str(p)
    after = everything(model, opt)
    assert after[1] == before[1] and (opt._for is model if trained else opt._for is None)
    for a, b in zip(after[0], before[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.state is kept_state and all(model.state[b] is a for b, a in arrays.items())
    backward(xn.SoftmaxCrossEntropy()(y, model.asarray(LABELS))[1])   # of before: the parameters are those that it was made with
    opt.step(model)
    train(model, opt, 3)
    train(*twins[1], 4)
    for a, b in zip(everything(model, opt)[0], everything(*twins[1])[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_mixed_precision(backend):
    if backend.name.startswith("strict"):
        pytest.skip("no float16")
    model, optimizer = backend.model(xn.Sequential(xn.Dense(4, 3), xn.Dropout(0.5)), "mixed"), xn.Adam()
    train(model, optimizer, 2)
    before = everything(model, optimizer)
    p = quick(model, xn.SoftmaxCrossEntropy(), optimizer, X, LABELS)
    assert not p.uncounted and p.rows[-1].total.bytes > 0   # casts are part of the remainder
    after = everything(model, optimizer)
    assert after[1] == before[1]
    for a, b in zip(after[0], before[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_that_fails_changes_nothing(backend):
    def fail(step):
        if step:
            raise RuntimeError("on purpose")
        return 0.1

    model, optimizer = backend.model(xn.Sequential(xn.Dense(4, 3), xn.BatchNorm(3))), xn.Momentum(fail)
    before = everything(model, optimizer)
    with pytest.raises(RuntimeError, match="on purpose"):
        quick(model, xn.SoftmaxCrossEntropy(), optimizer, X, LABELS)
    after = everything(model, optimizer)
    assert after[1] == before[1]
    for a, b in zip(after[0], before[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_sample_weights_and_data_on_the_device(backend):
    model = backend.model(xn.Dense(4, 3))
    host_side = quick(model, xn.SoftmaxCrossEntropy(), xn.SGD(0.1), X, LABELS, np.ones(6))
    device_side = quick(model, xn.SoftmaxCrossEntropy(), xn.SGD(0.1), *(backend.asarray(a, dtype) for a, dtype in (
        (X, "float32"), (LABELS, None), (np.ones(6), "float32"))))
    assert host_side.total.flops == device_side.total.flops > quick(model, xn.SoftmaxCrossEntropy(), xn.SGD(0.1), X, LABELS).total.flops


# What cannot be counted, and what cannot be timed.

class Reading(Layer):
    """Looks at a number of x, which a dry run has none of."""

    def forward(self, params, x, ctx):
        factor = 2.0 if float(x[0, 0]) > 0.0 else 1.0
        return factor * x, lambda dy, input_grad=True: (factor * dy, {})


def test_a_layer_that_cannot_be_counted_is_timed():
    p = quick(xn.Model(xn.Sequential(xn.Dense(4, 3), Reading())), xn.MeanSquaredError(), xn.SGD(0.1), X, TARGETS)
    assert "a dry run has no numbers" in p.uncounted and f"not known: {p.uncounted}" in str(p)
    assert p.total.seconds > 0.0 and p.total.flops == 0 and [row.path for row in p.rows if row.kind == "layer"] == ["0", "1"]
    json.dumps(p.to_dict())


MODEL, LOSS, SGD = xn.Model(xn.Dense(4, 3)), xn.SoftmaxCrossEntropy(), xn.SGD(0.1)


def of_another():
    optimizer = xn.Adam()
    train(xn.Model(xn.Dense(4, 3)), optimizer, 2)
    return optimizer


@pytest.mark.parametrize("call, error, message", [
    (lambda: profile(xn.Dense(4, 3), LOSS, SGD, X, LABELS), TypeError, "profile takes an instance of Model as model, got Dense"),
    (lambda: profile(MODEL, xn.SoftmaxCrossEntropy, SGD, X, LABELS), TypeError, r"as loss, .*; write SoftmaxCrossEntropy\(\.\.\.\)"),
    (lambda: profile(MODEL, LOSS, "sgd", X, LABELS), TypeError, "profile takes an instance of Optimizer as optimizer, got 'sgd'"),
    (lambda: profile(MODEL, LOSS, SGD, X, LABELS[:5]), ValueError, "profile: .* different lengths, 6, 5"),
    (lambda: profile(MODEL, LOSS, SGD, X[:, :3], LABELS), xn.LayerError, r"takes x of shape \(batch, 4\), got \(1, 3\)"),
    (lambda: profile(MODEL, LOSS, SGD, X, LABELS + 1), ValueError, "0 to 2"),
    (lambda: profile(MODEL, LOSS, SGD, np.where(X > 0.0, np.nan, X), LABELS), ValueError, "profile: x"),
    (lambda: profile(MODEL, LOSS, SGD, X, LABELS, steps=0), ValueError, "profile: steps is an integer from 1 on, got 0"),
    (lambda: profile(MODEL, LOSS, SGD, X, LABELS, warmup=-1), ValueError, "profile: warmup is an integer from 0 on, got -1"),
    (lambda: profile(MODEL, LOSS, SGD, X, LABELS, machine="H100"), TypeError, "machine is a Machine, as measure.*got 'H100'"),
    (lambda: profile(MODEL, LOSS, of_another(), X, LABELS), ValueError, "this Adam has the state of another model after 2 steps"),
    (lambda: bandwidth(nbytes=0), ValueError, "nbytes is an integer from 1 on, got 0"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# The machine, and how it is said.

def test_the_floor_by_hand():
    product, copy = Op("matmul", 100, 2000, 800), Op("add", 100, 100, 800)
    assert MACHINE.bandwidth(1) == MACHINE.bandwidth(1000) == 4e9 and MACHINE.bandwidth(1001) == MACHINE.bandwidth(10 ** 9) == 1e9
    assert MACHINE.floor([product]) == pytest.approx(2000 / 1e9)              # bound by arithmetic
    assert MACHINE.floor([copy]) == pytest.approx(800 / 4e9)                  # FLOPs of what is no product do not count
    assert MACHINE.floor([product._replace(flops=10), copy]) == pytest.approx(2 * 800 / 4e9)
    assert MACHINE.floor([product._replace(dtype="int64")]) == pytest.approx(2000 / 1e9)
    slower_when_small = Machine("", {"float32": 1.0}, {1: 1e9, 100: 3e9, 10000: 2e9})   # a start dearer than the work
    assert [slower_when_small.bandwidth(n) for n in (1, 50, 101, 20000)] == [3e9, 3e9, 2e9, 2e9]


def test_rates_are_measured(backend, monkeypatch):
    monkeypatch.setattr(profiling, "SIZES", (2 ** 10, 2 ** 14))
    monkeypatch.setattr(profiling, "LARGEST_PRODUCT", 128)
    found = measure(backend.backend, ("float32",))
    assert found.name == backend.backend.name and list(found.products) == ["float32"] and list(found.copies) == [2 ** 10, 2 ** 14]
    assert all(0.0 < rate < 1e18 for rate in (*found.products.values(), *found.copies.values()))
    assert gemm_rate(backend.backend, backend.widest, seconds=0.0) > 0.0 < bandwidth(backend.backend, 100, seconds=0.0)
    p = profile(backend.model(xn.Dense(4, 3)), LOSS, xn.SGD(0.1), X, LABELS, steps=1, warmup=0)   # measures them itself
    assert list(p.machine.products) == ["float32"] and p.machine.name == found.name


def test_table_and_dictionary():
    model = xn.Model(xn.Sequential(xn.Dense(4, 3, "relu"), xn.Residual(xn.Dense(3, 3))))
    p = quick(model, xn.SoftmaxCrossEntropy(), xn.SGD(0.1), X, LABELS)
    lines = str(p).splitlines()
    assert lines[0].endswith("SoftmaxCrossEntropy(), SGD(0.1), batch of 6, numpy, float32")
    assert [line.split("  ")[0] for line in lines[4:7]] == ["0", "1", "1.0"] and "Dense(4, 3, ReLU())" in lines[4]
    assert [line.split("  ")[0].strip() for line in lines[7:11]] == [""] * 4 and "optimizer" in lines[9] and "remainder" in lines[10]
    assert "100.0 %" in lines[12] and "A step without timers takes" in lines[14] and "1.0 GFLOP/s (float32)" in lines[15]
    made = json.loads(json.dumps(p.to_dict()))
    assert [row["kind"] for row in made["rows"]] == ["layer", "container", "layer", "loss", "gradients", "optimizer", "remainder"]
    assert made["seconds"] == p.seconds and made["rows"][0]["forward"]["flops"] == p.rows[0].forward.flops
    assert made["spans"]["1"]["forward"] == p.spans["1"].forward and made["machine"]["copies"] == {"1000": 4e9, "1000000": 1e9}
    work = p.rows[0].total
    assert work.rate == pytest.approx(work.flops / work.seconds) and work.share == pytest.approx(work.floor / work.seconds)

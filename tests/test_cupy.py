"""On CuPy: nothing hidden, and few, large launches. Counted by the emulated device (ci/cuda_on_cpu), which has no CUB: on a GPU some
reductions are another number of launches. What needs no counter runs on a GPU too."""

import contextlib
import importlib
import os
import pathlib
import pkgutil
import runpy
import subprocess
import sys

import numpy as np
import pytest
from cases import ACTIVATIONS, LAYERS, arrays, each
from cases import draw as draw_input
from conftest import STATE, Bench
from test_examples import small_mnist  # noqa: F401 (a fixture)
from test_losses import ALL as LOSSES
from test_losses import draw
from test_losses import make as make_loss
from test_optim import SCHEDULES
from test_sequence_losses import LOSSES as SEQUENCE_LOSSES
from test_sequence_losses import draw as draw_sequence

import xpnet
from xpnet import (
    SGD,
    Adam,
    AdamW,
    ClipNorm,
    ClipValue,
    Dense,
    Dropout,
    LearningRate,
    Loss,
    Model,
    Momentum,
    Optimizer,
    Plateau,
    Sequential,
    SoftmaxCrossEntropy,
    fit,
)
from xpnet.backend import Rule, kind
from xpnet.data import Batches
from xpnet.optim import Schedule

pytestmark = pytest.mark.skipif(STATE["cupy"] is not None, reason=str(STATE["cupy"]))

WORK = {"kernel_launches", "kernel_threads", "blas_calls", "d2d_copies", "d2d_bytes"}   # what a step is made of, and nothing else
FILLED = {"memsets", "memset_bytes"}                      # filling with 0 on the device
WAITS = ("stream_syncs", "device_syncs", "event_syncs")
WARMUP = 8                                                # RAdam's fifth step is its first with another rule


@pytest.fixture
def emulator():
    """The emulated device's counters."""
    cuda_on_cpu = pytest.importorskip("cuda_on_cpu", reason="only the emulated device counts")
    try:
        cuda_on_cpu.counters()
    except RuntimeError:
        pytest.skip("only the emulated device counts, and it is not on")
    return cuda_on_cpu


def count(emulator, step, steps=2):
    """The counters of a step in steady state that are not 0."""
    for _ in range(WARMUP):
        step()
    emulator.reset()
    for _ in range(steps):
        step()
    return {name: n / steps for name, n in emulator.counters().items() if n}


def array(x, dtype="float32"):
    """On the device; numbers in the dtype, classes as they are."""
    x = np.asarray(x)
    return Bench("cupy").asarray(x, dtype if x.dtype.kind == "f" else None)


def normal(shape, dtype="float32", seed=0):
    return array(np.random.default_rng(seed).standard_normal(shape), dtype)


def layer_step(name, dtype="float32", optimizer=None):
    """A training step of one layer of cases.py, the gradient of its input included."""
    make, shape = LAYERS[name]
    x = each(lambda a: array(a, dtype), draw_input(shape, np.random.default_rng(0)))
    model, optimizer = Model(make(), "cupy", dtype), optimizer or SGD(0.1)

    def step():
        y, backward = model.forward(x)
        _, grads = backward(y, input_grad=True)           # y for ∂L/∂y: numbers of the right shape
        if model.layout.size:
            optimizer.step(model, grads)

    return step


def loss_step(name, weighted=False, dtype="float32"):
    loss_fn, (y, t) = make_loss(name), draw(name)
    y, t = array(y, dtype), array(t, dtype)
    weights = array(np.linspace(0.5, 1.5, y.shape[0]), dtype) if weighted else None
    return lambda: loss_fn(y, t, weights)


def sequence_loss_step(name, weighted=False, dtype="float32"):
    loss_fn, (y, t) = SEQUENCE_LOSSES[name][0]("sum"), draw_sequence(name)
    y, t = each(lambda a: array(a, dtype), y), array(t, dtype)
    weights = array(np.linspace(0.5, 1.5, len(t)), dtype) if weighted else None
    return lambda: loss_fn(y, t, weights)


def network_step(optimizer, sizes=(784, 256, 128, 10), batch=128, dtype="float32", dropout=None):
    a, b, c, d = sizes
    layers = [Dense(a, b, "relu"), Dense(b, c, "relu"), Dense(c, d)]
    model = Model(Sequential(*layers[:2], *([Dropout(dropout)] if dropout else []), layers[2]), "cupy", dtype)
    loss_fn, x = SoftmaxCrossEntropy(), normal((batch, a), model.dtype)
    t = array(np.random.default_rng(0).integers(0, d, batch))

    def step():
        y, backward = model.forward(x)
        _, dy = loss_fn(y, t)
        optimizer.step(model, backward(dy))

    return step


def subclasses(base):
    """The public classes of a kind."""
    return {c for c in vars(xpnet).values() if isinstance(c, type) and issubclass(c, base) and c is not base}


# Nothing hidden: no copy to or from the host, no synchronisation, no new memory. A step is launches, products and copies on the device.


@pytest.mark.parametrize("name", LAYERS)
def test_a_step_of_every_layer_hides_nothing(name, emulator):
    assert set(count(emulator, layer_step(name))) <= WORK | FILLED


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_hides_nothing(name, weighted, emulator):
    assert set(count(emulator, loss_step(name, weighted))) <= WORK


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("name", SEQUENCE_LOSSES)
def test_every_loss_of_sequences_and_tuples_hides_nothing(name, weighted, emulator):
    assert set(count(emulator, sequence_loss_step(name, weighted))) <= WORK | FILLED   # integer lengths have a gradient of 0


def test_the_losses_are_all_here():
    assert {type(loss) for loss in (*map(make_loss, LOSSES), *(row[0]("sum") for row in SEQUENCE_LOSSES.values()))} == subclasses(Loss)


SMALL = {"sizes": (6, 5, 4, 3), "batch": 8}
SCHEDULED = {name: schedule for name, (schedule, _) in SCHEDULES.items()} | {"plateau": Plateau(0.1)}


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_step_with_every_schedule_hides_nothing(name, emulator):
    assert set(count(emulator, network_step(Momentum(SCHEDULED[name]), **SMALL))) <= WORK


def test_a_step_in_mixed_precision_hides_nothing(emulator):
    assert set(count(emulator, network_step(Adam(clip=ClipNorm(1.0)), **SMALL, dtype="mixed", dropout=0.3))) <= WORK


def test_the_schedules_are_all_here():
    assert {type(s) for s in SCHEDULED.values()} == {c for c in subclasses(object) if issubclass(c, Schedule)}


# Few, large launches. 784-256-128-10, batch 128: bias and ReLU 2, last bias 1, loss and its gradient 5, ReLU backward 2, bias sums 3, update
# 1, are 14; products 3 forward, 5 backward; a copy for each parameter into the vector of gradients. What an option costs beside it:

#                                   launches  copies on the device
ONE_RULE = (0, 0)
COSTS = {**dict.fromkeys(sorted(c.__name__ for c in subclasses(Optimizer)), ONE_RULE),
         "AdamW": (1, 0)}                                 # its weight decay
OPTIONS = {                                               # a copy: the gradient, to be changed, while model.grads stays ∂L/∂θ
    "Adam, ClipValue": (lambda: Adam(clip=ClipValue(0.1)), 1, 1),
    "Adam, ClipNorm": (lambda: Adam(clip=ClipNorm(0.1)), 2, 1),
    "SGD, weight decay": (lambda: SGD(0.1, weight_decay=1e-3), 1, 1),
    "SGD, weight decay, no biases": (lambda: SGD(0.1, weight_decay=1e-3, decay_biases=False), 1, 1),
    "SGD, ClipNorm, weight decay": (lambda: SGD(0.1, clip=ClipNorm(0.1), weight_decay=1e-3), 3, 1),
    "Adam, frozen paths": (lambda: Adam(freeze=["0.*"]), 1, 0),
    "Adam, rates by path": (lambda: Adam(lr_scale={"0.*": 0.1}), 1, 0),
    "AdamW, no biases": (lambda: AdamW(decay_biases=False), 2, 0),
    "AdamW, frozen paths": (lambda: AdamW(freeze=["0.*"]), 4, 0),
}
BUDGETS = {name: (getattr(xpnet, name), *cost) for name, cost in COSTS.items()} | OPTIONS


@pytest.mark.parametrize("name", BUDGETS)
def test_the_budget_of_a_training_step(name, emulator):
    make, launches, copies = BUDGETS[name]
    optimizer = make(0.01) if isinstance(make, type) else make()
    found = count(emulator, network_step(optimizer))
    print(f"{name}: {found['kernel_launches']:g} launches, {found['blas_calls']:g} BLAS calls, {found['d2d_copies']:g} copies on the device")
    assert set(found) <= WORK
    assert found["kernel_launches"] <= 14 + launches
    assert found["blas_calls"] <= 8
    assert found["d2d_copies"] <= 6 + copies


# The networks of ci/launches, which are layers of the library as they come: launches, BLAS calls, copies on the device, memsets.

WORKLOADS = {"W1": (9, 5, 3, 0), "W2": (14, 8, 6, 0), "W3": (14, 8, 6, 0), "W4": (14, 8, 6, 0), "W5": (12, 8, 5, 0), "W6": (41, 8, 6, 3),
             "W7": (115, 105, 7, 3), "W8": (375, 99, 70, 1)}


@pytest.fixture(scope="module")
def launches():
    """ci/launches as a module, without a __pycache__ beside it."""
    path = pathlib.Path(__file__).parent.parent / "ci" / "launches"
    if not path.exists():
        pytest.skip("ci/launches is for a checkout")
    return runpy.run_path(str(path))


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_budget_of_a_workload(name, emulator, launches):
    found = count(emulator, launches["workloads"]()[name].step())
    assert set(found) <= WORK | FILLED
    columns = ("kernel_launches", "blas_calls", "d2d_copies", "memsets")
    over = {c: (found.get(c, 0), most) for c, most in zip(columns, WORKLOADS[name]) if found.get(c, 0) > most}
    assert not over, f"found, allowed: {over}"


def test_the_workloads_are_all_here(launches):
    assert set(launches["workloads"]()) == set(WORKLOADS)


# Every elementwise rule is one kernel, and computes what its text says.


def rules():
    """The rules of the library's modules, by name."""
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(xpnet.__path__, "xpnet.")]
    return {rule for module in modules for rule in vars(module).values() if isinstance(rule, Rule)}


@contextlib.contextmanager
def each_rule_checked(monkeypatch, dtype):
    """Within this, each call of a rule is also made by its text, operation by operation, and the two are compared."""
    seen, call, eps = set(), Rule.__call__, np.finfo(dtype).eps
    try:
        from cuda_on_cpu import counters
        counters()
    except (ImportError, RuntimeError):                   # a GPU: no counters
        counters = None

    def checked(self, xp, *arguments):
        if kind(xp) != "cupy" or self in nested:          # NumPy's, or a rule within a rule: not a kernel of its own
            return call(self, xp, *arguments)
        copies = [a.copy() if hasattr(a, "copy") and hasattr(a, "get") else a for a in arguments]
        nested.append(self)
        plain = self.text(xp, *copies)
        nested.pop()
        before = counters()["kernel_launches"] if counters else 0
        fused = call(self, xp, *arguments)
        assert not counters or counters()["kernel_launches"] == before + 1, f"{self.__name__} is not one launch"
        assert not self.fell_back, f"{self.__name__} fell back"
        for ours, theirs in zip((*_results(fused), *arguments), (*_results(plain), *copies)):
            if hasattr(ours, "get"):
                assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), self.__name__
                ours, theirs = ours.get(), theirs.get()
                size = np.max(np.abs(theirs[np.isfinite(theirs)]), initial=1.0) if theirs.dtype.kind == "f" else 0   # padding may be -∞
                np.testing.assert_allclose(ours, theirs, rtol=4 * eps, atol=4 * eps * size, err_msg=self.__name__)
        seen.add(self)
        return fused

    nested = []
    monkeypatch.setattr(Rule, "__call__", checked)
    yield seen
    monkeypatch.undo()


def _results(value):
    return () if value is None else arrays(value)


# Not for CuPy: torch's integers, and the sweep for denormal numbers, which cost a CPU and not a GPU.
ELSEWHERE = {"hash_rule_int64", "flush_rule", "floor_rule"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_rule_is_one_launch_and_equals_its_text(dtype, monkeypatch):
    x, t = np.random.default_rng(0).standard_normal((24, 6)), np.arange(24) % 3
    with each_rule_checked(monkeypatch, dtype) as seen:
        for name in LAYERS:
            for _ in range(2):
                layer_step(name, dtype)()
        for make in ACTIVATIONS.values():                 # each with a bias too, as Dense(activation=) has it
            for net in (make(), Dense(5, 5, make())):     # and in inference, where no slope is kept
                for training in (True, False):
                    y, backward = Model(net, "cupy", dtype).forward(normal((4, 5), dtype), training)
                    backward(y, input_grad=True)
        for name in LOSSES:
            loss_step(name, False, dtype)()
            loss_step(name, True, dtype)()
        for name in SEQUENCE_LOSSES:
            for weighted in (False, True):
                sequence_loss_step(name, weighted, dtype)()
        for make, *_ in BUDGETS.values():
            step = network_step(make(0.01) if isinstance(make, type) else make(), **SMALL, dtype=dtype, dropout=0.3)
            for _ in range(WARMUP):
                step()
        fit(Model(Dense(6, 3), "cupy", dtype), SoftmaxCrossEntropy(), SGD(0.1), (x, t), progress=False)
        if dtype == "float32":
            fit(Model(Dense(6, 3), "cupy", "mixed"), SoftmaxCrossEntropy(), AdamW(), (x, t), progress=False)
    missing = {r.__name__ for r in rules() - seen} - ELSEWHERE - ({"unscale_rule", "scale_rule", "keep_rule"} if dtype == "float64" else set())
    assert not missing, f"no step ran {sorted(missing)}"
    names = {r.__name__ for r in seen}
    assert {"gelu", "gelu_slope", "bias_gelu", "bias_gelu_slope", "gelu_backward", "huber"} <= names


# fit: the order of an epoch goes up, the loss comes down, and nothing else.


def data(n=48):
    t = np.arange(n) % 3
    return normal((n, 6)) + 2.0 * array(np.eye(3, 6)[t]), array(t)


def epochs_counted(emulator, monkeypatch, optimizer, due=lambda bar: False, callbacks=(), **options):
    """The counters of each epoch of fit but the first, without what is 0."""
    monkeypatch.setattr(xpnet.train._Bar, "due", due)     # the clock decides otherwise
    found = []

    def note(run):
        found.append({name: n for name, n in emulator.counters().items() if n})
        emulator.reset()

    model = Model(Sequential(Dense(6, 5, "relu"), Dropout(0.3), Dense(5, 3)), "cupy")
    fit(model, SoftmaxCrossEntropy(), optimizer, data(), epochs=4, batch_size=16, progress=False, callbacks=[*callbacks, note], **options)
    return found[1:]


@pytest.mark.parametrize("optimizer", [Adam(0.01), SGD(0.1, clip=ClipNorm(1.0), weight_decay=1e-3)], ids=repr)
def test_an_epoch_of_fit_is_one_upload_and_one_read(optimizer, emulator, monkeypatch):
    for epoch in epochs_counted(emulator, monkeypatch, optimizer):
        assert epoch["h2d_copies"] == 1 and epoch["h2d_bytes"] == 48 * 8   # the order
        assert epoch["d2h_copies"] == 1 and epoch["d2h_bytes"] == 4        # the loss
        assert sum(epoch.get(name, 0) for name in WAITS) == 1              # which that read waits for
        assert set(epoch) <= WORK | {"h2d_copies", "h2d_bytes", "event_records", "d2h_copies", "d2h_bytes", "memsets", "memset_bytes", *WAITS}
        assert epoch["memsets"] == 1                                       # the sum of the losses starts at 0


def test_each_progress_update_is_one_read_more(emulator, monkeypatch):
    """With progress read after each of an epoch's three steps, and at its end."""
    for epoch in epochs_counted(emulator, monkeypatch, Adam(), due=lambda bar: setattr(bar, "now", bar.last) or True):
        assert epoch["d2h_copies"] == 3 + 1 == sum(epoch.get(name, 0) for name in WAITS)
        assert epoch["h2d_copies"] == 1


def test_a_schedule_by_epoch_and_validation_add_only_what_they_read(emulator, monkeypatch):
    callbacks = [LearningRate(Plateau(0.01))]
    for epoch in epochs_counted(emulator, monkeypatch, Adam(), callbacks=callbacks, validation=data(), metrics=["accuracy"]):
        assert epoch["h2d_copies"] == 1
        assert epoch["d2h_copies"] == 3                   # the loss, the validation loss, the accuracy


# Work that the device does late.

TRAIN = """
import hashlib, numpy as np, xpnet as xn
rng = np.random.default_rng(0)
t = np.arange(96) % 3
x = rng.standard_normal((3, 8))[t] + rng.standard_normal((96, 8))
model = xn.Model(xn.Sequential(xn.Dense(8, 12, "gelu"), xn.Dropout(0.3), xn.Dense(12, 3)), "cupy", seed=1)
history = xn.fit(model, xn.SoftmaxCrossEntropy(), xn.Adam(0.01, clip=xn.ClipNorm(1.0)), (x, t), validation=(x, t), epochs=4, batch_size=20,
                 metrics=["accuracy"], progress=False)
print(hashlib.sha256(model.params.get().tobytes()).hexdigest(), history["loss"], history["val_accuracy"])
"""


def test_work_that_is_done_late_gives_the_same_numbers(emulator):
    """CUDA_ON_CPU_ASYNC=1: a copy or kernel runs only when something waits for it, so a missing wait would show."""
    printed = [subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=True,
                              env={**os.environ, "CUDA_ON_CPU": "1", "CUDA_ON_CPU_ASYNC": late}).stdout for late in ("0", "1")]
    assert printed[0] == printed[1] != ""


# The examples.

@pytest.mark.parametrize("script", ["by_hand.py", "digits.py", "diabetes.py", "mnist.py", "new_layer.py", "spirals.py", "xor.py"])
def test_an_example_copies_and_waits_between_epochs_only(script, emulator, monkeypatch, request):
    """From one step of its optimizer to the next, a run asks the device for work and nothing else, but where an epoch begins or ends."""
    folder = pathlib.Path(__file__).parent.parent / "examples"
    arguments = ["--quick", "--backend", "cupy"]
    if script == "mnist.py":
        arguments += ["--data", str(request.getfixturevalue("small_mnist"))]
    hidden, epochs, steps = [], [], []
    step, begin = Optimizer.step, Batches.__iter__

    def counted(self, model, grads=None):
        step(self, model, grads)
        counts = emulator.counters()
        steps.append(1)
        if any(counts[name] for name in counts if name.startswith(("h2d", "d2h")) or name in WAITS):
            hidden.append(counts)
        emulator.reset()

    monkeypatch.setattr(Optimizer, "step", counted)
    monkeypatch.setattr(Batches, "__iter__", lambda self: (epochs.append(1), begin(self))[1])
    monkeypatch.setattr(xpnet.train._Bar, "due", lambda self: False)   # no progress within an epoch: it is when a loss is read
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(str(folder / script), run_name="__main__")
    assert steps and len(hidden) <= len(epochs) + 1, (len(steps), len(epochs), hidden[-1])
    if script in ("digits.py", "mnist.py", "by_hand.py", "spirals.py", "new_layer.py"):
        assert len(steps) > 4 * len(epochs)               # there is something between the epochs' ends

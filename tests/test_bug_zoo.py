"""The bug zoo: each bug is caught, by the check that it names; the clean code is caught by none; nothing of the library is changed."""

import copy
import inspect
import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
from conftest import lock

import xpnet as xn
from xpnet import bug_zoo
from xpnet.backend.registry import to_host
from xpnet.bug_zoo import BUGS, CHECKS, Setup, checks, get, inject
from xpnet.bug_zoo.setup import shuffled, standardized, train_step
from xpnet.gradcheck import gradient_check

ALL = list(BUGS)
OF_KIND = {kind: [name for name, bug in BUGS.items() if bug.kind == kind] for kind in bug_zoo.KINDS}
# Set-ups that are the same but for the bug, once each.
PROBLEMS = {id(bug.problem): bug for bug in BUGS.values()}
SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.full) for seed in (2, 3, 4, 5))]
DRAWN = {bug.draw: name for name, bug in BUGS.items()}    # one bug for each kind of picture; the others run with --full
PICTURES = [name if name in DRAWN.values() else pytest.param(name, marks=pytest.mark.full) for name in ALL]


SLOW = ("strict", "torch")                               # for gradient checks: strict-float32 makes them in NumPy


def clean(bug, bench, seed=0):
    setup = bug.problem.setup(bench.backend, seed)
    if bench.readonly:
        lock(setup.model._views)
    return setup


def broken(bug, bench, seed=0):
    setup = bug.inject(bug.problem.setup(bench.backend, seed))
    if bench.readonly:
        lock(setup.model._views)
    return setup


# Caught, and not caught.

@pytest.mark.parametrize("name", ALL)
def test_each_bug_is_caught_by_its_check(name, backend, request):
    bug = BUGS[name]
    if bug.seen_by_gradient_check and backend.name in SLOW and not request.config.getoption("--full"):
        pytest.skip("takes longer: runs with --full")
    found = bug.check_setup(broken(bug, backend))
    assert found.caught, found.text
    if bug.seen_by_gradient_check:
        assert found.text.startswith("gradient_check: Wrong: ")
    else:
        assert found.text.startswith(("gradient_check: Right", "gradient_check: Suspicious"))
        assert f"\n{bug.finds.__name__}: " in found.text


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ALL)
def test_each_bug_is_caught_with_other_data_and_weights(name, seed):
    found = BUGS[name].check("numpy", seed)
    assert found.caught, found.text


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_check_sees_what_is_said_of_it(name):
    bug = BUGS[name]
    assert bug.gradient_check().ok is not bug.seen_by_gradient_check
    assert bug.gradient_check(bug.setup("numpy")).ok


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_check_catches_the_clean_code(check, backend):
    for bug in PROBLEMS.values():
        found = check(clean(bug, backend), bug.problem.data(0))
        assert not found.caught, (bug, found.text)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_check_catches_the_clean_code_of_other_seeds(check, seed):
    for bug in PROBLEMS.values():
        found = check(bug.problem.setup("numpy", seed), bug.problem.data(seed))
        assert not found.caught, (bug, found.text)


def test_every_check_catches_something():
    assert {bug.finds for bug in BUGS.values()} == set(CHECKS)


# The lines.

@pytest.mark.parametrize("name", ALL)
def test_the_wrong_line_is_the_code_that_runs(name):
    bug = BUGS[name]
    lines = [line.partition("#")[0].strip() for line in inspect.getsource(bug.broken).splitlines()]
    assert lines.count(bug.wrong) == 1 and bug.right not in lines


def mended(bug):
    """The source of the broken piece with the right line in the place of the wrong one, run."""
    source = textwrap.dedent(inspect.getsource(bug.broken))
    source = source[source.index("\nclass " if inspect.isclass(bug.broken) else "\ndef "):]
    fixed = source.replace(f"{bug.wrong}  ", f"{bug.right}  ", 1)
    assert fixed != source
    namespace = {**vars(xn), **vars(xn.initializers), **vars(bug_zoo.open), **vars(inspect.getmodule(bug.broken))}
    exec(fixed, namespace)                                # what is run is the file's own text
    return namespace[bug.broken.__name__]


@pytest.mark.parametrize("name", ALL)
def test_the_right_line_mends_it(name):
    """Nothing else is wrong: with that one line changed no check finds anything, and training goes as that of the library's own code."""
    bug = BUGS[name]
    other = copy.copy(bug)
    object.__setattr__(other, "broken", mended(bug))
    setup = other.inject(bug.setup("numpy"))
    data = bug.problem.data(0)
    for check in (bug.finds, checks.gradients):
        found = check(setup, data)
        assert not found.caught, found.text
    losses = [each.train((data.x, data.t), (data.x_test, data.t_test), epochs=2, batch_size=30)["val_loss"]
              for each in (other.inject(bug.setup("numpy")), bug.setup("numpy"))]
    if bug.kind == "initialization" or name == "not-shuffled" or name == "labels-shuffled-apart":
        assert losses[0] != losses[1]                     # the same in kind, drawn from another stream
    else:
        np.testing.assert_allclose(*losses, rtol=1e-9)


# Injection.

def bits(setup, data):
    """What three epochs make of a set-up."""
    history = setup.train((data.x, data.t), (data.x_test, data.t_test), epochs=3)
    return np.array(history["loss"] + history["val_loss"]), to_host(setup.model.params).copy()


@pytest.mark.parametrize("name", ALL)
def test_injection_leaves_the_library_and_the_set_up_as_they_were(name):
    bug = BUGS[name]
    before = bits(bug.setup("numpy"), bug.problem.data(0))
    setup = bug.setup("numpy")
    pieces = [setup.loss, setup.optimizer, setup.prepare, setup.batches, setup.step]
    with np.errstate(all="ignore"):
        try:
            bits(bug.inject(setup), bug.problem.data(0))
        except ValueError:
            assert name == "dense-sum-missing"            # whose gradient does not fit
    assert [setup.loss, setup.optimizer, setup.prepare, setup.batches, setup.step] == pieces and setup.optimizer.t == 0
    for after in (bits(setup, bug.problem.data(0)), bits(bug.setup("numpy"), bug.problem.data(0))):
        for a, b in zip(before, after):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ALL)
def test_one_piece_is_broken_and_the_others_are_not(name):
    bug = BUGS[name]
    setup = bug.setup("numpy")
    wrong = bug.inject(setup)
    changed = {piece for piece in ("prepare", "batches", "step") if getattr(wrong, piece) is not getattr(setup, piece)}
    changed |= {piece for piece in ("loss", "optimizer") if type(getattr(wrong, piece)) is not type(getattr(setup, piece))}
    layers = [[type(layer) for _, layer in xn.layer.walk_layers(s.model.net)] for s in (setup, wrong)]
    changed |= {"layer"} if layers[0] != layers[1] else set()
    same = np.array_equal(setup.model.params, wrong.model.params)
    changed |= set() if same else {"initialization"}
    expected = {"training": "step", "data": next(iter(changed & {"prepare", "batches"}), None)}.get(bug.kind, bug.kind)
    assert changed == {expected}
    assert wrong.model is not setup.model and wrong.model.paths() == setup.model.paths() and wrong.model.seed == setup.model.seed


def test_a_bug_is_injected_into_a_set_up_of_ones_own_in_mid_training(backend):
    net = xn.Sequential(xn.Dense(5, 8, "relu"), xn.Dropout(0.3), xn.Residual(xn.Dense(8, 8, "tanh")), xn.Dense(8, 3))
    model = xn.Model(net, backend.backend, backend.widest, seed=3)
    setup = Setup(model, xn.SoftmaxCrossEntropy(), xn.Adam(0.01))
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((8, 5)), rng.integers(0, 3, 8)
    setup.train_on(x, t)
    before, state = backend.host(model.params), backend.host(setup.optimizer.state["m"])
    for name in ("dropout-unscaled", "residual-skip-forgotten", "adam-without-correction", "tanh-derivative-of-input", "softmax-twice"):
        wrong = inject(name, setup)
        assert (wrong.model.step, wrong.optimizer.t) == (1, 1)
        np.testing.assert_array_equal(backend.host(wrong.optimizer.state["m"]), state)
        wrong.train_on(x, t)
        assert np.any(backend.host(wrong.model.params) != before)
        np.testing.assert_array_equal(backend.host(model.params), before)
        assert setup.optimizer.t == 1
    two = inject("tanh-derivative-of-input", inject("residual-skip-forgotten", setup))
    report = gradient_check(two.model, model.asarray(x), two.loss, model.asarray(t))
    assert report.first_wrong.path == "2.0.activation"


def test_a_bug_of_an_activation_reaches_those_inside_dense():
    """cache-on-self breaks forward, and Dense runs an activation by its rule."""
    model = xn.Model(xn.Sequential(xn.Dense(5, 5, "tanh"), xn.Dense(5, 2)), dtype="float64")
    wrong = inject("cache-on-self", Setup(model, xn.SoftmaxCrossEntropy(), xn.SGD(0.1)))
    x = np.random.default_rng(0).standard_normal((4, 5))
    assert "after another forward" in gradient_check(wrong.model, x).cause
    np.testing.assert_allclose(wrong.model.forward(x)[0], model.forward(x)[0], rtol=1e-14)


@pytest.mark.parametrize("name,match", [
    ("dropout-unscaled", r"breaks a layer such as Dropout\(0.4\), and there is none in Sequential\(Dense\(2, 3\)\)"),
    ("dense-transposed", r"breaks a layer such as Dense\(5, 5\), and there is none"),
    ("loss-sign", r"breaks MeanSquaredError, and the set-up has SoftmaxCrossEntropy\(\)"),
    ("adam-t-from-zero", r"breaks Adam, and the set-up has Momentum\(0.1\)"),
])
def test_what_cannot_be_broken_so_is_an_error(name, match):
    setup = Setup(xn.Model(xn.Sequential(xn.Dense(2, 3))), xn.SoftmaxCrossEntropy(), xn.Momentum(0.1))
    with pytest.raises(ValueError, match=match):
        inject(name, setup)


def test_layer_by_layer_updates_are_for_optimizers_without_state():
    setup = get("optimizer-made-anew").setup("numpy")
    with pytest.raises(ValueError, match="such as SGD; got Momentum"):
        inject("updated-before-deltas", setup).train_on(np.zeros((4, 2)), np.zeros(4, dtype=np.int64))


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="did you mean 'dropout-unscaled'"):
        get("dropout-not-scaled")
    with pytest.raises(ValueError, match="unknown bug"):
        inject("nothing", None)


# Pieces by themselves, as graders use them.

@pytest.mark.parametrize("name", OF_KIND["layer"])
def test_a_broken_layer_alone(name):
    bug = BUGS[name]
    layer, right = bug.layer(), bug.clean_layer()
    assert type(layer) is bug.broken and type(right) is bug.clean and isinstance(layer, bug.clean)
    x = np.random.default_rng(1).standard_normal((6, 5))
    assert gradient_check(right, x).ok
    if name != "cache-on-self":
        assert gradient_check(layer, x).ok is not bug.seen_by_gradient_check
    for kind in ("loss", "clean_loss", "optimizer", "clean_optimizer"):
        with pytest.raises(ValueError, match="is of kind 'layer'"):
            getattr(bug, kind)()


def test_pieces_take_arguments():
    assert repr(get("dense-transposed").layer(3, 3)) == "Dense(3, 3)"
    assert get("dropout-unscaled").layer(p=0.2).p == 0.2 and get("loss-sign").loss("half_sum").reduction == "half_sum"
    assert get("momentum-sign").optimizer(0.3, momentum=0.5).momentum == 0.5


@pytest.mark.parametrize("reduction", ["mean", "sum", "half_batch_mean"])
@pytest.mark.parametrize("name", OF_KIND["loss"])
def test_a_broken_loss_alone(name, reduction, backend):
    bug = BUGS[name]
    if name == "residual-broadcast" and reduction == "half_batch_mean":
        return                                            # one output: the same
    rng = np.random.default_rng(0)
    y = backend.asarray(rng.standard_normal((6, 1 if name == "residual-broadcast" else 3)))
    t = backend.asarray(rng.integers(0, 3, 6) if "CrossEntropy" in bug.clean.__name__ and bug.clean is not xn.BinaryCrossEntropy
                        else rng.random(tuple(y.shape)))
    loss, right = bug.loss(reduction), bug.clean_loss(reduction)
    assert isinstance(loss, bug.clean) and type(right) is bug.clean
    (a, da), (b, db) = loss(y, t), right(y, t)
    same = np.allclose(float(a), float(b), rtol=1e-5), np.allclose(backend.host(da), backend.host(db), rtol=1e-5)
    if name == "log-of-zero":
        assert same == (True, True)                       # at ordinary numbers
    elif name == "mean-missing-in-gradient" and reduction == "sum":
        assert same == (True, True)                       # where there is no 1/n to forget
    elif bug.seen_by_gradient_check:
        assert same == (True, False)                      # the value is right, the gradient is not
    else:
        assert same == (False, False)


@pytest.mark.parametrize("name", OF_KIND["optimizer"])
def test_a_broken_optimizer_alone(name, backend):
    bug = BUGS[name]
    moved = []
    for make in (bug.optimizer, bug.clean_optimizer):
        model, optimizer = backend.model(xn.Dense(4, 3)), make()
        model.set_param("W", 1.0 + np.arange(12.0).reshape(4, 3))
        with np.errstate(all="ignore"):
            for k in range(1, 4):
                optimizer.step(model, model.asarray(np.full(model.layout.size, 0.5 * k)))
        moved.append(backend.host(model.params))
    assert not np.allclose(*moved, rtol=1e-4)


# The catalogue.

def test_the_catalogue():
    assert len(BUGS) >= 24 and len({bug.title for bug in BUGS.values()}) == len(BUGS)
    kinds = [bug.kind for bug in BUGS.values()]
    assert set(kinds) == set(bug_zoo.KINDS) and len([k for k, before in zip(kinds, ["", *kinds]) if k != before]) == len(bug_zoo.KINDS)
    for name, bug in BUGS.items():
        assert name == bug.name == name.lower() and " " not in name
        assert len(bug.why) > 60 and bug.symptom and bug.fix and not bug.why.startswith("Adam in the letters")
        assert bug.clean in (train_step, shuffled, standardized, *vars(xn.initializers).values(), bug_zoo.open.Twice, *vars(xn).values()), bug.clean
        assert repr(bug) == f"Bug({name!r}: {bug.title})"


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_shows_clean_and_broken(name):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    bug = BUGS[name]
    ax = bug.plot()
    labels = " ".join(ax.get_legend_handles_labels()[1])
    assert "clean" in labels and "broken" in labels and ax.get_xlabel() and ax.get_ylabel() and bug.title in ax.get_title()
    colours = {line.get_color() for line in ax.lines} | {matplotlib.colors.to_hex(p.get_facecolor()).upper() for p in ax.patches}
    assert {"#0072B2", "#E69F00"} <= colours
    again = plt.subplots()[1]
    assert bug.plot(again) is again
    # Clean and broken are not the same curve.
    drawn = {colour: np.concatenate([line.get_ydata().astype(float).ravel() for line in ax.lines if line.get_color() == colour] or [[]])
             for colour in ("#0072B2", "#E69F00")}
    assert not np.array_equal(*drawn.values()) or ax.patches
    plt.close("all")


def test_the_notebook_shows_every_bug_in_its_order():
    cells = json.loads((Path(__file__).parent.parent / "examples" / "bug_zoo.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    assert [source for source in sources if source.startswith("show(")] == [f'show("{name}")' for name in BUGS]
    for name, bug in BUGS.items():
        i = sources.index(f'show("{name}")')
        assert bug.title[1:] in sources[i - 1]            # its heading
        shown = ["".join(output["data"]["text/markdown"]) for output in cells[i]["outputs"] if "text/markdown" in output.get("data", {})]
        assert shown == [bug._repr_markdown_()]
        assert any("image/png" in output.get("data", {}) for output in cells[i]["outputs"])


# The set-up.

def test_a_clean_set_up_is_fit(backend, dtype):
    """Setup.train is what fit does, to the bit."""
    x, t = xn.data.moons(60, seed=0)
    x, x_test, t, t_test = xn.split(x, t, test=20, seed=0)
    x, x_test = xn.standardize(x, x_test)

    def make():
        net = xn.Sequential(xn.Dense(2, 8, "tanh"), xn.Dropout(0.2), xn.Dense(8, 2))
        return backend.model(net, dtype), xn.SoftmaxCrossEntropy(), xn.Adam(0.01)

    model, loss, optimizer = make()
    history = xn.fit(model, loss, optimizer, (x, t), validation=(x_test, t_test), epochs=2, batch_size=10, progress=False)
    setup = Setup(*make(), prepare=lambda x, x_test: (x, x_test))
    mine = setup.train((x, t), (x_test, t_test), epochs=2, batch_size=10)
    np.testing.assert_array_equal(backend.host(setup.model.params), backend.host(model.params))
    np.testing.assert_allclose(mine["val_loss"], history["val_loss"], rtol=1e-6)
    np.testing.assert_allclose(mine["loss"], history["loss"], rtol=1e-5)


def test_the_famous_numbers(backend):
    """Mazur's post prints 0.291027924 (with float64's digits here), which is what updating before the deltas gives."""
    if not backend.float64:
        pytest.skip("9 digits need float64")
    loss, x, t = xn.MeanSquaredError("half_sum"), np.array([[.05, .10]]), np.array([[.01, .99]])
    for step, error in ((train_step, .2910277737), (get("updated-before-deltas").broken(), .291027924)):
        model = backend.model(xn.Sequential(xn.Dense(2, 2, "sigmoid"), xn.Dense(2, 2, "sigmoid")), "float64")
        for path, value in (("0.W", [[.15, .25], [.20, .30]]), ("0.b", [.35, .35]), ("1.W", [[.40, .50], [.45, .55]]), ("1.b", [.60, .60])):
            model.set_param(path, np.array(value))
        step(model, loss, xn.SGD(.5, freeze=("*.b",)), model.asarray(x), model.asarray(t))
        assert float(loss(model.forward(model.asarray(x))[0], model.asarray(t))[0]) == pytest.approx(error, abs=5e-10)

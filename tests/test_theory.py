"""The theory of the README, formula by formula, as it stands there: parsed (tests/latex.py), evaluated and compared.

    prose and displayed equations   both sides in the worlds of their section (tests/theory.py): xpnet's numbers, and finite differences
    activation and loss tables      against xpnet's layers and losses, and by SymPy: the derivative of one cell is the next, branch by branch
    optimizer table                 run for several steps beside xpnet's optimizers
    the other tables                by row

Every formula is then changed, one sign, transpose, factor or index at a time, and its check must fail. XPNET_README names another file.
"""

import ast
import importlib.machinery
import importlib.util
import inspect
import os
import re
import subprocess
import sys

import latex
import numpy as np
import pytest
import theory
from theory import Fails, World, check, compare

import xpnet
from xpnet import Model, initializers
from xpnet.layers import activations
from xpnet.losses import Loss
from xpnet.model import apply_link
from xpnet.optim import Optimizer, base, clipping

TEXT = theory.theory()
assert TEXT is not None, f"{theory.README} has no section '## Theory'"
FORMULAS = theory.formulas(TEXT)


def tool(name):
    """A script of ci/ as a module."""
    loader = importlib.machinery.SourceFileLoader(f"ci_{name}", str(theory.ROOT / "ci" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = keep
    return module


def label(row):
    """The name in a row's first cell: [`Dense`](…), `Dense` or plain words."""
    return re.sub(r"\[`(\w+)`\]\([^)]*\)|`(\w+)`", lambda m: m[1] or m[2], row[0])


def expect(actual, wanted, tolerance):
    compare("=", actual, wanted, tolerance)


def value(tree, world):
    """A tree over all values of its free indices."""
    try:
        found = [latex.evaluate(tree, world.names, at, world.functions) for at in latex.assignments(latex.free(tree, world.names))]
    except (KeyError, ValueError, TypeError, IndexError) as e:
        raise Fails(f"{type(e).__name__}: {e}") from e
    return found[0] if len(found) == 1 else np.array(found)


def cell(row, column):
    """The trees of the formula in another cell of a row."""
    return latex.statements(theory.INLINE.search(row[column])[1])


# Activations.

VALUES = np.arange(-4.45, 4.5, 0.1)
SLOPES = {"LeakyReLU": ("alpha", 0.2), "ELU": ("alpha", 0.7), "PReLU": ("a", 0.3)}          # other constants than the default ones


def activation(row, default=False):
    """The layer, and its constants as the formulas call them."""
    name = label(row)
    kind = getattr(xpnet, name)
    if name in SLOPES and not default:
        letter, number = SLOPES[name]
        return kind(init=initializers.constant(number)) if name == "PReLU" else kind(number), {letter: number}
    layer = kind()
    return layer, {"alpha": layer.alpha, "lambda": layer.scale} if name == "SELU" else {}


def activation_world(row):
    layer, constants = activation(row)
    if label(row) in ("Softmax", "LogSoftmax"):
        x = np.array([0.3, -1.2, 2.0, 0.1])
        return World({"x": x, "y": layer(x[None, :])[0][0], "dy/dx": theory.jacobian(lambda x: layer(x[None, :])[0][0], x)}, {}, 1e-8)
    y, backward = layer(VALUES)
    return World({"x": VALUES, "y": y, "slope": backward(np.ones_like(VALUES))[0], **constants}, ENTRYWISE, 1e-10)


ENTRYWISE = {"*": lambda a, b: a * b}                     # in these tables a product of arrays is entry by entry


def check_activation(row, column, trees):
    layer, constants = activation(row)
    world = activation_world(row)
    (tree,) = trees if column < 3 else (None,)
    if column < 3 and "dy/dx" in world.names:
        check(tree, world)
        return
    if column in (1, 2):
        wanted = world.names["y" if column == 1 else "slope"]
        for side in latex.sides(tree)[1]:
            expect(np.broadcast_to(value(side, world), VALUES.shape), wanted, world.tolerance)
        return
    if column == 3:                                       # f'(0) = α, at every kink that the layer names
        points = []
        for _, _, (left, right) in trees:
            if left[:2] != ("call", "f'"):
                raise Fails(f"not the slope: {left}")
            x = value(left[2][0], world)
            points.append(float(x))
            expect(value(right, world), layer(np.array([float(x)]))[1](np.ones(1))[0][0], 1e-12)
        if set(points) != set(layer.kinks):
            raise Fails(f"kinks at {points} and {layer.kinks}")
        return
    layer, _ = activation(row, default=True)
    for _, _, (left, right) in trees:
        attribute = {"alpha": "alpha", "lambda": "scale"}.get(left[1])
        has = getattr(layer, attribute) if attribute else layer.a.init(None, (1,))[0]
        expect(latex.evaluate(right, {}), has, 1e-15)


# Losses.

def loss_of(name):
    return xpnet.Huber(0.8, reduction="sum") if name == "Huber" else getattr(xpnet, name)("sum")


def loss_worlds(row):
    """World by world: the letters, with "loss" and "slope" from xpnet. Entry by entry, or one sample of four classes."""
    name = label(row)
    loss, rng, letter = loss_of(name), np.random.default_rng(11), wrt(row)
    if name in ("KLDivergence", "MulticlassHinge", "SoftmaxCrossEntropy"):
        for c in [0, 1, 2, 3] * 8:
            y, q = rng.standard_normal(4), rng.dirichlet(np.ones(4))
            t = np.array([c]) if name == "MulticlassHinge" else q[None, :]
            value, slope = loss(y[None, :], t)
            yield World({letter: y, "t": q, "q": q, "c": c, "loss": value, "slope": slope[0]}, {}, 1e-10)
        return
    y = np.linspace(-2.5, 2.5, 41) + 0.013
    t = {"Hinge": np.sign(rng.standard_normal(41)), "BinaryCrossEntropy": rng.uniform(0, 1, 41),
         "Poisson": rng.integers(0, 5, 41) * 1.0}.get(name, rng.standard_normal(41) * 0.7)
    slope = loss(y, t)[1]
    yield World({letter: y, "t": t, "delta": 0.8, "slope": slope, "loss": np.array([loss(y[i:i + 1], t[i:i + 1])[0] for i in range(41)])},
                ENTRYWISE, 1e-10)


def wrt(row):
    return latex.parse(theory.INLINE.search(row[3])[1])[1]


def definitions():
    """r = y - t and p = softmax(z), as the text above the table has them."""
    found = [tree for f in FORMULAS if f.section == "loss-table" and not f.row for tree in latex.statements(f.latex)]
    return [tree for tree in found if tree[0] == "relation"]


def defined(world, trees):
    """The world, with what the definitions make of its letters."""
    names = dict(world.names)
    for _, _, (left, right) in trees:
        try:
            names[left[1]] = latex.evaluate(right, names, None, world.functions)
        except (KeyError, TypeError):                     # letters, or a vector, that this loss does not have
            continue
    return World(names, world.functions, world.tolerance)


def check_loss(row, column, trees, above=None):
    if column == 3:
        assert trees[0][1] in ("y", "z")
        return
    for world in loss_worlds(row):
        world = defined(world, definitions() if above is None else above)
        expect(value(trees[0], world), world.names["loss" if column == 1 else "slope"], world.tolerance)


# Optimizers.

LETTERS = {"eta": "lr", "mu": "momentum", "alpha": "alpha", "rho": "rho", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps",
           "lambda": "weight_decay", "psi": "psi"}
CHOSEN = {"eta": 0.03, "mu": 0.7, "alpha": 0.8, "rho": 0.75, "beta_1": 0.6, "beta_2": 0.9, "epsilon": 0.02, "lambda": 0.3, "psi": 0.4}
STEPS = 12                                                # RAdam's rectified steps begin at the 6th for this β₂


def update_rules(row, trees):
    """The assignments of a row; those of "Adam with" in the place of Adam's with the same left side, new ones before the first of these."""
    if not row[1].startswith("Adam with"):
        return trees
    adam = next(cell(f.row, 1) for f in FORMULAS if f.section == "optimizer-table" and f.row and label(f.row) == "Adam" and f.column == 1)
    left = {latex.key(t[2][0]): t for t in trees}
    known = [latex.key(t[2][0]) for t in adam]
    new, made = [t for t in trees if latex.key(t[2][0]) not in known], []
    for name, tree in zip(known, adam):
        if name in left:
            made += [*new, left[name]]
            new = []
        else:
            made.append(tree)
    return made


def run_rules(trees, gradients, theta):
    """θ after each step, for one parameter."""
    state = {"theta": theta, "Pi": 1.0, **CHOSEN}
    path = []
    for t, g in enumerate(gradients, 1):
        for name in ("v", "s", "u", "m", "vbar"):
            state.setdefault(name, 0.0)
        state |= {"g": float(g), "t": t}
        for _, _, (left, right) in trees:
            name = latex.key(left)
            if name.endswith("_t"):                       # μₜ is a function of t, and so is the next one
                state[f"{name}+1"] = latex.evaluate(right, {**state, "t": t + 1})
            state[name] = latex.evaluate(right, state)
        path.append(float(state["theta"]))
    return path


def check_optimizer(row, column, trees):
    kind = getattr(xpnet, label(row))
    signature = inspect.signature(kind.__init__).parameters
    if column == 2:
        stated = {LETTERS[latex.key(left)]: float(latex.evaluate(right, {})) for _, _, (left, right) in trees}
        defaults = {name: signature[name].default for name in stated}
        if stated != defaults:
            raise Fails(f"{stated} and {defaults}")
        return
    used = {latex.key(node) for tree in update_rules(row, cell(row, 1)) for _, node in latex.walk(tree) if node[0] == "name"}
    options = {name: CHOSEN[letter] for letter, name in LETTERS.items() if letter in used}
    model = Model(xpnet.Dense(2, 1), backend="numpy", dtype="float64")
    start, optimizer = np.array(model.params), kind(**options)
    gradients = np.random.default_rng(12).standard_normal((STEPS, start.size)) * [0.05, 1.0, 3.0]
    found = []
    for g in gradients:
        optimizer.step(model, g)
        found.append(np.array(model.params))
    try:
        made = [run_rules(update_rules(row, trees), gradients[:, i], float(start[i])) for i in range(start.size)]
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as e:
        raise Fails(str(e)) from e
    expect(np.array(made).T, np.array(found), 1e-12)


# The smaller tables.

def check_rule(row, column, trees):
    """Decay and clipping: the rule on arrays, as the optimizers use it."""
    rng = np.random.default_rng(13)
    theta, g = rng.standard_normal((2, 6))
    names = {"theta": theta, "g": g, "lambda": 0.3, "eta": 0.2}
    for c in (0.5, 100.0):                                # where it bounds, and where not
        new_theta, new_g = theta.copy(), g.copy()
        if label(row) == "coupled decay":
            base.l2_rule(np, new_g, theta, 0.3)
        elif label(row) == "decoupled decay":
            base.decay_rule(np, new_theta, 0.2 * 0.3)
        else:
            getattr(clipping, label(row))(c)(np, new_g)
        check(trees[0], World({**names, "c": c, "new theta": new_theta, "new g": new_g}, {}, 1e-12))


class Unit:
    """Stands for a random generator: a normal number is 1, a uniform one the upper limit."""

    def standard_normal(self, shape):
        return np.ones(shape)

    def uniform(self, low, high, shape):
        assert low == -high
        return np.full(shape, high)


def check_initializer(row, column, trees):
    name = re.findall(r"`(\w+)`", row[0])[column - 1]
    drawn = initializers.NAMES[name](Unit(), (7, 3))[0, 0]
    check(trees[0], World({"d": 7.0, "k": 3.0, "Var(W)" if column == 1 else "s": drawn ** 2 if column == 1 else drawn}, {}, 1e-12))


def check_task(row, column, trees):
    """A column of the table of tasks: how the output is read, and δ of the loss of that column."""
    rng, n, k = np.random.default_rng(14), 5, 3
    task = ["", "regression", "two classes", "k classes", "counts"][column]
    k = 1 if task in ("two classes", "counts") else k
    z = rng.standard_normal((n, k))
    target = {"regression": rng.standard_normal((n, k)), "two classes": (rng.random((n, 1)) < 0.5) * 1.0,
              "k classes": rng.dirichlet(np.ones(k), n), "counts": rng.integers(0, 4, (n, 1)) * 1.0}[task]
    header = next(f.header for f in FORMULAS if f.section == "classification-and-regression" and f.row)
    assert header[column] == task, header
    losses = next(line for line in TEXT.splitlines() if line.startswith("| loss | `Mean")).strip("|").split(" | ")
    loss = getattr(xpnet, losses[column].strip("` "))()
    _, delta = loss(z, target)
    numeric = theory.jacobian(lambda z: loss(z, target)[0], z)
    prediction = apply_link(np, loss.link, z)
    for slope in (delta, numeric):
        names = {"z": z, "y": prediction, "p": prediction, "t": target, "q": target, "n": float(n), "k": float(k), "delta": slope}
        check(trees[0], World(names, {}, 1e-8))


# Which check a formula has.

TABLES = {"activation-table": check_activation, "loss-table": check_loss, "optimizer-table": check_optimizer,
          "from-gradient-descent-to-adam": check_rule, "initialisation": check_initializer, "classification-and-regression": check_task}


def check_of(f):
    """A function of the formula's trees that raises Fails where they are wrong; None for a letter or a shape, which claims nothing."""
    trees = latex.statements(f.latex)
    claims = any(t[0] == "relation" for t in trees)
    if f.row and f.section in TABLES and (claims or f.section not in ("classification-and-regression",)):
        if f.section == "loss-table" and f.column == 3:
            return None
        return lambda trees: TABLES[f.section](f.row, f.column, trees)
    if f.section == "loss-table" and claims:              # r = y - t: wrong if the losses that use it are
        return lambda trees: [check_loss(g.row, g.column, latex.statements(g.latex), replaced_definitions(f, trees))
                              for g in FORMULAS if g.section == "loss-table" and g.row and g.column in (1, 2)]
    if not claims:
        return None
    if f.section == "rows-or-columns" and f.row:
        worlds = theory.batch_worlds() if f.column == 1 else theory.columns()
    elif f.section == "activation-table":
        worlds = [World({"x": VALUES, "y": np.tanh(VALUES)}, theory.TANH, 1e-12)]
    else:
        worlds = theory.WORLDS.get(f.section, list)()
    known = [theory.knowing(t, worlds) if t[0] == "relation" else [] for t in trees]

    def run(trees):
        for tree, own in zip(trees, known):
            if tree[0] == "relation" and not own:
                raise Fails(f"no world of {f.section} knows the letters of {latex.text(tree)}")
            for world in own:
                check(tree, world)

    return run


def replaced_definitions(f, trees):
    own = latex.statements(f.latex)
    return [trees[own.index(d)] if d in own else d for d in definitions()]


CASES = [(f, c) for f in FORMULAS if (c := check_of(f)) is not None]
# Changes that leave a formula true, by what is changed: the Jacobian of an activation is diagonal, and so its own transpose.
STILL_TRUE = {("the-chain-rule-backwards", "T(da/dz) to da/dz")}
# Inline expressions that claim nothing and are no mere letter.
WORDS = {r"\sigma^2": "the name of a variance", "e^z": "what overflows, in words"}


def names_of(cases):
    return [f"{f.section}-{' '.join(f.latex.split())[:60]}" for f, _ in cases]


@pytest.mark.parametrize("f,run", CASES, ids=names_of(CASES))
def test_formula(f, run):
    run(latex.statements(f.latex))


@pytest.mark.parametrize("f,run", CASES, ids=names_of(CASES))
def test_a_changed_formula_is_caught(f, run):
    trees = latex.statements(f.latex)
    missed = []
    for i, tree in enumerate(trees):
        for what, changed in theory.mutants(tree):
            if (f.section, what) in STILL_TRUE:
                continue
            try:
                run([*trees[:i], changed, *trees[i + 1:]])
            except Fails:
                continue
            missed.append(what)
    assert not missed, missed


def test_every_formula_is_checked():
    """What has no check is a letter, or an expression on the short list; every displayed equation and every formula of a table has one."""
    checked = {id(f) for f, _ in CASES}
    left = [f for f in FORMULAS if id(f) not in checked]
    loose = [f for f in left if f.block or not all(_letter(t) for t in latex.statements(f.latex)) and f.latex not in WORDS]
    assert not loose, loose
    print(f"{len(CASES)} of {len(FORMULAS)} formulas checked; the others are {len(left)} letters")


def _letter(tree):
    """W, W^(l), ∂L/∂W, or the norm of one."""
    return tree[0] == "name" or tree[0] == "norm" and _letter(tree[1])


# Derivatives by SymPy.

class Branch:
    """SymPy's functions on one branch: comparisons, maxima and signs are decided at a point, so that what is left is smooth."""

    def __init__(self, point):
        import sympy as sp

        self.sp, self.point = sp, point

    def at(self, e):
        return float(self.sp.sympify(e).subs(self.point))

    @property
    def functions(self):
        sp, at = self.sp, self.at
        compares = {"<": lambda a, b: a < b, ">": lambda a, b: a > b, "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b,
                    "=": lambda a, b: a == b, "!=": lambda a, b: a != b}
        return {"number": sp.Rational, "exp": sp.exp, "log": sp.log, "tanh": sp.tanh, "cosh": sp.cosh, "sqrt": sp.sqrt,
                "sigma": lambda x: 1 / (1 + sp.exp(-x)), "Phi": lambda x: (1 + sp.erf(x / sp.sqrt(2))) / 2,
                "phi": lambda x: sp.exp(-x ** 2 / 2) / sp.sqrt(2 * sp.pi),
                "max": lambda *a: max(a, key=at), "min": lambda *a: min(a, key=at),
                "abs": lambda a: a if at(a) > 0 else -a, "sign": lambda a: 1 if at(a) > 0 else -1,
                "compare": lambda op, a, b: compares[op](at(a), at(b)), "iverson": lambda a: int(bool(a)),
                "cases": lambda values, conditions: next(v for v, c in zip(values, conditions) if c),
                "softmax": lambda z: np.array([sp.exp(e) / sum(sp.exp(o) for o in z) for e in z], dtype=object)}

    def difference(self, a, b):
        """0 where two expressions are the same."""
        left = self.sp.simplify(self.sp.expand(a - b).rewrite(self.sp.exp))
        return left if left != 0 and abs(self.at(left)) > 1e-25 else self.sp.Integer(0) if left == 0 else self.sp.simplify(left)


def table_rows(section):
    return list({f.row: None for f in FORMULAS if f.section == section and f.row})


def same(branch, a, b):
    left = branch.difference(a, b)
    if left != 0:
        raise Fails(f"they differ by {left}")


def symbolic_activation(row, trees):
    """f' of the cell against the derivative of the cell before, on each side of each kink."""
    import sympy as sp

    layer, constants = activation(row)
    if label(row) in ("Softmax", "LogSoftmax"):
        x = sp.symbols("x:3", real=True)
        branch = Branch(dict(zip(x, (sp.Rational(3, 10), sp.Rational(-12, 10), 2))))
        (function,), (tree,) = cell(row, 1), trees
        y = [latex.evaluate(function[2][1], {"x": np.array(x)}, {"k": k}, branch.functions) for k in range(3)]
        for k in range(3):
            for j in range(3):
                said = latex.evaluate(tree[2][1], {"x": np.array(x), "y": np.array(y)}, {"k": k, "j": j}, branch.functions)
                same(branch, sp.diff(y[k], x[j]), said)
        return
    x, constants = sp.Symbol("x", real=True), {c: sp.Symbol(c, positive=True) for c in constants}
    kinks = sorted(getattr(layer, "kinks", ()))
    middle = [(a + b) / 2 for a, b in zip(kinks, kinks[1:])]
    for point in ([kinks[0] - 1, *middle, kinks[-1] + 1] if kinks else [0.7]):
        branch = Branch({x: sp.Rational(point), **dict.fromkeys(constants.values(), sp.Rational(1, 3))})
        f = latex.evaluate(latex.sides(cell(row, 1)[0])[1][-1], {"x": x, **constants}, None, branch.functions)
        said = latex.evaluate(trees[0], {"x": x, "y": f, **constants}, None, branch.functions)
        same(branch, sp.diff(f, x), said)


def symbolic_loss(row, trees):
    import sympy as sp

    letter, name = wrt(row), label(row)
    (function,), (tree,) = cell(row, 1), trees
    if name in ("KLDivergence", "MulticlassHinge", "SoftmaxCrossEntropy"):
        y, t = np.array(sp.symbols("y:3", real=True)), np.array([*sp.symbols("t:2", positive=True), 0])
        t[2] = 1 - t[0] - t[1]                            # probabilities
        for c in range(3):
            for point in ((0.1, -0.7, 2.0), (1.5, 0.2, -0.4)):
                branch = Branch({**dict(zip(y, map(sp.Rational, map(str, point)))), t[0]: sp.Rational(1, 2), t[1]: sp.Rational(1, 3)})
                world = defined(World({letter: y, "t": t, "q": t, "c": c}, branch.functions), definitions())
                ell = latex.evaluate(function, world.names, None, world.functions)
                for j in range(3):
                    said = latex.evaluate(tree, world.names, {"j": j}, world.functions)
                    same(branch, sp.diff(ell, y[j]), said[j] if isinstance(said, np.ndarray) else said)
        return
    y, t, delta = sp.Symbol(letter, real=True), sp.Symbol("t", real=True), sp.Symbol("delta", positive=True)
    for point, target in ((-2.0, 0.25), (0.1, 0.25), (2.0, 0.25)) if name != "Hinge" else ((-2.0, 1), (2.0, 1), (-2.0, -1), (2.0, -1)):
        branch = Branch({y: sp.Rational(str(point)), t: sp.Rational(str(target)), delta: sp.Rational(1, 2)})
        world = defined(World({letter: y, "t": t, "delta": delta}, branch.functions), definitions())
        ell, said = (latex.evaluate(part, world.names, None, world.functions) for part in (function, tree))
        same(branch, sp.diff(ell, y), said)


SYMBOLIC = [(run, row) for run, table in ((symbolic_activation, "activation-table"), (symbolic_loss, "loss-table")) for row in table_rows(table)]


@pytest.mark.parametrize("run,row", SYMBOLIC, ids=[label(row) for _, row in SYMBOLIC])
def test_derivative_by_sympy(run, row):
    pytest.importorskip("sympy")
    run(row, cell(row, 2))


@pytest.mark.parametrize("run,row", SYMBOLIC, ids=[label(row) for _, row in SYMBOLIC])
def test_a_wrong_sign_in_a_derivative_is_caught_by_sympy(run, row):
    pytest.importorskip("sympy")
    (tree,) = cell(row, 2)
    wrong = ("relation", tree[1], (tree[2][0], ("neg", tree[2][1]))) if tree[0] == "relation" else ("neg", tree)
    with pytest.raises(Fails):
        run(row, [wrong])


# What the tables list, the links, the code.

def exported(kind):
    return {name for name, v in vars(xpnet).items() if inspect.isclass(v) and issubclass(v, kind) and v is not kind}


@pytest.mark.parametrize("section,wanted", [
    ("activation-table", {kind.__name__ for kind in activations.NAMES.values()}), ("loss-table", exported(Loss) - {"CTC", "Contrastive", "ELBO", "GaussianNLL", "NormalKL", "Triplet"}),
    ("optimizer-table", exported(Optimizer))])
def test_table_lists_what_xpnet_has(section, wanted):
    listed = [label(row) for row in table_rows(section)]
    assert sorted(listed) == sorted(wanted)


def test_links_to_code_go_to_the_line():
    links = tool("links")
    markdown = theory.README.read_text(encoding="utf-8")
    corrected, wrong, lost = links.check(markdown)
    assert not lost, lost
    assert not wrong, f"{wrong}: run ci/links --fix"
    assert len(links.LINK.findall(markdown)) > 60
    name, path, line = links.LINK.findall(markdown)[0]
    moved = markdown.replace(f"{path}#L{line}", f"{path}#L{int(line) + 1}")
    assert links.check(moved)[1] and links.check(moved)[0] == markdown
    assert links.check("[`Dense.nowhere`](xpnet/layers/dense.py#L1)")[2]


def test_links_of_the_theory_go_somewhere():
    markdown = theory.README.read_text(encoding="utf-8")
    unfenced = re.sub(r"(?ms)^```.*?^```$", "", markdown)
    headings = [theory.anchor(re.sub(r"`", "", h)) for h in re.findall(r"(?m)^#+ (.*)$", unfenced)]
    of_theory = [theory.anchor(h) for h in re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```$", "", TEXT))]
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT):
        if target.startswith("#"):
            assert headings.count(target[1:]) == 1, target
        elif not target.startswith("http"):
            assert (theory.ROOT / target.partition("#")[0]).exists(), target
    top = [theory.anchor(h) for h in re.findall(r"(?m)^### (.*)$", TEXT)]
    contents = re.findall(r"\]\(#([^)\s]+)\)", TEXT.partition("\n### ")[0])
    assert contents == top and len(set(of_theory)) == len(of_theory)


def test_every_equation_links_to_its_code():
    """Before the next equation or section comes a link to a line of code, or the equation is one that no code is."""
    blocks = re.split(r"(?m)^```math\n", TEXT)[1:]
    bare = []
    for block in blocks:
        body, _, after = block.partition("\n```\n")
        after = re.split(r"(?m)^#+ ", after)[0]
        if not re.search(r"\.py#L\d+\)", after):
            bare.append(" ".join(body.split())[:40])
    no_code = {r"(x W^{(1)} + b^{(1)})": "two affine maps are one", r"\frac{\partial L}{\partial x_i} = ": "the chain rule",
               r"\ell = -\sum_k q_k": "the equation after it is the code", r"\mathrm{E}[\bar g]": "statistics"}
    assert [b for b in bare if not b.startswith(tuple(no_code))] == []
    assert len(bare) == len(no_code)


def test_markdown_is_as_github_wants_it():
    """Formulas stand between $` and `$, apart from letters, and use no macro that GitHub has taken out."""
    without = re.sub(r"(?ms)^```.*?^```$", "", TEXT)
    for before, after in re.findall(r"(.?)\$`[^`\n]+`\$(.?)", without):
        assert before in ("", " ", "("), before
        assert after in ("", " ", ",", ".", ";", ":", ")"), after
    assert "$" not in theory.INLINE.sub("", without)
    for f in FORMULAS:
        assert not re.search(r"\\(operatorname|mbox|phantom|newcommand|def|require|href|bm|text\{[^}]*\$)", f.latex), f.latex
        assert "|" not in f.latex, f.latex


def test_pseudocode_runs():
    """The cheat sheet's code, run as it stands, does what xpnet does."""
    code = re.search(r"```python\n(.*?)```", TEXT.partition("### Cheat sheet\n")[2], re.DOTALL)[1]
    rng = np.random.default_rng(15)
    x, t = rng.standard_normal((6, 4)), rng.standard_normal((6, 2))
    net = xpnet.Sequential(*(xpnet.Dense(d, k, "tanh") for d, k in ((4, 5), (5, 3), (3, 2))))
    model = Model(net, backend="numpy", dtype="float64")
    W, b = ([np.array(model.get_param(f"{i}.{p}")) for i in range(3)] for p in "Wb")
    names = {"x": x, "t": t, "D": 3, "W": W, "b": b, "f": np.tanh, "df": lambda z: 1 - np.tanh(z) ** 2, "loss": xpnet.MeanSquaredError(),
             "dW": [None] * 3, "db": [None] * 3, "lr": 0.3}
    exec(code, names)
    y, backward = model.forward(x)
    loss, dy = xpnet.MeanSquaredError()(y, t)
    xpnet.SGD(0.3).step(model, backward(dy))
    assert names["L"] == loss
    for i in range(3):
        np.testing.assert_allclose(names["W"][i], model.get_param(f"{i}.W"), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(names["b"][i], model.get_param(f"{i}.b"), rtol=1e-12, atol=1e-14)


def test_python_of_the_theory_is_python():
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        ast.parse(code)


def test_the_measured_table_is_that_of_its_program():
    """The same columns, and in the smallest network the same gradient; the times are those of the machine named there."""
    made = subprocess.run([sys.executable, str(theory.ROOT / "ci" / "numeric_cost"), "--hidden", "1", "--repeats", "3"], capture_output=True,
                          encoding="utf-8", timeout=120, check=True, env={**os.environ, "PYTHONUTF8": "1"}).stdout.splitlines()
    header, row = made[2], made[-1]
    stated = TEXT.splitlines()
    assert header in stated
    first = stated[stated.index(header) + 2].split(" | ")
    assert row.split(" | ")[:2] == first[:2]
    assert float(row.split(" | ")[-1].strip("| ")) < 1e-8


# The sheet.

def test_cheat_sheet_is_what_its_program_makes():
    pytest.importorskip("latex2mathml")
    pytest.importorskip("markdown_it")
    sheet = tool("cheatsheet")
    made, kept = sheet.page(theory.README.read_text(encoding="utf-8")), sheet.SHEET.read_text(encoding="utf-8")
    assert made == kept, "run ci/cheatsheet"


@pytest.mark.full
def test_cheat_sheet_prints_on_one_page(tmp_path, chromium_path):
    pdf = tmp_path / "sheet.pdf"
    subprocess.run([chromium_path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-pdf-header-footer",
                    f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={pdf}", tool("cheatsheet").SHEET.as_uri()],
                   check=True, capture_output=True, timeout=120)
    data = pdf.read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", data)) == 1
    width, height = (float(v) for v in re.search(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)\s+([\d.]+)", data).groups())
    assert (round(width), round(height)) == (595, 842)    # A4, in points


# The parser.

@pytest.mark.parametrize("formula,names,wanted", [
    (r"\frac12 x^2 - 3x", {"x": 4.0}, -4.0), (r"x^{\top} W", {"x": np.array([[1.0], [2.0]]), "W": np.array([[3.0], [4.0]])}, [[11.0]]),
    (r"\delta^{(0)} \odot [z > 0]", {"delta^(0)": np.array([1.0, 2.0]), "z": np.array([-1.0, 1.0])}, [0.0, 2.0]),
    (r"\sum_n \frac{\partial L}{\partial z}", {"dz": np.array([[1.0, 2.0], [3.0, 4.0]])}, [4.0, 6.0]),
    (r"\sum_k e^{x}", {"x": np.zeros((2, 3))}, [[3.0], [3.0]]), (r"\sum_{j \ne c} y_j", {"y": np.array([1.0, 2.0, 4.0]), "c": 1}, 5.0),
    (r"\left.\frac{\partial L}{\partial x}\right|_{0.1} + 1", {"dx|0.1": 2.0}, 3.0), (r"\lVert g \rVert", {"g": np.array([3.0, 4.0])}, 5.0),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & -4.5 \cdot 10^{-1} \end{pmatrix}", {}, [[1.0, 2.0], [3.0, -0.45]]),
    (r"a^{(0.activation)}_{0:2}", {"a^(0.activation)": np.arange(3.0)}, [0.0, 1.0]),
    (r"\operatorname{sign}\left(x\right)", {"x": -2.0}, -1.0),
    (r"\begin{cases} x & x > 0 \\ 0 & \text{else} \end{cases}", {"x": np.array([-1.0, 2.0])}, [0.0, 2.0]),
    (r"\max(\hat m, \beta_1)", {"mhat": 1.0, "beta_1": 2.0}, 2.0), (r"\max_k z_k", {"z": np.array([1.0, 5.0, 2.0])}, 5.0)])
def test_parser(formula, names, wanted):
    np.testing.assert_allclose(latex.evaluate(latex.parse(formula), names), wanted)


@pytest.mark.parametrize("formula", [r"x +", r"\frac{1}{2", r"(x", r"\unknown x", r"x )", r"\sum_"])
def test_parser_refuses(formula):
    with pytest.raises(latex.LatexError):
        latex.parse(formula)

"""The theory of the README, taken apart: its sections, formulas, tables and code; and what each formula's letters are worth.

A world gives the values of a section's letters, which come from xpnet's own layers, losses and optimizers, or from finite differences,
never from the formulas of the README. A formula holds in a world if both sides of it are worth the same. (A count such as n is a floating number
there: an integer would be the value of an index n.)
"""

import itertools
import math
import os
import re
from pathlib import Path
from typing import NamedTuple

import latex
import numpy as np

import xpnet
from xpnet import Dense, Model, Tanh
from xpnet.layers.activations import sigmoid

ROOT = Path(xpnet.__file__).resolve().parent.parent
README = Path(os.environ.get("XPNET_README", ROOT / "README.md"))
INLINE = re.compile(r"\$`([^`\n]+)`\$")


class Formula(NamedTuple):
    """latex, whether it is a displayed block, and where it stands: the section's anchor, the table's header and row (cells), the column."""

    latex: str
    block: bool
    section: str
    header: tuple = ()
    row: tuple = ()
    column: int = -1


def theory():
    """The text of the section, its own headings inside."""
    whole = README.read_text(encoding="utf-8")
    if "## Theory\n" not in whole:
        return None
    return re.split(r"(?m)^## ", whole.partition("## Theory\n")[2])[0]


def anchor(heading):
    """What GitHub calls a heading in links."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def formulas(markdown):
    """Every formula, in order."""
    found, section, header, lines = [], "theory", (), markdown.splitlines()
    i = 0
    while i < len(lines):
        line = lines[i]
        if line.startswith("```"):
            end = next(j for j in range(i + 1, len(lines)) if lines[j].startswith("```"))
            if line == "```math":
                found.append(Formula("\n".join(lines[i + 1:end]), True, section))
            i = end
        elif line.startswith("#"):
            section = anchor(line.lstrip("#"))
        elif line.startswith("|"):
            cells = tuple(c.strip() for c in line.strip("|").split(" | ")) if " | " in line else (line.strip("| "),)
            if not lines[i - 1].startswith("|"):
                header = cells
            found += [Formula(f, False, section, header, cells, c) for c, cell in enumerate(cells) for f in INLINE.findall(cell)]
        else:
            found += [Formula(f, False, section) for f in INLINE.findall(line)]
        i += 1
    return found


# Worlds.

class World(NamedTuple):
    names: dict
    functions: dict = {}
    tolerance: float = 1e-8


def jacobian(f, x, h=2.0 ** -15):
    """∂f/∂x by central differences, of the shape of f(x) and then that of x; the error of h² is taken out by a second step."""
    x = np.array(x, dtype=np.float64)

    def difference(i, h):
        moved = np.zeros(x.size)
        moved[i] = h
        moved = moved.reshape(x.shape)
        return (np.asarray(f(x + moved)) - np.asarray(f(x - moved))) / (2.0 * h)

    columns = [(4.0 * difference(i, h) - difference(i, 2.0 * h)) / 3.0 for i in range(x.size)]
    return np.reshape(np.stack(columns, axis=-1), (*np.shape(columns[0]), *x.shape))


def slope(f):
    """f' of what acts entry by entry."""
    return lambda x, h=2.0 ** -15: (8.0 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12.0 * h)


TANH = {"f": np.tanh, "f'": slope(np.tanh)}


def tanh_of_xpnet(z):
    return Tanh()(z)[0]


def tanh_slope_of_xpnet(z):
    return Tanh()(z)[1](np.ones_like(z))[0]


SIZES, DEPTH = (4, 5, 3, 2), 3


def network(n, layer, by="xpnet"):
    """A network of three Dense + tanh and a squared error, its letters for l = layer. Gradients from xpnet's layers, or by differences."""
    rng = np.random.default_rng(7)
    x, t = rng.standard_normal((n, SIZES[0])), rng.standard_normal((n, SIZES[-1]))
    W = [rng.standard_normal(s) for s in itertools.pairwise(SIZES)]
    b = [rng.standard_normal(s) for s in SIZES[1:]]
    loss = xpnet.MeanSquaredError("batch_mean")
    names = {"n": float(n), "x": x, "t": t, "a^(0)": x}
    values, found = {"a^(0)": x}, {}
    a, tape = x, []
    for i in range(DEPTH):
        z, back_z = Dense(*W[i].shape)(a, {"W": W[i], "b": b[i]})
        a, back_a = Tanh()(z)
        values |= {f"z^({i + 1})": z, f"a^({i + 1})": a, f"W^({i + 1})": W[i], f"b^({i + 1})": b[i]}
        tape.append((back_z, back_a))
    names["L"], da = loss(a, t)
    for i in reversed(range(DEPTH)):
        found[f"a^({i + 1})"] = da
        dz, _ = tape[i][1](da)
        da, grads = tape[i][0](dz)
        found |= {f"z^({i + 1})": dz, f"W^({i + 1})": grads["W"], f"b^({i + 1})": grads["b"]}
    found["a^(0)"] = da
    if by == "differences":
        for name in found:
            found[name] = jacobian(lambda v, name=name: _from(name, v, values, t), values[name])
    for name, value in values.items():
        names[name], names[f"d{name}"] = value, found[name]
        if name.startswith("z"):
            names[name.replace("z", "delta")] = found[name]
    for letter, number in (("D", DEPTH), ("l", layer), ("l-1", layer - 1), ("l+1", layer + 1)):
        names |= {re.sub(rf"\({number}\)", f"({letter})", name): v for name, v in list(names.items()) if f"({number})" in name}
    names |= {"W": W[0], "b": b[0], "z": values["z^(1)"], "y": values["a^(1)"], "delta": found["z^(1)"]}
    names |= {"dW": found["W^(1)"], "db": found["b^(1)"], "dz": found["z^(1)"], "dx": found["a^(0)"]}
    functions = TANH if by == "differences" else {"f": tanh_of_xpnet, "f'": tanh_slope_of_xpnet}
    return World(names, functions, 1e-8 if by == "differences" else 1e-12)


def _from(name, value, values, t):
    """L of the network in plain NumPy, with another value of one of its arrays."""
    got = {**values, name: value}
    start = int(name[-2])
    a = got["a^(0)"] if start == 0 or name[0] in "Wb" else None
    for i in range(1 if name[0] in "Wb" else max(start, 1), DEPTH + 1):
        if name == f"a^({i})":
            a = value
            continue
        z = value if name == f"z^({i})" else a @ got[f"W^({i})"] + got[f"b^({i})"]
        a = np.tanh(z)
    return np.sum((a - t) ** 2) / len(t)


def batch_worlds():
    return [network(3, layer, by) for layer in (1, 2) for by in ("xpnet", "differences")]


def one_sample():
    """The network on one row, with Jacobians of single steps."""
    made = []
    for layer in (1, 2):
        for by in ("xpnet", "differences"):
            world = network(1, layer, by)
            names = world.names
            z_of_a = lambda a, names=names: (a @ names["W^(l+1)"] + names["b^(l+1)"])   # noqa: E731
            more = {"dz^(l+1)/da^(l)": jacobian(z_of_a, names["a^(l)"][0]), "da^(D)/dz^(D)": jacobian(np.tanh, names["z^(D)"][0]),
                    "dz^(l)/db^(l)": jacobian(lambda b, names=names: names["a^(l-1)"][0] @ names["W^(l)"] + b, names["b^(l)"]),
                    "dz^(l)/dW^(l)": jacobian(lambda W, names=names: names["a^(l-1)"][0] @ W + names["b^(l)"], names["W^(l)"])}
            made.append(World({**names, **more}, world.functions, 1e-8))
    return made


def columns():
    """The batch, as lectures with a sample a column have it."""
    made = []
    for world in batch_worlds():
        n, names = world.names["n"], {"m": world.names["n"]}
        for name, value in world.names.items():
            if "^" not in name:
                continue
            own = name.startswith(("delta", "da"))    # of each sample's own loss
            value = np.asarray(value) * (n if own else 1)
            key = name.replace("da^", "dell/da^") if name.startswith("da") else name
            names[key] = value.T if value.ndim == 2 else value[:, None]
        made.append(World(names, world.functions, world.tolerance))
    return made


def contract():
    """A Dense with tanh on one sample: its Jacobians by differences, and what its backward says."""
    rng = np.random.default_rng(1)
    layer, x, dy, v = Dense(3, 2, "tanh"), rng.standard_normal(3), rng.standard_normal(2), rng.standard_normal(3)
    theta = rng.standard_normal(3 * 2 + 2)

    def run(x, theta):
        return layer(x[None, :], {"W": theta[:6].reshape(3, 2), "b": theta[6:], "activation": {}})

    dx, grads = run(x, theta)[1](dy[None, :])
    J = jacobian(lambda x: run(x, theta)[0][0], x)
    return [World({"dy/dx": J, "J": J, "dy/dtheta": jacobian(lambda p: run(x, p)[0][0], theta), "dx": dx[0], "dy": dy, "v": v,
                   "dtheta": np.concatenate([grads["W"].ravel(), grads["b"]])})]


def forward():
    """The batch, and what two affine layers make of it without an activation between."""
    return batch_worlds()


def losses_of_samples():
    rng = np.random.default_rng(2)
    y, t = rng.standard_normal((2, 5, 3))
    loss = xpnet.MeanSquaredError("batch_mean")
    L, dy = loss(y, t)

    def own(y):
        return np.stack([xpnet.MeanSquaredError("sum")(y[i:i + 1], t[i:i + 1])[0] for i in range(5)])

    return [World({"n": 5.0, "L": L, "dy": dy, "ell": own(y), "dell/dy": jacobian(own, y)})]


def chain():
    """x to z by a Dense, to a by tanh, to y by a Dense, to L; and s, which is used twice."""
    rng = np.random.default_rng(3)
    W, V, x, t = rng.standard_normal((4, 3)), rng.standard_normal((3, 2)), rng.standard_normal(4), rng.standard_normal(2)
    first, last, loss = Dense(4, 3, bias=False), Dense(3, 2, bias=False), xpnet.MeanSquaredError("sum")
    z, back_z = first(x[None, :], {"W": W})
    a, back_a = Tanh()(z)
    y, back_y = last(a, {"W": V})
    dy = loss(y, t[None, :])[1]
    da = back_y(dy)[0]
    dz = back_a(da)[0]
    dx = back_z(dz)[0]
    s = rng.standard_normal(3)
    P, Q = rng.standard_normal((2, 3, 4))
    uses = {"u": lambda s: np.tanh(s @ P), "v": lambda s: (s * s) @ Q}
    outer = {"u": lambda u: np.sum(u ** 3), "v": lambda v: np.sum(v * v)}
    names = {"x": x, "z": z[0], "a": a[0], "y": y[0], "dx": dx[0], "dz": dz[0], "da": da[0], "dy": dy[0], "W": W,
             "dz/dx": jacobian(lambda x: x @ W, x), "da/dz": jacobian(np.tanh, z[0]), "dy/da": jacobian(lambda a: a @ V, a[0]),
             "ds": jacobian(lambda s: sum(outer[k](uses[k](s)) for k in uses), s)}
    names |= {f"d{k}/ds": jacobian(uses[k], s) for k in uses} | {f"d{k}": jacobian(outer[k], uses[k](s)) for k in uses}
    return [World(names, TANH)]


def softmax():
    rng = np.random.default_rng(4)
    z, q, dp = rng.standard_normal(4), rng.dirichlet(np.ones(4)), rng.standard_normal(4)
    p, back = xpnet.Softmax()(z[None, :])
    ell, dz = xpnet.SoftmaxCrossEntropy()(z[None, :], q[None, :])
    return [World({"z": z, "p": p[0], "q": q, "ell": ell, "dell/dz": dz[0], "dL": None, "dp": dp, "dz": back(dp[None, :])[0][0],
                   "dp/dz": jacobian(lambda z: xpnet.Softmax()(z[None, :])[0][0], z),
                   "dell/dp": jacobian(lambda p: -np.sum(q * np.log(p)), p[0])})]


def two_classes():
    made = []
    for z, t in ((1.3, 0.0), (-0.4, 1.0), (0.7, 0.3)):
        y = sigmoid(np, np.array([[z]]))[0, 0]
        bce, dz = xpnet.BinaryCrossEntropy()(np.array([[z]]), np.array([[t]]))
        made.append(World({"z": z, "t": t, "y": y, "ell_BCE": bce, "dell/dz_BCE": dz[0, 0], "ell_MSE": (y - t) ** 2,
                           "dell/dz_MSE": jacobian(lambda z, t=t: (1.0 / (1.0 + np.exp(-z)) - t) ** 2, z)}))
    return made


def activations():
    rng = np.random.default_rng(5)
    made = []
    for x in np.linspace(-3.0, 3.0, 13) + 0.01:
        gelu = xpnet.GELU("tanh")
        y, back = gelu(np.array([x]))
        made.append(World({"x": x, "u": np.arctanh(2.0 * y[0] / x - 1.0), "f(x)": y[0], "f'(x)": back(np.ones(1))[0][0]}, tolerance=1e-7))
    x, dy, a = rng.standard_normal((3, 5, 4))
    y, back = xpnet.PReLU(4)(x, {"a": a[0]})
    prelu = World({"x": x, "dy": dy, "da": back(dy)[1]["a"]})
    return [*made, prelu]


def averages():
    """Adam's m after t steps, from xpnet."""
    rng = np.random.default_rng(6)
    model = Model(Dense(1, 1, bias=False), backend="numpy", dtype="float64")
    optimizer, g = xpnet.Adam(0.1, beta1=0.8), rng.standard_normal(7)
    for i in range(1, 7):
        optimizer.step(model, g[i:i + 1])
    adam = World({"m_t": optimizer.state["m"][0], "g": g, "t": 6, "beta_1": 0.8}, {}, 1e-12)
    momentum = xpnet.Momentum(1e-9, 0.9)
    for _ in range(500):
        momentum.step(model, g[:1])
    penalty = {"lambda": 0.3, "theta": g, "P": 0.15 * np.sum(g * g), "dP/dtheta": jacobian(lambda theta: 0.15 * np.sum(theta * theta), g)}
    return [adam, sgd(), World({"v": momentum.state["v"], "g": g[:1], "mu": 0.9}), World(penalty)]


def sgd():
    """One step, in xpnet."""
    model, g = Model(Dense(2, 2), backend="numpy", dtype="float64"), np.random.default_rng(9).standard_normal(6)
    before = np.array(model.params)
    xpnet.SGD(0.1).step(model, g)
    return World({"theta": before, "eta": 0.1, "g": g, "dtheta": g, "new theta": np.array(model.params)}, {}, 1e-12)


def draws():
    """The mean over a batch of B of n samples, for every batch that can be drawn."""
    g = np.array([0.3, -1.2, 2.0, 0.7, 1.1])
    made = []
    for size in range(1, 6):
        means = [np.mean(drawn) for drawn in itertools.permutations(g, size)]
        found = {"E(gbar)": np.mean(means), "Var(gbar)": np.var(means)}
        made.append(World({"n": 5.0, "B": size, "g": g, "sigma": np.std(g), **found}, {}, 1e-12))
    return made


def variances():
    """z = xW and ∂L/∂x = δWᵀ of every combination of a few values, equally likely."""
    values, s, d, k = (-1.0, 0.5, 2.0), 0.7, 3, 2

    def all_sums(values, count):
        return np.array([np.dot(x, w) for x in itertools.product(values, repeat=count) for w in itertools.product((-s, s), repeat=count)])

    z, dx, uniform = all_sums(values, d), all_sums((0.4, -1.5), k), ((np.arange(20000) + 0.5) / 10000.0 - 1.0) * 1.7
    layer = forward()[0].names
    return [World({"x": layer["x"], "W": layer["W"], "z": layer["z"] - layer["b"]}), World({"s": 1.7, "Var(u)": np.var(uniform)}),
            World({"d": d, "k": k, "Var(W)": 0.49, "Var(z)": np.var(z), "E(x^2)": np.mean(np.square(values)), "Var(dx)": np.var(dx),
                   "E(delta^2)": np.mean(np.square((0.4, -1.5))), "E(y^2)": np.mean(np.maximum(z, 0.0) ** 2), "y": np.maximum(z, 0.0), "z": z})]


def numerics():
    rng = np.random.default_rng(8)
    z = rng.standard_normal(5)
    made = [World({"z": z, "m": np.max(z), "x": x}, {}, 1e-12) for x in (-2.0, 1.5)]
    for world in (network(1, layer) for layer in (1, 2)):
        names = {name: v for name, v in world.names.items() if name.startswith(("delta", "W^", "z^"))}
        made.append(World(names, {**world.functions, "norm": lambda a: np.linalg.norm(a, 2)}))
    x, W = rng.standard_normal(3), rng.standard_normal((3, 3))

    def residual(x):
        return xpnet.Residual(Dense(3, 3, "tanh"))(x[None, :], {"0": {"W": W, "b": np.zeros(3), "activation": {}}})[0][0]

    def f(x):
        return np.tanh(x @ W)

    return [*made, World({"x": x, "y": residual(x), "I": np.eye(3), "dy/dx": jacobian(residual, x), "df/dx": jacobian(f, x)}, {"f": f})]


def numeric_gradients():
    M, eps, L = 2.7, 2.0 ** -52, -1.3
    low, high = 1e-9, 1e-1

    def error(h):
        return h * h / 6.0 * M + eps * abs(L) / h

    for _ in range(200):                                  # ternary search for the step with the least error
        a, b = low + (high - low) / 3.0, high - (high - low) / 3.0
        low, high = (low, b) if error(a) < error(b) else (a, high)
    best = {"M": M, "varepsilon": eps, "L": L, "h": low, "E(h)": error(low)}
    theta, value = 0.4, (lambda theta: math.sin(3.0 * theta) * math.exp(theta))
    derivative = math.exp(theta) * (3.0 * math.cos(3.0 * theta) + math.sin(3.0 * theta))
    return [World({**best, "theta": theta, "dtheta": derivative}, {"L": lambda v: value(v)}, 1e-7)]


def sheet():
    """The batch, and one step of SGD in xpnet."""
    return [*batch_worlds(), sgd()]


WORLDS = {
    "the-contract-of-backward": contract, "networks-and-their-forward-pass": forward, "losses-and-their-derivatives": losses_of_samples,
    "the-chain-rule-backwards": chain, "the-four-equations": one_sample, "one-sample": one_sample, "a-batch": batch_worlds,
    "softmax-and-cross-entropy": softmax, "two-classes-and-the-squared-error": two_classes, "activations": activations,
    "from-gradient-descent-to-adam": averages, "batch-stochastic-mini-batch": draws, "initialisation": variances,
    "numerical-issues": numerics, "why-not-numerical-gradients": numeric_gradients, "cheat-sheet": sheet,
}


# Whether a formula holds.

class Fails(AssertionError):
    """Two sides that differ."""


class Unknown(Fails):
    """A letter that the world does not know."""


def check(tree, world):
    """Raise Fails where a formula does not hold in a world; say whether there was anything to compare."""
    operators, sides = latex.sides(tree)
    try:
        every = list(latex.assignments(latex.free(tree, world.names)))
        values = [[latex.evaluate(side, world.names, at, world.functions) for at in every] for side in sides]
        if operators and operators[0] == "<-":
            values[0] = [world.names[f"new {latex.key(sides[0])}"]]
        for operator, a, b, side in zip(operators, values, values[1:], sides[1:]):
            compare(operator, a, b, world.tolerance if operator != "~" else digits(side) or 1e-6)
    except KeyError as e:
        raise Unknown(str(e)) from e
    except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError, AttributeError) as e:
        raise Fails(f"{type(e).__name__}: {e}") from e
    return bool(operators)


def knowing(tree, worlds):
    """The worlds that know every letter of a formula."""
    found = []
    for world in worlds:
        try:
            check(tree, world)
        except Unknown:
            continue
        except Fails:
            pass
        found.append(world)
    return found


def compare(operator, a, b, tolerance):
    a, b = np.squeeze(np.asarray(a, dtype=np.float64)), np.squeeze(np.asarray(b, dtype=np.float64))
    if a.shape != b.shape:
        raise Fails(f"shapes {a.shape} and {b.shape}")
    if operator == "<=":
        ok = np.all(a <= b * (1.0 + 1e-12))
    else:
        ok = np.all(np.abs(a - b) <= tolerance * max(1e-300, float(np.max(np.abs(b), initial=0.0))) + 1e-14 * (operator != "~"))
    if not ok:
        raise Fails(f"{a} and {b}")


def digits(side):
    """How far a number that is written out may be off, relative to it: half a unit of the last digit that is given."""
    text = next((node[1] for _, node in latex.walk(side) if node[0] == "num" and "." in node[1]), None)
    return None if text is None else 0.5000001 * 10.0 ** -len(text.partition(".")[2]) / float(text)


def mutants(tree):
    """(what is changed, the tree with that one thing changed): signs, transposes, factors, indices, slopes, comparisons."""
    other = {"+": "-", "-": "+", "/": "*", "odot": "+"}
    flipped = {"<": ">", ">": "<", "<=": ">", ">=": "<", "=": "!=", "!=": "="}
    pairs = (("f", "f'"), ("max", "min"), ("sigma", "sigma'"), ("tanh", "cosh"), ("log", "exp"))
    renamed = dict(pairs) | {b: a for a, b in pairs}
    operators = latex.sides(tree)[0]
    rough = "~" in operators                              # a number of a few digits does not tell 128 from 129
    if "<=" in operators:                                 # what is wrong may be less, too
        return
    for path, node in latex.walk(tree):
        kind, new = node[0], []
        if kind in other:
            new.append((other[kind], *node[1:]))
        elif kind in ("neg", "T"):
            new.append(node[1])
        elif kind == "num" and not rough:
            new.append(("num", str(int(float(node[1])) + 1)))
        elif kind == "call" and node[1] in renamed:
            new.append(("call", renamed[node[1]], node[2]))
        elif kind == "name" and len(node[2]) == 2 and node[2][0] != node[2][1] and "/" not in node[1]:
            new.append(("name", node[1], node[2][::-1]))
        elif kind == "name" and ("(l-1)" in node[1] or "(l+1)" in node[1]):
            new.append(("name", re.sub(r"\(l[-+]1\)", "(l)", node[1]), node[2]))
        elif kind == "sum over":
            new.append(node[4])
        elif kind == "relation" and path:
            new.append(("relation", tuple(flipped[op] for op in node[1]), node[2]))
        for changed in new:
            yield f"{latex.text(node)} to {latex.text(changed)}", latex.replaced(tree, path, changed)

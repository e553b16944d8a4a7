"""Exercises: what is right is accepted in every form, what is wrong is rejected, and the sheet holds all that is needed."""

import json
import math
import os
import re
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from broken import BROKEN, BROKEN_LOSSES
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet as xn
from xpnet import bug_zoo, cli
from xpnet.backend import namespace
from xpnet.bug_zoo.open import Twice
from xpnet.exercises import TOPICS, Grade, exercise, sheet
from xpnet.exercises.answers import Unreadable, read
from xpnet.exercises.document import Derived
from xpnet.exercises.draw import Draw
from xpnet.exercises.question import topic
from xpnet.layer import Context, Layer
from xpnet.layers.activations import NAMES

KINDS = {t.kind for t in TOPICS.values()}
SEEDS = st.integers(0, 10 ** 9)


def test_topics_differ_in_kind():
    assert len(KINDS) >= 24
    assert {f"activation-{name}" for name in NAMES} < set(TOPICS)
    assert len({t.title for t in TOPICS.values()}) == len(TOPICS)


# Numbers.

@pytest.mark.parametrize("name", TOPICS)
@settings(max_examples=2, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_right_answers_are_right_and_others_are_not(name, seed):
    check(name, seed)


@pytest.mark.full
@pytest.mark.parametrize("name", TOPICS)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_right_answers_are_right_and_others_are_not_for_many_seeds(name, seed):
    check(name, seed)


def check(name, seed):
    e = exercise(name, seed)
    assert e.parts and all(np.all(np.isfinite(a)) for a in (*e.answers.values(), *e.given.values()))
    for form in forms(e):
        grade = e.grade(form)
        assert grade, (name, seed, str(grade))
    for part in e.parts:
        for index in np.ndindex(part.value.shape):
            for by in (1e-3, -1e-3):
                a = part.value.copy()
                a[index] += by
                grade = e.grade({**e.answers, part.name: a})
                assert not grade and not grade[part.name].right and grade[part.name].hint, (name, seed, part.name, index)
                assert sum(not v.right for v in grade.verdicts.values()) == 1
        for words, wrong in part.mistakes.items():
            grade = e.grade({**e.answers, part.name: wrong})
            assert not grade and grade[part.name].hint, (name, seed, part.name, words)
            if wrong.shape == part.value.shape:
                hints = {w for w, other in part.mistakes.items() if other.shape == wrong.shape and np.all(part.near(other, wrong))}
                assert grade[part.name].hint in hints, (part.name, words, grade[part.name].hint)
        bad = part.value.copy()
        bad[(0,) * bad.ndim] = np.nan
        assert "not a finite number" in e.grade({**e.answers, part.name: bad})[part.name].hint
        for odd in (None, "", "x", [], np.ones((2, 3, 4)), np.append(part.value, 1.0), part.value[None, None, ...].repeat(2, 0)):
            assert e.grade({**e.answers, part.name: odd})[part.name].hint
    assert "nan" not in (e.text() + e.solution.text()).replace("NaN, not a number", "").lower().split()
    # What is printed in the solution is what is graded.
    assert e.grade({part.name: part.shown() for part in e.parts})


def forms(e):
    """The answers in many forms."""
    yield e.answers
    yield {part.name: part.shown() for part in e.parts}                              # rounded as asked
    yield {name: a.tolist() for name, a in e.answers.items()}
    yield {name: a.tolist() if a.ndim < 2 else tuple(map(tuple, a.tolist())) for name, a in e.answers.items()}
    yield {name: as_fractions(a, Fraction) for name, a in e.answers.items()}
    yield {name: as_fractions(a, lambda v: str(Fraction(v).limit_denominator(10 ** 9))) for name, a in e.answers.items()}
    yield {name: str(a.tolist()) for name, a in e.answers.items()}
    yield {name: a[None, :] if a.ndim == 1 else a for name, a in e.answers.items()}
    if e.columns:
        yield {name: a.T if a.ndim == 2 else a[:, None] if a.ndim == 1 else a for name, a in e.answers.items()}


def as_fractions(a, f):
    return [as_fractions(e, f) for e in a] if a.ndim else f(float(a))


def test_notations_are_not_mixed():
    e = exercise("dense-backward", 7)
    a = e.answers
    turned = {name: v.T for name, v in a.items()}
    assert e.grade(turned)
    mixed = e.grade({**a, "dW": a["dW"].T})
    assert not mixed and "one notation" in mixed["dW"].hint and mixed["dx"].right
    e = exercise("notation", 7)                           # where one notation is asked for, the other is wrong
    assert not e.grade({name: v.T for name, v in e.answers.items()})["z"]


def test_hints():
    e = exercise("dense-backward", 7)
    a = e.answers

    def hint(**wrong):
        return e.grade({**a, **wrong})[next(iter(wrong))].hint

    assert hint(dW=-a["dW"]) == "the sign is wrong"
    assert hint(dW=2 * a["dW"]) == "it is 2 times too large"
    assert hint(dx=a["dx"] / 3) == "it is 3 times too small"
    assert "divided by n" in hint(dW=a["dW"] / e.given["x"].shape[0])
    assert "the sum over the samples is missing" in hint(db=e.given["dz"])
    assert "mean over the samples" in hint(db=e.given["dz"].mean(axis=0))
    off = np.zeros(a["dW"].shape)
    off[1, 0] = 0.5
    assert hint(dW=a["dW"] + off) == "only entry (2, 1) is wrong"
    assert "nearly" in hint(dx=a["dx"] + 3e-4)
    assert "rows have different lengths" in hint(dW=[[1, 2], [3]])
    assert "'1/0' divides by 0" in hint(db=["1/0", 1, 2])
    assert "'abc' is no number" in hint(db=["abc", 1, 2])
    assert "decimal point" in hint(db="0,5")
    grade = e.grade({**a, "Dw": 1})
    assert grade and "no part 'Dw'" in grade.notes[0]
    assert not e.grade(a["dW"]) and "dictionary" in e.grade(a["dW"]).notes[0]
    assert e.grade({"dW": a["dW"]}).points == pytest.approx(1 / 3)
    assert "there is no answer" in str(e.grade({}))
    assert not Grade({})
    e = exercise("residual", 1)
    assert "skip path" in e.grade({**e.answers, "dx": e.answers["dx"] - e.given["dy"]})["dx"].hint


@pytest.mark.parametrize("text, value", [
    ("3/8", 0.375), ("-3/8", -0.375), (" 1 / 4 ", 0.25), ("1e-3", 0.001), ("−2.5", -2.5), (".5", 0.5), ("5.", 5.0), ("+4", 4.0),
    ("1 2; 3 4", [[1, 2], [3, 4]]), ("1, 2, 3", [1, 2, 3]), ("[[1, 2], [3, 1/2]]", [[1, 2], [3, 0.5]]), ("(4, 3)", [4, 3]), ("[5]", [5]),
    ("1 2\n3 4\n", [[1, 2], [3, 4]]), (Fraction(3, 8), 0.375), (Decimal("0.375"), 0.375), (np.float32(0.5), 0.5), (7, 7.0),
    ([[Fraction(1, 2)], ["0.25"]], [[0.5], [0.25]]), (np.array(["1/2", "2"], dtype=object), [0.5, 2]), (np.array(["1/2"]), [0.5])])
def test_forms_that_are_read(text, value):
    np.testing.assert_array_equal(read(text), value)


@pytest.mark.parametrize("text", [
    "", "  ", "one", "1 +", "2*3", "__import__('os').system('echo')", "1/2/3", "1//2", "0x10", "1_000", "1e99999999", "²", "٣", "[1, 2", "1]", "[[1], [2, 3]]",
    "1;2 3", "[" * 5000, None, True, [True], 1j, object(), {"a": 1}, {1, 2}, [None], [[1, 2], 3], b"12", 10 ** 400, Decimal("sNaN"), lambda: 1,
    np.array([1j]), np.array([True]), "9" * 20_000, [[[[[[[[[[1]]]]]]]]]], np.zeros(20_000), range, "1/0"])
def test_forms_that_are_not(text):
    with pytest.raises(Unreadable) as e:
        read(text)
    assert 5 < len(str(e.value)) < 200
    assert not exercise("gradient-descent", 0).grade({"w_1": text}) if not callable(text) else True


def test_a_text_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("open('made', 'w')", "__import__('pathlib').Path('made').touch()", "[x for x in [open('made', 'w')]]", "1 if open('made','w') else 2"):
        assert not exercise("dense-backward", 1).grade({"dW": text, "db": [text], "dx": np.array([[text]], dtype=object)})
    assert not list(tmp_path.iterdir())


anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.fractions() | st.complex_numbers() | st.binary()
                        | st.from_regex(r"[-0-9./,;eE\[\]() naif\n]{0,30}"), lambda e: st.lists(e, max_size=4) | st.tuples(e, e) | st.dictionaries(st.text(), e), max_leaves=8)


THIRD = {name: exercise(name, 3) for name in ("dense-forward", "adam", "shapes", "softmax-stability")}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(answer=anything, name=st.sampled_from(list(THIRD)))
def test_nothing_crashes_the_grader(answer, name):
    e = THIRD[name]
    for given_ in ({part.name: answer for part in e.parts}, answer, {answer if isinstance(answer, (str, int)) else 1: 2}):
        grade = e.grade(given_)
        assert not grade and isinstance(str(grade), str)


def test_answers_of_any_backend(backend):
    for name in ("dense-backward", "softmax-cross-entropy", "adam"):
        e = exercise(name, 5)
        assert e.grade({n: backend.asarray(a) for n, a in e.answers.items()})
        wrong = {n: backend.asarray(a + (1e-3 if a.ndim else 0.0)) for n, a in e.answers.items()}
        assert not e.grade(wrong)


# Seeds.

@pytest.mark.parametrize("name", TOPICS)
def test_a_seed_is_a_sheet(name, monkeypatch):
    first = [exercise(name, seed).markdown() for seed in range(8)]
    assert len(set(first)) >= 7
    monkeypatch.setenv("XPNET_BACKEND", "array-api-strict")
    np.random.seed(0)  # noqa: NPY002 (what others do to the global generator must not matter)
    again = exercise(name, 3)
    assert again.markdown() == first[3] and again.solution.markdown() == exercise(name, 3).solution.markdown()


def test_the_numbers_of_a_seed_are_these():
    """On every machine and in years: of the generator only its raw bits are used."""
    draw = Draw(7, "dense-backward")
    assert draw.numbers(6).tolist() == PINNED["numbers"]
    assert [draw.integer(1, 100) for _ in range(6)] == PINNED["integers"]
    assert draw.shuffled(range(6)) == PINNED["shuffled"]


PINNED = {"numbers": [-0.4, 0.3, -0.7, 0.4, -0.9, 0.4], "integers": [25, 58, 26, 52, 1, 61], "shuffled": [1, 3, 2, 4, 5, 0]}


def test_bad_topics_and_seeds():
    with pytest.raises(ValueError, match="unknown topic 'dense-backwards'; did you mean 'dense-backward'"):
        exercise("dense-backwards")
    for seed in (-1, 1.5, "7", True):
        with pytest.raises((TypeError, ValueError), match="seed is an integer"):
            exercise("adam", seed)


# The question holds every number, and the answer follows from what is printed.

MATRIX = re.compile(r"```math\n(.+?) = \\begin\{pmatrix\} (.+?) \\end\{pmatrix\}\n```")
NUMBER = re.compile(r"```math\n(.+?) = (-?[0-9.]+)\n```")


def printed(e):
    """What the Markdown of the question says of the given numbers: {symbol in LaTeX: array}."""
    found = {name: np.array([[float(v) for v in row.split("&")] for row in rows.split(r"\\")]) for name, rows in MATRIX.findall(e.markdown())}
    return found | {name: np.array(float(v)) for name, v in NUMBER.findall(e.markdown())}


@pytest.mark.parametrize("name", TOPICS)
def test_every_given_number_is_printed(name):
    from xpnet.exercises.derivation import symbol

    for seed in range(5):
        e = exercise(name, seed)
        found = printed(e)
        shown = {}
        for n, a in e.given.items():
            shown[symbol(n).latex] = a
        assert set(found) == set(shown)
        for latex, a in shown.items():
            np.testing.assert_array_equal(found[latex], np.atleast_2d(a) if a.ndim else a)
        assert all(f"`{part.name}`" in e.markdown() for part in e.parts)


def flat(e):
    """The question on one line."""
    return " ".join(e.text().split())


def sigma(x):
    return 1.0 / (1.0 + np.exp(-x))


def words(e, *names):
    """Numbers in the words of the question, as in "η = 0.1"."""
    return [float(re.search(rf"{re.escape(name)} = (-?[0-9.e-]*[0-9])", flat(e)).group(1)) for name in names]


def dense_forward(e, p):
    z = p["x"] @ p["W"] + p["b"]
    return {"z": z, "a": np.maximum(z, 0)}


def dense_backward(e, p):
    return {"dW": p["x"].T @ p["\\delta"], "db": p["\\delta"].sum(0), "dx": p["\\delta"] @ p["W"].T}


def batch_sums(e, p):
    n = len(p["D"])
    return {"db_sum": p["D"].sum(0), "db_mean": p["D"].mean(0), "dW_mean": p["x"].T @ p["D"] / n}


def hidden_delta(e, p):
    f, slope = (np.tanh, lambda a: 1 - a * a) if "tanh" in e.text() else (sigma, lambda a: a * (1 - a))
    z = p["x"] @ p["W^{(0)}"] + p["b^{(0)}"]
    a = f(z)
    d = p["\\delta^{(1)}"] @ p["W^{(1)}"].T * slope(a)
    return {"z_0": z, "a_0": a, "dz_0": d, "dW_0": p["x"].T @ d}


def dropout(e, p):
    (q,) = words(e, "p")
    y = p["x"] * p["m"] / (1 - q)
    return {"y": y, "dx": p[DY] * p["m"] / (1 - q), "y_inference": p["x"]}


DY = "\\frac{\\partial L}{\\partial y}"


def residual(e, p):
    a = np.tanh(p["x"] @ p["W"] + p["b"])
    d = p[DY] * (1 - a * a)
    return {"y": p["x"] + a, "dW": p["x"].T @ d, "dx": p[DY] + d @ p["W"].T}


def branching(e, p):
    x, V, W, dy = p["x"], p["W^{(0)}"], p["W^{(1)}"], p[DY]
    d = dy[:, :1] * (1 - np.tanh(x @ V) ** 2)
    return {"dW_0": x.T @ d, "dW_1": x.T @ dy[:, 1:], "dx": d @ V.T + dy[:, 1:] @ W.T}


def notation(e, p):
    d = p["\\delta"]
    return {"W": p["W"].T, "z": (p["x"] @ p["W"] + p["b"]).T, "dW": (p["x"].T @ d).T, "db": d.sum(0)[:, None], "dx": (d @ p["W"].T).T}


def counting(e, p):
    d, h, k, n = (int(v) for v in re.findall(r"has (\d+) inputs, a hidden layer of (\d+) units with ReLU, and (\d+) outputs.*A batch has (\d+)",
                                             flat(e))[0])
    return {"parameters_0": d * h + h, "parameters": d * h + h + h * k + k, "forward": n * (d * h + h * k), "backward": n * (d * h + 2 * h * k)}


def shapes(e, p):
    d, h, k, n = (int(v) for v in re.findall(r"takes (\d+) features to (\d+) hidden units and these to (\d+) outputs. The batch has (\d+)",
                                             flat(e))[0])
    return {"W_0": (d, h), "z_0": (n, h), "db_0": (h,), "da_0": (n, h), "dW_1": (h, k), "dx": (n, d)}


def softmax(z):
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def softmax_jacobian(e, p):
    y = softmax(p["x"][0])
    J = np.diag(y) - np.outer(y, y)
    return {"y": y, "J": J, "dx": J @ p[DY][0]}


def softmax_stability(e, p):
    x = p["x"][0]
    return {"naive": 2, "c": x - x.max(), "p": softmax(x), "l": x.max() + math.log(np.exp(x - x.max()).sum())}


def softmax_cross_entropy(e, p):
    n, q = len(p["z"]), softmax(p["z"])
    hit = np.eye(3)[p["t"][0].astype(int)]
    return {"p": q, "L": -np.log((q * hit).sum(1)).mean(), "dz": (q - hit) / n}


def binary_cross_entropy(e, p):
    q, t = sigma(p["z"]), p["t"]
    return {"p": q, "L": np.mean(-t * np.log(q) - (1 - t) * np.log(1 - q)), "dz": (q - t) / len(t)}


def mse_reductions(e, p):
    r = p["y"] - p["t"]
    n, k = r.shape
    scale = {"1/(nk)": 1 / (n * k), "1/n": 1 / n, "": 1, "1/(2nk)": 0.5 / (n * k), "1/(2n)": 0.5 / n, "½": 0.5}
    first, second = (scale[s.strip()] for s in re.search(r"L = (.*?)Σₙ.* and M = (.*?)Σₙ", flat(e)).groups())
    return {"L": first * np.sum(r * r), "dy": 2 * first * r, "dy_M": 2 * second * r}


def saturated_sigmoid(e, p):
    z, t = words(e, "z", "t")
    a = sigma(z)
    return {"a": a, "dz_square": (a - t) * a * (1 - a), "dz_entropy": a - t, "ratio": 1 / (a * (1 - a))}


def network(e, p, sequential=False):
    (lr,) = words(e, "η")
    x, t, V, c, W, b = (p[n] for n in ("x", "t", "W^{(0)}", "b^{(0)}", "W^{(1)}", "b^{(1)}"))
    h = sigma(x @ V + c)
    o = sigma(h @ W + b)
    d1 = (o - t) * o * (1 - o)
    W_new, b_new = W - lr * h.T @ d1, b - lr * d1[0]
    d0 = d1 @ W.T * h * (1 - h)
    V_new, c_new = V - lr * x.T @ d0, c - lr * d0[0]
    after = 0.5 * np.sum((sigma(sigma(x @ V_new + c_new) @ W_new + b_new) - t) ** 2)
    return {"a_1": o, "L": 0.5 * np.sum((o - t) ** 2), "dz_1": d1, "dz_0": d0, "dW_0": x.T @ d0, "W_1": W_new, "L_after": after,
            "dz_0_mistake": d1 @ W_new.T * h * (1 - h), "gradient_check": 2}


def symmetric_initialization(e, p):
    c, v = map(float, re.search(r"each of W⁽⁰⁾ is ([0-9.]+), each of W⁽¹⁾ is ([0-9.]*[0-9])", flat(e)).groups())
    (lr,) = words(e, "η")
    V, W = np.full((2, 2), c), np.full((2, 1), v)
    a = np.tanh(p["x"] @ V)
    d = (a @ W - p["t"]) / len(a) @ W.T * (1 - a * a)
    return {"a_0": a, "dW_0": p["x"].T @ d, "W_0": V - lr * p["x"].T @ d, "after": 3, "zero": 1}


def initialization_variance(e, p):
    text = flat(e)
    d, k = map(int, re.search(r"d = (\d+) inputs and k = (\d+)", text).groups())
    s, v, depth = map(float, re.search(r"variance ([0-9.]+), and the weights have mean 0 and variance ([0-9.]+)/d.*after (\d+) such", text).groups())
    return {"glorot_variance": 2 / (d + k), "glorot_bound": math.sqrt(6 / (d + k)), "he_deviation": math.sqrt(2 / d), "output_variance": v * s,
            "deep_variance": s * v ** depth}


def learning_rate_limit(e, p):
    text = flat(e)
    x, w = (float(re.search(rf"{n} = ([0-9.]*[0-9])", text).group(1)) for n in ("x", "W"))
    small, large = map(float, re.findall(r"two steps with η = ([0-9.]*[0-9])", text))
    return {"W_small": w * (1 - small * x * x) ** 2, "W_large": w * (1 - large * x * x) ** 2, "limit": 2 / x ** 2}


def gradient_descent(e, p):
    (lr,) = words(e, "η")
    w = p["w"] - lr * p["g_{1}"]
    return {"w_1": w, "w_2": w - lr * p["g_{2}"]}


def momentum(e, p, nesterov=False):
    lr, mu = words(e, "η", "μ")
    v = p["g_{1}"]
    w1 = p["w"] - lr * (v + mu * v if nesterov else v)
    u = mu * v + p["g_{2}"]
    return {"w_1": w1, "v_2": u, "w_2": w1 - lr * (p["g_{2}"] + mu * u if nesterov else u)}


def rmsprop(e, p):
    lr, alpha = words(e, "η", "α")
    s1 = (1 - alpha) * p["g_{1}"] ** 2
    s2 = alpha * s1 + (1 - alpha) * p["g_{2}"] ** 2
    return {"s_2": s2, "w_2": p["w"] - lr * p["g_{1}"] / np.sqrt(s1) - lr * p["g_{2}"] / np.sqrt(s2)}


def adam(e, p):
    lr, b1, b2 = words(e, "η", "β₁", "β₂")
    g, h = p["g_{1}"], p["g_{2}"]
    m, v = ((b1 * (1 - b1) * g + (1 - b1) * h) / (1 - b1 ** 2), (b2 * (1 - b2) * g ** 2 + (1 - b2) * h ** 2) / (1 - b2 ** 2))
    w = p["w"] - lr * np.sign(g)
    return {"w_1": w, "m_hat": m, "v_hat": v, "w_2": w - lr * m / np.sqrt(v)}


def l2_penalty(e, p):
    lr, lam = words(e, "η", "λ")
    total = p["g"] + lam * p["w"]
    return {"total": total, "w_new": p["w"] - lr * total, "factor": 1 - lr * lam}


def weight_decay(e, p):
    lr, lam = words(e, "η", "λ")
    return {"coupled": p["w"] - lr * np.sign(p["g"] + lam * p["w"]), "decoupled": p["w"] * (1 - lr * lam) - lr * np.sign(p["g"])}


def gradient_clipping(e, p):
    lr, c = words(e, "η", "c")
    limit = float(re.search(r"at most ([0-9.]+) in size", flat(e)).group(1))
    g = p["g"]
    norm = np.sqrt(np.sum(g * g))
    return {"norm": norm, "by_norm": g * c / norm, "by_value": np.clip(g, -limit, limit), "w_new": p["w"] - lr * g * c / norm}


def gradient_check(e, p):
    f = np.tanh if "tanh" in e.text() else sigma
    (h,) = words(e, "h")
    x, w, t = p["x"], p["W"], p["t"]

    def L(w):
        return 0.5 * (f(x * w) - t) ** 2

    g = (L(w + 1e-5) - L(w - 1e-5)) / 2e-5
    central = (L(w + h) - L(w - h)) / (2 * h)
    return {"gradient": g, "central": central, "forward": (L(w + h) - L(w)) / h, "error": abs(g - central) / (abs(g) + abs(central)), "better": 1}


def wrong_gradient(e, p):
    x, W, d = p["x"], p["W"], p["\\delta"]
    right = {"W": x.T @ d, "b": d.sum(0), "x": d @ W.T}
    said = {n: p[f"\\frac{{\\partial L}}{{\\partial {n}}}"] for n in right}
    wrong = [n for n in right if np.max(np.abs(right[n] - said[n])) > 1e-8]
    assert len(wrong) == 1
    options = [("x", d @ W), ("b", d.mean(0)), ("W", x.T @ d / 3), ("W", -x.T @ d), ("W", d.T @ x), ("b", d[-1])]
    (which,) = [i for i, (n, a) in enumerate(options, 1) if n == wrong[0] and np.max(np.abs(a - said[n])) < 1e-8]
    return {"mistake": which, "right": right[wrong[0]]}


def classification_metrics(e, p):
    t, y = p["t"][0].astype(int), p["y"][0].astype(int)
    c = int(re.search(r"precision of class (\d)", e.text()).group(1))
    C = np.array([[np.sum((t == i) & (y == j)) for j in range(3)] for i in range(3)])
    P, R = C[c, c] / C[:, c].sum(), C[c, c] / C[c].sum()
    return {"confusion": C, "accuracy": np.mean(t == y), "precision": P, "recall": R, "f1": 2 * P * R / (P + R)}


def chain_rule(e, p):
    """By complex steps through the printed formulas."""
    text = [line.strip() for line in e.text().split("\n")]
    formulas = [line for line in text if re.fullmatch(r"[qrf] = .*", line)]

    def f(a, b, c):
        env = {"a": a, "b": b, "c": c}
        for line in formulas:
            name, _, right = line.partition(" = ")
            right = right.replace("σ(q)", "1/(1 + np.exp(-q))")
            right = re.sub(r"\b([abcqr]) (?=[abcqr]\b)", r"\1 * ", right)
            env[name] = eval(right, {"np": np}, env)
        return env["f"]

    at = [float(p[n]) for n in "abc"]
    made = {"f": f(*at)}
    for i, n in enumerate("abc"):
        made[f"d{n}"] = np.imag(f(*[v + (1e-20j if i == j else 0) for j, v in enumerate(at)])) / 1e-20
    return made


def vanishing(e, p):
    f, slope, most = (np.tanh, lambda a: 1 - a * a, 1.0) if "tanh" in e.text() else (sigma, lambda a: a * (1 - a), 0.25)
    a, out = float(p["x"]), []
    for w in p["w"][0]:
        a = f(w * a)
        out.append(a)
    s = slope(np.array(out))
    return {"a": out, "s": s, "dx": np.prod(s) * np.prod(p["w"]), "bound": most ** 4 * np.prod(np.abs(p["w"]))}


def shared(e, p):
    x, W, b, d = p["x"], p["W"], p["b"], p["\\frac{\\partial L}{\\partial a^{(1)}}"]
    h = np.tanh(x @ W + b)
    y = np.tanh(h @ W + b)
    d1 = d * (1 - y * y)
    d0 = d1 @ W.T * (1 - h * h)
    return {"a_1": y, "dW": h.T @ d1 + x.T @ d0, "db": (d1 + d0).sum(0), "dx": d0 @ W.T}


def schedule(e, p):
    text = flat(e)
    (lr,) = words(e, "η₀")

    def eta(t):
        if "half a cosine" in text:
            w, T = words(e, "w", "T")
            return lr * (t + 1) / w if t < w else 0.5 * lr * (1 + math.cos(math.pi * min((t - w) / (T - w), 1.0)))
        if "⌊" in text:
            (gamma,) = words(e, "γ")
            return lr * gamma ** (t // int(re.search(r"⌊t / (\d+)⌋", text).group(1)))
        if "γᵗ" in text:
            return lr * words(e, "γ")[0] ** t
        end, T = words(e, "η₁", "T")
        return end + (lr - end) * (1 - min(t, T) / T)

    return {part.name: eta(int(part.name[3:])) for part in e.parts}


def convolution(e, p):
    x, w, d = p["x"][0], p["w"][0], p["\\delta"][0]
    return {"z": np.correlate(x, w, "valid") + p["b"], "dw": np.correlate(x, d, "valid"), "db": d.sum(), "dx": np.convolve(d, w)}


def max_pool(e, p):
    x, dy = p["x"], p[DY]
    y, dx = np.zeros((2, 2)), np.zeros((4, 4))
    for i in range(2):
        for j in range(2):
            window = [(x[a, b], a, b) for a in (2 * i, 2 * i + 1) for b in (2 * j, 2 * j + 1)]
            y[i, j], a, b = max(window, key=lambda entry: entry[0])   # the first of equals
            dx[a, b] = dy[i, j]
    return {"y": y, "dx": dx}


def convolution_counting(e, p):
    text = flat(e)
    size, c, k = map(int, re.search(r"images of (\d+) × \d+ with (\d+) channels? to (\d+) channels", text).groups())
    kernel, stride, padding = map(int, re.search(r"kernels are (\d+) × \d+, its stride is (\d+), and its padding is (\d+)", text).groups())
    places = len(range(-padding, size + padding - kernel + 1, stride))
    return {"places": places, "parameters": k * (c * kernel * kernel + 1), "multiplications": places * places * k * c * kernel * kernel}


def layer_norm(e, p):
    x, dy = p["x"], p[DY]
    xhat = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    J = [np.array([[(float(i == j) - 1 / x.shape[1] - xhat[r, i] * xhat[r, j] / x.shape[1]) / np.sqrt(x[r].var() + 1e-5)
                    for j in range(x.shape[1])] for i in range(x.shape[1])]) for r in range(len(x))]
    return {"y": xhat, "dgamma": (dy * xhat).sum(0), "dbeta": dy.sum(0), "dx": np.stack([g @ j for g, j in zip(dy, J)])}


def batch_norm_statistics(e, p):
    x, text = p["x"][0], flat(e)
    q, mean, var, new = (float(re.search(rf"{what} (-?[0-9.]*[0-9])", text).group(1)) for what in (
        "momentum", "running mean is", "running variance", "the sample x ="))
    A, B = (1 - q) * mean + q * x.mean(), (1 - q) * var + q * x.var(ddof=1)
    return {"y": (x - x.mean()) / np.sqrt(x.var() + 1e-5), "mean": A, "var": B, "y_new": (new - A) / np.sqrt(B + 1e-5)}


def attention(e, p):
    """The gradients by complex steps."""
    Q, K, V, dO = (p[name] for name in ("Q", "K", "V", "\\frac{\\partial L}{\\partial O}"))

    def weights(Q, K):
        a = np.exp(Q @ K.T / np.sqrt(Q.shape[1]))
        return a / a.sum(1, keepdims=True)

    def slope(f, a):
        g = np.zeros(a.shape)
        for i in np.ndindex(a.shape):
            moved = a.astype(complex)
            moved[i] += 1e-30j
            g[i] = np.sum(dO * f(moved)).imag / 1e-30
        return g

    return {"P": weights(Q, K), "O": weights(Q, K) @ V, "dV": slope(lambda v: weights(Q, K) @ v, V),
            "dQ": slope(lambda q: weights(q, K) @ V, Q), "dK": slope(lambda k: weights(Q, k) @ V, K)}


def embedding(e, p):
    W, dy = p["W"], p[DY]
    tokens = [int(v) for v in re.search(r"The tokens are ([\d, ]+), and", flat(e)).group(1).split(",")]
    return {"y": W[tokens], "dW": sum(np.outer(np.eye(len(W))[t], g) for t, g in zip(tokens, dy))}


def through_time(e, p):
    x, (w, u, b), dy = p["x"][0], (float(p[name]) for name in "wub"), p[DY][0]

    def loss(w, u, b, moved=(0.0, 0.0, 0.0)):
        """Σ dy h, by complex steps: no backward pass at all."""
        h, total, states = 0.0, 0.0, []
        for t in range(3):
            h = np.tanh(w * x[t] + u * h + b + moved[t])
            states.append(h)
            total = total + dy[t] * h
        return total, states

    s = 1e-30j
    return {"h": loss(w, u, b)[1], "dw": loss(w + s, u, b)[0].imag / 1e-30, "du": loss(w, u + s, b)[0].imag / 1e-30,
            "db": loss(w, u, b + s)[0].imag / 1e-30, "dz": [loss(w, u, b, [s * (t == i) for t in range(3)])[0].imag / 1e-30 for i in range(3)]}


SOLVED = {"embedding": embedding, "attention": attention, "backpropagation-through-time": through_time, "layer-norm": layer_norm, "batch-norm-statistics": batch_norm_statistics, "dense-forward": dense_forward, "dense-backward": dense_backward, "batch-sums": batch_sums, "hidden-delta": hidden_delta, "dropout": dropout,
          "residual": residual, "branching": branching, "notation": notation, "counting": counting, "shapes": shapes, "softmax-jacobian": softmax_jacobian,
          "softmax-stability": softmax_stability, "softmax-cross-entropy": softmax_cross_entropy, "binary-cross-entropy": binary_cross_entropy,
          "mse-reductions": mse_reductions, "saturated-sigmoid": saturated_sigmoid, "two-layer-step": network, "sequential-update": network,
          "symmetric-initialization": symmetric_initialization, "initialization-variance": initialization_variance,
          "learning-rate-limit": learning_rate_limit, "gradient-descent": gradient_descent, "momentum": momentum,
          "nesterov": lambda e, p: momentum(e, p, True), "rmsprop": rmsprop, "adam": adam, "l2-penalty": l2_penalty, "weight-decay": weight_decay,
          "gradient-clipping": gradient_clipping, "gradient-check": gradient_check, "wrong-gradient": wrong_gradient,
          "classification-metrics": classification_metrics, "chain-rule": chain_rule, "vanishing-gradient": vanishing, "shared-weights": shared,
          "learning-rate-schedule": schedule, "convolution": convolution, "max-pool": max_pool, "convolution-counting": convolution_counting}


@pytest.mark.parametrize("seeds", [4, pytest.param(60, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", SOLVED)
def test_the_answers_follow_from_the_printed_numbers(name, seeds):
    for seed in range(seeds):
        e = exercise(name, seed)
        solved = SOLVED[name](e, printed(e))
        for part in e.parts:
            np.testing.assert_allclose(np.reshape(solved[part.name], part.value.shape), part.value, rtol=1e-6, atol=1e-6,
                                       err_msg=f"{name} {seed} {part.name}")


def test_every_kind_is_solved_from_the_printed_numbers():
    assert {t.kind for name, t in TOPICS.items() if name not in SOLVED} == {"activation"}


ACTIVATION = {"identity": lambda x: x, "relu": "relu", "leaky_relu": "leaky_relu", "sigmoid": "sigmoid", "tanh": "tanh", "softplus": "softplus", "elu": "elu",
              "selu": "selu", "gelu": "gelu", "silu": "silu", "hard_sigmoid": "hardsigmoid", "hard_swish": "hardswish"}


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_activations_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    for seed in range(20):
        e = exercise(f"activation-{name}", seed)
        p = printed(e)
        x = torch.tensor(p["x"][0], requires_grad=True)
        a = torch.tensor([0.25], dtype=torch.float64, requires_grad=True)
        if name == "prelu":
            y = F.prelu(x, a)
        elif name in ("softmax", "log_softmax"):
            y = getattr(F, name)(x, dim=-1)
        else:
            f = ACTIVATION[name]
            y = f(x) if callable(f) else getattr(F, f)(x) if hasattr(F, f) else getattr(torch, f)(x)
        y.backward(torch.tensor(p[DY][0]))
        made = {"y": y.detach().numpy(), "dx": x.grad.numpy(), **({"da": a.grad.numpy()} if name == "prelu" else {})}
        assert e.grade(made), (name, seed, str(e.grade(made)))
        for part in e.parts:
            np.testing.assert_allclose(np.reshape(made[part.name], part.value.shape), part.value, rtol=1e-6, atol=1e-8)   # PyTorch has 1/6 in float32


@pytest.mark.parametrize("name", TOPICS)
def test_a_solution_is_explained(name):
    """Where a network, loss or optimizer is, lines of `explain` are in the solution, whose formulas agree and whose gradients are checked."""
    e = exercise(name, 11)
    lines = [line for block in e.solution.blocks if isinstance(block, Derived) for line in block.lines]
    assert lines
    for line in lines:
        assert line.apart < 1e-9
        assert line.check is None or line.check.error < 1e-6
    text = e.solution.text()
    assert "DIFFERS" not in text and "e-16" not in text and "e-17" not in text
    for part in e.parts:
        assert f"{part.name}" in text


# A student's own functions.

def xp_of(a):
    return namespace(a)


def backward_dense(dz, x, W):
    return dz @ W.T, x.T @ dz, xp_of(x).sum(dz, axis=0)


def layer_dense(x, W, b):
    return x @ W + b, lambda dz: {"dx": dz @ W.T, "dW": x.T @ dz, "db": xp_of(x).sum(dz, axis=0)}


def layer_sigmoid_dense(x, W, b):
    a = 1.0 / (1.0 + xp_of(x).exp(-(x @ W + b)))
    return a, lambda da: backward_dense(da * a * (1.0 - a), x, W)


def layer_tanh_dense(x, W, b):
    a = xp_of(x).tanh(x @ W + b)
    return a, lambda da: backward_dense(da * (1.0 - a * a), x, W)


def own_hidden(seed):
    return layer_tanh_dense if "tanh" in exercise("hidden-delta", seed).task.what else layer_sigmoid_dense


def own_dropout(x, m, p, training):
    s = m / (1.0 - p) if training else xp_of(x).ones_like(x)
    return x * s, lambda dy: dy * s


def own_shared(x, W, b):
    h, first = layer_tanh_dense(x, W, b)
    y, second = layer_tanh_dense(h, W, b)

    def backward(dy):
        dh, dW2, db2 = second(dy)
        dx, dW1, db1 = first(dh)
        return dx, dW1 + dW2, db1 + db2

    return y, backward


def own_residual(x, W, b):
    f, back = layer_tanh_dense(x, W, b)

    def backward(dy):
        dx, dW, db = back(dy)
        return dx + dy, dW, db

    return x + f, backward


def own_concat(x, W0, b0, W1, b1):
    y0, first = layer_tanh_dense(x, W0, b0)
    y1, second = layer_dense(x, W1, b1)
    k = y0.shape[1]

    def backward(dy):
        dx, dW0, db0 = first(dy[:, :k])
        more = second(dy[:, k:])
        return {"dx": dx + more["dx"], "dW0": dW0, "db0": db0, "dW1": more["dW"], "db1": more["db"]}

    return xp_of(x).concat([y0, y1], axis=1), backward


def own_softmax(x):
    xp = xp_of(x)
    y = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    y = y / xp.sum(y, axis=-1, keepdims=True)
    return y, lambda dy: y * (dy - xp.sum(y * dy, axis=-1, keepdims=True))


def own_cross_entropy(z, t):
    xp = xp_of(z)
    n, k = z.shape
    c = z - xp.max(z, axis=1, keepdims=True)
    log_p = c - xp.log(xp.sum(xp.exp(c), axis=1, keepdims=True))
    hit = xp.astype(t[:, None] == xp.arange(k, dtype=t.dtype, device=t.device)[None, :], z.dtype)
    return -xp.sum(hit * log_p) / n, (xp.exp(log_p) - hit) / n


def own_bce(z, t):
    xp = xp_of(z)
    n = math.prod(z.shape)
    e = xp.exp(-xp.abs(z))
    p = xp.where(z > 0.0, 1.0 / (1.0 + e), e / (1.0 + e))
    return xp.sum(xp.maximum(z, xp.zeros_like(z)) - t * z + xp.log1p(e)) / n, (p - t) / n


def own_mse(seed):
    e = exercise("mse-reductions", seed)
    text = e.task.what

    def loss(y, t):
        n, k = y.shape
        s = 1.0 / (n * k) if "1/(nk)" in text else 0.5 / (n * k) if "1/(2nk)" in text else 0.5 / n if "1/(2n)" in text else 1.0 / n if "1/n" in text \
            else 0.5 if "½" in text else 1.0
        r = y - t
        return s * xp_of(y).sum(r * r), 2.0 * s * r

    return loss


def own_momentum(w, g, state, lr, mu):
    state["v"] = mu * state.get("v", 0.0) + g
    return w - lr * state["v"]


def own_nesterov(w, g, state, lr, mu):
    state["v"] = mu * state.get("v", 0.0) + g
    return w - lr * (g + mu * state["v"])


def own_rmsprop(w, g, state, lr, alpha):
    state["s"] = alpha * state.get("s", 0.0) + (1.0 - alpha) * g * g
    return w - lr * g / (xp_of(g).sqrt(state["s"]) + 1e-8)


def own_adam(w, g, state, t, lr, beta1, beta2):
    state["m"] = beta1 * state.get("m", 0.0) + (1.0 - beta1) * g
    state["v"] = beta2 * state.get("v", 0.0) + (1.0 - beta2) * g * g
    return w - lr * (state["m"] / (1.0 - beta1 ** t)) / (xp_of(g).sqrt(state["v"] / (1.0 - beta2 ** t)) + 1e-8)


def own_adamw(w, g, state, t, lr, lam, beta1, beta2):
    return own_adam((1.0 - lr * lam) * w, g, state, t, lr, beta1, beta2)


def own_clip(g, c):
    xp = xp_of(g)
    norm = float(xp.sqrt(xp.sum(g * g)))
    return g * (c / norm) if norm > c else 1.0 * g


def own_schedule(seed):
    e = exercise("learning-rate-schedule", seed)
    return lambda t: schedule(SimpleNamespace(text=e.text, parts=[SimpleNamespace(name=f"lr_{t}")]), {})[f"lr_{t}"]


def own_confusion(y, t, k):
    xp = xp_of(y)
    number = xp.arange(k, dtype=t.dtype, device=t.device)
    return xp.sum(xp.astype((t[:, None, None] == number[None, :, None]) & (y[:, None, None] == number[None, None, :]), xp.int64), axis=0)


def inner(xp, x, limit):
    return xp.astype(xp.abs(x) < limit, x.dtype)


def above(xp, x):
    return xp.astype(x > 0.0, x.dtype)


def elu_slope(xp, x, alpha=1.0, scale=1.0):
    return scale * (above(xp, x) + (1.0 - above(xp, x)) * alpha * xp.exp(xp.minimum(x, xp.zeros_like(x))))


def logistic(xp, x):
    return 1.0 / (1.0 + xp.exp(-x))


def silu_slope(xp, x):
    s = logistic(xp, x)
    return s + x * s * (1.0 - s)


SLOPES = {
    "identity": lambda xp, x, y: xp.ones_like(x), "relu": lambda xp, x, y: above(xp, x), "leaky_relu": lambda xp, x, y: 0.01 + 0.99 * above(xp, x),
    "sigmoid": lambda xp, x, y: y - y * y, "tanh": lambda xp, x, y: (1.0 - y) * (1.0 + y), "softplus": lambda xp, x, y: logistic(xp, x),
    "elu": lambda xp, x, y: elu_slope(xp, x), "selu": lambda xp, x, y: elu_slope(xp, x, 1.6732632423543772, 1.0507009873554805),
    "gelu": lambda xp, x, y: y / x + x * xp.exp(-x * x / 2.0) / math.sqrt(2.0 * math.pi), "silu": lambda xp, x, y: silu_slope(xp, x),
    "hard_sigmoid": lambda xp, x, y: inner(xp, x, 3.0) / 6.0,
    "hard_swish": lambda xp, x, y: inner(xp, x, 3.0) * (x / 3.0 + 0.5) + (1.0 - inner(xp, x, 3.0)) * above(xp, x)}


def own_activation(name):
    """The derivative written down once more, beside the library's."""
    if name == "prelu":
        return own_prelu

    def backward(dy, x, y):
        xp = xp_of(x)
        if name == "softmax":
            return y * dy - y * xp.sum(y * dy, axis=-1, keepdims=True)
        if name == "log_softmax":
            return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True)
        return dy * SLOPES[name](xp, x, y)

    return backward


def for_any_seed(f):
    return lambda seed: f


def own_prelu(dy, x, a):
    xp = xp_of(x)
    negative = xp.minimum(x, xp.zeros_like(x))
    positive = xp.astype(x > 0.0, x.dtype)
    return dy * (positive + a * (1.0 - positive)), xp.reshape(xp.sum(dy * negative), (1,))


def own_embedding(dy, x, W):
    xp = xn.backend.namespace(W)
    hit = xp.astype(x[:, None] == xp.arange(W.shape[0], dtype=x.dtype, device=x.device)[None, :], W.dtype)
    return hit.T @ dy


def own_attention(Q, K, V):
    xp = xn.backend.namespace(Q)
    scores = Q @ K.T / Q.shape[1] ** 0.5
    a = xp.exp(scores - xp.max(scores, axis=1, keepdims=True))
    return a / xp.sum(a, axis=1, keepdims=True) @ V


def own_layer_norm(dy, x, gamma, beta):
    xp, d = xp_of(x), x.shape[1]
    c = x - xp.mean(x, axis=1, keepdims=True)
    s = xp.sqrt(xp.mean(c * c, axis=1, keepdims=True) + 1e-5)
    g = dy * gamma / s
    dv = xp.sum(g * c, axis=1, keepdims=True) / (s * s)   # -2 ∂L/∂v, path by path
    return g - c * dv / d - xp.mean(g, axis=1, keepdims=True), xp.sum(dy * c / s, axis=0), xp.sum(dy, axis=0)


def own_through_time(dy, x, y, W, U, b):
    xp, (_, time, _) = xp_of(x), x.shape
    dz, dxs, dW, dU, db = xp.zeros_like(y[:, 0, :]), [], xp.zeros_like(W), xp.zeros_like(U), xp.zeros_like(b)
    for t in reversed(range(time)):
        dz = (dy[:, t, :] + dz @ U.T) * (1.0 - y[:, t, :] ** 2)
        dW, db = dW + x[:, t, :].T @ dz, db + xp.sum(dz, axis=0)
        dU = dU + y[:, t - 1, :].T @ dz if t else dU
        dxs.insert(0, dz @ W.T)
    return xp.stack(dxs, axis=1), dW, dU, db


def own_convolution(x, W, b):
    xp = xp_of(x)
    size, places = W.shape[0], x.shape[2] - W.shape[0] + 1
    z = sum(W[i, :, :].T @ x[:, :, i:i + places] for i in range(size)) + b[:, None]

    def backward(dz):
        n, c, length = x.shape
        dW = xp.stack([xp.sum(x[:, :, i:i + places] @ xp.permute_dims(dz, (0, 2, 1)), axis=0) for i in range(size)])
        parts = [xp.concat([xp.zeros_like(x[:, :, :i]), W[i, :, :] @ dz, xp.zeros_like(x[:, :, i + places:])], axis=2) for i in range(size)]
        return sum(parts[1:], parts[0]), dW, xp.sum(dz, axis=(0, 2))

    return z, backward


def own_max_pool(x):
    xp = xp_of(x)
    n, c, h, w = x.shape
    windows = xp.reshape(x, (n, c, h // 2, 2, w // 2, 2))
    y = xp.max(windows, axis=(3, 5), keepdims=True)
    hit = xp.astype(windows == y, x.dtype)                # ties are not drawn

    def backward(dy):
        return xp.reshape(hit * xp.reshape(dy, y.shape), x.shape)

    return xp.reshape(y, (n, c, h // 2, w // 2)), backward


OWN = {"convolution": lambda seed: own_convolution, "max-pool": lambda seed: own_max_pool,
       "embedding": lambda seed: own_embedding, "attention": lambda seed: own_attention, "backpropagation-through-time": lambda seed: own_through_time, "layer-norm": lambda seed: own_layer_norm, "dense-backward": lambda seed: layer_dense, "hidden-delta": own_hidden, "dropout": lambda seed: own_dropout, "shared-weights": lambda seed: own_shared,
       "residual": lambda seed: own_residual, "branching": lambda seed: own_concat, "softmax-jacobian": lambda seed: own_softmax,
       "softmax-stability": lambda seed: lambda x: own_softmax(x)[0], "softmax-cross-entropy": lambda seed: own_cross_entropy,
       "binary-cross-entropy": lambda seed: own_bce, "mse-reductions": own_mse, "gradient-descent": lambda seed: lambda w, g, lr: w - lr * g,
       "momentum": lambda seed: own_momentum, "nesterov": lambda seed: own_nesterov, "rmsprop": lambda seed: own_rmsprop, "adam": lambda seed: own_adam,
       "l2-penalty": lambda seed: lambda w, g, lr, lam: w - lr * (g + lam * w), "weight-decay": lambda seed: own_adamw,
       "gradient-clipping": lambda seed: own_clip, "learning-rate-schedule": own_schedule, "classification-metrics": lambda seed: own_confusion,
       **{f"activation-{name}": for_any_seed(own_activation(name)) for name in NAMES}}


def test_every_topic_with_a_function_is_here():
    assert set(OWN) == {name for name in TOPICS if exercise(name, 0).task is not None}


@pytest.mark.parametrize("name", OWN)
def test_right_functions_are_right(name, backend):
    grade = exercise(name, 1).grade(OWN[name](1), backend.backend, 1)
    assert grade, str(grade)


@pytest.mark.full
@pytest.mark.parametrize("name", OWN)
def test_right_functions_are_right_for_many_seeds(name):
    e = exercise(name, 2)
    for seed in range(40):
        assert e.grade(OWN[name](2), seed=seed)


def test_a_function_in_each_form(backend):
    e = exercise("dense-backward", 7)
    forms = (layer_dense, lambda dz, x, W, b: backward_dense(dz, x, W), lambda dz, **cache: backward_dense(dz, cache["x"], cache["W"]),
             lambda W, x, dz: list(backward_dense(dz, x, W)), lambda dz, x, W, unused=3: dict(zip(("dx", "dW", "db"), backward_dense(dz, x, W))),
             SimpleNamespace(f=layer_dense).f)
    for f in forms:
        assert e.grade(f, backend.backend), str(e.grade(f, backend.backend))
    for wrong in (lambda dz, x, W: (dz @ W.T, x.T @ dz, xp_of(x).mean(dz, axis=0)), lambda dz, x, W: (dz @ W.T, 1.01 * (x.T @ dz), xp_of(x).sum(dz, axis=0))):
        assert not e.grade(wrong, backend.backend)


WRONG_CALLS = [
    (lambda dz, x, V: None, "it takes 'V'; it is called by name"), (lambda *args: None, "it takes *args"), (lambda dz, x, W: None, "it returns dx, dW, db, got NoneType"),
    (lambda dz, x, W: (1, 2), "3 arrays, got 2"), (lambda dz, x, W: {"dx": 1}, "there is no 'dW'"), (lambda dz, x, W: 1 / 0, "ZeroDivisionError"),
    (lambda dz, x, W: sys.exit(3), "SystemExit"), (lambda x, W, b: x @ W, "it returns z, backward"), (lambda x, W, b: (x @ W + b, 3), "it returns z, backward"),
    (lambda x, W, b: (x @ W, lambda dz: backward_dense(dz, x, W)), "z is wrong"), (lambda x, W, b: (x @ W + b, lambda: 1), "its backward raises TypeError"),
    (lambda dz, x, W: ("a", "b", "c"), "dx is a str"), (lambda dz, x, W: (dz @ W.T * np.nan, x.T @ dz, dz.sum(0)), "dx is not finite"),
    (lambda dz, x, W: (dz @ W.T, dz.T @ x, dz.sum(0)), "transposed"), (lambda dz, x, W: (dz @ W.T, x.T @ dz, dz), "the sum over the samples is missing"),
    (lambda dz, x, W: (dz @ W.T, -x.T @ dz, dz.sum(0)), "dW is wrong: the sign"), (lambda dz, x, W: (dz @ W.T, x.T @ dz, 0 * dz.sum(0)), "db is wrong: it is 0"),
    (lambda dz, x, W: (dz @ W.T, 2 * x.T @ dz, dz.sum(0)), "2 times as large"), (len, "it takes 'obj'"), (print, "it takes *"), (dict, "signature")]


@pytest.mark.parametrize("f, says", WRONG_CALLS, ids=range(len(WRONG_CALLS)))
def test_a_function_that_cannot_be_right(f, says, capsys):
    grade = exercise("dense-backward", 7).grade(f)
    assert not grade and says in str(grade), str(grade)


def changes_x(dz, x, W):
    made = backward_dense(dz, x, W)
    x *= 2.0
    return made


def changes_dz(dz, x, W):
    made = backward_dense(dz, x, W)
    dz *= 2.0
    return made


class Remembers:
    def __init__(self):
        self.total = 0.0

    def __call__(self, dz, x, W):
        dx, dW, db = backward_dense(dz, x, W)
        if np.shape(self.total) != dW.shape:
            self.total = 0.0
        self.total = self.total + dW
        return dx, self.total, db


def on_self():
    kept = {}

    def layer(x):
        kept["y"] = xp_of(x).tanh(x)
        return kept["y"], lambda dy: dy * (1.0 - kept["y"] ** 2)

    return layer


def test_functions_that_are_right_only_once():
    e = exercise("dense-backward", 7)
    for f in (changes_x, changes_dz):
        assert "(law 1)" in str(e.grade(f)), str(e.grade(f))
    assert "not repeatable" in str(e.grade(Remembers()))
    assert "after another forward" in str(exercise("activation-tanh", 0).grade(on_self()))
    assert not exercise("momentum", 0).grade(lambda w, g, lr: w - lr * g)
    assert "after step 2" in str(exercise("momentum", 0).grade(lambda w, g, lr: w - lr * g))
    assert "takes numbers" in str(exercise("shapes", 0).grade(lambda x: x))


# Every layer, loss and optimizer of the bug zoo, as a student's function.

def run(layer, params, x):
    """A layer as a student would write it: y, and a backward that gives dx and the gradients in the order of params."""
    y, back = layer.forward(params, x, Context(namespace(x)))

    def backward(dy):
        dx, grads = back(dy)
        return dx, grads

    return y, backward


def dense_of(make, output="z"):
    """make(d, k) -> a layer with W and b."""
    def layer(x, W, b):
        made = make(*W.shape)
        y, back = run(made, {"W": W, "b": b, **({"activation": {}} if made.activation is not None else {})}, x)

        def backward(dz):
            dx, grads = back(dz)
            return {"dx": dx, "dW": grads["W"], "db": grads["b"]}

        return y, backward

    return layer


def plain_of(make):
    made = make()

    def layer(x):
        y, back = run(made, {}, x)
        return y, lambda dy: back(dy)[0]

    return layer


def nested_of(make, name):
    """make(d) -> a layer around a Dense called `name`."""
    def layer(x, W, b):
        y, back = run(make(W.shape[0]), {name: {"W": W, "b": b, "activation": {}}}, x)

        def backward(dy):
            dx, grads = back(dy)
            return dx, grads[name]["W"], grads[name]["b"]

        return y, backward

    return layer


def dropout_of(make):
    def layer(x, m, p, training):
        made, calls = make(p), []

        def mask(x_, ctx):
            calls.append(1)
            return m if len(calls) == 1 else 1.0 - m

        made.mask = mask
        y, back = made.forward({}, x, Context(namespace(x), training))
        return y, lambda dy: back(dy)[0]

    return layer


def step_of(make):
    """make(lr, …) -> an optimizer, run on a model of one vector that is kept in the state."""
    def step(w, g, state, **options):
        lr, rest = options.pop("lr"), {{"lam": "weight_decay", "mu": "momentum"}.get(n, n): v for n, v in options.items() if n != "t"}
        if "model" not in state:
            state["model"], state["optimizer"] = xn.Model(Vector(w), "numpy", "float64"), make(lr, **rest)
        state["optimizer"].step(state["model"], g)
        return state["model"].params.copy()

    return step


class Vector(Layer):
    def __init__(self, w):
        self.w = xn.Param(w.shape, w)

    def params(self):
        return {"w": self.w}


def of_bug(bug, clean):
    """(topic, seed, a student's function with this bug, or without it)"""
    make = {"layer": bug.clean_layer if clean else bug.layer, "loss": bug.clean_loss if clean else bug.loss,
            "optimizer": bug.clean_optimizer if clean else bug.optimizer}[bug.kind]
    topic_, seed = BUG_TOPICS[bug.name]
    if bug.kind == "loss":
        made = make("mean") if topic_ == "mse-reductions" else make()
        return topic_, seed, (lambda y, t: made(y, t)) if topic_ == "mse-reductions" else (lambda z, t: made(z, t))
    if bug.kind == "optimizer":
        return topic_, seed, step_of(make)
    if topic_ in ("dense-backward", "hidden-delta"):
        return topic_, seed, dense_of(lambda d, k: make(d, k, "sigmoid") if topic_ == "hidden-delta" else make(d, k))
    if topic_ == "residual":
        return topic_, seed, nested_of(lambda d: make(xn.Dense(d, d, "tanh")), "0")
    if topic_ == "shared-weights":
        return topic_, seed, nested_of(lambda d: make(xn.Dense(d, d, "tanh")), "cell")
    if topic_ == "dropout":
        return topic_, seed, dropout_of(make if not clean else bug_zoo.open.OpenDropout) if not clean else own_dropout
    if topic_ == "softmax-stability":
        layer = plain_of(make)
        return topic_, seed, lambda x: layer(x)[0]
    return topic_, seed, plain_of(make)


MEAN = next(seed for seed in range(100) if "L = 1/(nk) Σ" in exercise("mse-reductions", seed).task.what)
SIGMOID = next(seed for seed in range(100) if "sigmoid" in exercise("hidden-delta", seed).task.what)
BUG_TOPICS = {
    "dense-sum-missing": ("dense-backward", 0), "dense-transposed": ("dense-backward", 0), "dense-mean-for-sum": ("dense-backward", 0),
    "dense-divided-twice": ("dense-backward", 0), "derivative-in-the-wrong-place": ("hidden-delta", SIGMOID),
    "sigmoid-derivative-missing": ("activation-sigmoid", 0), "sigmoid-derivative-of-output": ("activation-sigmoid", 0),
    "tanh-derivative-of-input": ("activation-tanh", 0), "relu-other-side": ("activation-relu", 0), "relu-mask-of-gradient": ("activation-relu", 0),
    "softmax-diagonal": ("softmax-jacobian", 0), "softmax-not-shifted": ("softmax-stability", 0), "dropout-unscaled": ("dropout", 0),
    "dropout-in-inference": ("dropout", 0), "dropout-new-mask": ("dropout", 0), "residual-skip-forgotten": ("residual", 0),
    "shared-assigned": ("shared-weights", 0), "cache-on-self": ("activation-tanh", 0),
    "mean-missing-in-gradient": ("mse-reductions", MEAN), "loss-sign": ("mse-reductions", MEAN), "residual-broadcast": ("mse-reductions", MEAN),
    "cross-entropy-times-slope": ("binary-cross-entropy", 0), "cross-entropy-of-probabilities": ("softmax-cross-entropy", 0),
    "softmax-twice": ("softmax-cross-entropy", 0), "log-of-zero": ("softmax-cross-entropy", 0), "argmax-trained-through": ("softmax-cross-entropy", 0),
    "ascent": ("gradient-descent", 0), "momentum-sign": ("momentum", 0), "adam-without-correction": ("adam", 0), "adam-t-from-zero": ("adam", 0),
    "adam-t-stands-still": ("adam", 0), "l2-twice": ("l2-penalty", 0), "decay-through-adam": ("weight-decay", 0)}


def test_every_layer_loss_and_optimizer_of_the_zoo_has_its_topic():
    """The other kinds are no functions of a topic: the training loop, how parameters start, and the data."""
    assert set(BUG_TOPICS) == {bug.name for bug in bug_zoo.BUGS.values() if bug.kind in ("layer", "loss", "optimizer")}


@pytest.mark.parametrize("name", BUG_TOPICS)
def test_bugs_of_the_zoo_are_rejected(name):
    bug = bug_zoo.get(name)
    topic_, seed, f = of_bug(bug, clean=True)
    e = exercise(topic_, seed)
    assert e.grade(f), str(e.grade(f))                    # the same without the bug
    topic_, seed, f = of_bug(bug, clean=False)
    for draws in range(2):
        grade = e.grade(f, seed=draws)
        assert not grade and len(next(iter(grade.verdicts.values())).hint) > 10, str(grade)


def dense_like(make):
    cls = type(make())
    return lambda d, k: cls(d, k)


BROKEN_TOPICS = {
    **{name: ("dense-backward", lambda make: dense_of(dense_like(make))) for name, b in BROKEN.items() if isinstance(b.make(), xn.Dense) and b.make().activation is None},
    **dict.fromkeys(("dx not a number", "tanh' of x", "changes dy", "changes x", "keeps on self"), ("activation-tanh", plain_of)),
    "sigmoid' missing": ("activation-sigmoid", plain_of), "gelu' of the other gelu": ("activation-gelu", plain_of),
    "relu' on the other side": ("activation-relu", plain_of), "softmax' diagonal only": ("softmax-jacobian", plain_of),
    "residual without the skip": ("residual", lambda make: nested_of(lambda d: type(make())(xn.Dense(d, d, "tanh")), "0")),
    "residual with two skips": ("residual", lambda make: nested_of(lambda d: type(make())(xn.Dense(d, d, "tanh")), "0")),
    "shared, assigned": ("shared-weights", lambda make: nested_of(lambda d: type(make())(xn.Dense(d, d, "tanh")), "cell"))}
NOT_A_TOPIC = {
    "forgets db without dx": "a student's backward has no input_grad", "tanh' of x, fused": "the same as tanh' of x",
    "layer norm without the mean": "no topic yet", "layer norm without the variance": "no topic yet",
    "dropout with another mask": "the mask is given there", "dropout unscaled": "the mask is given there", "dropout of its own": "the mask is given there",
    "parallel, one branch": "the topic joins its branches", "concat, parts swapped": "its layers are made inside", "flatten, parts swapped": "no topic",
    "checkpoint with other masks": "no topic", "single precision": "within the tolerance, so no mistake of the derivation"}


def test_every_broken_layer_has_its_topic_or_a_reason():
    assert set(BROKEN_TOPICS) | set(NOT_A_TOPIC) == set(BROKEN)


@pytest.mark.parametrize("name", [n for n in BROKEN_TOPICS if n not in NOT_A_TOPIC])
def test_broken_layers_are_rejected(name):
    topic_, adapt = BROKEN_TOPICS[name]
    for draws in range(3):
        assert not exercise(topic_, 0).grade(adapt(BROKEN[name].make), seed=draws)


@pytest.mark.parametrize("name", BROKEN_LOSSES)
def test_broken_losses_are_rejected(name):
    topic_, seed = ("mse-reductions", MEAN) if name.startswith("mse") else ("binary-cross-entropy", 0) if name.startswith("bce") else ("softmax-cross-entropy", 0)
    loss = BROKEN_LOSSES[name][0]()

    def of_classes(z, t):
        return loss(z, np.eye(z.shape[1])[t])

    f = (lambda y, t: loss(y, t)) if topic_ == "mse-reductions" else of_classes if topic_ == "softmax-cross-entropy" else (lambda z, t: loss(z, t))
    grade = exercise(topic_, seed).grade(f)
    assert not grade, name


def test_the_shared_layer_of_the_topic_is_right():
    x = np.random.default_rng(0).standard_normal((3, 4))
    assert xn.gradient_check(Twice(xn.Dense(4, 4, "tanh")), x).ok


# Sheets, files, the command.

def test_a_sheet():
    s = sheet(["dense-backward", "adam", "adam"], seed=7, title="Exam")
    assert [e.seed for e in s.exercises] == [7, 7, 8]
    for form in ("markdown", "html", "text"):
        text = getattr(s, form)()
        assert "1. The three gradients of a dense layer" in text and "3. Two steps of Adam" in text
        assert "solution" in getattr(s.solution, form)()
    grades = s.grade([e.answers for e in s.exercises])
    assert all(grades) and len(grades) == 3
    assert [bool(g) for g in s.grade([s.exercises[0].answers, {}, own_adam])] == [True, False, True]
    assert not any(sheet(["adam"], 1).grade({}))
    with pytest.raises(ValueError, match="3 exercises, got 1"):
        s.grade([{}])
    with pytest.raises(ValueError, match="unknown topic of this sheet"):
        s.grade({"dense": {}})
    with pytest.raises(ValueError, match="at least one topic"):
        sheet([])


def test_files(tmp_path):
    e = exercise("dense-backward", 7)
    for ending, made in ((".md", e.markdown()), (".html", e.html()), (".txt", e.text())):
        e.save(tmp_path / f"sheet{ending}")
        assert (tmp_path / f"sheet{ending}").read_text(encoding="utf-8") == made
    with pytest.raises(ValueError, match="unknown ending '.pdf'"):
        e.save(tmp_path / "sheet.pdf")
    assert e._repr_markdown_() == e.markdown() and str(e) == e.text() and "dW, db, dx" in repr(e)


def test_pages_are_whole_and_load_nothing():
    for name in TOPICS:
        e = exercise(name, 1)
        for page in (e.html(), e.solution.html()):
            assert page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>")
            assert not re.search(r"(src|href)\s*=|url\(|@import|<script|https?://", page)
            assert page.count("<math") == page.count("</math>") and page.count("<mrow>") == page.count("</mrow>")


def test_command(tmp_path, capsys):
    assert cli.main(["exercise", "dense-backward", "--seed", "7"]) == 0
    assert capsys.readouterr().out == exercise("dense-backward", 7).markdown()
    for options, made in ([], exercise("dense-backward", 7).html()), (["--solution"], exercise("dense-backward", 7).solution.html()):
        out = tmp_path / "sheet.html"
        assert cli.main(["exercise", "dense-backward", "--seed", "7", "--out", str(out), *options]) == 0
        assert out.read_text(encoding="utf-8") == made
    assert cli.main(["exercise", "adam", "momentum", "--title", "Optimizers"]) == 0
    assert capsys.readouterr().out == sheet(["adam", "momentum"], 0, "Optimizers").markdown()
    assert cli.main(["exercise", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(TOPICS)


@pytest.mark.parametrize("args, says", [
    (["dense"], "unknown topic 'dense'"), ([], "which topic?"), (["adam", "--seed", "-1"], "seed is an integer from 0 on"),
    (["adam", "--out", "sheet.pdf"], "unknown ending '.pdf'"), (["adam", "--out", "/nowhere/sheet.md"], "/nowhere/sheet.md: No such file")])
def test_command_with_wrong_input(args, says, capsys):
    assert cli.main(["exercise", *args]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"python -m xpnet exercise: {says}") and err.count("\n") == 1


def test_command_as_a_program(tmp_path):
    result = subprocess.run([sys.executable, "-m", "xpnet", "exercise", "residual", "--seed", "3", "--out", str(tmp_path / "s.md")],
                            capture_output=True, text=True, env={**os.environ})
    assert result.returncode == 0 and not result.stderr and "# A residual connection" in (tmp_path / "s.md").read_text(encoding="utf-8")


def test_a_new_topic_is_one_function():
    @topic("of-a-test", "A test")
    def write(q, draw):
        x = draw.numbers(2)
        q.say("Add $x + x$.")
        q.given(x=x)
        q.ask("y", x + x, "What is $x + x$?", mistakes={"once is not enough": x})

    try:
        e = exercise("of-a-test", 4)
        assert e.grade({"y": 2 * e.given["x"]}) and "once is not enough" in str(e.grade(e.given["x"])) and e.grade(e.answers["y"])
    finally:
        del TOPICS["of-a-test"]


@pytest.mark.full
def test_pages_print_on_a4(tmp_path, chromium):
    """In a real browser: nothing is wider than the page, on the screen and on paper, and every formula is drawn."""
    page = chromium.new_page(viewport={"width": 794, "height": 1123})   # A4 at 96 dpi
    requests = []
    page.on("request", lambda r: requests.append(r.url))
    for seed in (0, 7):
        for name in TOPICS:
            e = exercise(name, seed)
            for document in (e.question, e.solution):
                file = tmp_path / "page.html"
                document.save(file)
                page.emulate_media(media="print")
                page.set_viewport_size({"width": 672, "height": 1123})   # the width between the margins
                page.goto(file.as_uri())
                wide = page.evaluate("() => [...document.querySelectorAll('math, p, pre, h1, h2')].map(e => [e.getBoundingClientRect().right, e.textContent])"
                                     ".filter(([right, text]) => right > document.documentElement.clientWidth + 0.5)")
                assert not wide, (name, seed, document.title, wide)
                flat = page.evaluate("() => [...document.querySelectorAll('math')].filter(e => e.getBoundingClientRect().height < 5).length")
                assert flat == 0 and page.evaluate("() => document.querySelectorAll('merror').length") == 0
    pdf = page.pdf(format="A4", prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page[^s]", pdf)) >= 1
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 390, "height": 844})              # a phone
    for name in ("dense-backward", "adam", "softmax-cross-entropy"):
        exercise(name, 7).solution.save(tmp_path / "phone.html")
        page.goto((tmp_path / "phone.html").as_uri())
        assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
    assert all(url.startswith("file:") for url in requests)
    page.close()
    assert json.dumps(requests)

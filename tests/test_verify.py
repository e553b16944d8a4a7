"""verify: tolerances, verdicts, the forms of the table, and that a broken library does not pass."""

import importlib.util
import json
import math
import sys

import numpy as np
import pytest

import xpnet as xn
import xpnet.cli
from xpnet.errors import BackendError
from xpnet.verify import CASES, Bench, Row, Source, Table, command, run, verify
from xpnet.verify.rows import cut, erratum, row, tolerance, worst

SOURCE = Source("Someone (2000)", "Someone, Something, 2000")


# Tolerances and verdicts.

@pytest.mark.parametrize("published, exact, expected", [
    ("0.7513", False, 0.5e-4), (".75", False, 0.5e-2), ("0.90", False, 0.5e-2), ("-0.0065", False, 0.5e-4), ("938.23786125", False, 0.5e-8),
    ("0.7513650695523157", False, 1e-12 * 0.7513650695523157), ("3.510187782978859e-05", False, 3.510187782978859e-17),
    ("-12", False, 12e-12), ("0", False, 1e-12), ("0.5", True, 0.5e-12)])
def test_the_tolerance_follows_from_the_digits(published, exact, expected):
    assert tolerance(published, exact) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("published, here, verdict", [
    ("0.75", [0.7549], "reproduced"), ("0.75", [0.745], "reproduced"), ("0.75", [0.7551], "differs"), ("0.75", [math.nan], "differs"),
    ("0.75", [math.inf], "differs"), ("3", [3.0000001], "differs"), ("1 2.0", [1.0, 2.04], "reproduced"), ("1 2.0", [1.0, 2.06], "differs"),
    ("0.1 0.2", [0.1, math.nan], "differs"), ("0.1 0.2", [math.nan, 0.2], "differs")])
def test_verdicts(published, here, verdict):
    assert row(SOURCE, "q", published, np.array(here)).verdict == verdict


@pytest.mark.parametrize("here, mistaken, verdict", [
    (0.755, 0.712, "erratum reproduced"), (0.755, 0.73, "differs"), (0.712, 0.712, "differs"), (math.nan, 0.712, "differs")])
def test_an_erratum_is_reproduced_by_the_mistake_and_not_without_it(here, mistaken, verdict):
    assert erratum(SOURCE, "q", "0.71", here, mistaken, "why").verdict == verdict


def test_the_difference_is_that_of_the_number_furthest_off():
    off = row(SOURCE, "q", "1.0 2.000", [1.02, 2.0004])
    assert off.worst == pytest.approx((0.0004, 0.0005))
    with pytest.raises(ValueError, match="2 numbers are published and 1 computed"):
        worst("1 2", (1.0,), [1.0, 1.0])
    assert cut(-0.98765, 3) == -0.987


# All cases.

def test_every_row_names_its_source_once():
    rows = [r for case in CASES.values() for r in run(case, Bench("numpy"))]
    assert len({(r.source, r.quantity) for r in rows}) == len(rows)
    for r in rows:
        assert r.source.name and len(r.source.example) > 20 and r.published
        assert len(r.published.split()) == len(r.here)
        assert bool(r.mistaken) == bool(r.cause)


@pytest.mark.float64
def test_the_same_table_on_every_backend(backend):
    only = ["cs231n", "neuron", "mazur_step", "han", "nielsen", "chance"]

    def table(of):
        return [(r.source, r.quantity, r.published, r.verdict, r.cause) for r in verify(of, only).rows]

    assert table(backend.backend) == table("numpy")


def twice(f):
    return lambda *args, **options: 2.0 * f(*args, **options)


BROKEN = {                                                # what is broken: by what, and a case that must see it
    "sigmoid without its derivative": (xn.Sigmoid, "df", lambda self, xp, dy, y: dy, "mazur_gradients"),
    "tanh' = 1 - y": (xn.Tanh, "df", lambda self, xp, dy, y: dy * (1.0 - y), "micrograd_neuron"),
    "ReLU of the absolute value": (xn.ReLU, "f", lambda self, xp, x: xp.abs(x), "goodfellow_xor"),
    "GELU by a sigmoid": (xn.GELU, "f", lambda self, xp, x: x / (1.0 + xp.exp(-1.702 * x)), "activations"),
    "SELU without its scale": (xn.SELU, "scale", 1.0, "selu_fixed_point"),
    "double 1/n": (xn.SoftmaxCrossEntropy, "scale", lambda self, xp, n, k, w: 1.0 / n ** 2, "cs231n_two_layers"),
    "no ½ in the loss": (xn.MeanSquaredError, "scale", lambda self, xp, n, k, w: 1.0, "mazur_gradients"),
    "Adam's t off by one": (xn.Adam, "folded", lambda self, lr, t, f=xn.Adam.folded: f(self, lr, t + 1), "cs231n_optimizers"),
    "Adam without bias correction": (xn.Adam, "folded", lambda self, lr, t: (lr, self.eps), "adam_first_step"),
    "momentum of the wrong size": (xn.Momentum, "__init__", lambda self, lr, momentum=0.9, f=xn.Momentum.__init__, **o:
                                   f(self, lr, momentum * momentum, **o), "keras_optimizers"),
    "the learning rate twice": (xn.SGD, "_rate", twice(xn.SGD._rate), "schiendorfer_step"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_library_is_seen(what, monkeypatch, capsys):
    where, name, wrong, case = BROKEN[what]
    assert xpnet.cli.main(["verify", "--only", case]) == 0
    monkeypatch.setattr(where, name, wrong)
    capsys.readouterr()
    assert xpnet.cli.main(["verify", "--only", case]) == 1
    assert "differs" in capsys.readouterr().out


def test_a_case_that_raises_is_a_row_that_differs(monkeypatch):
    def fails(self, *args):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(xn.Sigmoid, "f", fails)
    table = verify("numpy", ["cs231n_neuron", "micrograd"])
    assert not table.ok and not table
    first, *rest = table.rows
    assert first.verdict == "differs" and "ZeroDivisionError: broken" in str(table)
    assert all(r.verdict == "reproduced" for r in rest)


def test_without_scikit_learn_its_numbers_are_left_out(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *args: None if name == "sklearn" else find(name, *args))
    table = verify("numpy", ["least_squares", "circuit"])
    assert table.ok
    assert table.rows[-1].verdict == "left out" and "pip install scikit-learn" in str(table)
    assert not verify("numpy", ["least_squares"]).ok      # nothing was compared
    assert "1 left out" in table.summary()


def test_bad_input():
    with pytest.raises(ValueError, match="unknown case 'mazurr'; did you mean 'mazur_step'"):
        verify("numpy", ["mazurr"])
    with pytest.raises(ValueError, match="unknown backend 'nump'"):
        verify("nump")
    pytest.importorskip("array_api_strict")
    with pytest.raises(BackendError, match="has no float64, and verify compares up to 16 digits"):
        verify("array-api-strict:no_float64")


# The table.

def a_table():
    return Table([row(SOURCE, "q", "0.75", 0.751), row(SOURCE.recomputed, "a | b", "0.7512345 1 2 3 40000.000 50000.000", [0.7512345, 1, 2, 3, 4e4, 5e4]),
                  erratum(SOURCE, "e", "0.71", 0.755, 0.712, "forgot it"), row(SOURCE, "w", "2", -0.0),
                  Row(SOURCE, "m", "", cause="needs a package", missing=True)], "numpy 9 on cpu")


def test_plain_text():
    lines = str(a_table()).splitlines()
    assert lines[0].split() == ["quantity", "published", "here", "difference", "verdict"]
    assert lines[2] == "Someone (2000): Someone, Something, 2000"
    assert lines[3].split() == ["q", "0.75", "0.751", "+1.0e-03", "reproduced"]
    assert "a | b (recomputed)" in lines[4] and "0.7512345 … 50000.000 (6)" in lines[4]
    assert "erratum reproduced: forgot it" in lines[5]
    assert lines[6].split() == ["w", "2", "0", "-2.0e+00", "differs"]
    assert lines[7].split() == ["m", "-", "-", "-", "left", "out:", "needs", "a", "package"]
    assert lines[-1] == "9 numbers in 5 rows on numpy 9 on cpu: 2 reproduced, 1 errata reproduced, 1 differ, 1 left out"
    assert not a_table().ok


def test_markdown():
    lines = a_table().to_markdown().splitlines()
    table = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    assert len(table) == 7 and {line.count("|") for line in table} == {7}
    assert "- Someone (2000): Someone, Something, 2000" in lines


def test_json():
    made = json.loads(a_table().to_json())
    assert made["ok"] is False and made["backend"] == "numpy 9 on cpu"
    assert made["rows"][1]["published"] == ["0.7512345", "1", "2", "3", "40000.000", "50000.000"]
    assert made["rows"][1]["here"] == [0.7512345, 1.0, 2.0, 3.0, 4e4, 5e4]
    assert made["rows"][2]["verdict"] == "erratum reproduced" and made["rows"][2]["cause"] == "forgot it"
    assert made["rows"][4]["difference"] is None


def test_colours_on_a_terminal_and_plain_text_elsewhere(monkeypatch, capsys):
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=160, record=True, force_terminal=True)
    console.print(a_table())
    assert "\x1b[33merratum" in console.export_text(styles=True).replace("\x1b[0;33m", "\x1b[33m")
    capsys.readouterr()

    command.show(a_table())                               # not a terminal
    assert capsys.readouterr().out == f"{a_table()}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "rich.console", None)   # rich is not installed
    command.show(a_table())
    assert capsys.readouterr().out == f"{a_table()}\n"

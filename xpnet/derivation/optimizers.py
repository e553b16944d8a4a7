"""The formulas of the optimizers: from a parameter p, its gradient g and the state to the new p, in the letters of their docstrings."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import optim as xo
from .formulas import Lines, number

_UPDATES: dict[type, Callable[[Any, int], tuple[Lines, dict[str, Any]]]] = {}


def update_formulas(kind: type) -> Callable[[Any], Any]:
    """A decorator: the function (optimizer, t) -> (lines, given numbers) of the update at step t = 1, 2, …"""
    def register(f: Any) -> Any:
        _UPDATES[kind] = f
        return f
    return register


def formulas_of_optimizer(optimizer: Any, t: int, norm: float, scale: float,
                          decays: bool) -> tuple[Lines, dict[str, Any], dict[str, str]] | None:
    """Lines from p and g to the new p; the numbers in them; and notes. norm: of the whole gradient, for ClipNorm; scale: the factor of the
    learning rate for this parameter, 0 where it is frozen; decays: whether weight decay is for it.
    """
    if type(optimizer) not in _UPDATES:
        return None
    rate = optimizer.learning_rate() * scale
    if scale == 0.0:
        return [("p", "p")], {}, {"p": "frozen: not trained"}
    own, given = _UPDATES[type(optimizer)](optimizer, t)
    lines: Lines = []
    given = {"lr": rate, **given}
    if isinstance(optimizer.clip, xo.ClipNorm):
        given["N"] = norm
        lines.append(("g", f"g * min(1, {number(optimizer.clip.max_norm)} / N)"))
    elif isinstance(optimizer.clip, xo.ClipValue):
        c = number(optimizer.clip.limit)
        lines.append(("g", f"min(max(g, -{c}), {c})"))
    if optimizer.weight_decay and decays:
        given["lam"] = optimizer.weight_decay
        lines.append(("p", "p - lr * lam * p") if optimizer.decoupled else ("g", "g + lam * p"))
    notes = {} if "N" not in given else {"g": "N is the norm of the whole network's gradient"}
    used = " ".join(text for _, text in [*lines, *own])
    return [*lines, *own], {name: v for name, v in given.items() if name in used}, notes


@update_formulas(xo.SGD)
def sgd(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    return [("p", "p - lr * g")], {}


@update_formulas(xo.Momentum)
def momentum(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    return [("v", f"{number(o.momentum)} * v + g"), ("p", "p - lr * v")], {}


@update_formulas(xo.Nesterov)
def nesterov(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    mu = number(o.momentum)
    return [("v", f"{mu} * v + g"), ("p", f"p - lr * (g + {mu} * v)")], {}


@update_formulas(xo.AdaGrad)
def adagrad(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    return [("s", "s + g ** 2"), ("p", f"p - lr * g / (sqrt(s) + {number(o.eps)})")], {}


def _average(name: str, beta: float, of: str) -> tuple[str, str]:
    """name ← β name + (1 - β) of"""
    return name, f"{number(beta)} * {name} + {number(1.0 - beta)} * {of}"


@update_formulas(xo.RMSProp)
def rmsprop(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    return [_average("s", o.alpha, "g ** 2"), ("p", f"p - lr * g / (sqrt(s) + {number(o.eps)})")], {}


@update_formulas(xo.AdaDelta)
def adadelta(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    e = number(o.eps)
    return [_average("s", o.rho, "g ** 2"), ("Delta", f"g * sqrt(u + {e}) / sqrt(s + {e})"), _average("u", o.rho, "Delta ** 2"),
            ("p", "p - lr * Delta")], {}


def _moments(o: Any) -> Lines:
    return [_average("m", o.beta1, "g"), _average("v", o.beta2, "g ** 2")]


def _hats(o: Any, v: str = "v") -> Lines:
    return [("mhat", f"m / (1 - {number(o.beta1)} ** t)"), ("vhat", f"{v} / (1 - {number(o.beta2)} ** t)")]


@update_formulas(xo.Adam)
@update_formulas(xo.AdamW)
def adam(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    return [*_moments(o), *_hats(o), ("p", f"p - lr * mhat / (sqrt(vhat) + {number(o.eps)})")], {"t": t}


@update_formulas(xo.AMSGrad)
def amsgrad(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    return [*_moments(o), ("v_max", "max(v_max, v)"), *_hats(o, "v_max"),
            ("p", f"p - lr * mhat / (sqrt(vhat) + {number(o.eps)})")], {"t": t}


@update_formulas(xo.NAdam)
def nadam(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    now, ahead = o.mu(t), o.mu(t + 1)
    product = math.prod(o.mu(i) for i in range(1, t + 1))
    one_step_on = f"{number(ahead)} * m / (1 - {number(product * ahead)}) + {number(1.0 - now)} * g / (1 - {number(product)})"
    lines = [*_moments(o), ("mhat", one_step_on), _hats(o)[1], ("p", f"p - lr * mhat / (sqrt(vhat) + {number(o.eps)})")]
    return lines, {"t": t}


@update_formulas(xo.RAdam)
def radam(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    rho_inf = 2.0 / (1.0 - o.beta2) - 1.0
    rho = rho_inf - 2.0 * t * o.beta2 ** t / (1.0 - o.beta2 ** t)
    if rho <= 5.0:
        return [*_moments(o), _hats(o)[0], ("p", "p - lr * mhat")], {"t": t}
    r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return [*_moments(o), _hats(o)[0],
            ("p", f"p - lr * {number(r)} * mhat * sqrt(1 - {number(o.beta2)} ** t) / (sqrt(v) + {number(o.eps)})")], {"t": t}


@update_formulas(xo.Lion)
def lion(o: Any, t: int) -> tuple[Lines, dict[str, Any]]:
    return [("p", f"p - lr * sign({number(o.beta1)} * m + {number(1.0 - o.beta1)} * g)"), _average("m", o.beta2, "g")], {}


def global_norm(gradient: np.ndarray, trained: np.ndarray | None) -> float:
    """‖g‖ of the whole network; what is frozen has no part in it."""
    return float(np.linalg.norm(gradient if trained is None else gradient * trained))

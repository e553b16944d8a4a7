"""A formula as MathML, which browsers draw by themselves."""

from html import escape
from typing import Any

import numpy as np

from .display import Node
from .symbols import Symbol, letters
from .values import scientific, significant

_FENCES = {"(": ("(", ")"), "[": ("[", "]"), "|": ("|", "|"), "‖": ("‖", "‖")}
_FUNCTIONS = {"sigma": "σ", "log": "ln", "Phi": "Φ", "phi": "φ"}
_OPS: dict[Any, str] = {"-": "−", "·": "⋅"}
_OVER = {"sum_n": ("∑", "n"), "sum_k": ("∑", "k"), "sum_d": ("∑", "d"), "max_k": ("max", "k"), "total": ("∑", "")}


def mathml(node: Node, digits: int = 6) -> str:
    """The inside of a <math> element."""
    kind = node[0]
    if kind == "sym":
        return symbol(node[1])
    if kind == "num":
        return number(node[1], digits)
    if kind == "mat":
        return matrix(node[1], digits)
    if kind == "op":
        return _op(node[1])
    if kind == "row":
        return f"<mrow>{''.join(mathml(n, digits) for n in node[1])}</mrow>"
    if kind == "frac":
        return f"<mfrac>{mathml(node[1], digits)}{mathml(node[2], digits)}</mfrac>"
    if kind == "sup":
        return f"<msup>{mathml(node[1], digits)}{mathml(node[2], digits)}</msup>"
    if kind == "T":
        return f"<msup>{mathml(node[1], digits)}<mo>⊤</mo></msup>"
    if kind == "fence":
        left, right = _FENCES[node[1]]
        return f"<mrow>{_fence(left)}{mathml(node[2], digits)}{_fence(right)}</mrow>"
    if kind == "over":
        sign, index = _OVER[node[1]]
        made = f"<munder><mo>{sign}</mo><mi>{index}</mi></munder>" if index else f"<mo>{sign}</mo>"
        return f"<mrow>{made}{mathml(node[2], digits)}</mrow>"
    if kind == "part":
        return f"<msub>{mathml(node[1], digits)}<mtext>{node[2]}:{node[3]}</mtext></msub>"
    assert kind == "fn"
    if node[1] == "sqrt":
        return f"<msqrt>{mathml(node[2][0], digits)}</msqrt>"
    inside = "<mo>,</mo>".join(mathml(a, digits) for a in node[2])
    name = _FUNCTIONS[node[1]] if node[1] in _FUNCTIONS else node[1]
    return f"<mrow><mi>{escape(name)}</mi><mo>&#x2061;</mo>{_fence('(')}{inside}{_fence(')')}</mrow>"


def _fence(sign: str) -> str:
    return f'<mo stretchy="true">{sign}</mo>'


def _op(sign: Any) -> str:
    if sign == " ":
        return '<mspace width="0.2em"/>'
    sign = {"-": "−", "·": "⋅"}.get(sign, sign)
    return f"<mo>{escape(sign)}</mo>"


def symbol(s: Symbol) -> str:
    base = f"<mi>{escape(letters(s.letter)[0])}</mi>"
    above = f"<mtext>({escape(s.path)})</mtext>"
    if not s.grad:
        return f"<msup>{base}{above}</msup>" if s.path else base
    if s.letter == "z":
        made = f"<msup><mi>δ</mi>{above}</msup>" if s.path else "<mi>δ</mi>"
    else:
        inner = f"<msup>{base}{above}</msup>" if s.path else base
        made = f"<mfrac><mrow><mo>∂</mo><mi>{s.grad}</mi></mrow><mrow><mo>∂</mo>{inner}</mrow></mfrac>"
    return made if s.via is None else f"<msub><mrow>{made}<mo>|</mo></mrow><mtext>{escape(s.via or '0')}</mtext></msub>"


def number(value: Any, digits: int) -> str:
    mantissa, exponent = scientific(significant(value, digits))
    sign, mantissa = ("<mo>−</mo>", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    made = f"{sign}<mn>{mantissa.replace('inf', '∞')}</mn>"
    if exponent:
        e = f"<mrow><mo>−</mo><mn>{exponent[1:]}</mn></mrow>" if exponent.startswith("-") else f"<mn>{exponent}</mn>"
        made += f"<mo>⋅</mo><msup><mn>10</mn>{e}</msup>"
    return f"<mrow>{made}</mrow>" if sign or exponent else made


def matrix(a: np.ndarray, digits: int) -> str:
    if a.ndim == 0:
        return number(a, digits)
    rows = "".join("<mtr>" + "".join(f"<mtd>{number(v, digits)}</mtd>" for v in row) + "</mtr>" for row in np.atleast_2d(a))
    return f"<mrow>{_fence('(')}<mtable>{rows}</mtable>{_fence(')')}</mrow>"

"""A formula as LaTeX."""

from typing import Any

import numpy as np

from .display import Node
from .values import scientific, significant

_OPS = {"+": " + ", "-": " - ", " ": "\\,", "·": " \\cdot ", "⊙": " \\odot ",
        ">": " > ", "<": " < ", "≥": " \\ge ", "≤": " \\le ", "=": " = ", ",": ",\\, ", "←": " \\leftarrow ", "∂": "\\partial "}
_FENCES = {"(": ("\\left(", "\\right)"), "[": ("\\left[", "\\right]"), "|": ("\\left\\lvert ", "\\right\\rvert "),
           "‖": ("\\left\\lVert ", "\\right\\rVert ")}
_FUNCTIONS = {"sigma": "\\sigma", "exp": "\\exp", "log": "\\ln", "tanh": "\\tanh", "max": "\\max", "min": "\\min", "Phi": "\\Phi",
              "phi": "\\varphi", "sin": "\\sin", "cos": "\\cos"}
_OVER = {"sum_n": "\\sum_n ", "sum_k": "\\sum_k ", "sum_d": "\\sum_d ", "max_k": "\\max_k ", "total": "\\sum "}


def latex(node: Node, digits: int = 6) -> str:
    kind = node[0]
    if kind == "sym":
        return node[1].latex
    if kind == "num":
        return latex_number(node[1], digits)
    if kind == "mat":
        return latex_matrix(node[1], digits)
    if kind == "op":
        return _OPS[node[1]]
    if kind == "row":
        return "".join(latex(n, digits) for n in node[1]).strip()
    if kind == "frac":
        return f"\\frac{{{latex(node[1], digits)}}}{{{latex(node[2], digits)}}}"
    if kind == "sup":
        return f"{latex(node[1], digits)}^{{{latex(node[2], digits)}}}"
    if kind == "T":
        return f"{{{latex(node[1], digits)}}}^{{\\top}}"
    if kind == "fence":
        left, right = _FENCES[node[1]]
        return f"{left}{latex(node[2], digits)}{right}"
    if kind == "over":
        return f"{_OVER[node[1]]}{latex(node[2], digits)}"
    if kind == "part":
        return f"{latex(node[1], digits)}_{{{node[2]}:{node[3]}}}"
    assert kind == "fn"
    if node[1] == "sqrt":
        return f"\\sqrt{{{latex(node[2][0], digits)}}}"
    name = _FUNCTIONS.get(node[1], f"\\mathrm{{{node[1]}}}")
    inside = ",\\, ".join(latex(a, digits) for a in node[2])
    return f"{name}\\left({inside}\\right)"


def latex_number(value: Any, digits: int) -> str:
    mantissa, exponent = scientific(significant(value, digits))
    return f"{mantissa} \\cdot 10^{{{exponent}}}" if exponent else mantissa.replace("inf", "\\infty").replace("nan", "\\mathrm{nan}")


def latex_matrix(a: np.ndarray, digits: int) -> str:
    if a.ndim == 0:
        return latex_number(a, digits)
    rows = (" & ".join(latex_number(v, digits) for v in row) for row in np.atleast_2d(a))
    return "\\begin{pmatrix} " + " \\\\ ".join(rows) + " \\end{pmatrix}"

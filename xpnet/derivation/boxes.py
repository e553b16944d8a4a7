"""A formula as text in two dimensions: matrices, fractions and roots stand beside each other on one baseline."""

from typing import NamedTuple

from .display import Node
from .values import matrix_lines, significant

_FENCES = {"(": ("(", ")"), "[": ("[", "]"), "|": ("|", "|"), "‖": ("‖", "‖")}
_TALL = {"(": ("⎛", "⎜", "⎝"), ")": ("⎞", "⎟", "⎠"), "[": ("⎡", "⎢", "⎣"), "]": ("⎤", "⎥", "⎦"), "|": ("│", "│", "│"),
         "‖": ("‖", "‖", "‖")}
_FUNCTIONS = {"sigma": "σ", "log": "ln", "Phi": "Φ", "phi": "φ", "sqrt": "√"}
_OPS = {" ": " ", ",": ", ", "∂": "∂"}
_OVER = {"sum_n": "Σₙ ", "sum_k": "Σₖ ", "sum_d": "Σ_d ", "max_k": "maxₖ ", "total": "Σ "}
_DIGITS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


class Box(NamedTuple):
    """Lines of equal length, and the one that stands on the baseline."""

    lines: list[str]
    base: int

    @property
    def width(self) -> int:
        return len(self.lines[0])


def box(node: Node, digits: int = 6) -> Box:
    kind = node[0]
    if kind == "sym":
        return _line(node[1].text)
    if kind == "num":
        return _line(significant(node[1], digits))
    if kind == "mat":
        lines = matrix_lines(node[1], digits)
        return Box(lines, (len(lines) - 1) // 2)
    if kind == "op":
        return _line(_OPS[node[1]] if node[1] in _OPS else f" {node[1]} ")
    if kind == "row":
        first, *others = node[1]
        if first == ("op", "-"):
            return beside([_line("-"), *(box(n, digits) for n in others)])
        return beside([box(n, digits) for n in node[1]])
    if kind == "frac":
        return _fraction(node, digits)
    if kind == "sup":
        return _power(box(node[1], digits), box(node[2], digits))
    if kind == "T":
        return beside([box(node[1], digits), _line("ᵀ")])
    if kind == "fence":
        left, right = _FENCES[node[1]]
        return fenced(left, box(node[2], digits), right)
    if kind == "over":
        return beside([_line(_OVER[node[1]]), box(node[2], digits)])
    if kind == "part":
        return beside([box(node[1], digits), _line(f"[{node[2]}:{node[3]}]")])
    assert kind == "fn"
    inside = [box(a, digits) for a in node[2]]
    separated = [b for i, a in enumerate(inside) for b in ([_line(", ")] if i else []) + [a]]
    return beside([_line(_FUNCTIONS[node[1]] if node[1] in _FUNCTIONS else node[1]), fenced("(", beside(separated), ")")])


def _line(text: str) -> Box:
    return Box([text], 0)


def beside(boxes: list[Box]) -> Box:
    """Boxes from left to right, on one baseline."""
    above = max(b.base for b in boxes)
    below = max(len(b.lines) - b.base for b in boxes)
    rows = [""] * (above + below)
    for b in boxes:
        start = above - b.base
        for i in range(len(rows)):
            rows[i] += b.lines[i - start] if 0 <= i - start < len(b.lines) else " " * b.width
    return Box(rows, above)


def fenced(left: str, inner: Box, right: str) -> Box:
    n = len(inner.lines)
    if n == 1:
        return beside([_line(left), inner, _line(right)])
    top, middle, bottom = _TALL[left]
    a = [top, *middle * (n - 2), bottom]
    top, middle, bottom = _TALL[right]
    b = [top, *middle * (n - 2), bottom]
    return Box([x + line + y for x, line, y in zip(a, inner.lines, b)], inner.base)


def _fraction(node: Node, digits: int) -> Box:
    above, below = box(node[1], digits), box(node[2], digits)
    if all(n[0] in ("num", "sym") for n in node[1:]) and len(above.lines) == len(below.lines) == 1:
        return _line(f"{above.lines[0]}/{below.lines[0]}")
    width = max(above.width, below.width) + 2
    lines = [line.center(width) for line in above.lines] + ["─" * width] + [line.center(width) for line in below.lines]
    return beside([Box(lines, len(above.lines)), _line("")])


def _power(base: Box, exponent: Box) -> Box:
    text = exponent.lines[0]
    if len(exponent.lines) == 1 and text.translate(_DIGITS) != text and text.lstrip("-").isdigit():
        return beside([base, Box([text.translate(_DIGITS)], 0)]) if len(base.lines) == 1 else \
            beside([base, Box([text.translate(_DIGITS)] + [" " * len(text)] * base.base, base.base)])
    return beside([base, _line(f"^{text}")])

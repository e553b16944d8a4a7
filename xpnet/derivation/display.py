"""A formula as it is seen: a small tree of symbols, numbers, matrices, fractions and sums, from which LaTeX, MathML and text are written.

Nodes are tuples, the kind first:

    ("sym", Symbol)  ("num", number)  ("mat", array)  ("op", "+")  ("row", [node, …])  ("frac", above, below)
    ("sup", base, exponent)  ("T", base)  ("fence", "(" or "[" or "|" or "‖", node)  ("fn", name, [node, …])  ("over", "sum_n", node)
    ("part", node, start, stop)
"""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from .expression import is_scalar

Node = tuple[Any, ...]
_ADD, _NEGATIVE, _TIMES, _POWER, _ATOM = range(5)         # how tightly a node holds together
_COMPARE = {ast.Gt: ">", ast.GtE: "≥", ast.Lt: "<", ast.LtE: "≤", ast.Eq: "="}
_FENCED = {"abs": "|", "norm": "‖"}
OVER = ("sum_n", "sum_k", "sum_d", "max_k", "total")


def display(tree: ast.expr, show: Callable[[str], Node], ndim: Mapping[str, int]) -> Node:
    """The tree of a formula as it is seen. show: what stands for a name, its symbol or its value; ndim: of each name, 0 for a number."""
    return _Display(show, ndim).of(tree)[0]


class _Display:
    def __init__(self, show: Callable[[str], Node], ndim: Mapping[str, int]):
        self.show, self.ndim = show, ndim

    def of(self, tree: ast.expr) -> tuple[Node, int]:
        if isinstance(tree, ast.Constant):
            return ("num", tree.value), _ATOM
        if isinstance(tree, ast.Name):
            node = self.show(tree.id)
            return node, _NEGATIVE if node[0] == "num" and node[1] < 0 else _ATOM
        if isinstance(tree, ast.Attribute):
            return ("T", self.least(tree.value, _ATOM)), _POWER
        if isinstance(tree, ast.UnaryOp):
            return ("row", [("op", "-"), self.least(tree.operand, _TIMES)]), _NEGATIVE
        if isinstance(tree, ast.Compare):
            sides = [self.least(tree.left, _ADD), ("op", _COMPARE[type(tree.ops[0])]), self.least(tree.comparators[0], _ADD)]
            return ("fence", "[", ("row", sides)), _ATOM
        if isinstance(tree, ast.BinOp):
            return self.binary(tree)
        assert isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)
        return self.call(tree.func.id, tree.args)

    def least(self, tree: ast.expr, level: int) -> Node:
        """The node, in parentheses where it holds together less tightly than `level`."""
        node, own = self.of(tree)
        return node if own >= level else ("fence", "(", node)

    def binary(self, tree: ast.BinOp) -> tuple[Node, int]:
        kind, left, right = type(tree.op), tree.left, tree.right
        if kind is ast.Add:
            return ("row", [self.least(left, _ADD), ("op", "+"), self.least(right, _TIMES)]), _ADD
        if kind is ast.Sub:
            return ("row", [self.least(left, _ADD), ("op", "-"), self.least(right, _TIMES)]), _ADD
        if kind is ast.Div:
            return ("frac", self.of(left)[0], self.of(right)[0]), _TIMES
        if kind is ast.Pow:
            base = self.least(left, _ATOM)
            raised = base[0] in ("num", "fn") or (base[0] == "sym" and (base[1].path or base[1].grad))
            return ("sup", ("fence", "(", base) if raised else base, self.of(right)[0]), _POWER
        a, b = self.least(left, _NEGATIVE), self.least(right, _TIMES)
        if _last(a)[0] == "over":                         # else what follows would stand under the sum
            a = ("fence", "(", a)
        if _first(b) == ("op", "-"):
            b = ("fence", "(", b)
        if kind is ast.MatMult:
            return ("row", [a, ("op", " "), b]), _TIMES
        scalar = is_scalar(left, self.ndim) or is_scalar(right, self.ndim)
        dot = "·" if _first(b)[0] == "num" else " "
        return ("row", [a, ("op", dot if scalar else "⊙"), b]), _TIMES

    def call(self, name: str, args: list[ast.expr]) -> tuple[Node, int]:
        if name in _FENCED:
            return ("fence", _FENCED[name], self.of(args[0])[0]), _ATOM
        if name in OVER:
            return ("over", name, self.least(args[0], _TIMES)), _TIMES
        if name == "part":
            start, stop = (a.value for a in args[1:] if isinstance(a, ast.Constant))
            return ("part", self.least(args[0], _ATOM), start, stop), _ATOM
        return ("fn", name, [self.of(a)[0] for a in args]), _ATOM


def _last(node: Node) -> Node:
    """The rightmost part."""
    while node[0] == "row":
        node = node[1][-1]
    return node


def _first(node: Node) -> Node:
    """The leftmost leaf."""
    while node[0] in ("row", "sup", "T"):
        node = node[1][0] if node[0] == "row" else node[1]
    return node

"""Formulas as text that can be run: `x @ W + b` is parsed once, then evaluated, printed, or turned into the columns notation.

The language is Python's expressions with these names:

    A @ B   A.T   A * B   A / B   A ** 2   A > B          matrix product, transpose, entry by entry; [A > B] is 1 where it holds, else 0
    sigma exp log tanh sqrt abs sign erf Phi phi softplus     entry by entry
    max(A, B)  min(A, B)                                   entry by entry
    sum_n(A)  sum_k(A)  max_k(A)  total(A)  norm(A)         over the samples; over the features of each sample; over everything
    sum_d(A)                                               of a weight (d, …, k), over all but the outputs k
    channels(A)  images(A, n, c, …)                        (n, c, …) with a row for each position, and back
    onehot(t, k)  rows(A)  reshape(A, …)  concat(A, B, …)  part(A, start, stop)
    take(W, t)  mT(A)  batchsum(A)  first(A, m)  padded(A, m)  rotate(A, cos, sin)  heads(A, g, d)  joined(A, t)    (embedding, attention)
    windows(A, k, s, d)  fold(B, A, k, s, d)               each window of (n, c, …) a row; its adjoint, added up in the shape of A
    pad(A, …)  lowpad(A, …)  largest(A)  group(A, i, g)  bundle(A, B, …)      before and after along each axis; of channels    (convolution)

In rows notation a sample is a row: x is (n, d) and z = xW + b. In columns notation it is a column: every array is the transpose, and so is
every formula, z = Wx + b, by (AB)ᵀ = BᵀAᵀ. `sum_n` and its kin mean samples and features in both.
"""

import ast
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

NOTATIONS = ("rows", "columns")


@functools.cache
def parse(text: str) -> ast.expr:
    """The tree of a formula."""
    return ast.parse(text, mode="eval").body


def names(tree: ast.expr) -> list[str]:
    """The names of arrays and numbers in a formula, in the order in which they are first read."""
    found: dict[str, None] = {}
    for node in _walk(tree):
        if isinstance(node, ast.Name):
            found[node.id] = None
    return list(found)


def _walk(node: ast.AST) -> Any:
    """The nodes from left to right, without the names of functions."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Call) and child is node.func):
            yield from _walk(child)


def rename(tree: ast.expr, new: Mapping[str, str]) -> ast.expr:
    """The same formula of other names."""
    class Rename(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.Name:
            return ast.Name(new.get(node.id, node.id), node.ctx)

        def visit_Call(self, node: ast.Call) -> ast.Call:
            return ast.Call(node.func, [self.visit(a) for a in node.args], [])

    return Rename().visit(ast.parse(ast.unparse(tree), mode="eval").body)


# Evaluation.


def evaluate(tree: ast.expr, values: Mapping[str, Any], notation: str = "rows") -> Any:
    """The value of a formula; arrays are as the notation has them."""
    def of(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return values[node.id]
        if isinstance(node, ast.Attribute):
            return np.transpose(of(node.value))
        if isinstance(node, ast.UnaryOp):
            return -of(node.operand)
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](of(node.left), of(node.right))
        if isinstance(node, ast.Compare):
            return np.asarray(_COMPARISONS[type(node.ops[0])](of(node.left), of(node.comparators[0])), dtype=np.float64)
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            arguments = [of(a) for a in node.args]
            over = (_OVER if notation == "rows" else _OVER_COLUMNS).get(node.func.id)
            return over(*arguments) if over else _FUNCTIONS[node.func.id](*arguments)
        raise TypeError(f"a formula cannot hold {ast.dump(node)}")

    with np.errstate(all="ignore"):
        return of(tree)


_OPERATORS: dict[Any, Any] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b, ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a ** b, ast.MatMult: lambda a, b: a @ b}
_COMPARISONS: dict[Any, Any] = {
    ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b, ast.Lt: lambda a, b: a < b, ast.LtE: lambda a, b: a <= b,
    ast.Eq: lambda a, b: a == b}


def _sigma(x: Any) -> Any:
    return 0.5 * (1.0 + np.tanh(0.5 * x))                 # 1/(1 + e⁻ˣ) without overflow


def _erf(x: Any) -> Any:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _Phi(x: Any) -> Any:
    return 0.5 * (1.0 + _erf(np.asarray(x) / math.sqrt(2.0)))


def _xlogx(t: Any) -> Any:
    return np.where(t > 0, t * np.log(np.where(t > 0, t, 1.0)), 0.0)


_FUNCTIONS: dict[str, Any] = {
    "sigma": _sigma, "exp": np.exp, "log": np.log, "tanh": np.tanh, "sin": np.sin, "cos": np.cos, "sqrt": np.sqrt, "abs": np.abs,
    "sign": np.sign, "erf": _erf,
    "Phi": _Phi, "phi": lambda x: np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi), "xlogx": _xlogx,
    "softplus": lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))),
    "max": np.maximum, "min": np.minimum, "total": np.sum, "norm": lambda a: np.sqrt(np.sum(a * a)),
    "rows": lambda a: np.reshape(a, (-1, a.shape[-1])), "reshape": lambda a, *shape: np.reshape(a, shape),
    "channels": lambda a: np.reshape(np.moveaxis(a, 1, -1), (-1, a.shape[1])),
    "images": lambda a, n, c, *space: np.moveaxis(np.reshape(a, (n, *space, c)), -1, 1)}
_OVER: dict[str, Any] = {
    "sum_d": lambda a: np.sum(np.reshape(a, (-1, a.shape[-1])), axis=0),
    "sum_n": lambda a: np.sum(np.reshape(a, (-1, a.shape[-1])), axis=0),
    "sum_k": lambda a: np.sum(a, axis=-1, keepdims=True), "max_k": lambda a: np.max(a, axis=-1, keepdims=True),
    "onehot": lambda t, k: np.asarray(np.asarray(t)[..., None] == np.arange(k), dtype=np.float64),
    "concat": lambda *parts: np.concatenate(parts, axis=-1), "part": lambda a, start, stop: a[..., start:stop]}
_OVER_COLUMNS: dict[str, Any] = {
    "sum_d": lambda a: np.sum(a, axis=1, keepdims=True) if a.ndim == 2 else np.sum(np.reshape(a, (-1, a.shape[-1])), axis=0),
    "sum_n": lambda a: np.sum(a, axis=1, keepdims=True),
    "sum_k": lambda a: np.sum(a, axis=0, keepdims=True), "max_k": lambda a: np.max(a, axis=0, keepdims=True),
    "onehot": lambda t, k: np.asarray(np.arange(k)[:, None] == np.asarray(t)[None, :], dtype=np.float64),
    "concat": lambda *parts: np.concatenate(parts, axis=0), "part": lambda a, start, stop: a[start:stop, ...]}


def _rotate(a: Any, cos: Any, sin: Any) -> Any:
    """Each pair of neighbours turned; rows that are several heads' below each other are turned head by head."""
    b = np.reshape(a, (*a.shape[:-2], -1, *cos.shape, 2))
    p, q = b[..., 0], b[..., 1]
    return np.reshape(np.stack([p * cos - q * sin, p * sin + q * cos], axis=-1), a.shape)


def _heads(a: Any, groups: int, d: int) -> Any:
    """(n, t, h·d) as (n, g, h/g · t, d)"""
    n, t, f = a.shape
    return np.reshape(np.transpose(np.reshape(a, (n, t, groups, f // (groups * d), d)), (0, 2, 3, 1, 4)), (n, groups, -1, d))


def _joined(a: Any, t: int) -> Any:
    """The inverse of `_heads`."""
    n, groups, rows, d = a.shape
    return np.reshape(np.transpose(np.reshape(a, (n, groups, rows // t, t, d)), (0, 3, 1, 2, 4)), (n, t, -1))


_FUNCTIONS |= {
    "take": lambda W, t: W[np.asarray(t)], "mT": lambda a: np.swapaxes(a, -1, -2), "batchsum": lambda a: np.sum(a, axis=0),
    "first": lambda a, m: a[:m], "padded": lambda a, m: np.concatenate([a, np.zeros((m - len(a), *a.shape[1:]))]),
    "before": lambda a, m: a[..., :m, :], "after": lambda a, m: a[..., m:, :], "pair": lambda a, b: np.stack([a, b]),
    "entry": lambda a, i: a[i], "behind": lambda a, b: np.concatenate([a, b], axis=-2), "rotate": _rotate, "heads": _heads,
    "joined": _joined}


def _along(axes: int, numbers: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Kernel, stride and dilation, one number for each axis; the last two may be left out, and are then 1."""
    return [tuple(map(int, numbers[i * axes:(i + 1) * axes])) or (1,) * axes for i in range(3)]


def _windows(x: Any, *numbers: int) -> Any:
    """Of (n, c, *size), each place of each sample as a row: its window, channel by channel the fastest."""
    axes = x.ndim - 2
    kernel, stride, dilation = _along(axes, numbers)
    whole = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation))
    v = np.lib.stride_tricks.sliding_window_view(x, whole, axis=tuple(range(2, x.ndim)))
    v = v[(slice(None), slice(None), *(slice(None, None, s) for s in (*stride, *dilation)))]
    return np.reshape(np.moveaxis(v, 1, -1), (-1, math.prod(kernel) * x.shape[1]))


def _fold(u: Any, like: Any, *numbers: int) -> Any:
    """The adjoint of `_windows` at x = like."""
    size, axes = like.shape[2:], like.ndim - 2
    kernel, stride, dilation = _along(axes, numbers)
    out = tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(size, kernel, stride, dilation))
    u, x = np.reshape(u, (like.shape[0], *out, *kernel, like.shape[1])), np.zeros(like.shape)
    for at in np.ndindex(*out):
        for entry in np.ndindex(*kernel):
            place = (s * p + d * i for p, i, s, d in zip(at, entry, stride, dilation))
            x[(slice(None), slice(None), *place)] += u[(slice(None), *at, *entry)]
    return x


def _pad(a: Any, *around: int, value: float = 0.0) -> Any:
    """Of (n, c, *size), so many entries put before and after along each axis of size; cut off where the number is negative."""
    pairs = [(0, 0), (0, 0), *zip(map(int, around[::2]), map(int, around[1::2]))]
    a = np.pad(a, [(max(0, b), max(0, e)) for b, e in pairs], constant_values=value)
    return a[tuple(slice(max(0, -b), n - max(0, -e)) for n, (b, e) in zip(a.shape, pairs))]


def _largest(a: Any) -> Any:
    """1 at the first of each row's largest entries, else 0."""
    return np.asarray(np.arange(a.shape[-1]) == np.argmax(a, axis=-1)[..., None], dtype=np.float64)


_FUNCTIONS |= {
    "windows": _windows, "fold": _fold, "pad": _pad, "lowpad": lambda a, *around: _pad(a, *around, value=np.min(a) - 1.0),
    "largest": _largest, "group": lambda a, i, groups: np.split(a, int(groups), axis=1)[int(i)],
    "bundle": lambda *parts: np.concatenate(parts, axis=1)}
def _turned(a: Any, lengths: Any = None) -> Any:
    """Time, the axis 1, in reverse; with lengths each sequence within its own."""
    return a[:, ::-1] if lengths is None else np.stack([np.concatenate([s[:n][::-1], s[n:]]) for s, n in zip(a, lengths)])


_FUNCTIONS |= {"step": lambda a, t: a[:, int(t) - 1], "steps": lambda *parts: np.stack(parts, axis=1), "turned": _turned}
FUNCTIONS = frozenset({*_FUNCTIONS, *_OVER})
_ENTRYWISE = ("sigma", "exp", "log", "tanh", "sin", "cos", "sqrt", "abs", "sign", "erf", "Phi", "phi", "xlogx", "softplus", "max", "min")


# The two notations.


def columns(value: Any) -> Any:
    """An array of the rows notation as the columns notation has it: a bias is a column; labels and single numbers stay."""
    a = np.asarray(value)
    if a.ndim == 2:
        return a.T
    return a[:, None] if a.ndim == 1 and a.dtype.kind == "f" else a


def transposed(tree: ast.expr, ndim: Mapping[str, int]) -> ast.expr:
    """The formula of the columns notation: the transpose, written in transposed arrays.

    ndim: of each name. An array with more than two axes stays as it is, so what makes two axes of it is transposed as a whole.
    """
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.MatMult):
        return ast.BinOp(transposed(tree.right, ndim), ast.MatMult(), transposed(tree.left, ndim))
    if isinstance(tree, ast.BinOp):
        return ast.BinOp(transposed(tree.left, ndim), tree.op, transposed(tree.right, ndim))
    if isinstance(tree, ast.UnaryOp):
        return ast.UnaryOp(tree.op, transposed(tree.operand, ndim))
    if isinstance(tree, ast.Attribute):
        return ast.Attribute(transposed(tree.value, ndim), "T", ast.Load())
    if isinstance(tree, ast.Compare):
        return ast.Compare(transposed(tree.left, ndim), tree.ops, [transposed(c, ndim) for c in tree.comparators])
    if isinstance(tree, ast.Call):
        assert isinstance(tree.func, ast.Name)
        if tree.func.id in ("rows", "reshape"):
            return _reshaped(tree, ndim)
        return ast.Call(tree.func, [transposed(a, ndim) for a in tree.args], [])
    return tree


def _reshaped(tree: ast.Call, ndim: Mapping[str, int]) -> ast.expr:
    inner = tree.args[0]
    if isinstance(inner, ast.Name) and ndim.get(inner.id, 0) == 2:
        inner = ast.Attribute(inner, "T", ast.Load())
    made: ast.expr = ast.Call(tree.func, [inner, *tree.args[1:]], [])
    goes_to = 2 if tree.func.id == "rows" else len(tree.args) - 1   # type: ignore[attr-defined]
    return ast.Attribute(made, "T", ast.Load()) if goes_to == 2 else made


def is_scalar(tree: ast.expr, ndim: Mapping[str, int]) -> bool:
    """Is the formula one number? Then a product with it needs no ⊙."""
    if isinstance(tree, ast.Constant):
        return True
    if isinstance(tree, ast.Name):
        return ndim.get(tree.id, 1) == 0
    if isinstance(tree, ast.Call):
        assert isinstance(tree.func, ast.Name)
        return tree.func.id in ("total", "norm") or (
            tree.func.id in _ENTRYWISE and all(is_scalar(a, ndim) for a in tree.args))
    if isinstance(tree, ast.BinOp):
        return is_scalar(tree.left, ndim) and is_scalar(tree.right, ndim)
    if isinstance(tree, ast.UnaryOp):
        return is_scalar(tree.operand, ndim)
    if isinstance(tree, ast.Compare):
        return is_scalar(tree.left, ndim) and all(is_scalar(c, ndim) for c in tree.comparators)
    return False

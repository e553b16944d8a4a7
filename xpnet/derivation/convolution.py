"""The formulas of convolution and pooling: windows as the rows of a matrix U, and then the formulas of Dense."""

from typing import Any

import numpy as np

from .. import layers as xl
from ..layers.convolution import Convolution
from ..layers.pooling import Pool
from .expression import evaluate, parse
from .formulas import _LAYERS, Formulas, Lines, _dense_activation, layer_formulas

_BACK = "each number of ∂L/∂U goes back to the entry that it was copied from; those of overlapping windows add"
_BIAS = "b is added at every place of every sample, so its gradient is the sum over both"


def _list(*numbers: int) -> str:
    return ", ".join(map(str, numbers))


def _shape(a: Any) -> str:
    return _list(*a.shape)


def _numbers(layer: Any) -> str:
    """Kernel, stride and dilation as `windows` takes them; the last two where they are not 1."""
    k, s, d = layer.kernel_size, layer.stride, layer.dilation
    return _list(*k, *(s if max(*s, *d) > 1 else ()), *(d if max(d) > 1 else ()))


def _around(pairs: Any) -> str:
    return _list(*(n for pair in pairs for n in pair))


def _activation(layer: Any, call: Any) -> tuple[Lines, Lines, dict[str, Any]]:
    """From z to y, from dy to dz, and how to compute them where there is no formula."""
    f = layer.activation
    lines = ([], []) if f is None else _dense_activation(f)
    if lines is not None:
        return *lines, {}
    return [("y", "")], [("dz", "")], {"y": lambda env: call.inner_layer("activation", env["z"])[0],
                                       "dz": lambda env: call.inner_layer("activation", env["z"], env["dy"])[1]}


@layer_formulas(Convolution)
def convolution(layer: Any, call: Any) -> Formulas:
    """Z = UM + b, with the windows of x as rows of U and W as the matrix M; with groups, group by group."""
    z, g, numbers = ("y" if layer.activation is None else "z"), layer.groups, _numbers(layer)
    activated, slope, computed = _activation(layer, call)
    pairs = layer.padding_for(call.x[0].shape[2:])
    padded = any(map(any, pairs))
    p = "p" if padded else "x"
    forward: Lines = [("p", f"pad(x, {_around(pairs)})")] if padded else []
    forward.append(("M", "rows(W)"))
    backward: Lines = [*slope, ("dZ", f"channels(d{z})")]
    width, names = layer.out_channels // g, [""] if g == 1 else list(map(str, range(g)))
    for i, name in enumerate(names):
        of = p if g == 1 else f"group({p}, {i}, {g})"
        forward.append((f"U{name}", f"windows({of}, {numbers})"))
        if g > 1:
            forward.append((f"M{name}", f"part(M, {i * width}, {(i + 1) * width})"))
            backward.append((f"dZ{name}", f"part(dZ, {i * width}, {(i + 1) * width})"))
            forward.append((f"Z{name}", f"U{name} @ M{name}"))
        backward.append((f"dM{name}", f"U{name}.T @ dZ{name}"))
    bias = " + b" if layer.b is not None else ""
    forward.append(("Z", f"U @ M{bias}" if g == 1 else f"concat({', '.join(f'Z{n}' for n in names)}){bias}"))
    if g > 1:
        backward.append(("dM", f"concat({', '.join(f'dM{n}' for n in names)})"))
    backward.append(("dW", f"reshape(dM, {_list(*layer.W.shape)})"))
    if layer.b is not None:
        backward.append(("db", "sum_n(dZ)"))
    folds = []
    for i, name in enumerate(names):
        backward.append((f"dU{name}", f"dZ{name} @ M{name}.T"))
        folds.append(f"fold(dU{name}, {p if g == 1 else f'group({p}, {i}, {g})'}, {numbers})")
    backward.append((f"d{p}", folds[0] if g == 1 else f"bundle({', '.join(folds)})"))
    if padded:
        backward.append(("dx", f"pad(dp, {_around((-a, -b) for a, b in pairs)})"))
    forward.append((z, f"images(Z, {_images(call, layer)})"))
    notes = {"U": "each window of x a row: a convolution is a Dense layer over windows", "db": _BIAS, f"d{p}": _BACK}
    return Formulas(forward + activated, backward, {}, notes, computed)


def _images(call: Any, layer: Any) -> str:
    n, _, *size = call.y[0].shape
    return _list(n, layer.out_channels, *size)


@layer_formulas(xl.ConvTranspose2D)
def conv_transpose(layer: Any, call: Any) -> Formulas:
    """The passes of `convolution` swapped: fold of XMᵀ forward, windows backward."""
    z, g, numbers = ("y" if layer.activation is None else "z"), layer.groups, _numbers(layer)
    activated, slope, computed = _activation(layer, call)
    n, c, *size = call.x[0].shape
    pairs = [(-a, o - b) for (a, b), o in zip(layer.padding_for(tuple(size)), layer.output_padding)]
    padded = any(map(any, pairs))
    q = "q" if padded else "v"
    channels, width = c // g, layer.out_channels // g
    like = np.zeros((n, width, *(f - o for f, o in zip(layer.full_size(tuple(size)), layer.output_padding))))
    forward: Lines = []
    backward: Lines = [*slope, ("dZ", f"channels(d{z})")]
    if layer.b is not None:
        backward.append(("db", "sum_n(dZ)"))
    if padded:
        backward.append(("dq", f"images(dZ, {_images(call, layer)})"))
        backward.append(("dv", f"pad(dq, {_around((-a, -b) for a, b in pairs)})"))
    else:
        backward.append(("dv", f"images(dZ, {_images(call, layer)})"))
    names = [""] if g == 1 else list(map(str, range(g)))
    for i, name in enumerate(names):
        of = "x" if g == 1 else f"group(x, {i}, {g})"
        forward += [(f"X{name}", f"channels({of})"),
                    (f"M{name}", "rows(mT(W))" if g == 1 else f"rows(mT(part(W, {i * width}, {(i + 1) * width})))"),
                    (f"U{name}", f"X{name} @ M{name}.T")]
        backward += [(f"dU{name}", f"windows({'dv' if g == 1 else f'group(dv, {i}, {g})'}, {numbers})"),
                     (f"dM{name}", f"dU{name}.T @ X{name}")]
    folds = [f"fold(U{name}, h, {numbers})" for name in names]
    forward.append(("v", folds[0] if g == 1 else f"bundle({', '.join(folds)})"))
    if padded:
        forward.append(("q", f"pad(v, {_around(pairs)})"))
    forward += [("Z", f"channels({q})" + (" + b" if layer.b is not None else "")), (z, f"images(Z, {_images(call, layer)})")]
    back = [f"mT(reshape(dM{name}, {_list(*layer.kernel_size, width, channels)}))" for name in names]
    backward.append(("dW", back[0] if g == 1 else f"concat({', '.join(back)})"))
    for name in names:
        backward.append((f"dX{name}", f"dU{name} @ M{name}"))
    images = [f"images(dX{name}, {_list(n, channels, *size)})" for name in names]
    backward.append(("dx", images[0] if g == 1 else f"bundle({', '.join(images)})"))
    notes = {"v": "each row of U is a patch of the output; patches that overlap add", "db": _BIAS,
             "U": "a row for each place of x: what it writes into the output"}
    return Formulas(forward + activated, backward, {"h": like}, notes, computed)


@layer_formulas(Pool)
def pool(layer: Any, call: Any) -> Formulas:
    """U: each window of each channel a row. The mean of a row is its product with o, a column of ones, over m."""
    n, c, *size = call.x[0].shape
    out, numbers = call.y[0].shape, _numbers(layer)
    pairs = layer.padding_for(tuple(size))
    padded, largest = any(map(any, pairs)), isinstance(layer, (xl.MaxPool1D, xl.MaxPool2D))
    forward: Lines = [("c", f"reshape(x, {_list(n * c, 1, *size)})")]
    if padded:
        forward.append(("p", f"{'lowpad' if largest else 'pad'}(c, {_around(pairs)})"))
    p = "p" if padded else "c"
    forward.append(("U", f"windows({p}, {numbers})"))
    backward: Lines = [("dY", f"reshape(dy, {_list(call.y[0].size, 1)})")]
    given: dict[str, Any] = {}
    notes = {"U": "each window of each channel a row", f"d{p}": _BACK}
    if largest:
        forward.append(("Y", "max_k(U)"))
        backward.append(("dU", "dY * largest(U)"))
        notes |= {"dU": "of several largest entries the first takes the gradient", "p": "around x is -∞; any number below x does the same"}
    else:
        m = int(np.prod(layer.kernel_size))
        given["o"], of = np.ones((m, 1)), str(m)
        if padded and not layer.count_include_pad:
            count = f"sum_k(windows(pad(e, {_around(pairs)}), {numbers}))"
            given["m"], of = evaluate(parse(count), {"e": np.ones((n * c, 1, *size))}), "m"
            notes["Y"] = "m: how many entries of each window are in x"
        forward.append(("Y", f"U @ o / {of}"))
        backward.append(("dU", f"dY / {of} @ o.T"))
    forward.append(("y", f"reshape(Y, {_list(*out)})"))
    backward.append((f"d{p}", f"fold(dU, {p}, {numbers})"))
    if padded:
        backward.append(("dc", f"pad(dp, {_around((-a, -b) for a, b in pairs)})"))
    backward.append(("dx", f"reshape(dc, {_shape(call.x[0])})"))
    return Formulas(forward, backward, given, notes)


def _global(layer: Any, call: Any) -> Formulas:
    n, c, *size = call.x[0].shape
    m = int(np.prod(size))
    return Formulas([("U", f"reshape(x, {_list(n * c, m)})"), ("Y", f"U @ o / {m}"), ("y", f"reshape(Y, {_list(n, c)})")],
                    [("dY", f"reshape(dy, {_list(n * c, 1)})"), ("dU", f"dY / {m} @ o.T"), ("dx", f"reshape(dU, {_shape(call.x[0])})")],
                    {"o": np.ones((m, 1))}, {"U": "each channel of each sample a row; o is a column of ones"})


_LAYERS[xl.GlobalAvgPool1D] = _LAYERS[xl.GlobalAvgPool2D] = _global


@layer_formulas(xl.Upsample)
def upsample(layer: Any, call: Any) -> Formulas:
    size = call.x[0].shape[2:]
    matrices = [_upsampling(n, s, layer.mode) for n, s in zip(size, layer.scale if layer.axes else layer.scale * len(size))]
    names = "AB"[:len(matrices)]
    notes = {"y": f"{' and '.join(names)}: the weights with which each new place sees the old ones"}
    if len(matrices) == 1:
        return Formulas([("y", "x @ A.T")], [("dx", "dy @ A")], {"A": matrices[0]}, notes)
    return Formulas([("y", "A @ x @ B.T")], [("dx", "A.T @ dy @ B")], dict(zip(names, matrices)), notes)


def _upsampling(n: int, s: int, mode: str) -> np.ndarray:
    """(s n, n): each new place's weights over the n old ones."""
    if mode == "nearest":
        return np.repeat(np.eye(n), s, axis=0)
    places = (np.arange(s * n) + 0.5) / s - 0.5
    return np.stack([np.interp(places, np.arange(n), e) for e in np.eye(n)], axis=1)

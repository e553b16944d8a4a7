"""Pooling: one number for each window of each channel; and its counterpart, which enlarges. Sorted by increasing complexity."""

import math
from typing import Any

from ..backend import elementwise
from ..backend.windows import crop, pad, places
from ..errors import unknown
from ..layer import Backward, Context, Layer, takes
from .convolution import AXES, Padding, Shape, Windowed, _short, check_image, inside, outside, paddings, sizes

Array = Any


class GlobalAvgPool(Layer):
    axes: int

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        check_image(x, None, self.axes)
        xp, shape = ctx.xp, x.shape
        places = math.prod(shape[2:])

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            if not input_grad:
                return None, {}
            dy = xp.reshape(dy * (1.0 / places), (*shape[:2], *(1,) * self.axes))
            return xp.broadcast_to(dy, shape), {}

        return xp.mean(x, axis=tuple(range(2, 2 + self.axes))), backward


class GlobalAvgPool1D(GlobalAvgPool):
    """y[n, c] = the mean of x[n, c, p] over p;  ∂L/∂x[n, c, p] = ∂L/∂y[n, c] / length.

    x: (n, channels, length)    y: (n, channels)
    Raises LayerError for an x of other axes.
    """

    axes = 1


class GlobalAvgPool2D(GlobalAvgPool):
    """y[n, c] = the mean of x[n, c, p, q] over p and q;  ∂L/∂x[n, c, p, q] = ∂L/∂y[n, c] / (height · width).

    x: (n, channels, height, width)    y: (n, channels)
    In the place of Flatten it makes a network that takes images of any size. Raises LayerError for an x of other axes.
    Lin, Chen & Yan (2014), "Network in network".
    """

    axes = 2


class Pool(Windowed):
    """What MaxPool and AvgPool share: windows as Conv2D has them, of one channel each, `kernel_size` apart where no stride is given."""

    outer: float = 0.0                                    # what is around x

    def __init__(self, kernel_size: Any = 2, *, stride: Any = None, padding: Any = 0):
        name = type(self).__name__
        self.kernel_size = sizes(f"{name}: kernel_size", kernel_size, self.axes)
        self.stride = self.kernel_size if stride is None else sizes(f"{name}: stride", stride, self.axes)
        self.padding = paddings(name, padding, self.axes)
        if not isinstance(self.padding, str) and any(2 * max(p) > k for p, k in zip(self.padding, self.kernel_size)):
            raise ValueError(f"{name}: padding is at most half of kernel_size, so that every window has something of x in it; got padding="
                             f"{_short(self.padding)} for kernel_size={_short(self.kernel_size)}")
        self.dilation = (1,) * self.axes

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        check_image(x, None, self.axes)
        xp, size = ctx.xp, x.shape[2:]
        padding = self.padding_for(size)
        under = [(slice(None), *p, slice(None)) for _, p in places(self.out_size(size), self.kernel_size, self.stride, self.dilation)]
        xs = pad(xp, inside(xp, x), padding, self.outer)
        y, back = self.pool(xp, xs, under, size, padding)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            return (outside(xp, crop(back(contiguous(xp, inside(xp, dy))), padding)) if input_grad else None), {}

        return outside(xp, y), backward

    def pool(self, xp: Any, x: Array, under: list[Any], size: Shape, padding: Padding) -> tuple[Array, Any]:
        """y, and what makes ∂L/∂x of ∂L/∂y; all (channels, *size, n), x with its padding.

        under: for each entry of a window the index of x that picks it from all windows
        """
        raise NotImplementedError

    @property
    def apart(self) -> bool:
        """Is no x in two windows?"""
        return all(s >= k for s, k in zip(self.stride, self.kernel_size))

    def options(self) -> list[str]:
        given = [("stride", self.stride, self.kernel_size), ("padding", self.padding, 0)]
        return [f"{name}={_short(value)}" for name, value, default in given if _short(value) != _short(default)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([_short(self.kernel_size), *self.options()])})"


class AvgPool(Pool):
    def __init__(self, kernel_size: Any = 2, *, stride: Any = None, padding: Any = 0, count_include_pad: bool = False):
        super().__init__(kernel_size, stride=stride, padding=padding)
        self.count_include_pad = count_include_pad

    def pool(self, xp: Any, x: Array, under: list[Any], size: Shape, padding: Padding) -> tuple[Array, Any]:
        scale = self.scale(xp, x, under, size, padding)
        y = x[under[0]] * 1.0
        for place in under[1:]:
            y += x[place]
        y *= scale

        def backward(dy: Array) -> Array:
            dy = dy * scale
            dx = xp.zeros(x.shape, dtype=dy.dtype, device=dy.device)
            for place in under:
                if self.apart:
                    dx[place] = dy
                else:
                    dx[place] += dy
            return dx

        return y, backward

    def scale(self, xp: Any, x: Array, under: list[Any], size: Shape, padding: Padding) -> Any:
        """1 / the number of entries of a window that count: a number, or an array where windows at the edge have fewer."""
        if self.count_include_pad or not any(map(any, padding)):
            return 1.0 / len(under)
        inner = pad(xp, xp.ones((1, *size, 1), dtype=x.dtype, device=x.device), padding)
        count = inner[under[0]] * 1.0
        for place in under[1:]:
            count += inner[place]
        return 1.0 / count

    def options(self) -> list[str]:
        return super().options() + (["count_include_pad=True"] if self.count_include_pad else [])


class AvgPool1D(AvgPool):
    """y[n, c, p] = the mean of x[n, c, s p + i] over 0 ≤ i < kernel_size: AvgPool2D along one axis, with its arguments.

    x: (n, channels, length)    y: (n, channels, places)
    """

    axes = 1


class AvgPool2D(AvgPool):
    """y[n, c, p, q] = (1/m) Σ_{i,j} x[n, c, s p + i, s q + j],  i and j over the window.

        ∂L/∂x[n, c, u, v] = Σ (1/m) ∂L/∂y[n, c, p, q]  over the windows that x[n, c, u, v] is in

    x: (n, channels, height, width)    y: (n, channels, places down, places across), as Conv2D counts them: what fills no window at the
    right and bottom is left out.
    kernel_size        of a window: a number, or one for each axis
    stride             from window to window; kernel_size where not given, so that windows touch
    padding            as Conv2D's
    count_include_pad  m is the number of a window's entries that are in x, so padding does not darken the edge (as in TensorFlow and
                       ONNX); with True it is always kernel_size², as PyTorch has it. Without padding the two are the same
    Raises LayerError for an x of other axes, and for one that is smaller than a window.
    LeCun et al. (1989).
    """

    axes = 2


class MaxPool(Pool):
    outer = -math.inf

    def pool(self, xp: Any, x: Array, under: list[Any], size: Shape, padding: Padding) -> tuple[Array, Any]:
        y = x[under[0]] if len(under) > 1 else 1.0 * x[under[0]]
        for place in under[1:]:
            y = xp.maximum(y, x[place])

        def backward(dy: Array) -> Array:
            dx, left = xp.zeros(x.shape, dtype=dy.dtype, device=dy.device), dy
            for place in under[:-1]:
                taken, left = first_taken(xp, left, x[place], y)
                if self.apart:
                    dx[place] = taken
                else:
                    dx[place] += taken
            if self.apart:
                dx[under[-1]] = left                      # no other was the largest
            else:
                dx[under[-1]] += left
            return dx

        return y, backward


class MaxPool1D(MaxPool):
    """y[n, c, p] = max over 0 ≤ i < kernel_size of x[n, c, s p + i]: MaxPool2D along one axis, with its arguments.

    x: (n, channels, length)    y: (n, channels, places)
    """

    axes = 1


class MaxPool2D(MaxPool):
    """y[n, c, p, q] = max over i, j of x[n, c, s p + i, s q + j],  i and j over the window.

        ∂L/∂x[n, c, u, v] = Σ ∂L/∂y[n, c, p, q]  over the windows whose maximum x[n, c, u, v] is

    Ties: of several equal largest entries the first, row by row, takes all of the window's gradient (as in PyTorch). Any way of
    sharing it out is a subgradient; this one is cheap and the same on every backend.
    max is monotone, so ReLU(max(x)) = max(ReLU(x)): ReLU after the pool gives the same numbers for a quarter of the work.
    x: (n, channels, height, width)    y: (n, channels, places down, places across), as Conv2D counts them: what fills no window at the
    right and bottom is left out.
    kernel_size  of a window: a number, or one for each axis
    stride       from window to window; kernel_size where not given, so that windows touch
    padding      as Conv2D's, but with -∞, which is never the largest
    Raises LayerError for an x of other axes, and for one that is smaller than a window.
    Weng, Ahuja & Huang (1992), "Cresceptron"; Riesenhuber & Poggio (1999).
    """

    axes = 2


@elementwise
def first_taken(xp: Any, left: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Of what is left of ∂L/∂y: what goes to x, if it is the largest, and what is left then."""
    taken = left * xp.astype(x == y, left.dtype)
    return taken, left - taken


class Upsample(Layer):
    """An image `scale` times as large.

    mode="nearest":   y[n, c, u, v] = x[n, c, ⌊u/s⌋, ⌊v/s⌋];  ∂L/∂x[n, c, p, q] = Σ ∂L/∂y over the s · s places that p, q fills.
    mode="bilinear":  y = A x Bᵀ for each image;  ∂L/∂x = Aᵀ ∂L/∂y B.
        A and B interpolate along height and width: A[u, p] = max(0, 1 - |t - p|), with t = (u + ½)/s - ½ held between 0 and height - 1.
        (Pixels are areas, and corners do not align: PyTorch's align_corners=False.)

    x: (n, channels, height, width)    y: (n, channels, s · height, s · width)
    x may also be (n, channels, length): "bilinear" is then linear.
    scale  a whole number s, or one for each axis
    Raises LayerError for an x of other axes.
    """

    def __init__(self, scale: Any = 2, mode: str = "nearest"):
        if mode not in ("nearest", "bilinear"):
            raise unknown("Upsample mode", mode, ("nearest", "bilinear"))
        self.mode = mode
        self.axes = len(scale) if isinstance(scale, (tuple, list)) else None
        if self.axes not in (None, 1, 2):
            raise ValueError(f"Upsample: scale is a number, or one for each of 1 or 2 axes, got {scale!r}")
        self.scale = sizes("Upsample: scale", scale, self.axes or 1)

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        axes = x.ndim - 2
        if axes not in ((1, 2) if self.axes is None else (self.axes,)):
            raise takes(f"(batch, channels, {'length' if self.axes == 1 else ', '.join(AXES)})", x)
        scale = self.scale if self.axes else self.scale * axes
        return self.nearest(ctx.xp, x, scale) if self.mode == "nearest" else self.linear(ctx.xp, x, scale)

    def nearest(self, xp: Any, x: Array, scale: Shape) -> tuple[Array, Backward]:
        c, n = x.shape[1], x.shape[0]
        one = (c, *(e for size in x.shape[2:] for e in (size, 1)), n)
        split = (c, *(e for pair in zip(x.shape[2:], scale) for e in pair), n)
        y = xp.reshape(xp.broadcast_to(xp.reshape(inside(xp, x), one), split), (c, *(k * s for k, s in zip(x.shape[2:], scale)), n))

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            if not input_grad:
                return None, {}
            return outside(xp, xp.sum(xp.reshape(inside(xp, dy), split), axis=tuple(range(2, len(split) - 1, 2)))), {}

        return outside(xp, y), backward

    def linear(self, xp: Any, x: Array, scale: Shape) -> tuple[Array, Backward]:
        matrices = [interpolation(xp, n, s, x) for n, s in zip(x.shape[2:], scale)]

        def along(x: Array, matrices: list[Array]) -> Array:
            """x times a matrix along its last axis, then along the one before, each one product."""
            for A in reversed(matrices):
                x = xp.reshape(xp.reshape(x, (-1, x.shape[-1])) @ A.mT, (*x.shape[:-1], A.shape[0]))
                x = xp.permute_dims(x, (0, 1, *range(3, x.ndim), 2))
            return x

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            return (along(dy, [A.mT for A in matrices]) if input_grad else None), {}

        return along(x, matrices), backward

    def __repr__(self) -> str:
        scale = _short(self.scale) if self.axes is None else repr(self.scale)
        return f"Upsample({scale}{'' if self.mode == 'nearest' else ', ' + repr(self.mode)})"


def interpolation(xp: Any, size: int, scale: int, like: Array) -> Array:
    """A: (scale · size, size), the weights with which each new place sees the old ones: a hat around its place among them."""
    u, p = (xp.astype(xp.arange(n, device=like.device), like.dtype) for n in (scale * size, size))
    t = xp.minimum(xp.maximum((u + 0.5) / scale - 0.5, 0.0), size - 1.0)
    return xp.maximum(1.0 - xp.abs(t[:, None] - p[None, :]), 0.0)


def contiguous(xp: Any, x: Array) -> Array:
    """x, copied where its memory is in another order."""
    return xp.reshape(xp.reshape(x, (-1,)), x.shape)

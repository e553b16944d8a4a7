"""Convolutions: the same small affine map at every place of an image. Sorted by increasing complexity."""

import math
from collections.abc import Sequence
from typing import Any

from ..backend import sum_of
from ..backend.windows import crop, pad, positions, windows, windows_adjoint
from ..errors import LayerError, unknown, whole
from ..layer import Backward, Context, Layer, Param, takes
from .activations import Activation, get_activation

Array = Any
Shape = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]
AXES = ("height", "width")


class Windowed(Layer):
    """A layer over windows of an image: what convolution and pooling share."""

    axes: int                                             # of an image: 2, or 1 for a signal
    kernel_size: Shape
    stride: Shape
    dilation: Shape
    padding: "Padding | str"

    def padding_for(self, size: Shape) -> Padding:
        """(before, after) for each axis of an image of that size: "same" depends on it."""
        return padding_for(self.padding, size, self.kernel_size, self.stride, self.dilation)

    def out_size(self, size: Shape) -> Shape:
        """How many windows there are along each axis. Raises LayerError where there is none."""
        return out_size(size, self.padding_for(size), self.kernel_size, self.stride, self.dilation)


class Convolution(Windowed):
    """What convolutions share: W as the matrix of an affine map, its inputs the windows of x, side by side in a matrix U.

        Z = Wᵀ U + b        ∂L/∂W = U ∂L/∂Zᵀ        ∂L/∂b = Σ ∂L/∂z, over samples and places        ∂L/∂U = W ∂L/∂Z

    and ∂L/∂x is ∂L/∂U with each number added to the x that it was copied from: `windows` and `windows_adjoint`, xpnet/backend/windows.py.
    Inside, an image is (channels, height, width, batch). What leaves the layer is a view of that in the usual order, which the next
    convolution turns back: nothing is copied in between. U is as large as the kernel has entries times x (with stride 1), so it is not kept
    but made again in the backward pass, which is a tenth to a twentieth of the layer's work (measured on the shapes of windows.py).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, activation: Any = None, *, stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1, init: Any = "glorot_uniform", bias: bool = True, bias_init: Any = "zeros"):
        name = type(self).__name__
        self.in_channels = whole(f"{name}: in_channels", in_channels, 1)
        self.out_channels = whole(f"{name}: out_channels", out_channels, 1)
        self.kernel_size = sizes(f"{name}: kernel_size", kernel_size, self.axes)
        self.stride = sizes(f"{name}: stride", stride, self.axes)
        self.padding = paddings(name, padding, self.axes)
        self.dilation = sizes(f"{name}: dilation", dilation, self.axes)
        self.groups = whole(f"{name}: groups", groups, 1)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{name}: groups divides both channel counts, got {groups} for {in_channels} and {out_channels} channels")
        self.activation = get_activation(activation)
        self.W = Param((*self.kernel_size, in_channels // groups, out_channels), init)
        self.b = Param((out_channels,), bias_init, bias=True) if bias else None

    def params(self) -> dict[str, Param]:
        return {"W": self.W} if self.b is None else {"W": self.W, "b": self.b}

    def children(self) -> dict[str, Layer]:
        return {} if self.activation is None else {"activation": self.activation}

    def check(self, x: Array, W: Array) -> None:
        check_image(x, self.in_channels, self.axes)
        if x.dtype != W.dtype:
            raise LayerError(f"has parameters of dtype {W.dtype}, got x of dtype {x.dtype}; convert x first")

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, W = ctx.xp, params["W"]
        self.check(x, W)
        z, back_z = self.affine(xp, W, x)                 # (out_channels, places · batch)
        out = self.out_size(x.shape[2:])
        f = self.activation
        fused = isinstance(f, Activation) and self.b is not None
        back: Any = None
        if fused:
            assert isinstance(f, Activation)
            z, back = f.run(xp, z, ctx.training, params["b"][:, None])
        elif self.b is not None:
            z += params["b"][:, None]                     # in place: z was made here
        y = outside(xp, xp.reshape(z, (self.out_channels, *out, x.shape[0])))
        if f is not None and not fused:
            y, back = ctx.forward("activation", f, params, y)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            inner: dict[str, Any] = {}
            if back is not None and not fused:
                dy, inner = back(dy)
            dz = xp.reshape(inside(xp, dy), (self.out_channels, -1))
            if fused:
                dz, inner = back(dz)
            grads = {"activation": inner}
            dx, grads["W"] = back_z(dz, input_grad)
            if self.b is not None:
                grads["b"] = sum_of(xp, dz, axis=1)
            return dx, grads

        return y, backward

    def affine(self, xp: Any, W: Array, x: Array) -> tuple[Array, Any]:
        """WᵀU, and what makes (∂L/∂x, ∂L/∂W) of ∂L/∂Z."""
        size, n, k, g = x.shape[2:], x.shape[0], self.kernel_size, self.groups
        padding = self.padding_for(size)
        padded = tuple(a + s + b for s, (a, b) in zip(size, padding))
        out = self.out_size(size)

        def U() -> Array:
            xs = grouped(xp, pad(xp, inside(xp, x), padding), g)
            u = windows(xp, xs, k, self.stride, self.dilation)
            return xp.reshape(u, matrix(g, math.prod(k) * self.in_channels // g))

        Wm = _by_group(xp, xp.reshape(W, (-1, self.out_channels)), g)
        z = xp.reshape(Wm.mT @ U(), (self.out_channels, -1))

        def backward(dz: Array, input_grad: bool) -> tuple[Array | None, Array]:
            dz = xp.reshape(dz, matrix(g, self.out_channels // g))
            dW = xp.reshape(_together(xp, U() @ dz.mT), W.shape)
            if not input_grad:
                return None, dW
            du = xp.reshape(Wm @ dz, (g, *k, self.in_channels // g, *out, n))
            dx = windows_adjoint(xp, du, padded, self.stride, self.dilation)
            return outside(xp, crop(xp.reshape(dx, (self.in_channels, *padded, n)), padding)), dW

        return z, backward

    def options(self) -> list[str]:
        return [f"{name}={_short(getattr(self, name))}" for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))
                if _short(getattr(self, name)) != repr(default)]

    def __repr__(self) -> str:
        f = [] if self.activation is None else [repr(self.activation)]
        bias = [] if self.b is not None else ["bias=False"]
        what = [str(self.in_channels), str(self.out_channels), _short(self.kernel_size), *f, *self.options(), *bias]
        return f"{type(self).__name__}({', '.join(what)})"


class Conv1D(Convolution):
    """z[n, k, p] = Σ_{i,c} W[i, c, k] x[n, c, s p + d i] + b[k],  and with an activation  y = f(z): Conv2D along one axis.

        ∂L/∂W[i, c, k] = Σ_{n,p} ∂L/∂z[n, k, p] x[n, c, s p + d i]        ∂L/∂b[k] = Σ_{n,p} ∂L/∂z[n, k, p]
        ∂L/∂x[n, c, q] = Σ_{k,i} W[i, c, k] ∂L/∂z[n, k, p]  over the p with s p + d i = q

    x: (n, in_channels, length), padded    W: (kernel_size, in_channels / groups, out_channels)    z: (n, out_channels, places)
    padding=(d·(kernel_size - 1), 0) is causal: z at a place depends on x at and before it.
    The arguments are Conv2D's. Waibel, Hanazawa, Hinton, Shikano & Lang (1989), "Phoneme recognition using time-delay neural networks".
    """

    axes = 1


class Conv2D(Convolution):
    """z[n, k, p, q] = Σ_{i,j,c} W[i, j, c, k] x[n, c, s p + d i, s q + d j] + b[k],  and with an activation  y = f(z).

        ∂L/∂W[i, j, c, k] = Σ_{n,p,q} ∂L/∂z[n, k, p, q] x[n, c, s p + d i, s q + d j]        ∂L/∂b[k] = Σ_{n,p,q} ∂L/∂z[n, k, p, q]
        ∂L/∂x[n, c, u, v] = Σ_{k,i,j} W[i, j, c, k] ∂L/∂z[n, k, p, q]  over the p, q with s p + d i = u, s q + d j = v

    x: (n, in_channels, height, width), padded    W: (*kernel_size, in_channels / groups, out_channels), as (in, out) of Dense
    z: (n, out_channels, places down, places across), with ⌊(padded size - d (kernel_size - 1) - 1) / s⌋ + 1 places along an axis
    It is a Dense layer over each window, and strictly a correlation: the kernel is not flipped.

    kernel_size, stride, dilation   a number, or one for each axis; s and d of the formula
    padding     zeros around x: a number, one for each axis, a pair (before, after) for each axis, "valid" (none), or "same": as many as
                make ⌈size / stride⌉ places, an odd one after (as TensorFlow and ONNX's SAME_UPPER do; PyTorch has it for stride 1)
    groups      the channels are split into so many groups, each convolved by itself
    activation  None, an activation such as ReLU(), or its name: the two layers in one, equal to them to rounding
    init        initialiser of W, its name or an array of W's shape
    bias        False leaves b out
    Raises LayerError for an x of other axes, channels or dtype, and for one that is smaller than a window.
    Fukushima (1980), "Neocognitron"; LeCun et al. (1989), "Backpropagation applied to handwritten zip code recognition".
    """

    axes = 2


class DepthwiseConv2D(Conv2D):
    """z[n, m c + l, p, q] = Σ_{i,j} W[i, j, 0, m c + l] x[n, c, s p + d i, s q + d j] + b[m c + l]: a kernel, or m, for each channel.

    Conv2D with groups=channels: no sum over channels. With a Conv2D of kernel_size 1 behind it, it is a separable convolution.
    channels    of x
    multiplier  m: kernels for each channel; z has m · channels
    The other arguments, and the derivatives, are Conv2D's.
    Sifre (2014), "Rigid-motion scattering for image classification"; Chollet (2017), "Xception".
    """

    def __init__(self, channels: int, kernel_size: Any, activation: Any = None, *, multiplier: int = 1, stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, init: Any = "glorot_uniform", bias: bool = True, bias_init: Any = "zeros"):
        whole("DepthwiseConv2D: channels", channels, 1)
        self.multiplier = whole("DepthwiseConv2D: multiplier", multiplier, 1)
        super().__init__(channels, channels * multiplier, kernel_size, activation, stride=stride, padding=padding, dilation=dilation,
                         groups=channels, init=init, bias=bias, bias_init=bias_init)

    def __repr__(self) -> str:
        f = [] if self.activation is None else [repr(self.activation)]
        options = [o for o in self.options() if not o.startswith("groups")]
        more = [] if self.multiplier == 1 else [f"multiplier={self.multiplier}"]
        what = [str(self.in_channels), _short(self.kernel_size), *f, *more, *options, *([] if self.b is not None else ["bias=False"])]
        return f"DepthwiseConv2D({', '.join(what)})"


class ConvTranspose2D(Convolution):
    """z[n, k, u, v] = Σ_{c,i,j} W[i, j, c, k] x[n, c, p, q] + b[k]  over the p, q with s p + d i = u, s q + d j = v

        ∂L/∂W[i, j, c, k] = Σ_{n,p,q} x[n, c, p, q] ∂L/∂z[n, k, s p + d i, s q + d j]        ∂L/∂b[k] = Σ_{n,u,v} ∂L/∂z[n, k, u, v]
        ∂L/∂x[n, c, p, q] = Σ_{i,j,k} W[i, j, c, k] ∂L/∂z[n, k, s p + d i, s q + d j]

    Each x writes a kernel-sized patch into z, s apart, and patches that overlap add: the adjoint of a Conv2D from out_channels to
    in_channels with the same stride, dilation and padding, so its gradient in x is that convolution.
    x: (n, in_channels, height, width)    W: (*kernel_size, in_channels / groups, out_channels)
    z: (n, out_channels, …), of size (size - 1) s + d (kernel_size - 1) + 1 + output_padding - padding before - padding after

    padding         so many rows and columns are cut off z: a number, one for each axis, or a pair (before, after) for each axis
    output_padding  rows and columns added after, to tell apart the sizes that a convolution of stride s makes equal; less than stride
                    or dilation
    The other arguments are Conv2D's. Raises LayerError as Conv2D does, and where padding leaves nothing of z.
    Zeiler, Krishnan, Taylor & Fergus (2010), "Deconvolutional networks"; Dumoulin & Visin (2016).
    """

    axes = 2

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, activation: Any = None, *, stride: Any = 1, padding: Any = 0,
                 output_padding: Any = 0, dilation: Any = 1, groups: int = 1, init: Any = "glorot_uniform", bias: bool = True,
                 bias_init: Any = "zeros"):
        if padding == "same":
            raise ValueError("ConvTranspose2D: padding is a number, one for each axis, or a pair for each axis; the size that 'same' would "
                             "make is not determined")
        super().__init__(in_channels, out_channels, kernel_size, activation, stride=stride, padding=padding, dilation=dilation,
                         groups=groups, init=init, bias=bias, bias_init=bias_init)
        self.output_padding = sizes("ConvTranspose2D: output_padding", output_padding, self.axes, 0)
        if any(o >= max(s, d) for o, s, d in zip(self.output_padding, self.stride, self.dilation)):
            raise ValueError(f"ConvTranspose2D: output_padding is less than stride or dilation, got {_short(self.output_padding)} for "
                             f"stride {_short(self.stride)} and dilation {_short(self.dilation)}")

    def full_size(self, size: Shape) -> Shape:
        """Of z before padding is cut off."""
        return tuple((n - 1) * s + d * (k - 1) + 1 + o for n, s, d, k, o in
                     zip(size, self.stride, self.dilation, self.kernel_size, self.output_padding))

    def out_size(self, size: Shape) -> Shape:
        out = tuple(n - a - b for n, (a, b) in zip(self.full_size(size), self.padding_for(size)))
        if min(out) < 1:
            raise LayerError(f"cuts padding {_short(self.padding)} off an image of {_by(self.full_size(size))}, made of x of {_by(size)}: "
                             "nothing is left")
        return out

    def affine(self, xp: Any, W: Array, x: Array) -> tuple[Array, Any]:
        """Conv2D's with the passes swapped: windows_adjoint of W x forward, and windows of ∂L/∂z backward."""
        size, n, k, g = x.shape[2:], x.shape[0], self.kernel_size, self.groups
        padding, full, out = self.padding_for(size), self.full_size(size), self.out_size(size)
        channels, rows = self.out_channels // g, math.prod(k) * self.out_channels // g
        Wg = xp.reshape(W, (-1, self.in_channels // g, g, channels))
        Wm = xp.reshape(xp.permute_dims(Wg, (2, 0, 3, 1)), matrix(g, rows, self.in_channels // g))
        xm = xp.reshape(inside(xp, x), matrix(g, self.in_channels // g))
        z = windows_adjoint(xp, xp.reshape(Wm @ xm, (g, *k, channels, *size, n)), full, self.stride, self.dilation)
        z = xp.reshape(crop(xp.reshape(z, (self.out_channels, *full, n)), padding), (self.out_channels, -1))

        def backward(dz: Array, input_grad: bool) -> tuple[Array | None, Array]:
            dz = pad(xp, xp.reshape(dz, (self.out_channels, *out, n)), padding)
            dz = dz[(slice(None), *(slice(0, f - o) for f, o in zip(full, self.output_padding)), slice(None))]
            u = xp.reshape(windows(xp, grouped(xp, dz, g), k, self.stride, self.dilation), matrix(g, rows))
            dW = xp.reshape(u @ xm.mT, (g, -1, channels, self.in_channels // g))
            dW = xp.reshape(xp.permute_dims(dW, (1, 3, 0, 2)), W.shape)
            if not input_grad:
                return None, dW
            return outside(xp, xp.reshape(Wm.mT @ u, (self.in_channels, *size, n))), dW

        return z, backward

    def options(self) -> list[str]:
        more = [] if not any(self.output_padding) else [f"output_padding={_short(self.output_padding)}"]
        return super().options() + more


# The order of the axes.


def inside(xp: Any, x: Array) -> Array:
    """(n, c, *size) as (c, *size, n): a view."""
    return xp.permute_dims(x, (*range(1, x.ndim), 0))


def outside(xp: Any, x: Array) -> Array:
    """(c, *size, n) as (n, c, *size): a view."""
    return xp.permute_dims(x, (x.ndim - 1, *range(x.ndim - 1)))


def grouped(xp: Any, x: Array, groups: int) -> Array:
    """(c, *size, n) as (groups, c / groups, *size, n)."""
    return xp.reshape(x, (groups, x.shape[0] // groups, *x.shape[1:]))


def matrix(groups: int, rows: int, columns: int = -1) -> Shape:
    """The shape of a matrix for each group; of one matrix where there is one group."""
    return (rows, columns) if groups == 1 else (groups, rows, columns)


def _by_group(xp: Any, W: Array, groups: int) -> Array:
    """(rows, k) as (groups, rows, k / groups)."""
    return W if groups == 1 else xp.permute_dims(xp.reshape(W, (W.shape[0], groups, -1)), (1, 0, 2))


def _together(xp: Any, W: Array) -> Array:
    """The adjoint of `_by_group`."""
    return W if W.ndim == 2 else xp.permute_dims(W, (1, 0, 2))


# What a user says of an axis.


def sizes(name: str, value: Any, axes: int, least: int = 1) -> Shape:
    """One number for each axis."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (whole(name, value, least),) * axes
    if len(value) != axes:
        raise ValueError(f"{name} is a number, or {axes} of them, got {value!r}")
    return tuple(whole(name, v, least) for v in value)


def paddings(name: str, value: Any, axes: int) -> Padding | str:
    """(before, after) for each axis, or "same"."""
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise unknown(f"padding of {name}", value, ("same", "valid"))
        return "same" if value == "same" else ((0, 0),) * axes
    what = f"{name}: padding"
    if not isinstance(value, Sequence):
        return ((whole(what, value, 0),) * 2,) * axes
    if axes == 1 and len(value) == 2 and not any(isinstance(v, Sequence) for v in value):
        value = (value,)
    if len(value) != axes or any(isinstance(v, str) or (isinstance(v, Sequence) and len(v) != 2) for v in value):
        pairs = ", ".join(["(before, after)"] * axes)
        raise ValueError(f"{what} is a number, one for each axis, ({pairs}{',' if axes == 1 else ''}), 'same' or 'valid', got {value!r}")
    return tuple((whole(what, v[0], 0), whole(what, v[1], 0)) if isinstance(v, Sequence) else (whole(what, v, 0),) * 2 for v in value)


def padding_for(padding: Padding | str, size: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Padding:
    if not isinstance(padding, str):
        return padding
    pairs = []
    for n, k, s, d in zip(size, kernel, stride, dilation):
        total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def out_size(size: Shape, padding: Padding, kernel: Shape, stride: Shape, dilation: Shape) -> Shape:
    padded = tuple(a + n + b for n, (a, b) in zip(size, padding))
    out = tuple(map(positions, padded, kernel, stride, dilation))
    if min(out) < 1:
        window = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation))
        raise LayerError(f"has windows of {_by(window)}, larger than x of {_by(padded)}{' with its padding' if padded != size else ''}")
    return out


def check_image(x: Any, channels: int | None, axes: int) -> None:
    """Raises LayerError for what is no batch of images (or, with one axis, of signals) of so many channels."""
    if isinstance(x, tuple) or len(x.shape) != axes + 2 or (channels is not None and x.shape[1] != channels):
        raise takes(f"(batch, {channels or 'channels'}, {'length' if axes == 1 else ', '.join(AXES)})", x)


def _by(size: Shape) -> str:
    return " x ".join(map(str, size))


def _short(value: Any) -> str:
    """As a user writes it: (3, 3) is 3, ((1, 1), (1, 1)) is 1."""
    if isinstance(value, tuple):
        inner = [_short(v) for v in value]
        return inner[0] if len(set(inner)) == 1 else f"({', '.join(inner)})"
    return repr(value)

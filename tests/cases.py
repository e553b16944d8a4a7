"""Every layer, with an input it takes: what the laws are tested on. A new layer adds a line here and is under all of them."""

import numpy as np

import xpnet as xn
from xpnet.backend import Random
from xpnet.layer import Context, tree_map, walk_buffers

ACTIVATIONS = {
    "Identity": xn.Identity, "ReLU": xn.ReLU, "LeakyReLU": xn.LeakyReLU, "Sigmoid": xn.Sigmoid, "Tanh": xn.Tanh,
    "Softplus": xn.Softplus, "ELU": xn.ELU, "ELU(0.5)": lambda: xn.ELU(0.5), "SELU": xn.SELU, "HardSigmoid": xn.HardSigmoid,
    "HardSwish": xn.HardSwish, "SiLU": xn.SiLU, "GELU": xn.GELU, "GELU(tanh)": lambda: xn.GELU("tanh"), "PReLU": xn.PReLU,
    "PReLU(5)": lambda: xn.PReLU(5), "Softmax": xn.Softmax, "LogSoftmax": xn.LogSoftmax,
}


class Ints:
    """The shape of an input of integers from `low` up to, not including, `high`: tokens, lengths. There is no gradient of it."""

    def __init__(self, shape, high, low=0):
        self.shape, self.low, self.high = shape, low, high


# name: (a function that makes the layer, the shape of its input (or Ints), or a list of these for a tuple)
LAYERS = {
    **{name: (make, (4, 5)) for name, make in ACTIVATIONS.items()},
    "Dense": (lambda: xn.Dense(5, 3), (4, 5)),
    "Dense(n=1)": (lambda: xn.Dense(5, 3), (1, 5)),
    "Dense(1, 1)": (lambda: xn.Dense(1, 1), (4, 1)),
    "Dense(time)": (lambda: xn.Dense(5, 3, "tanh"), (2, 3, 5)),
    "Dense(bias=False)": (lambda: xn.Dense(5, 3, bias=False), (4, 5)),
    "Dense(relu)": (lambda: xn.Dense(5, 3, "relu"), (4, 5)),
    "Dense(gelu)": (lambda: xn.Dense(5, 3, xn.GELU()), (4, 5)),
    "Dense(prelu)": (lambda: xn.Dense(5, 3, "prelu"), (4, 5)),
    "Dense(softmax)": (lambda: xn.Dense(5, 3, "softmax"), (4, 5)),
    "Dense(tanh, bias=False)": (lambda: xn.Dense(5, 5, "tanh", bias=False), (4, 5)),
    "Dropout": (lambda: xn.Dropout(0.4), (6, 5)),
    "Flatten": (xn.Flatten, (4, 2, 3)),
    "Reshape": (lambda: xn.Reshape(3, -1), (4, 6)),
    "Sequential": (lambda: xn.Sequential(xn.Flatten(), xn.Dense(6, 4, "tanh"), xn.Dropout(0.3), xn.Dense(4, 2)), (4, 2, 3)),
    "Sequential()": (xn.Sequential, (4, 5)),
    "Residual": (lambda: xn.Residual(xn.Dense(5, 5, "sigmoid"), xn.Dense(5, 5)), (4, 5)),
    "Checkpoint": (lambda: xn.Checkpoint(xn.Dense(5, 4, "tanh"), xn.Dropout(0.5), xn.Dense(4, 5)), (4, 5)),
    "Parallel": (lambda: xn.Parallel(xn.Dense(5, 2), xn.Sequential(xn.Dense(5, 3), xn.Tanh())), (4, 5)),
    "Parallel(split)": (lambda: xn.Parallel(xn.Dense(5, 2), xn.Dense(3, 2, "silu"), split=True), [(4, 5), (4, 3)]),
    "Concat": (lambda: xn.Concat(xn.Identity(), xn.Dense(5, 3, "relu"), xn.Dense(5, 2)), (4, 5)),
    "Concat(axis=1)": (lambda: xn.Concat(xn.Dense(5, 2), xn.Dense(5, 2), axis=1), (4, 3, 5)),
    "RMSNorm": (lambda: xn.RMSNorm(5), (4, 5)),
    "RMSNorm(time)": (lambda: xn.RMSNorm(5, affine=False), (2, 3, 5)),
    "LayerNorm": (lambda: xn.LayerNorm(5), (4, 5)),
    "LayerNorm(n=1)": (lambda: xn.LayerNorm(5), (1, 5)),
    "LayerNorm(1)": (lambda: xn.LayerNorm(1), (4, 1)),
    "LayerNorm(time)": (lambda: xn.LayerNorm((3, 5), affine=False), (2, 3, 5)),
    "Embedding": (lambda: xn.Embedding(7, 5), Ints((4, 3), 7)),
    "Embedding(deterministic)": (lambda: xn.Embedding(7, 5, deterministic=True), Ints((6,), 7)),
    "Embedding(tied)": (lambda: (lambda e: xn.Sequential(e, xn.Tanh(), xn.Unembedding(e)))(xn.Embedding(6, 4)), Ints((2, 3), 6)),
    "Unembedding": (lambda: xn.Unembedding(xn.Embedding(7, 5)), (2, 3, 5)),
    "LearnedPositions": (lambda: xn.LearnedPositions(4, 5), (2, 3, 5)),
    "SinusoidalPositions": (lambda: xn.SinusoidalPositions(6), (2, 3, 6)),
    "RotaryPositions": (lambda: xn.RotaryPositions(6, start=2), (2, 3, 6)),
    "MultiHeadAttention": (lambda: xn.MultiHeadAttention(6, 2), (2, 3, 6)),
    "MultiHeadAttention(1)": (lambda: xn.MultiHeadAttention(4, 1, bias=False), (1, 1, 4)),
    "MultiHeadAttention(causal)": (lambda: xn.MultiHeadAttention(8, 4, kv_heads=2, causal=True, rotary=True), (2, 3, 8)),
    "MultiHeadAttention(dropout)": (lambda: xn.MultiHeadAttention(4, 2, dropout=0.3), (2, 5, 4)),
    "MultiHeadAttention(cross)": (lambda: xn.MultiHeadAttention(6, 3, cross=True, memory_features=4), [(2, 3, 6), (2, 4, 4)]),
    "MultiHeadAttention(masked)": (lambda: xn.MultiHeadAttention(6, 3, causal=True, masked=True), [(3, 4, 6), Ints((3, 4), 2)]),
    "MultiHeadAttention(cross, masked)": (
        lambda: xn.MultiHeadAttention(6, 3, cross=True, masked=True), [(3, 2, 6), (3, 4, 6), Ints((3, 4), 2)]),
    "MultiHeadAttention(cache)": (lambda: xn.MultiHeadAttention(8, 4, kv_heads=2, causal=True, rotary=True), [(2, 3, 8), (2, 2, 2, 5, 2)]),
    "EncoderBlock": (lambda: xn.EncoderBlock(6, 2, 8), (2, 3, 6)),
    "EncoderBlock(masked)": (lambda: xn.EncoderBlock(6, 2, 8, masked=True, dropout=0.2), [(2, 3, 6), Ints((2, 3), 2)]),
    "DecoderBlock": (lambda: xn.DecoderBlock(6, 2, 8, norm=xn.RMSNorm, activation="silu"), (2, 3, 6)),
    "DecoderBlock(cross)": (lambda: xn.DecoderBlock(6, 2, 8, cross=True), [(2, 3, 6), (2, 4, 6)]),
    "TransformerBlock(cache)": (lambda: xn.TransformerBlock(4, 2, 8, causal=True), [(2, 1, 4), (2, 2, 2, 3, 2)]),
    "Decoder": (lambda: xn.Decoder(xn.DecoderBlock(4, 2, 8), xn.DecoderBlock(4, 2, 8)), (2, 3, 4)),
    "Decoder(cache)": (lambda: xn.Decoder(xn.DecoderBlock(4, 2, 8), xn.DecoderBlock(4, 2, 8)), [(2, 1, 4), (2, 2, 2, 2, 3, 2)]),
    "GroupNorm": (lambda: xn.GroupNorm(2, 4), (3, 4, 2, 3)),
    "GroupNorm(1, 1)": (lambda: xn.GroupNorm(1, 1, affine=False), (2, 1, 3)),
    "GroupNorm(features)": (lambda: xn.GroupNorm(2, 6), (4, 6)),
    "InstanceNorm": (lambda: xn.InstanceNorm(3), (2, 3, 2, 2)),
    "InstanceNorm(affine)": (lambda: xn.InstanceNorm(2, affine=True), (1, 2, 4)),
    "BatchNorm": (lambda: xn.BatchNorm(5), (4, 5)),
    "BatchNorm(1)": (lambda: xn.BatchNorm(1, affine=False), (3, 1)),
    "BatchNorm(n=1)": (lambda: xn.BatchNorm(2), (1, 2)),
    "BatchNorm(images)": (lambda: xn.BatchNorm(3), (2, 3, 2, 2)),
    "BatchNorm(time)": (lambda: xn.BatchNorm(2), (1, 2, 3)),
    "WeightNorm": (lambda: xn.WeightNorm(xn.Dense(5, 3)), (4, 5)),
    "WeightNorm(1, 1)": (lambda: xn.WeightNorm(xn.Dense(1, 1, "tanh", bias=False)), (1, 1)),
    "WeightNorm(Conv2D)": (lambda: xn.WeightNorm(xn.Conv2D(2, 3, 2)), (2, 2, 3, 3)),
    "SpectralNorm(Conv2D)": (lambda: xn.SpectralNorm(xn.Conv2D(2, 3, 2)), (2, 2, 3, 3)),
    "Reparametrize": (lambda: xn.Reparametrize(3), (4, 6)),
    "Reparametrize(1)": (lambda: xn.Reparametrize(1), (2, 3, 2)),
    "SpectralNorm": (lambda: xn.SpectralNorm(xn.Dense(5, 3)), (4, 5)),
    "SpectralNorm(1, 1)": (lambda: xn.SpectralNorm(xn.Dense(1, 1)), (1, 1)),
    "Conv1D": (lambda: xn.Conv1D(2, 3, 2), (3, 2, 5)),
    "Conv1D(causal)": (lambda: xn.Conv1D(1, 2, 3, "tanh", dilation=2, padding=(4, 0)), (2, 1, 6)),
    "Conv2D": (lambda: xn.Conv2D(2, 3, 2), (2, 2, 4, 3)),
    "Conv2D(1, 1, 1)": (lambda: xn.Conv2D(1, 1, 1), (1, 1, 1, 1)),
    "Conv2D(stride)": (lambda: xn.Conv2D(2, 3, (3, 2), stride=(2, 1), padding=((1, 0), (2, 1)), dilation=(1, 2), bias=False), (2, 2, 5, 4)),
    "Conv2D(same)": (lambda: xn.Conv2D(1, 2, 3, "gelu", stride=2, padding="same"), (2, 1, 4, 5)),
    "Conv2D(groups)": (lambda: xn.Conv2D(4, 6, 2, "relu", groups=2), (2, 4, 3, 3)),
    "Conv2D(softmax)": (lambda: xn.Conv2D(1, 2, 2, "softmax"), (2, 1, 3, 4)),
    "DepthwiseConv2D": (lambda: xn.DepthwiseConv2D(2, (2, 3), "sigmoid", multiplier=2, padding=1), (2, 2, 3, 3)),
    "ConvTranspose2D": (lambda: xn.ConvTranspose2D(2, 3, 2), (2, 2, 2, 3)),
    "ConvTranspose2D(1, 1, 1)": (lambda: xn.ConvTranspose2D(1, 1, 1, bias=False), (1, 1, 1, 1)),
    "ConvTranspose2D(stride)": (
        lambda: xn.ConvTranspose2D(2, 4, (3, 2), "tanh", stride=2, padding=((1, 0), (0, 1)), output_padding=(1, 0), groups=2), (2, 2, 3, 2)),
    "ConvTranspose2D(dilation)": (lambda: xn.ConvTranspose2D(1, 2, 2, dilation=3, output_padding=2, padding=1), (2, 1, 2, 3)),
    "GlobalAvgPool1D": (xn.GlobalAvgPool1D, (3, 2, 4)),
    "GlobalAvgPool2D": (xn.GlobalAvgPool2D, (2, 3, 2, 3)),
    "AvgPool1D": (lambda: xn.AvgPool1D(2), (2, 3, 5)),
    "AvgPool2D": (lambda: xn.AvgPool2D(3, stride=2, padding=1), (2, 2, 4, 5)),
    "AvgPool2D(count_include_pad)": (lambda: xn.AvgPool2D((2, 1), padding=((1, 0), 0), count_include_pad=True), (2, 1, 3, 2)),
    "MaxPool1D": (lambda: xn.MaxPool1D(3, stride=1), (2, 2, 5)),
    "MaxPool2D": (lambda: xn.MaxPool2D(2), (2, 3, 4, 5)),
    "MaxPool2D(1)": (lambda: xn.MaxPool2D(1), (1, 1, 1, 1)),
    "MaxPool2D(padding)": (lambda: xn.MaxPool2D(3, stride=2, padding="same"), (2, 2, 5, 4)),
    "Upsample": (lambda: xn.Upsample(2), (2, 2, 2, 3)),
    "Upsample(bilinear)": (lambda: xn.Upsample((2, 3), "bilinear"), (2, 2, 2, 3)),
    "Upsample(1D)": (lambda: xn.Upsample(3, "bilinear"), (2, 1, 4)),
    "CNN": (lambda: xn.Sequential(xn.Conv2D(1, 2, 3), xn.MaxPool2D(2), xn.ReLU(), xn.Conv2D(2, 3, 2, "tanh"), xn.Flatten(), xn.Dense(12, 2)),
            (2, 1, 8, 8)),
    "RNN": (lambda: xn.RNN(3, 4), (2, 3, 3)),
    "RNN(1, 1)": (lambda: xn.RNN(1, 1, last=True), (1, 1, 1)),
    "RNN(relu)": (lambda: xn.RNN(3, 4, "relu", bias=False, last=True), (2, 3, 3)),
    "RNN(state)": (lambda: xn.RNN(2, 3), [(2, 2, 2), (2, 3)]),
    "RNN(lengths)": (lambda: xn.RNN(2, 2), [(4, 3, 2), Ints((4,), 4)]),
    "LSTM": (lambda: xn.LSTM(3, 2), (2, 2, 3)),
    "LSTM(1, 1)": (lambda: xn.LSTM(1, 1, bias=False), (1, 1, 1)),
    "LSTM(last)": (lambda: xn.LSTM(1, 2, last=True), (1, 4, 1)),
    "LSTM(state)": (lambda: xn.LSTM(1, 2), [(2, 2, 1), (2, 2), (2, 2)]),
    "LSTM(state, lengths)": (lambda: xn.LSTM(1, 1, last=True), [(5, 3, 1), (5, 1), (5, 1), Ints((5,), 4)]),
    "GRU": (lambda: xn.GRU(3, 2), (2, 2, 3)),
    "GRU(1, 1)": (lambda: xn.GRU(1, 1, bias=False, last=True), (1, 1, 1)),
    "GRU(lengths)": (lambda: xn.GRU(1, 2, last=True), [(4, 2, 1), Ints((4,), 3)]),
    "GRU(state, lengths)": (lambda: xn.GRU(2, 1), [(4, 3, 2), (4, 1), Ints((4,), 4)]),
    "Bidirectional": (lambda: xn.Bidirectional(xn.LSTM(2, 2), xn.GRU(2, 1)), (1, 2, 2)),
    "Bidirectional(last)": (lambda: xn.Bidirectional(xn.RNN(2, 2, last=True), xn.RNN(2, 2, last=True)), [(4, 3, 2), Ints((4,), 4)]),
    "Bidirectional(state, lengths)": (lambda: xn.Bidirectional(xn.RNN(1, 1), xn.GRU(1, 1)), [(3, 2, 1), (3, 1), (3, 1), Ints((3,), 3)]),
    "Stacked": (lambda: xn.Stacked(xn.Dense(2, 3, "tanh"), xn.GRU(3, 2), xn.Dropout(0.3), xn.RNN(2, 3, last=True)), (2, 2, 2)),
    "Stacked(state, lengths)": (
        lambda: xn.Stacked(xn.LSTM(1, 1), xn.Dense(1, 2), xn.Bidirectional(xn.RNN(2, 1), xn.RNN(2, 1))),
        [(3, 2, 1), (3, 1), (3, 1), (3, 1), (3, 1), Ints((3,), 3)]),
    "shared": (lambda: (lambda d: xn.Sequential(d, xn.Tanh(), d))(xn.Dense(5, 5)), (4, 5)),
}


def each(f, value, *more):
    """f over an array, or entry by entry over a tuple."""
    return tuple(f(*entries) for entries in zip(value, *more)) if isinstance(value, tuple) else f(value, *more)


def draw(shape, rng):
    """Standard normal numbers, kept away from the kinks at 0, or integers; a tuple for a list of shapes."""
    if isinstance(shape, list):
        return tuple(draw(s, rng) for s in shape)
    if isinstance(shape, Ints):
        return rng.integers(shape.low, shape.high, shape.shape)
    x = rng.standard_normal(shape)
    return np.where(np.abs(x) < 0.05, x + 0.2, x)


class Case:
    """A layer with parameters, input and context on one backend, all drawn from one seed."""

    def __init__(self, name, bench, dtype, seed=0, training=True):
        make, shape = LAYERS[name]
        self.bench, self.dtype, self.training = bench, dtype, training
        self.layer = make()
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.x_host = draw(shape, self.rng)
        self.params_host = tree_map(lambda p: p + 0.1 * self.rng.standard_normal(p.shape), self.layer.initial_params(seed))
        self._share()

    def _share(self):
        """One array for a Param in two places, as a Model has it."""
        if hasattr(self.layer, "layers"):
            seen = {}
            for name, layer in self.layer.named:
                self.params_host[name] = seen.setdefault(id(layer), self.params_host[name])

    def to(self, host):
        return each(lambda a: self.bench.asarray(a, None if a.dtype.kind == "i" else self.dtype), host)

    @property
    def x(self):
        return self.to(self.x_host)

    @property
    def params(self):
        return tree_map(lambda p: self.bench.asarray(p, self.dtype), self.params_host)

    def context(self, step=0):
        return Context(self.bench.xp, self.training, Random(7, step), self.state)

    @property
    def state(self):
        return {b: self.bench.asarray(b.init(np.random.default_rng(0), b.shape), self.dtype) for _, b in walk_buffers(self.layer)}

    def forward(self, x=None, params=None, step=0):
        return self.layer.forward(self.params if params is None else params, self.x if x is None else x, self.context(step))

    def dy_like(self, y, seed=1):
        rng = np.random.default_rng(seed)
        return each(lambda a: self.bench.asarray(rng.standard_normal(tuple(a.shape)), self.dtype), y)


def leaves(tree, path=""):
    """The arrays of nested gradients, with their paths."""
    if isinstance(tree, dict):
        return [leaf for k, v in tree.items() for leaf in leaves(v, f"{path}.{k}" if path else k)]
    return [(path, tree)]


def arrays(value):
    return list(value) if isinstance(value, tuple) else [value]

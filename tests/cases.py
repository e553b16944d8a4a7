"""Every layer, with an input it takes: what the laws are tested on. A new layer adds a line here and is under all of them."""

import numpy as np

import xpnet as xn
from xpnet.backend import Random
from xpnet.layer import Context, tree_map

ACTIVATIONS = {
    "Identity": xn.Identity, "ReLU": xn.ReLU, "LeakyReLU": xn.LeakyReLU, "Sigmoid": xn.Sigmoid, "Tanh": xn.Tanh,
    "Softplus": xn.Softplus, "ELU": xn.ELU, "ELU(0.5)": lambda: xn.ELU(0.5), "SELU": xn.SELU, "HardSigmoid": xn.HardSigmoid,
    "HardSwish": xn.HardSwish, "SiLU": xn.SiLU, "GELU": xn.GELU, "GELU(tanh)": lambda: xn.GELU("tanh"), "PReLU": xn.PReLU,
    "PReLU(5)": lambda: xn.PReLU(5), "Softmax": xn.Softmax, "LogSoftmax": xn.LogSoftmax,
}

# name: (a function that makes the layer, the shape of its input, or a list of shapes for a tuple)
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
    "shared": (lambda: (lambda d: xn.Sequential(d, xn.Tanh(), d))(xn.Dense(5, 5)), (4, 5)),
}


def each(f, value, *more):
    """f over an array, or entry by entry over a tuple."""
    return tuple(f(*entries) for entries in zip(value, *more)) if isinstance(value, tuple) else f(value, *more)


class Case:
    """A layer with parameters, input and context on one backend, all drawn from one seed."""

    def __init__(self, name, bench, dtype, seed=0, training=True):
        make, shape = LAYERS[name]
        self.bench, self.dtype, self.training = bench, dtype, training
        self.layer = make()
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.x_host = self.draw(shape)
        self.params_host = tree_map(lambda p: p + 0.1 * self.rng.standard_normal(p.shape), self.layer.initial_params(seed))
        self._share()

    def draw(self, shape):
        """Standard normal numbers, kept away from the kinks at 0 and ±3."""
        if isinstance(shape, list):
            return tuple(self.draw(s) for s in shape)
        x = self.rng.standard_normal(shape)
        return np.where(np.abs(x) < 0.05, x + 0.2, x)

    def _share(self):
        """One array for a Param in two places, as a Model has it."""
        if hasattr(self.layer, "layers"):
            seen = {}
            for name, layer in self.layer.named:
                self.params_host[name] = seen.setdefault(id(layer), self.params_host[name])

    def to(self, host):
        return each(lambda a: self.bench.asarray(a, self.dtype), host)

    @property
    def x(self):
        return self.to(self.x_host)

    @property
    def params(self):
        return tree_map(lambda p: self.bench.asarray(p, self.dtype), self.params_host)

    def context(self, step=0):
        return Context(self.bench.xp, self.training, Random(7, step))

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

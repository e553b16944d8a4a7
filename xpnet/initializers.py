"""Initialisers: `init(rng, shape) -> array`, drawn on the host in float64 from one seed, so the same on every backend.

Why the variances are what they are: for y = xW with independent entries, Var(yⱼ) = fan_in · Var(W) · E[x²]. To keep the variance
of the activations from layer to layer, Var(W) = 1/fan_in (LeCun); to keep that of the gradients, Var(W) = 1/fan_out; Glorot takes the
mean of the two fans. ReLU halves E[x²], so He doubles the variance.

fan_in and fan_out are the last two axes of the shape, times the product of the axes before them (a kernel's area).
"""

# Naming np.random in a signature must not import it, which takes 12 ms.
from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import unknown

Initializer = Callable[["np.random.Generator", tuple[int, ...]], np.ndarray]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out): how many inputs each output sums, and how many outputs each input feeds."""
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    area = math.prod(shape[:-2])
    return area * shape[-2], area * shape[-1]


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """All zero; for biases. Zero *weights* never break the symmetry between units."""
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape)


def constant(value: float) -> Initializer:
    """Every entry the same value."""
    return functools.partial(_full, float(value))


def _full(value: float, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, value)


def normal(std: float = 0.01) -> Initializer:
    """N(0, std²)."""
    return lambda rng, shape: std * rng.standard_normal(shape)


def uniform(limit: float = 0.05) -> Initializer:
    """U(-limit, limit)."""
    return lambda rng, shape: rng.uniform(-limit, limit, shape)


def lecun_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 1/fan_in). LeCun, Bottou, Orr & Müller (1998), "Efficient BackProp", eq. 16."""
    return math.sqrt(1.0 / fans(shape)[0]) * rng.standard_normal(shape)


def lecun_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """U(-l, l) with l = √(3/fan_in): the same variance, since Var U(-l, l) = l²/3."""
    limit = math.sqrt(3.0 / fans(shape)[0])
    return rng.uniform(-limit, limit, shape)


def glorot_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 2/(fan_in + fan_out)). Glorot & Bengio (2010), eq. 12."""
    return math.sqrt(2.0 / sum(fans(shape))) * rng.standard_normal(shape)


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """U(-l, l) with l = √(6/(fan_in + fan_out)). Glorot & Bengio (2010), eq. 16; for tanh and sigmoid, and the default."""
    limit = math.sqrt(6.0 / sum(fans(shape)))
    return rng.uniform(-limit, limit, shape)


def he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 2/fan_in). He, Zhang, Ren & Sun (2015), eq. 10; for ReLU and its kin."""
    return math.sqrt(2.0 / fans(shape)[0]) * rng.standard_normal(shape)


def he_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """U(-l, l) with l = √(6/fan_in)."""
    limit = math.sqrt(6.0 / fans(shape)[0])
    return rng.uniform(-limit, limit, shape)


def orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A matrix with orthonormal rows or columns (whichever are fewer): all singular values are 1. Saxe et al. (2014).

    The Q of a Gaussian matrix's QR decomposition, its columns' signs fixed by R's diagonal so that Q is uniform (Mezzadri, 2007).
    """
    rows, columns = math.prod(shape[:-1]), shape[-1]
    gaussian = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(gaussian)
    q = q * np.sign(np.diagonal(r))
    return (q if rows >= columns else q.T).reshape(shape)


def side_by_side(*inits: Any) -> Any:
    """An initialiser of as many matrices (or vectors) of one shape as are given, side by side in one: each is drawn by itself, so that its
    fans, or its orthogonality, are its own. The gates of a recurrent layer. An array is taken for the whole.
    """
    if not (isinstance(inits[0], str) or callable(inits[0])):
        return inits[0]
    return functools.partial(_side_by_side, [get_initializer(init, ()) for init in inits])


def _side_by_side(inits: list[Initializer], rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([init(rng, (*shape[:-1], shape[-1] // len(inits))) for init in inits], axis=-1)


def from_array(values: Any) -> Initializer:
    """These very values."""
    fixed = np.array(values, dtype=np.float64)

    def init(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        if fixed.shape != tuple(shape):
            raise ValueError(f"an initial array of shape {tuple(shape)} is needed, got {fixed.shape}")
        return fixed.copy()

    return init


NAMES: dict[str, Initializer] = {
    f.__name__: f for f in (zeros, ones, lecun_normal, lecun_uniform, glorot_normal, glorot_uniform, he_normal, he_uniform,
                            orthogonal)}


def get_initializer(init: Any, shape: tuple[int, ...]) -> Initializer:
    """An initialiser from itself, its name, or an array of the shape."""
    if isinstance(init, str):
        if init not in NAMES:
            raise unknown("initializer", init, NAMES)
        return NAMES[init]
    if callable(init):
        return init
    from .backend.registry import to_host

    made = from_array(to_host(init))
    made(np.random.default_rng(0), shape)                 # a wrong shape is an error here, not at the first step
    return made

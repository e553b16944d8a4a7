"""Toy data: points in the plane with integer labels, and a curve; float64 on the host, from a seed."""

import math
from typing import Any

import numpy as np

from ..errors import whole
from .arguments import _TOY, _noise, _rng


def xor() -> tuple[np.ndarray, np.ndarray]:
    """The four corners of the unit square, x: (4, 2), and t = x₁ ⊕ x₂: (4, 1), as floats.

    No line separates the two classes (Minsky & Papert, 1969), so a hidden layer is needed.
    """
    return np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([[0.0], [1.0], [1.0], [0.0]])


def sine(n: int = 200, noise: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """t = sin x + ε, x uniform on [-π, π), ε normal with standard deviation `noise`. x, t: (n, 1)"""
    rng, n, noise = _rng(seed, _TOY), whole("n", n, 1), _noise(noise)
    x = rng.uniform(-math.pi, math.pi, (n, 1))
    return x, np.sin(x) + noise * rng.standard_normal((n, 1))


def circles(n: int = 200, noise: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two circles about the origin, label 0 of radius 1, label 1 of radius ½: r (cos θ, sin θ), plus normal noise."""
    rng, labels, s = _along(n, 2, seed)
    angle = 2.0 * math.pi * s
    return _points(np.where(labels == 0, 1.0, 0.5), angle, noise, rng), labels


def moons(n: int = 200, noise: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaved half circles: label 0 (cos θ, sin θ), label 1 (1 - cos θ, ½ - sin θ), θ < π, plus noise."""
    rng, labels, s = _along(n, 2, seed)
    upper = _points(1.0, math.pi * s, noise, rng)
    return np.where(labels[:, None] == 0, upper, np.array([1.0, 0.5]) - upper), labels


def spirals(n: int = 300, arms: int = 2, noise: float = 0.02, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Spiral arms, each a label: r (cos θ, sin θ), r from 0.1 to 1, θ = 2π (r + label/arms), plus normal noise."""
    rng, labels, s = _along(n, whole("arms", arms, 1), seed)
    radius = 0.1 + 0.9 * s
    return _points(radius, 2.0 * math.pi * (radius + labels / arms), noise, rng), labels


def _along(n: int, curves: int, seed: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """Labels in turn, so that the classes are equal to one sample, and a random place s in [0, 1) along each curve."""
    rng, n = _rng(seed, _TOY), whole("n", n, curves)
    return rng, np.arange(n, dtype=np.int64) % curves, rng.random(n)


def _points(radius: Any, angle: np.ndarray, noise: float, rng: Any) -> np.ndarray:
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points + _noise(noise) * rng.standard_normal(points.shape)

"""Arrays on the host, and trees of them."""

from typing import Any

import numpy as np

from ..backend.registry import to_host


def host(x: Any) -> np.ndarray:
    """A new array on the host; floating numbers in float64."""
    made = np.array(to_host(x))
    return made.astype(np.float64, copy=False) if made.dtype.kind == "f" else made


def hosts(value: Any) -> list[Any]:
    """The same of one array or of each in a tuple; None stays."""
    return [None if a is None else host(a) for a in (value if isinstance(value, tuple) else (value,))]


def replaced(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Nested dictionaries with another value at one path."""
    name, _, rest = path.partition(".")
    return {**tree, name: replaced(tree[name], rest, value) if rest else value}


def swapped(arrays: list[np.ndarray], i: int, value: np.ndarray) -> list[np.ndarray]:
    """A list with another array at i."""
    return [*arrays[:i], value, *arrays[i + 1:]]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(np.array_equal(p, q, equal_nan=True) for p, q in zip(a, b, strict=True))


def near(a: Any, b: Any) -> bool:
    """Equal up to the error of finite differences."""
    return bool(np.max(np.abs(a - b), initial=0.0) <= 1e-6 * max(largest(a), largest(b)))


def largest(a: Any) -> float:
    return float(np.max(np.abs(a), initial=0.0))

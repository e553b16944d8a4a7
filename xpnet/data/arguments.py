"""What the functions of this package share: their arguments, checked; tuples of arrays; streams of random numbers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import unknown, whole


def _optional(module: str, what: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as e:
        package = "scikit-learn" if module == "sklearn" else module
        raise ImportError(f"{what} needs {package}, which is not installed: pip install 'xpnet[examples]'") from e


_TOY, _SPLIT, _ORDER, _TEXT = 0, 1, 2, 3


def _rng(seed: int, *use: int) -> Any:
    """Random numbers for one use of a seed: not those that the weights of the same seed are drawn from."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(whole("seed", seed, 0), spawn_key=use)))


def _noise(noise: float) -> float:
    if not 0.0 <= noise < math.inf:
        raise ValueError(f"noise is a standard deviation from 0 on, got {noise!r}")
    return float(noise)


def _dtype(xp: Any, name: str) -> Any:
    valid = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
    if name not in valid:
        raise unknown("dtype", name, valid)
    return getattr(xp, name)


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))


def _index(index: tuple[int, ...]) -> str:
    return str(index[0]) if len(index) == 1 else str(index)


def _type(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__name__}".removeprefix("builtins.")


def _map(f: Callable[[Any], Any], data: Any) -> Any:
    """f over the entries of nested tuples."""
    return tuple(_map(f, d) for d in data) if isinstance(data, tuple) else f(data)


def _leaves(data: Any) -> list[Any]:
    return [leaf for d in data for leaf in _leaves(d)] if isinstance(data, tuple) else [data]


def _is_array(x: Any) -> bool:
    return all(hasattr(x, name) for name in ("shape", "dtype", "ndim")) and not hasattr(x, "iloc")   # iloc: pandas


def count_samples(data: Any, name: str = "data") -> int:
    """How many samples an array, or each of a tuple of arrays, holds: at least one, and all the same number."""
    leaves = _leaves(data)
    if not leaves:
        raise ValueError(f"{name}: an empty tuple")
    for leaf in leaves:
        if not _is_array(leaf):
            raise TypeError(f"{name}: expected an array, or a tuple of arrays such as (x, t), got {_type(leaf)}; "
                            "make it an array first, as by np.asarray")
        if leaf.ndim < 1:
            raise ValueError(f"{name}: expected arrays of samples (n, ...), got a 0-d array")
    lengths = [leaf.shape[0] for leaf in leaves]
    if len(set(lengths)) > 1:
        raise ValueError(f"{name}: the arrays are of different lengths, {', '.join(map(str, lengths))} "
                         f"(shapes {', '.join(str(tuple(leaf.shape)) for leaf in leaves)})")
    if lengths[0] == 0:
        raise ValueError(f"{name}: there are no samples (shape {tuple(leaves[0].shape)})")
    return lengths[0]

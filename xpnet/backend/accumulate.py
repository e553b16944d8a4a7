"""Sums that are wider than what they sum: the half of mixed precision that layers need not know of."""

from typing import Any

from .registry import _kinds, kind

Array = Any
_made: dict[Any, "Accumulating"] = {}


class Accumulating:
    """A namespace whose sums and means over float16 run in float32 and are rounded once, at the end.

    A float16 sum of ones stops at 2048, where the next number is 2050. Products (`@`) accumulate in float32 on every backend as
    they are. Everything else is the namespace's own.
    """

    def __init__(self, xp: Any):
        self._xp = xp
        _kinds[self] = kind(xp)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._xp, name)
        setattr(self, name, found)
        return found

    def _wide(self, name: str, x: Array, **options: Any) -> Array:
        xp = self._xp
        if x.dtype != xp.float16:
            return getattr(xp, name)(x, **options)
        return xp.astype(getattr(xp, name)(xp.astype(x, xp.float32), **options), x.dtype)

    def sum(self, x: Array, /, **options: Any) -> Array:
        return self._wide("sum", x, **options)

    def mean(self, x: Array, /, **options: Any) -> Array:
        return self._wide("mean", x, **options)

    def var(self, x: Array, /, **options: Any) -> Array:
        return self._wide("var", x, **options)


def accumulating(xp: Any) -> Accumulating:
    """One such namespace for each, so that rules find it by identity."""
    if xp not in _made:
        _made[xp] = Accumulating(xp)
    return _made[xp]

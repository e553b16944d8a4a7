"""Errors that speak to the caller: what was expected, what came, what to do."""

import operator
from collections.abc import Iterable


class LayerError(ValueError):
    """A layer was given what it cannot take. Containers add the layer's path on the way out."""

    def __init__(self, problem: str):
        super().__init__(problem)
        self.problem = problem
        self.path = ""
        self.layer = ""

    def within(self, name: str, layer: object) -> "LayerError":
        """Called by every container the error passes through, innermost first."""
        self.layer = self.layer or repr(layer)
        self.path = f"{name}.{self.path}" if self.path else name
        return self

    def __str__(self) -> str:
        return f"layer {self.path} ({self.layer}) {self.problem}" if self.path else self.problem


class BackendError(RuntimeError):
    """A backend cannot be used here; the message says why and what to do."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> ValueError:
    """The error for a name that does not exist, with the nearest name that does."""
    import difflib

    names = sorted(valid)
    folded = {n.lower(): n for n in names}
    near = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    return ValueError(f"unknown {kind} {name!r}{hint} (valid: {', '.join(names)})")


def whole(name: str, value: object, least: int) -> int:
    """value as a Python int, from `least` on. NumPy's integers are welcome; truth values and fractions are not."""
    try:
        if isinstance(value, bool) or type(value).__name__ == "bool":
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} is an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} is an integer from {least} on, got {number}")
    return number

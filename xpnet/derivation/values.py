"""How numbers and arrays are written: significant digits, and a summary in the place of a large array."""

import math
from typing import Any

import numpy as np


def significant(value: Any, digits: int) -> str:
    """A number with so many significant digits: 0.3775, 1e-05, 3."""
    v = float(value)
    if math.isnan(v):
        return "nan"
    if math.isinf(v):
        return "inf" if v > 0 else "-inf"
    if v.is_integer() and abs(v) < 10.0 ** min(digits, 15):
        return str(int(v))
    return f"{v:.{digits}g}"


def scientific(text: str) -> tuple[str, str]:
    """Mantissa and exponent of a number as it is written: ("2.5", "-5") for 2.5e-05, and no exponent where it has none."""
    mantissa, _, exponent = text.partition("e")
    return mantissa, str(int(exponent)) if exponent else ""


class Value:
    """An array of an explanation, in float64 or integers on the host. Of a large one the shape, a corner and statistics are kept.

    array    the numbers, None where there are too many of them
    shape    of the whole array
    summary  {"min", "max", "mean", "std", "zeros"} of a large array, else empty
    corner   the first entries of a large array, of as many axes
    """

    __slots__ = ("array", "corner", "shape", "summary")

    def __init__(self, array: np.ndarray | None, shape: tuple[int, ...], summary: dict[str, float], corner: np.ndarray | None):
        self.array, self.shape, self.summary, self.corner = array, shape, summary, corner

    @classmethod
    def of(cls, array: Any, most: int) -> "Value":
        a = np.asarray(array)
        if a.size <= most:
            return cls(a, a.shape, {}, None)
        with np.errstate(all="ignore"):
            summary = {"min": float(a.min()), "max": float(a.max()), "mean": float(a.mean()), "std": float(a.std()),
                       "zeros": float(np.mean(a == 0))}
        return cls(None, a.shape, summary, a[tuple(slice(0, 3) for _ in a.shape)])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def lines(self, digits: int) -> list[str]:
        """As text: the rows of the matrix, or the summary."""
        if self.array is None:
            s = {name: significant(v, min(digits, 4)) for name, v in self.summary.items()}
            return [f"{' x '.join(map(str, self.shape))} numbers from {s['min']} to {s['max']}, mean {s['mean']}, "
                    f"standard deviation {s['std']}, {100 * self.summary['zeros']:.0f} % zeros"]
        if self.ndim <= 2:
            return matrix_lines(self.array, digits)
        lines = []
        for i, part in enumerate(self.array):
            lines += [f"[{i}]", *(f"  {line}" for line in Value(part, part.shape, {}, None).lines(digits))]
        return lines

    def to_json(self) -> dict[str, Any]:
        if self.array is not None:
            return {"shape": list(self.shape), "dtype": "int" if self.array.dtype.kind in "iub" else "float", "array": _plain(self.array)}
        assert self.corner is not None
        return {"shape": list(self.shape), "dtype": "int" if self.corner.dtype.kind in "iub" else "float",
                "summary": _plain_dict(self.summary), "corner": _plain(self.corner)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Value":
        shape = tuple(data["shape"])
        given = data.get("array", data.get("corner"))
        dtype = np.int64 if data["dtype"] == "int" else np.float64
        numbers = np.asarray(_numbers(given), dtype=dtype)
        if "array" in data:
            return cls(np.reshape(numbers, shape), shape, {}, None)
        return cls(None, shape, {name: float(v) for name, v in data["summary"].items()}, numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]


def _plain_dict(numbers: dict[str, float]) -> dict[str, Any]:
    return {name: _plain(np.asarray(v)) for name, v in numbers.items()}


def _plain(a: np.ndarray) -> Any:
    """Nested lists, with words for what JSON has no numbers for."""
    return [_plain(e) for e in a] if a.ndim else (str(float(a)) if a.dtype.kind == "f" and not np.isfinite(a) else a.item())


def _numbers(value: Any) -> Any:
    return [_numbers(e) for e in value] if isinstance(value, list) else float(value) if isinstance(value, str) else value


def matrix_lines(a: np.ndarray, digits: int) -> list[str]:
    """A number, a row, or a matrix in brackets, its columns aligned."""
    if a.ndim == 0:
        return [significant(a, digits)]
    cells = [[significant(v, digits) for v in row] for row in np.atleast_2d(a)]
    widths = [max(len(row[j]) for row in cells) for j in range(len(cells[0]))] if cells else []
    rows = ["  ".join(c.rjust(w) for c, w in zip(row, widths)) for row in cells]
    if len(rows) == 1:
        return [f"[{rows[0]}]"]
    left, right = ["⎡", *"⎢" * (len(rows) - 2), "⎣"], ["⎤", *"⎥" * (len(rows) - 2), "⎦"]
    return [f"{a}{row}{b}" for a, row, b in zip(left, rows, right)]

"""Reading what a student hands in: numbers in any form, which are never executed.

A number is an int, float, Fraction, Decimal or a text such as "0.375", "-1.5e-3" or "3/8"; an array is nested lists or tuples of those, an
array of any backend, or a text such as "[[1, 2], [3, 4]]", "1 2; 3 4" or "(4, 3)".
"""

import math
import numbers
import re
from decimal import Decimal
from typing import Any

import numpy as np

from ..backend.registry import to_host

LONGEST = 10_000                                          # characters of a text, and entries of an array
DEEPEST = 8                                               # brackets within brackets
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_TOKEN = re.compile(r"[\[\]();,\n]|[^\s\[\]();,]+(?:\s*/\s*[^\s\[\]();,/]+)?")


class Unreadable(ValueError):
    """An answer that is no number; the message says why, in the words of the one who gave it."""


def read(answer: Any) -> np.ndarray:
    """An answer as a float64 array. Raises Unreadable."""
    nested = _nested(answer, 0)
    try:
        a = np.array(nested, dtype=np.float64)
    except (ValueError, TypeError):
        raise Unreadable("the rows have different lengths") from None
    if a.size > LONGEST:
        raise Unreadable(f"that is {a.size} numbers")
    return a


def _nested(answer: Any, depth: int) -> Any:
    """The answer as floats in nested lists."""
    if depth > DEEPEST:
        raise Unreadable("there are too many brackets within brackets")
    if answer is None:
        raise Unreadable("there is no answer")
    if isinstance(answer, str):
        return _text(answer)
    if isinstance(answer, (bool, np.bool_)):
        raise Unreadable(f"{answer} is no number")
    if isinstance(answer, (numbers.Real, Decimal)):
        try:
            return float(answer)
        except (OverflowError, ValueError):
            raise Unreadable("a number is too large") from None
    if isinstance(answer, (list, tuple)):
        if len(answer) > LONGEST:
            raise Unreadable(f"that is {len(answer)} numbers")
        return [_nested(e, depth + 1) for e in answer]
    try:
        a = to_host(answer)
    except Exception:
        a = np.asarray(None)
    if a.dtype.kind in "OUS" and a.ndim:
        return [_nested(e, depth + 1) for e in a.tolist()]
    if a.dtype.kind not in "iuf":
        raise Unreadable(f"a number or an array of numbers is expected, got {_kind(answer, a)}")
    if a.size > LONGEST:
        raise Unreadable(f"that is {a.size} numbers")
    return a.astype(np.float64).tolist()


def _kind(answer: Any, a: np.ndarray) -> str:
    return {"b": "truth values", "c": "complex numbers"}.get(a.dtype.kind, f"a {type(answer).__name__}")


def _text(text: str) -> Any:
    """A text, read number by number."""
    if len(text) > LONGEST:
        raise Unreadable(f"a text of {len(text)} characters is too long")
    text = text.strip().replace("−", "-")
    if not text:
        raise Unreadable("there is no answer")
    if not re.search(r"[\[\](),;\s]", text) or re.fullmatch(r"[^\s\[\]();,/]+\s*/\s*[^\s\[\]();,/]+", text):
        return _number(text)
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        raise Unreadable(f"is {text!r} one number or two? Write a decimal point")
    tokens = _TOKEN.findall(text)
    if "[" in tokens or "(" in tokens:
        return _brackets(tokens)
    rows: list[list[float]] = [[]]
    for token in tokens:
        if token in ";\n":
            rows.append([])
        elif token in ")]":
            raise Unreadable("a bracket is closed that was not opened")
        elif token != ",":
            rows[-1].append(_number(token))
    rows = [row for row in rows if row]
    return rows if len(rows) > 1 else rows[0] if rows else []


def _brackets(tokens: list[str]) -> Any:
    """Nested lists from brackets, without recursion."""
    stack: list[list[Any]] = [[]]
    for token in tokens:
        if token in "[(":
            stack.append([])
            if len(stack) > DEEPEST:
                raise Unreadable("there are too many brackets within brackets")
        elif token in ")]":
            if len(stack) < 2:
                raise Unreadable("a bracket is closed that was not opened")
            made = stack.pop()
            stack[-1].append(made)
        elif token not in ",;\n":
            stack[-1].append(_number(token))
    if len(stack) > 1:
        raise Unreadable("a bracket is not closed")
    return stack[0][0] if len(stack[0]) == 1 else stack[0]


def _number(text: str) -> float:
    above, slash, below = (part.strip() for part in text.partition("/"))
    for part in (above, below) if slash else (above,):
        if part.lower().lstrip("+-") in ("nan", "inf", "infinity", "∞"):
            return math.nan
        if not _NUMBER.fullmatch(part) or not part.isascii():
            raise Unreadable(f"{_short(text)} is no number")
    if not slash:
        return float(above)
    if float(below) == 0.0:
        raise Unreadable(f"{_short(text)} divides by 0")
    return float(above) / float(below)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")

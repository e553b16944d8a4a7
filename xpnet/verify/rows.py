"""A published number beside xpnet's: the tolerance follows from the digits that were printed."""

import math
from decimal import Decimal
from typing import Any, NamedTuple

from ..backend.registry import to_host

Array = Any
REPRODUCED, ERRATUM, DIFFERS, LEFT_OUT = "reproduced", "erratum reproduced", "differs", "left out"


class Source(NamedTuple):
    """Where a number was published: `name` for the table, `reference` in full.

    more  the source's example to more digits than it prints, recomputed in float64 independently of xpnet
    """

    name: str
    example: str
    more: bool = False

    @property
    def recomputed(self) -> "Source":
        return self._replace(more=True)

    @property
    def reference(self) -> str:
        return f"{self.example}; recomputed to more digits" if self.more else self.example


class Row(NamedTuple):
    """One line of the table: a quantity, and what was published of it.

    published  the number as printed, a string; several are separated by spaces
    here       the numbers that xpnet computes
    mistaken   of an erratum: the numbers that xpnet computes with the mistake made on purpose
    cause      of an erratum: the mistake; of a row that is left out or failed: why
    exact      the published number is meant exactly, and not rounded to its digits
    missing    it could not be computed for want of a package: `cause` says of which
    """

    source: Source
    quantity: str
    published: str
    here: tuple[float, ...] = ()
    mistaken: tuple[float, ...] = ()
    cause: str = ""
    exact: bool = False
    missing: bool = False

    @property
    def tolerances(self) -> list[float]:
        return [tolerance(p, self.exact) for p in self.published.split()]

    @property
    def worst(self) -> tuple[float, float]:
        """(difference here - published, tolerance) of the number that is furthest off in units of its tolerance."""
        return worst(self.published, self.here, self.tolerances)

    @property
    def difference(self) -> float:
        """Of the number that is furthest off; nan where there is none."""
        return self.worst[0]

    @property
    def verdict(self) -> str:
        """"reproduced", "erratum reproduced", "differs" or "left out".

        An erratum is reproduced where the mistake gives the published number and the right way does not.
        """
        if self.missing:
            return LEFT_OUT
        right = within(*self.worst)
        if not self.mistaken:
            return REPRODUCED if right else DIFFERS
        wrong = within(*worst(self.published, self.mistaken, self.tolerances))
        return ERRATUM if wrong and not right and all(map(math.isfinite, self.here)) else DIFFERS

    @property
    def holds(self) -> bool:
        return self.verdict != DIFFERS


def row(source: Source, quantity: str, published: str, here: Any, exact: bool = False) -> Row:
    """A published number and xpnet's, an array of any backend, read row by row."""
    return Row(source, quantity, published, numbers(here), exact=exact)


def erratum(source: Source, quantity: str, published: str, here: Any, mistaken: Any, cause: str) -> Row:
    """A published number that is wrong: `here` is right, and `mistaken` is computed with the mistake that `cause` names."""
    return Row(source, quantity, published, numbers(here), numbers(mistaken), cause)


CUT = "the last digit is cut and not rounded"


def cut(x: Any, decimals: int) -> float:
    """A number without the digits that follow: the mistake of `CUT`."""
    return math.trunc(numbers(x)[0] * 10.0 ** decimals) / 10.0 ** decimals


def numbers(x: Any) -> tuple[float, ...]:
    """An array of any backend, or a list of them, as numbers of the host."""
    if isinstance(x, (list, tuple)):
        return tuple(v for part in x for v in numbers(part))
    return tuple(float(v) for v in to_host(x).reshape(-1))


def tolerance(published: str, exact: bool = False) -> float:
    """Half a unit of the last digit printed; 1e-12 relative for more than 12 digits, and for what is exact, as integers are.

        tolerance("0.7513") = 0.00005        tolerance("0.7513650695523157") = 7.5e-13        tolerance("-4") = 4e-12
    """
    value = Decimal(published)
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)                      # not "NaN"
    if exact or exponent >= 0 or len(digits) > 12:
        return 1e-12 * (abs(float(value)) or 1.0)
    return 0.5 * 10.0 ** exponent


def worst(published: str, here: tuple[float, ...], tolerances: list[float]) -> tuple[float, float]:
    expected = [float(p) for p in published.split()]
    if not here:
        return math.nan, math.nan
    if len(here) != len(expected):
        raise ValueError(f"{len(expected)} numbers are published and {len(here)} computed")
    off = [(h - p, tol) for h, p, tol in zip(here, expected, tolerances)]
    return max(off, key=lambda d: math.inf if math.isnan(d[0]) else abs(d[0]) / d[1])


def within(difference: float, tol: float) -> bool:
    """nan is not. A trillionth of the tolerance more is: half a unit is itself rounded."""
    return abs(difference) <= tol * (1.0 + 1e-12) + 1e-300

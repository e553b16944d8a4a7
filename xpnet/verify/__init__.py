"""Published numbers, recomputed: `python -m xpnet verify`.

    table = verify(backend="numpy")
    table.ok, table.rows; print(table)

Each case is a function of a bench (a backend in float64) that returns rows, and a lesson of its own: circuits, then neurons, losses,
networks, training. A row keeps the published number as it was printed, and its digits are the tolerance: half a unit of the last one.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import unknown
from . import circuits, losses, networks, neurons, training
from .bench import Bench
from .rows import Row, Source
from .table import Table

__all__ = ["CASES", "Bench", "Row", "Source", "Table", "run", "verify"]

Case = Callable[[Any], list[Row]]
CASES: dict[str, Case] = {case.__name__: case for module in (circuits, neurons, losses, networks, training) for case in module.CASES}


def verify(backend: Any = None, only: Sequence[str] = ()) -> Table:
    """Recompute the published numbers on a backend (None: $XPNET_BACKEND or NumPy), and compare.

    only: names of cases, or parts of names ("mazur"); all by default. Raises BackendError where the backend cannot be used or has no
    float64, ValueError for a name that is in no case's.
    """
    for part in only:
        if not any(part in name for name in CASES):
            raise unknown("case", part, CASES)
    bench = Bench(backend)
    chosen = [case for name, case in CASES.items() if not only or any(part in name for part in only)]
    return Table([row for case in chosen for row in run(case, bench)], bench.backend.describe())


def run(case: Case, bench: Any) -> list[Row]:
    """A case's rows. One that raises is a row that differs: a broken library must not keep the other cases from the table."""
    try:
        with bench.backend:
            return case(bench)
    except Exception as e:
        return [Row(Source(case.__name__, "a case that failed"), "", "", cause=f"{type(e).__name__}: {e}")]

"""The table: as text, in colour, as Markdown, as JSON."""

import json
import math
from collections import Counter
from decimal import Decimal
from typing import Any

from .rows import DIFFERS, ERRATUM, LEFT_OUT, REPRODUCED, Row

HEAD = ("source", "quantity", "published", "here", "difference", "verdict")
STYLE = {REPRODUCED: "green", ERRATUM: "yellow", DIFFERS: "bold red", LEFT_OUT: "dim"}
WIDTH = 32                                                # of three numbers and more in a cell


class Table:
    """What `verify` found. It is true where every row holds, and prints as a table.

    rows     a Row for each published quantity
    backend  what computed: "numpy 2.4.6 on cpu"
    """

    def __init__(self, rows: list[Row], backend: str):
        self.rows, self.backend = rows, backend

    @property
    def ok(self) -> bool:
        """Nothing differs, and something was compared."""
        return all(row.holds for row in self.rows) and any(row.here for row in self.rows)

    def summary(self) -> str:
        """How many of each verdict, in a line."""
        count = Counter(row.verdict for row in self.rows)
        parts = [f"{count[REPRODUCED]} reproduced", f"{count[ERRATUM]} errata reproduced", f"{count[DIFFERS]} differ"]
        parts += [f"{count[LEFT_OUT]} left out"] if count[LEFT_OUT] else []
        return f"{sum(len(row.here) for row in self.rows)} numbers in {len(self.rows)} rows on {self.backend}: {', '.join(parts)}"

    def references(self) -> dict[str, str]:
        """Each source's name with its full reference, in the order of the rows."""
        return {row.source.name: row.source.reference for row in self.rows if not row.source.more}

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [HEAD[1:], *(cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)]
        text, before = [], None
        for row, line in zip([None, *self.rows], lines):
            if row is not None and row.source.example != before:
                before = row.source.example
                text += ["", f"{row.source.name}: {before}"]
            text.append("  " + "  ".join([*(c.ljust(w) for c, w in zip(line, widths)), line[-1]]).rstrip())
        return "\n".join([*text, "", self.summary()])

    __repr__ = __str__

    def __rich__(self) -> Any:
        """The same for rich's Console, coloured by verdict."""
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        table, before = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1)), ""
        for name in HEAD:
            table.add_column(name, justify="right" if name == "difference" else "left", overflow="fold")
        for row in self.rows:
            *middle, verdict = cells(row)
            table.add_row(Text("" if row.source.name == before else row.source.name, "bold"), *map(Text, middle),
                          Text(verdict, STYLE[row.verdict]))
            before = row.source.name
        references = [Text.assemble((name, "bold"), f": {full}") for name, full in self.references().items()]
        return Group(table, *references, Text(""), Text(self.summary(), "green" if self.ok else "bold red"))

    def to_markdown(self) -> str:
        """A table for a document."""
        lines = [HEAD, ("---",) * len(HEAD), *((row.source.name, *cells(row)) for row in self.rows)]
        text = [f"| {' | '.join(map(escaped, line))} |" for line in lines]
        return "\n".join([*text, "", *(f"- {name}: {full}" for name, full in self.references().items()), "", self.summary()])

    def to_json(self) -> str:
        """All numbers, each row's tolerances too; null where there is none."""
        def number(x: float) -> float | None:
            return x if math.isfinite(x) else None

        rows = [{"source": row.source.name, "reference": row.source.reference, "quantity": row.quantity,
                 "published": row.published.split(), "here": [number(v) for v in row.here], "tolerance": row.tolerances,
                 "difference": number(row.difference), "verdict": row.verdict, "cause": row.cause} for row in self.rows]
        return json.dumps({"ok": self.ok, "backend": self.backend, "rows": rows}, ensure_ascii=False, indent=1)


def cells(row: Row) -> tuple[str, ...]:
    """A row's texts without its source. `here` has two digits more than was published; the difference is that of the number that is
    furthest off."""
    published = row.published.split()
    here = [shown(v, p) for v, p in zip(row.here, published)]
    difference = "-" if math.isnan(row.difference) else f"{row.difference:+.1e}" if row.difference else "0"
    verdict = f"{row.verdict}: {row.cause}" if row.cause else row.verdict
    return row.quantity + (" (recomputed)" if row.source.more else ""), elided(published), elided(here), difference, verdict


def shown(value: float, published: str) -> str:
    return f"{value + 0.0:.{min(len(Decimal(published).as_tuple().digits) + 2, 17)}g}"


def escaped(cell: str) -> str:
    """For a Markdown table."""
    return cell.replace("|", "\\|")


def elided(texts: list[str]) -> str:
    """Numbers in a line; of many the first and the last, and how many they are."""
    line = " ".join(texts) or "-"
    return line if len(texts) < 3 or len(line) <= WIDTH else f"{texts[0]} … {texts[-1]} ({len(texts)})"

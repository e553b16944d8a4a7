"""What a gradient check found: a Row for each gradient, and the Report that holds them."""

import math
from collections.abc import Collection
from typing import NamedTuple


class Row(NamedTuple):
    """One gradient: that of `parameter` ("W", "x", "x[1]"; "y" for a loss; "all" of a container) of the layer at `path`.

    error    the largest relative error; nan where there is none: a shape is wrong, or a law of the contract is broken
    band     "right", "suspicious", "wrong"; "unchecked" where every entry sits on a kink, or the layer holds a wrong one
    checked  how many entries and directions were compared; `kinks` more sit on a kink and were left out
    note     what was seen
    cause    of a wrong gradient: what was seen, or "guess: " and what may have caused it; empty where nothing fits
    """

    path: str
    layer: str
    parameter: str
    shape: tuple[int, ...] = ()
    error: float = math.nan
    band: str = "right"
    checked: int = 0
    kinks: int = 0
    note: str = ""
    cause: str = ""

    @property
    def where(self) -> str:
        """The layer in words."""
        if self.path in ("", "loss"):
            return self.layer if self.layer != "end to end" else "the whole, end to end"
        return f"layer {self.path} ({self.layer})"

    @property
    def gradient(self) -> str:
        return f"{'a gradient' if self.parameter == 'all' else f'∂L/∂{self.parameter}'} of {self.where}"


class Report:
    """What a gradient check found. It is true where it is `ok`, and prints as a table.

    rows   a Row for each gradient, in the order of the backward pass
    notes  what else is to be said
    """

    def __init__(self, rows: list[Row], notes: list[str]):
        self.rows, self.notes = rows, notes

    @property
    def ok(self) -> bool:
        """Nothing is wrong, and something was checked."""
        return self.first_wrong is None and any(row.checked for row in self.rows)

    @property
    def first_wrong(self) -> Row | None:
        """The row to look at first: its `path`, `layer` and `parameter`."""
        return next((row for row in self.rows if row.band == "wrong"), None)

    @property
    def cause(self) -> str:
        """What may have caused the first wrong gradient; empty where nothing is wrong or nothing fits."""
        return self.first_wrong.cause if self.first_wrong else ""

    def raise_if_wrong(self) -> "Report":
        """Raises AssertionError with the table where the report is not `ok`; else returns it."""
        if not self.ok:
            raise AssertionError(str(self))
        return self

    def verdict(self) -> str:
        """What was found, in a few sentences."""
        if (wrong := self.first_wrong) is not None:
            seen = f"{wrong.where}: {wrong.note}" if math.isnan(wrong.error) else \
                f"{wrong.gradient}: relative error {wrong.error:.1e}"
            return f"Wrong: {seen}{f'; {wrong.cause}' if wrong.cause not in ('', wrong.note) else ''}."
        checked = [row for row in self.rows if row.checked]
        if not checked:
            text = "Nothing could be checked: try another x."
        elif (odd := next((row for row in checked if row.band == "suspicious"), None)) is not None:
            text = f"Suspicious: {odd.gradient} has a relative error of {odd.error:.1e}: lost precision, or a small mistake."
        else:
            worst = max(row.error for row in checked)
            text = f"Right: every gradient agrees with finite differences, to a relative error of {worst:.1e}."
        if (kink := next((row for row in self.rows if row.kinks), None)) is not None:
            text += f" {kink.kinks} comparisons of {kink.gradient} are left out: {kink.note}."
        return text

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        table = [("path", "layer", "gradient", "shape", "checked", "kinks", "error", "band", "")]
        for row in self.rows:
            table.append((row.path, row.layer if len(row.layer) <= 32 else f"{row.layer[:31]}…", row.parameter,
                          str(row.shape) if row.shape else "", str(row.checked), str(row.kinks or ""),
                          "" if math.isnan(row.error) else f"{row.error:.1e}", row.band, row.note or row.cause))
        widths = [max(len(line[i]) for line in table) for i in range(8)]
        lines = ["  ".join([*(c.ljust(w) for c, w in zip(line, widths)), line[8]]).rstrip() for line in table]
        return "\n".join([self.verdict(), *self.notes, "", *lines])


def law(path: str, layer: str, parameter: str, broken: str) -> Row:
    """The row of a law of the contract that is broken."""
    return Row(path, layer, parameter, band="wrong", note=broken, cause=broken)


def together(path: str, layer: str, rows: list[Row], own: Collection[str] = ()) -> list[Row]:
    """The rows of a container, none of which is wrong: its own parameters, and all others in one."""
    kept = [row for row in rows if row.parameter in own]
    rest = [row for row in rows if row.parameter not in own]
    worst = max(rest, key=lambda row: -1.0 if math.isnan(row.error) else row.error, default=Row(path, layer, "all", band="unchecked"))
    note = next((row.note for row in rest if row.note), "")
    return [*kept, Row(path, layer, "all", (), worst.error, worst.band, sum(row.checked for row in rest),
                       sum(row.kinks for row in rest), note)]

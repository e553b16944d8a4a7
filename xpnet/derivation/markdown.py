"""An explanation as Markdown with LaTeX, as GitHub, Jupyter and MkDocs draw it."""

from collections.abc import Iterator

from .explanation import Explanation, Line
from .latex import latex, latex_matrix
from .text import PHASES
from .values import Value


def markdown(e: Explanation, digits: int = 6) -> str:
    return "\n".join(_lines(e, digits)) + "\n"


def _lines(e: Explanation, digits: int) -> Iterator[str]:
    yield f"`{e.network}`, `{e.loss_fn}`, `{e.optimizer}`"
    yield ""
    delta = "" if e.notes else "; $\\delta = \\partial L / \\partial z$"
    yield f"Samples are {e.notation}. The superscript is the layer's path{delta}."
    for note in e.notes:
        yield from ("", note)
    phase = ""
    for step in e.steps:
        if step.phase != phase:
            phase = step.phase
            yield from ("", f"## {PHASES[phase]}")
        yield from ("", f"**{step.title}**")
        if step.note:
            yield from ("", step.note)
        for line in step.lines:
            yield from _line(line, digits)


def _line(line: Line, digits: int) -> Iterator[str]:
    yield from ("", "```math", latex(line.formula(), digits) + _shape(line.value), "```")
    filled = line.filled()
    if filled is not None:
        yield from ("", "```math", latex(filled, digits), "```")
    elif line.inputs:
        yield ""
        yield "where"
        for name, v in line.inputs.items():
            yield from _value(line.names[name].latex, v, digits)
        yield from _value(line.symbol.latex, line.value, digits)
    if line.note:
        yield from ("", f"*{line.note}*")
    if line.apart > 1e-9:
        yield from ("", f"**The layer gives another result than this formula: relative difference {line.apart:.1e}.**")
    if line.check is not None:
        yield from ("", line.check.words)


def _shape(v: Value) -> str:
    sizes = " \\times ".join(map(str, v.shape))
    return f" \\qquad ({sizes})" if v.ndim else ""


def _value(symbol: str, v: Value, digits: int) -> Iterator[str]:
    if v.array is not None and v.ndim <= 2:
        yield from ("", "```math", f"{symbol} = {latex_matrix(v.array, digits)}", "```")
    else:
        yield from ("", f"${symbol}$:", "", "```", *v.lines(digits), "```")

"""An explanation as text for a terminal."""

from collections.abc import Iterator
from typing import Any

from .boxes import Box, beside, box
from .explanation import Explanation, Line

PHASES = {"forward": "Forward", "loss": "Loss", "backward": "Backward", "update": "Update", "after": "After the step"}
WIDTH = 132


def text(e: Explanation, digits: int = 6) -> str:
    return "\n".join(line for line, _ in _lines(e, digits)) + "\n"


def print_rich(e: Explanation, digits: int = 6) -> None:
    """With colours where rich is installed and the output is a terminal, else plain."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print(text(e, digits), end="")
        return
    console = Console(highlight=False, soft_wrap=True)
    for line, style in _lines(e, digits):
        console.print(Text(line, style=style))


def _lines(e: Explanation, digits: int) -> Iterator[tuple[str, str]]:
    """(line, style)"""
    yield f"{e.network}, {e.loss_fn}, {e.optimizer}", "bold"
    yield f"Notation: samples are {e.notation}. The superscript is the layer's path.{'' if e.notes else ' δ = ∂L/∂z.'}", "dim"
    for note in e.notes:
        yield note, "dim"
    phase = ""
    for step in e.steps:
        if step.phase != phase:
            phase = step.phase
            yield "", ""
            yield f"── {PHASES[phase]} {'─' * (60 - len(PHASES[phase]))}", "bold cyan"
        yield "", ""
        yield step.title, "bold"
        if step.note:
            yield f"  {step.note}", "dim"
        for line in step.lines:
            yield from _line(line, digits)


def _line(line: Line, digits: int) -> Iterator[tuple[str, str]]:
    shape = f"   {_shape(line.value.shape)}" if line.value.ndim else ""
    made = box(line.formula(), digits)
    for i, row in enumerate(made.lines):
        yield f"  {row}{shape if i == made.base else ''}".rstrip(), "yellow"
    filled = line.filled()
    if filled is not None and (numbers := box(filled, digits)).width <= WIDTH:
        yield from ((f"      {row}".rstrip(), "") for row in numbers.lines)
    elif line.inputs:
        for name, v in line.inputs.items():
            yield from _value(f"      {line.names[name].text} {_shape(v.shape)} ", v, digits, "dim")
        yield from _value("      = ", line.value, digits, "")
    if line.note:
        yield f"      ({line.note})", "italic"
    if line.apart > 1e-9:
        yield f"      THE LAYER GIVES ANOTHER RESULT THAN THIS FORMULA: relative difference {line.apart:.1e}", "bold red"
    if line.check is not None:
        yield f"      {line.check.words}", "red" if line.check.error > 1e-4 else "green"


def _value(label: str, v: Any, digits: int, style: str) -> Iterator[tuple[str, str]]:
    lines = v.lines(digits)
    if max(len(line) for line in lines) + len(label) > WIDTH:
        yield label.rstrip(), style
        label = "        "
    block = beside([Box([label], 0), Box([line.ljust(max(map(len, lines))) for line in lines], 0)])
    yield from ((row.rstrip(), style) for row in block.lines)


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})" if shape else ""

"""An explanation as a page of its own: one file without a server, in which the step is gone through line by line.

Everything is written here, in Python, and stands in the page without a script too; the scripts in web/ show one step at a time, draw the
network and follow single weights. All of its numbers are those of the explanation, which is in the page as JSON.
"""

import json
import re
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from .explanation import Check, Explanation, Line, Step
from .graph import graph
from .mathml import mathml, symbol
from .text import PHASES
from .values import Value, significant

SCRIPTS = ("numbers.js", "drawing.js", "follow.js", "page.js")
ROWS = 12                                                 # of an array with more, the first are in its table
ARRAYS = 3                                                # of an array with more axes than two, so many matrices


def page(e: Explanation, digits: int = 6) -> str:
    """The whole page, as HTML that needs nothing else."""
    parts = {"title": escape(f"One training step of {e.network}"), "style": _part("page.css"), "script": "\n".join(map(_part, SCRIPTS)),
             "head": "".join(_head(e)), "phases": "".join(_phases(e)),
             "steps": "".join(_step(i, s, digits) for i, s in enumerate(e.steps)),
             "data": _json(e.to_dict()), "graph": _json({**graph(e, digits), "digits": digits, "phases": [s.phase for s in e.steps]})}
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _part("page.html"))


def _part(name: str) -> str:
    return (files(__package__) / "web" / name).read_text(encoding="utf-8")


def _json(data: Any) -> str:
    """JSON that no text within can end: in a script element only `<` can."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _head(e: Explanation) -> Iterator[str]:
    yield f"<p><code>{escape(e.network)}</code>, <code>{escape(e.loss_fn)}</code>, <code>{escape(e.optimizer)}</code></p>"
    affine = "z = xW + b" if e.notation == "rows" else "z = Wx + b"
    yield (f"<p class=quiet>Samples are {e.notation}: {affine}. The superscript is the layer’s path, "
           f"<span class=nowrap>δ = ∂{'ℓ' if _per_sample(e) else 'L'}/∂z.</span></p>")
    yield from (f"<p class=quiet>{escape(note)}.</p>" for note in e.notes)


def _per_sample(e: Explanation) -> bool:
    return any(s.grad == "ℓ" for line in e.lines() for s in line.names.values())


def _phases(e: Explanation) -> Iterator[str]:
    """The progress bar: a button a phase, as wide as it has steps."""
    for phase, name in PHASES.items():
        at = [i for i, s in enumerate(e.steps) if s.phase == phase]
        if at:
            yield (f'<button type=button class="phase {phase}" data-step={at[0]} style="--n:{len(at)}" title="go to: {name}">'
                   f"<span>{name.partition(' ')[0]}</span><i></i></button>")


def _step(i: int, step: Step, digits: int) -> str:
    note = f"<p class=quiet>{escape(step.note)}</p>" if step.note else ""
    lines = "".join(_line(line, digits) for line in step.lines)
    return (f'<section class="step {step.phase}" id="s{i}" data-phase="{step.phase}" aria-labelledby="t{i}">'
            f'<p class=eyebrow>{PHASES[step.phase]}</p><h2 id="t{i}">{escape(step.title)}</h2>{note}{lines}</section>')


def _line(line: Line, digits: int) -> str:
    made = [f'<div class=formula>{_math(mathml(line.formula(), digits))}{_shape(line.value)}</div>']
    filled = line.filled()
    if filled is not None:
        left, sign, right = filled[1]                     # two parts, so that the result goes onto a line of its own where the two are wide
        made.append(f'<div class="formula filled">{_math(mathml(left, digits))}{_math(mathml(("row", [sign, right]), digits))}</div>')
    if line.note:
        made.append(f"<p class=note>{escape(line.note)}</p>")
    if line.apart > 1e-9:
        made.append(f"<p class=warning>The layer gives another result than this formula: relative difference {line.apart:.1e}.</p>")
    if line.check is not None:
        made.append(_check(line.check))
    made.append("".join(_arrays(line, filled is None, digits)))
    return f"<article>{''.join(made)}</article>"


def _math(inside: str) -> str:
    return f'<math display="block">{inside}</math>'


def _shape(v: Value) -> str:
    return f' <span class=shape title="shape">{_sizes(v.shape)}</span>' if v.ndim else ""


def _sizes(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) if len(shape) != 1 else f"{shape[0]}"


def _check(c: Check) -> str:
    good = c.entries and c.error < 1e-4
    mark = "✓" if good else "✗" if c.entries else "–"
    return f'<p class="check {"good" if good else "bad" if c.entries else ""}"><b aria-hidden=true>{mark}</b> {escape(c.words)}</p>'


def _arrays(line: Line, opened: bool, digits: int) -> Iterator[str]:
    """Every array of a line as a table with its shape."""
    read = [(symbol(line.names[name]), v) for name, v in line.inputs.items()]
    result = symbol(line.symbol)
    if line.inputs and line.sign == "←":
        result = f"<mrow><mtext>new </mtext>{result}</mrow>"
    if not read and not line.value.ndim:
        return                                            # a number, which the formula says
    shapes = " ".join(f"<span class=chip><math>{s}</math>{_shape(v)}</span>" for s, v in read)
    yield (f"<details{' open' if opened else ''}><summary>{shapes} <span aria-label=gives>→</span> <span class=chip><math>{result}</math>"
           f"{_shape(line.value)}</span></summary><div class=arrays>")
    for s, v in read:
        yield _table(s, v, "input", digits)
    yield _table(result, line.value, "result", digits)
    if line.check is not None and line.check.value is not None:
        yield _table("<mtext>finite difference</mtext>", line.check.value, "difference", digits)
    yield "</div></details>"


def _table(name: str, v: Value, kind: str, digits: int) -> str:
    caption = f"<figcaption><math>{name}</math>{_shape(v)}</figcaption>"
    if v.array is None:
        rows = "".join(f"<tr><th scope=row>{what}</th><td>{significant(v.summary[key], min(digits, 4))}</td></tr>" for what, key in
                       (("smallest", "min"), ("largest", "max"), ("mean", "mean"), ("standard deviation", "std")))
        zeros = f"<tr><th scope=row>zeros</th><td>{100 * v.summary['zeros']:.0f} %</td></tr>"
        corner = "" if v.corner is None or v.ndim > 2 else f"<div class=quiet>its first entries</div>{_cells(v.corner, digits)}"
        return f"<figure class={kind}>{caption}<table class=statistics>{rows}{zeros}</table>{corner}</figure>"
    if v.ndim <= 2:
        return f"<figure class={kind}>{caption}{_cells(v.array, digits)}</figure>"
    parts = v.array.reshape(-1, *v.shape[-2:])
    tables = "".join(_cells(p, digits) for p in parts[:ARRAYS])
    more = f"<div class=quiet>the first {ARRAYS} of {len(parts)}</div>" if len(parts) > ARRAYS else ""
    return f"<figure class={kind}>{caption}<div class=stack>{tables}</div>{more}</figure>"


def _cells(a: np.ndarray, digits: int) -> str:
    a = np.atleast_2d(a)
    rows = "".join("<tr>" + "".join(f"<td>{significant(x, digits).replace('-', '−')}</td>" for x in row) + "</tr>" for row in a[:ROWS])
    more = f"<tr><td colspan={a.shape[1] or 1}>⋮ {len(a)} rows</td></tr>" if len(a) > ROWS else ""
    return f"<table>{rows}{more}</table>"


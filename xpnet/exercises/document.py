"""A question or a solution: blocks of words, formulas, numbers and code, written as Markdown with LaTeX, as HTML with MathML, or as text.

Words hold formulas between $, in the language of xpnet/derivation/expression.py: "The layer $z = x @ W + b$". Also `code` and **bold**.
"""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np

from ..derivation.boxes import Box, beside, box
from ..derivation.display import Node
from ..derivation.explanation import Line
from ..derivation.latex import latex
from ..derivation.mathml import mathml
from ..derivation.values import Value
from ..derivation.written import Written
from .derivation import formula_node, symbol

EXACT = 12                                                # significant digits: a given number is shown whole
DIGITS = 6
BITS = 13                                                 # decimals that are the same on every machine
WIDE = 70                                                 # characters, in text: what is wider does not fit on a page
_GREEK = str.maketrans({"α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "δ": "\\delta ", "ε": "\\varepsilon ", "η": "\\eta ",
                        "λ": "\\lambda ", "μ": "\\mu ", "σ": "\\sigma ", "τ": "\\tau "})
_BLOCK = ' display="block"'
_ANSWER = "<div class='answer'></div>"
_INLINE = re.compile(r"\$([^$]+)\$|`([^`]+)`|\*\*([^*]+)\*\*")


def tex(node: Node, digits: int = DIGITS) -> str:
    return latex(node, digits).translate(_GREEK)


def math(node: Node, digits: int = DIGITS, block: bool = False) -> str:
    return f"<math{_BLOCK if block else ''}>{mathml(node, digits)}</math>"


def one_line(node: Node) -> str:
    """In text; a formula in the midst of words must fit on one line."""
    lines = box(node, EXACT).lines
    if len(lines) > 1:
        raise ValueError(f"a formula within words is one line of text, got {lines}")
    return lines[0]


_FORMULAS: dict[str, Callable[[Node], str]] = {
    "markdown": lambda node: f"${tex(node, EXACT)}$", "html": lambda node: math(node, EXACT), "text": one_line}


def inline(words: str, form: str) -> str:
    """Words with formulas, code and bold, in one of the three forms."""
    out, end = [], 0
    for found in _INLINE.finditer(words):
        out.append(escape(words[end:found.start()], quote=False) if form == "html" else words[end:found.start()])
        formula, code, bold = found.groups()
        if formula:
            node = formula_node(formula)
            out.append(_FORMULAS[form](node))
        elif code:
            out.append({"markdown": f"`{code}`", "html": f"<code>{escape(code, quote=False)}</code>", "text": code}[form])
        else:
            out.append({"markdown": f"**{bold}**", "html": f"<b>{escape(bold, quote=False)}</b>", "text": bold}[form])
        end = found.end()
    out.append(escape(words[end:], quote=False) if form == "html" else words[end:])
    return "".join(out)


class Block:
    """One block: `markdown` and `text` are lines of text, `html` is an element."""

    def markdown(self) -> str:
        raise NotImplementedError

    def html(self) -> str:
        raise NotImplementedError

    def text(self) -> str:
        raise NotImplementedError


@dataclass
class Words(Block):
    """A paragraph."""

    words: str

    def markdown(self) -> str:
        return inline(self.words, "markdown")

    def html(self) -> str:
        return f"<p>{inline(self.words, 'html')}</p>"

    def text(self) -> str:
        return wrapped(inline(self.words, "text"))


@dataclass
class Heading(Block):
    words: str
    level: int = 2

    def markdown(self) -> str:
        return f"{'#' * self.level} {inline(self.words, 'markdown')}"

    def html(self) -> str:
        return f"<h{self.level}>{inline(self.words, 'html')}</h{self.level}>"

    def text(self) -> str:
        words = inline(self.words, "text")
        return f"{words}\n{('=' if self.level < 3 else '-') * len(words)}"


@dataclass
class Item(Block):
    """A part of the question, or of its answers: a letter, and what is asked."""

    label: str
    words: str
    blank: bool = False                                   # whether the page leaves a line for the answer

    def markdown(self) -> str:
        return f"**{self.label}** {inline(self.words, 'markdown')}"

    def html(self) -> str:
        return f"<p class='part'><b class='label'>{self.label}</b> {inline(self.words, 'html')}</p>{_ANSWER if self.blank else ''}"

    def text(self) -> str:
        return wrapped(f"{self.label} {inline(self.words, 'text')}", "    ")


@dataclass
class Given(Block):
    """Numbers by name, every digit of them; one without a name stands alone."""

    values: Mapping[str, Any]
    digits: int = EXACT

    def nodes(self) -> list[Node]:
        return [("row", [("sym", symbol(name)), ("op", "="), number_node(v)]) if name else number_node(v)
                for name, v in self.values.items()]

    def markdown(self) -> str:
        return "\n\n".join(f"```math\n{tex(node, self.digits)}\n```" for node in self.nodes())

    def html(self) -> str:
        return f"<div class='given'>{''.join(f'<span>{math(node, self.digits)}</span>' for node in self.nodes())}</div>"

    def text(self) -> str:
        return indented(side_by_side([box(node, self.digits) for node in self.nodes()]))


@dataclass
class Formula(Block):
    """A formula on a line of its own."""

    formula: str

    def markdown(self) -> str:
        return f"```math\n{tex(formula_node(self.formula), EXACT)}\n```"

    def html(self) -> str:
        return f"<div class='formula'>{math(formula_node(self.formula), EXACT, True)}</div>"

    def text(self) -> str:
        return indented(box(formula_node(self.formula), EXACT).lines)


@dataclass
class Code(Block):
    code: str

    def markdown(self) -> str:
        return f"```python\n{self.code}\n```"

    def html(self) -> str:
        return f"<pre><code>{escape(self.code, quote=False)}</code></pre>"

    def text(self) -> str:
        return indented(self.code.split("\n"))


@dataclass
class Options(Block):
    """Numbered answers to choose from."""

    options: Sequence[str]

    def lines(self, form: str) -> list[str]:
        return [inline(words, form) for words in self.options]

    def markdown(self) -> str:
        return "\n".join(f"{i}. {words}" for i, words in enumerate(self.lines("markdown"), 1))

    def html(self) -> str:
        return f"<ol>{''.join(f'<li>{words}</li>' for words in self.lines('html'))}</ol>"

    def text(self) -> str:
        return "\n".join(f"    {i}. {words}" for i, words in enumerate(self.lines("text"), 1))


@dataclass
class Derived(Block):
    """Lines of an explanation: the formula, and the formula with its numbers."""

    title: str
    lines: Sequence[Line]
    digits: int = DIGITS

    def parts(self) -> Iterator[tuple[Line, list[Node]]]:
        for line in map(rounded, self.lines):
            nodes = [line.formula()]
            filled = line.filled()
            if any(v.array is None for v in (*line.inputs.values(), line.value)):
                yield line, nodes                         # large arrays: their shapes say what there is to say
                continue
            if filled is not None and not line.expression.isdigit() and box(filled, self.digits).width <= WIDE:
                nodes.append(filled)
            elif line.expression:
                nodes += [_equation(line, name) for name in (*line.inputs, line.result) if name != line.result or name not in line.inputs]
                if line.result in line.inputs:
                    nodes.append(("row", [("sym", line.symbol), ("op", "←"), number_node(line.value.array)]))
            elif line.inputs:                             # without a formula: its number alone
                nodes.append(_equation(line, line.result))
            yield line, nodes

    def remark(self, line: Line) -> str:
        """What is to be said of it. The finite difference's error is not: its last digits differ from machine to machine."""
        words = [line.note] if line.note else []
        values = {**line.inputs, line.result: line.value}
        if any(v.array is None for v in values.values()):
            words.insert(0, ", ".join(f"{line.names[name].text}: {' × '.join(map(str, v.shape))}" for name, v in values.items() if v.ndim))
        if line.check is not None and line.check.entries:
            words.append(line.check.words.partition(",")[0])
        return "; ".join(words)

    def markdown(self) -> str:
        out = [f"**{self.title}**"] if self.title else []
        for line, nodes in self.parts():
            out += [f"```math\n{tex(node, self.digits)}\n```" for node in nodes]
            if said := self.remark(line):
                out.append(f"*{said}*")
        return "\n\n".join(out)

    def html(self) -> str:
        out = [f"<h4>{escape(self.title, quote=False)}</h4>"] if self.title else []
        for line, nodes in self.parts():
            said = self.remark(line)
            out.append("<div class='line'>" + "".join(math(node, self.digits, True) for node in nodes)
                       + (f"<p class='remark'>{escape(said, quote=False)}</p>" if said else "") + "</div>")
        return "".join(out)

    def text(self) -> str:
        out = [self.title] if self.title else []
        for line, nodes in self.parts():
            for i, node in enumerate(nodes):
                out.append(indented(box(node, self.digits).lines, "  " if i == 0 else "      "))
            if said := self.remark(line):
                out.append(f"      ({said})")
        return "\n".join(out)


def rounded(line: Line) -> Line:
    """A line without the last bits, which differ from machine to machine, and turn a 0 into 1e-16."""
    def whole(v: Value) -> Value:
        return v if v.array is None or v.array.dtype.kind != "f" else Value(np.round(v.array, BITS) + 0.0, v.shape, {}, None)

    return replace(line, inputs={name: whole(v) for name, v in line.inputs.items()}, value=whole(line.value))


def _equation(line: Line, name: str) -> Node:
    v = line.value if name == line.result and name not in line.inputs else line.inputs[name]
    return ("row", [("sym", line.names[name]), ("op", "="), number_node(v.array)])


def number_node(value: Any) -> Node:
    a = np.asarray(value)
    return ("num", a.item()) if a.ndim == 0 else ("mat", a)


def side_by_side(boxes: list[Box]) -> list[str]:
    """Boxes in as few rows as fit."""
    lines: list[str] = []
    row: list[Box] = []
    for b in boxes:
        if row and sum(r.width + 4 for r in row) + b.width > WIDE:
            lines += [*beside(row).lines, ""]
            row = []
        row += ([Box(["    "], 0)] if row else []) + [b]
    return [line.rstrip() for line in lines + (beside(row).lines if row else [])]


def indented(lines: list[str], by: str = "    ") -> str:
    return "\n".join((by + line).rstrip() for line in lines)


def wrapped(words: str, later: str = "") -> str:
    return textwrap.fill(words, 100, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)


@dataclass
class Document(Written):
    """Blocks under a title."""

    title: str
    blocks: list[Block]

    def body(self, form: str) -> str:
        """Without the title."""
        parts = [getattr(block, form)() for block in self.blocks]
        return "\n".join(parts) if form == "html" else "\n\n".join(p for p in parts if p)

    def markdown(self) -> str:
        return f"# {self.title}\n\n{self.body('markdown')}\n"

    def text(self) -> str:
        return f"{self.title}\n{'=' * len(self.title)}\n\n{self.body('text')}\n"

    def html(self) -> str:
        from .page import page

        return page(self.title, f"<h1>{escape(self.title, quote=False)}</h1>\n<section>{self.body('html')}</section>")


class Asked(Written):
    """What has a `question`, a Document, and is written as that."""

    question: Document

    def markdown(self) -> str:
        return self.question.markdown()

    def html(self) -> str:
        return self.question.html()

    def text(self) -> str:
        return self.question.text()

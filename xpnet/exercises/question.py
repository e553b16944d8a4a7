"""Exercise: a question with numbers, its worked solution, and a grader; and how a topic is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..derivation import Step
from ..errors import unknown, whole
from .derivation import Derivation, Worked
from .document import BITS, Asked, Block, Code, Derived, Document, Formula, Given, Heading, Item, Options, Words
from .draw import Draw
from .functions import Task
from .grading import Grade, Part, fit, grade_numbers

TOPICS: dict[str, "Topic"] = {}
ATTEMPTS = 100                                            # draws until every known mistake gives another number
APART = 10.0                                              # tolerances by which a mistake's answer has to differ


@dataclass(frozen=True)
class Topic:
    """A kind of exercise.

    name, title  in kebab-case; in words
    kind         topics of one kind differ in a formula only (the activations); else it is the name
    write        (question, draw): writes the question into the Question
    """

    name: str
    title: str
    kind: str
    write: Callable[["Question", Draw], None]


def topic(name: str, title: str, kind: str = "") -> Callable[[Any], Any]:
    """A decorator: the function that writes an exercise. This is all that a new topic needs:

        @topic("dense-forward", "A dense layer")
        def dense_forward(q, draw):
            x, W = draw.numbers(2, 3), draw.numbers(3, 2)
            e = explained(Dense(3, 2, init=W, bias=False), x, np.ones((2, 2)))
            q.say("A layer computes $z = x @ W$.")
            q.given(x=x, W=W)
            q.ask("z", e["z"], "What is $z$?")
            q.solve(e, "forward")
    """
    def enter(write: Any) -> Any:
        TOPICS[name] = Topic(name, title, kind or name, write)
        return write

    return enter


class Question:
    """What a topic writes: the question's blocks, its parts, and the solution."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.parts: list[Part] = []
        self.solution: list[Block] = []
        self.values: dict[str, np.ndarray] = {}
        self.columns = False
        self.task: Task | None = None

    def say(self, words: str) -> None:
        """A paragraph. Formulas stand between $, in the language of xpnet/derivation/expression.py."""
        self.blocks.append(Words(words))

    def formula(self, formula: str) -> None:
        self.blocks.append(Formula(formula))

    def given(self, **values: Any) -> None:
        """Numbers by name; dW is ∂L/∂W, W_0 is W⁽⁰⁾."""
        self.values |= {name: np.asarray(v) for name, v in values.items()}
        self.blocks.append(Given(values))

    def code(self, code: str) -> None:
        self.blocks.append(Code(code))

    def ask(self, name: str, value: Any, words: str, *, exact: bool = False, mistakes: Mapping[str, Any] | None = None) -> None:
        """A part. exact: it is asked for exactly, not to decimals. mistakes: {in words: the answer that the mistake gives}."""
        a = np.array(np.round(np.array(value, dtype=np.float64), BITS) + 0.0)
        self.part(Part(name, a, words, None if exact else decimals(a)))
        for words, wrong in (mistakes or {}).items():
            self.mistake(name, words, wrong)

    def choose(self, name: str, answer: int, words: str, options: Sequence[str]) -> None:
        """A part that is answered with the number, from 1 on, of an option."""
        self.part(Part(name, np.array(float(answer)), words, None, options=tuple(options)))

    def part(self, part: Part) -> None:
        label = f"({chr(ord('a') + len(self.parts))})"
        self.parts.append(part)
        asked = "as a number of the list" if part.options else "exactly" if part.decimals is None else f"to {part.decimals} decimals"
        self.blocks.append(Item(label, f"{part.words} (`{part.name}`{_shape(part.value.shape)}, {asked})", not part.options))
        if part.options:
            self.blocks.append(Options(part.options))

    def mistake(self, part: str, words: str, value: Any) -> None:
        """An answer that a common mistake gives, with the hint that is then given."""
        of = next(p for p in self.parts if p.name == part)
        wrong = np.array(value, dtype=np.float64)
        fitted = fit(wrong, of.value.shape)
        of.mistakes[words] = wrong if fitted is None else fitted

    def need(self, condition: Any) -> None:
        """Draw other numbers where this does not hold."""
        if not condition:
            raise Again

    def solve(self, derived: Worked | Derivation, *phases: str, title: str | None = None, only: Sequence[str] | None = None) -> None:
        """Steps of an explanation: of the phases named, and of the results named by their symbols; all by default."""
        for step in derived.steps:
            lines = [line for line in step.lines if only is None or line.symbol.text in only]
            if lines and (not phases or step.phase in phases):
                self.solution.append(Derived(_heading(step) if title is None else title, lines))

    def remark(self, words: str) -> None:
        """A sentence of the solution."""
        self.solution.append(Words(words))

    def function(self, task: Task) -> None:
        """The student's own function may be handed in."""
        self.task = task


def _shape(sizes: tuple[int, ...]) -> str:
    if len(sizes) == 1:
        return f", {sizes[0]} number{'s' * (sizes[0] > 1)}"
    return f", shape {' × '.join(map(str, sizes))}" if sizes else ""


class Again(Exception):
    """These numbers will not do."""


def _heading(step: Step) -> str:
    """Forward: layer 0: Dense(2, 3)"""
    words = step.title.removeprefix("loss: ")
    return words if not step.phase else f"{step.phase.capitalize()}: {words}" if step.phase in ("forward", "loss", "backward") else \
        words[0].upper() + words[1:]


def decimals(a: np.ndarray) -> int:
    """So many that the largest entry has at least four significant digits: 4 for numbers of 1 and more, 8 at most."""
    size = float(np.max(np.abs(a), initial=0.0))
    return int(np.clip(3 - np.floor(np.log10(size)), 4, 8)) if size > 0 else 4


@dataclass
class Exercise(Asked):
    """A question with numbers.

    .markdown() .html() .text() .save("sheet.html")    the question; `.solution` has the same four
    .given, .answers                                   {name: array}
    .grade(answers)                                    a Grade: of {name: number or array}, or of the student's own function
    """

    topic: str
    seed: int
    question: Document
    solution: Document
    parts: list[Part]
    given: dict[str, np.ndarray]
    columns: bool = False
    task: Task | None = field(default=None, repr=False)

    @property
    def answers(self) -> dict[str, np.ndarray]:
        return {part.name: np.array(part.value) for part in self.parts}

    def grade(self, answers: Any, backend: Any = "numpy", seed: int = 0) -> Grade:
        """Grade numbers by name, {"dW": [[0.1, "3/8"], …]}, or a function of the student's own.

        Numbers may be floats, Fractions, texts such as "3/8", lists, arrays of any backend; a text is read, never executed. A function *is*
        executed: on fresh random arrays of many shapes (drawn from `seed`), of `backend`. Whatever is handed in, the answer is a Grade;
        only a backend that cannot be used raises BackendError.
        """
        if callable(answers):
            if self.task is None:
                return Grade({}, ["this exercise takes numbers, not a function"])
            return Grade({getattr(answers, "__name__", "function"): self.task.grade(answers, backend, seed)})
        return grade_numbers(self.parts, answers, self.columns)

    def __repr__(self) -> str:
        return f"<Exercise {self.topic!r}, seed {self.seed}: {', '.join(part.name for part in self.parts)}>"


def exercise(topic: str, seed: int = 0) -> Exercise:
    """A question of this topic, with the numbers of this seed: the same everywhere.

        e = exercise("dense-backward", seed=7)
        print(e)                                          # the question, as text
        e.grade({"dW": ..., "db": ..., "dx": ...})        # a Grade, true where all is right
        e.grade(my_backward)                              # the student's own function
        print(e.solution)

    Numbers are drawn again until each mistake that the topic knows gives another answer than the right one. Raises ValueError for a topic
    that does not exist (`TOPICS` has them all).
    """
    if topic not in TOPICS:
        raise unknown("topic", topic, TOPICS)
    seed = whole("seed", seed, 0)
    found = TOPICS[topic]
    for attempt in range(ATTEMPTS):
        q = Question()
        try:
            found.write(q, Draw(seed, topic, attempt))
        except Again:
            continue
        if all(_apart(part) for part in q.parts):
            break
    else:
        raise RuntimeError(f"topic {topic!r}: no numbers that tell every mistake from the right answer in {ATTEMPTS} draws")
    if q.task is not None:
        q.say("Or hand in a function of your own, called by name with what its signature asks for:")
        q.code(q.task.what)
    if q.columns:
        q.say("Samples are rows. You may answer in the columns notation instead, every matrix transposed, but then throughout.")
    solution = [*q.solution, *_results(q.parts)]
    title = f"{found.title}"
    return Exercise(topic, seed, Document(title, q.blocks), Document(f"{title}: solution", solution), q.parts, q.values, q.columns, q.task)


def _apart(part: Part) -> bool:
    """Does each known mistake give another answer?"""
    if part.value.size and not np.all(np.isfinite(part.value)):
        return False
    return all(wrong.shape != part.value.shape or np.max(np.abs(wrong - part.value)) > APART * part.tolerance
               for wrong in part.mistakes.values())


def _results(parts: list[Part]) -> list[Block]:
    blocks: list[Block] = []
    for i, part in enumerate(parts):
        label = f"({chr(ord('a') + i)})"
        if part.options:
            blocks.append(Item(label, f"`{part.name}`: {int(part.value)}. {part.options[int(part.value) - 1]}"))
        else:
            asked = "" if part.decimals is None else f", to {part.decimals} decimals"
            blocks += [Item(label, f"`{part.name}`{asked}:"), Given({"": part.shown()})]
    return [Heading("Answers", 3), *blocks]

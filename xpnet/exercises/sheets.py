"""Sheet: several exercises on one page, as for an exam."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import unknown
from .document import Asked, Block, Document, Heading
from .grading import Grade
from .question import Exercise, exercise


@dataclass
class Sheet(Asked):
    """.markdown() .html() .text() .save(path)  the questions; `.solution` has the same four
    .grade(answers)                          a list of Grades, of one {name: number} or function for each exercise
    """

    title: str
    exercises: list[Exercise]

    @property
    def question(self) -> Document:                       # type: ignore[override]
        return self._joined(lambda e: e.question, self.title)

    @property
    def solution(self) -> Document:
        return self._joined(lambda e: e.solution, f"{self.title}: solution")

    def _joined(self, of: Callable[[Exercise], Document], title: str) -> Document:
        blocks: list[Block] = []
        for i, e in enumerate(self.exercises, 1):
            blocks += [Heading(f"{i}. {e.question.title}"), *of(e).blocks]
        return Document(title, blocks)

    def grade(self, answers: Sequence[Any] | Mapping[str, Any], backend: Any = "numpy", seed: int = 0) -> list[Grade]:
        """answers: one for each exercise, in order, or by topic. What is missing counts as not answered."""
        if isinstance(answers, Mapping):
            topics = [e.topic for e in self.exercises]
            for name in answers:
                if name not in topics:
                    raise unknown("topic of this sheet", name, topics)
            answers = [answers.get(topic, {}) for topic in topics]
        if len(answers) != len(self.exercises):
            raise ValueError(f"the sheet has {len(self.exercises)} exercises, got {len(answers)} answers")
        return [e.grade(a, backend, seed) for e, a in zip(self.exercises, answers)]


def sheet(topics: Sequence[str], seed: int = 0, title: str = "Backpropagation") -> Sheet:
    """Exercises of these topics, each with the numbers of this seed. A topic that comes again gets the numbers of the next seed."""
    if isinstance(topics, str):
        topics = [topics]
    if not topics:
        raise ValueError("a sheet has at least one topic")
    return Sheet(title, [exercise(topic, seed + list(topics[:i]).count(topic)) for i, topic in enumerate(topics)])

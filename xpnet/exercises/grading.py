"""Grading: whether an answer is right, and what may be wrong with one that is not."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .answers import Unreadable, read


@dataclass
class Verdict:
    """right  and where it is not, in words what may be wrong, without giving the answer away."""

    right: bool
    hint: str = ""

    def __bool__(self) -> bool:
        return self.right

    def __str__(self) -> str:
        return "right" if self.right else f"wrong: {self.hint}" if self.hint else "wrong"


@dataclass
class Grade:
    """True where everything is right. verdicts: by the name of the part, or of the function; notes: what else is to be said."""

    verdicts: dict[str, Verdict]
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.verdicts) and all(v.right for v in self.verdicts.values())

    def __getitem__(self, name: str) -> Verdict:
        return self.verdicts[name]

    @property
    def points(self) -> float:
        """The share of parts that are right."""
        return sum(v.right for v in self.verdicts.values()) / max(len(self.verdicts), 1)

    def __str__(self) -> str:
        width = max(map(len, self.verdicts), default=0)
        return "\n".join([*(f"{name:{width}}  {v}" for name, v in self.verdicts.items()), *self.notes])

    def __repr__(self) -> str:
        return str(self)


@dataclass
class Part:
    """What is asked for.

    name      of the answer, as in "dW"
    value     the answer
    words     the question
    decimals  to which it is asked; None where it is asked exactly (a count, a choice, a shape)
    mistakes  {in words: the answer that this mistake gives}
    options   of a choice, in words: the answer is a number from 1 on
    """

    name: str
    value: np.ndarray
    words: str
    decimals: int | None
    mistakes: dict[str, np.ndarray] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @property
    def tolerance(self) -> float:
        """One unit of the last decimal asked for: half of it is the rounding, and half is left for rounding on the way. A number that is
        asked for exactly may be off as far as floating numbers are."""
        return 1e-6 if self.decimals is None else 10.0 ** -self.decimals

    def near(self, a: np.ndarray, value: np.ndarray | None = None) -> np.ndarray:
        """Entry by entry, whether it is right."""
        value = self.value if value is None else value
        return np.abs(a - value) <= self.tolerance + 1e-9 * np.abs(value)

    def shown(self) -> np.ndarray:
        """The answer as it is asked for."""
        return self.value if self.decimals is None else np.array(np.round(self.value, self.decimals) + 0.0)

    def grade(self, answer: Any, columns: bool = False) -> Verdict:
        """columns: whether the answer is in the columns notation, where every matrix is the transpose."""
        try:
            a = read(answer)
        except Unreadable as e:
            return Verdict(False, str(e))
        if a.size and not np.all(np.isfinite(a)):
            return Verdict(False, f"{_place(np.argmax(~np.isfinite(a)), a.shape)} is not a finite number")
        turned = self.value.T if columns else self.value
        fitted = fit(a, turned.shape)
        if fitted is None:
            if columns or a.shape != turned.shape[::-1] or not np.all(self.near(a.T)):
                return Verdict(False, self.shapes(a, turned.shape))
            return Verdict(False, "this is the transpose, while other answers are not: stay in one notation")
        if columns:
            fitted = fitted.T
        near = self.near(fitted)
        if np.all(near):
            return Verdict(True)
        return Verdict(False, "; ".join(self.hints(fitted, near)))

    def shapes(self, a: np.ndarray, wanted: tuple[int, ...]) -> str:
        said = f"it has shape {a.shape}, {wanted if wanted else 'one number'} is asked for" if a.shape else \
            f"it is one number, an array of shape {wanted} is asked for"
        if a.ndim == 2 and a.shape == wanted[::-1]:
            return f"{said}: transposed"
        if a.ndim == len(wanted) + 1 and a.shape[1:] == wanted:
            return f"{said}: the sum over the samples is missing"
        return said

    def hints(self, a: np.ndarray, near: np.ndarray) -> Iterator[str]:
        if self.options:
            yield "another one" if a.item() in range(1, len(self.options) + 1) else f"answer with a number from 1 to {len(self.options)}"
            return
        for words, wrong in self.mistakes.items():
            if wrong.shape == self.value.shape and np.all(self.near(a, wrong)):
                yield words
                return
        if self.value.ndim == 2 and self.value.shape[0] == self.value.shape[1] and np.all(self.near(a, self.value.T)):
            yield "it is transposed"
            return
        if factor := self.factor(a):
            yield factor
            return
        if self.decimals is not None and np.all(np.abs(a - self.value) <= 6.0 * self.tolerance):
            yield f"nearly: {self.decimals} decimals are asked for; round at the end only"
            return
        if self.value.size > 1 and np.array_equal(np.sign(a), -np.sign(self.value)):
            yield "every sign is the other way round"
            return
        wrong_at = np.flatnonzero(~near)
        if self.value.size == 1:
            yield "close, but not to the last decimal: a slip?" if abs(a - self.value).item() < 0.02 * abs(self.value.item()) else "far off"
        elif len(wrong_at) == self.value.size:
            yield "no entry is right"
        elif len(wrong_at) == 1:
            yield f"only {_place(wrong_at[0], near.shape)} is wrong"
        else:
            yield f"{len(wrong_at)} of {self.value.size} entries are wrong, the first is {_place(wrong_at[0], near.shape)}"

    def factor(self, a: np.ndarray) -> str:
        """In words, where all is off by one factor that is easily said."""
        size = float(np.sum(self.value * self.value))
        if size < 1e-12:
            return ""
        c = float(np.sum(a * self.value)) / size
        for whole in (-1.0, *range(2, 13)):
            for exact in (whole, 1.0 / whole):
                if abs(c - exact) < 0.02 * abs(exact) and np.all(np.abs(a - exact * self.value) <= self.tolerance * max(1.0, abs(exact))):
                    if exact == -1.0:
                        return "the sign is wrong"
                    return f"it is {whole:g} times too {'large' if exact > 1 else 'small'}"
        return ""


def fit(a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """a in the shape: (k,) for (1, k) or (k, 1) and the other way round, and any of one number."""
    if a.shape == shape or (a.size == math.prod(shape) and (a.size == 1 or (
            a.ndim != len(shape) and [s for s in a.shape if s != 1] == [s for s in shape if s != 1]))):
        return np.reshape(a, shape)
    return None


def _place(flat: Any, shape: tuple[int, ...]) -> str:
    """An entry in words, counted from 1 as in a matrix."""
    if not shape or math.prod(shape) == 1:
        return "it"
    index = [int(i) + 1 for i in np.unravel_index(int(flat), shape)]
    return f"entry {index[0] if len(index) == 1 else tuple(index)}"


def grade_numbers(parts: list[Part], answers: Any, columns: bool) -> Grade:
    """columns: whether the columns notation is allowed; then it is for all parts or for none."""
    names = [part.name for part in parts]
    if not isinstance(answers, Mapping):
        if len(parts) > 1:
            return Grade({name: Verdict(False, "there is no answer") for name in names},
                         [f"answers are a dictionary with {', '.join(map(repr, names))}, got {type(answers).__name__}"])
        answers = {names[0]: answers}
    notes = [f"there is no part {name!r}; the parts are {', '.join(map(repr, names))}" for name in answers if name not in names]
    rows = Grade({part.name: part.grade(answers.get(part.name)) for part in parts}, notes)
    if rows or not columns:
        return rows
    turned = Grade({part.name: part.grade(answers.get(part.name), columns=True) for part in parts}, notes)
    return turned if turned.points > rows.points else rows

"""Exercises that cannot be wrong: a question with numbers, a worked solution that `explain` makes, and a grader.

    from xpnet.exercises import TOPICS, exercise, sheet

    e = exercise("dense-backward", seed=7)                # the same numbers for the same seed, everywhere
    print(e)                                              # or e.markdown(), e.html(), e.save("sheet.html")
    e.grade({"dW": [[0.1, "3/8"], ...], "db": ..., "dx": ...})
    e.grade(my_backward)                                  # the student's own function, on fresh random arrays
    print(e.solution)

    sheet(["dense-backward", "adam"], seed=7).save("exam.html")

`TOPICS` holds all topics by name. How to add one: `topic` in xpnet/exercises/question.py.
"""

from . import topics  # noqa: F401
from .grading import Grade, Verdict
from .question import TOPICS, Exercise, Topic, exercise, topic
from .sheets import Sheet, sheet

__all__ = ["TOPICS", "Exercise", "Grade", "Sheet", "Topic", "Verdict", "exercise", "sheet", "topic"]

"""Bug: one wrong line, what it does, how it is found, and how it gets into a training set-up."""

import copy
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..errors import unknown
from ..gradcheck import Report, gradient_check
from ..layer import Layer, walk_layers, walk_params
from ..layers import Activation, Dense
from ..losses import Loss
from ..model import Model
from ..optim import Optimizer
from .open import OpenDense
from .problems import Problem
from .setup import Setup

KINDS = ("layer", "loss", "optimizer", "training", "initialization", "data")
BUGS: dict[str, "Bug"] = {}
_MARK = re.compile(r"^\s*(?P<wrong>\S.*?)\s+# should be: (?P<right>.+)$", re.MULTILINE)


class Finding(NamedTuple):
    """What a check found: whether something is wrong, and the words for it."""

    caught: bool
    text: str


@dataclass(frozen=True, eq=False)
class Bug:
    """A classic mistake. The wrong line is in the source of `broken`, with the right one beside it.

    name, title   in kebab-case; in words
    kind          the piece of a set-up that it breaks: one of KINDS
    broken        the class or function that holds the wrong line; its docstring is the explanation
    clean         what it takes the place of
    finds         the check that finds it; one of xpnet/bug_zoo/checks.py
    problem       a small problem that shows it
    symptom, fix  in words
    draw          draws the symptom: (bug, ax)
    where         of a layer: whether it can be broken so
    make          of a layer, loss or optimizer: a small one, of the class that is given
    """

    name: str
    title: str
    kind: str
    broken: Any
    clean: Any
    finds: Callable[[Setup, Any], Finding]
    problem: Problem
    symptom: str
    fix: str
    draw: Callable[["Bug", Any], None]
    where: Callable[[Any], bool]
    make: Callable[[Any], Any]

    # The lesson.

    @property
    def wrong(self) -> str:
        """The wrong line, as it stands in the code."""
        return _lines(self.broken)["wrong"]

    @property
    def right(self) -> str:
        """The right line."""
        return _lines(self.broken)["right"]

    @property
    def why(self) -> str:
        """The explanation, one paragraph."""
        return " ".join((inspect.getdoc(self.broken) or "").split())

    @property
    def seen_by_gradient_check(self) -> bool:
        return self.finds.__name__ == "gradients"

    # Broken pieces by themselves.

    def layer(self, *args: Any, **options: Any) -> Any:
        """A layer with the mistake: a small one, or of these arguments."""
        return self._made("layer", self.broken, args, options)

    def clean_layer(self, *args: Any, **options: Any) -> Any:
        """The same layer without it."""
        return self._made("layer", self.clean, args, options)

    def loss(self, *args: Any, **options: Any) -> Any:
        """A loss with the mistake."""
        return self._made("loss", self.broken, args, options)

    def clean_loss(self, *args: Any, **options: Any) -> Any:
        return self._made("loss", self.clean, args, options)

    def optimizer(self, *args: Any, **options: Any) -> Any:
        """An optimizer with the mistake."""
        return self._made("optimizer", self.broken, args, options)

    def clean_optimizer(self, *args: Any, **options: Any) -> Any:
        return self._made("optimizer", self.clean, args, options)

    def _made(self, kind: str, cls: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self.kind != kind:
            raise ValueError(f"bug {self.name!r} is of kind {self.kind!r}: it breaks no {kind}; bug.inject(setup) puts it into a set-up")
        return cls(*args, **options) if args or options else self.make(cls)

    # The bug in a set-up.

    def inject(self, setup: Setup) -> Setup:
        """The set-up with this bug: copies of its model and optimizer, with the same numbers, and one piece that is broken.

        Raises ValueError where the set-up has no piece that this bug could break.
        """
        model = copy.deepcopy(setup.model)
        optimizer = for_model(setup.optimizer, model)
        broken = replace(setup, model=model, optimizer=optimizer)
        if self.kind == "layer":
            self._break_layers(model)
        elif self.kind == "loss":
            broken.loss = copy.copy(self._fitting(setup.loss))
            broken.loss.__class__ = self.broken
        elif self.kind == "optimizer":
            self._fitting(setup.optimizer)
            optimizer.__class__ = self.broken
            broken.optimizer = for_model(optimizer, model)
        elif self.kind == "training":
            broken.step = self.broken() if isinstance(self.broken, type) else self.broken
        elif self.kind == "initialization":
            rng = np.random.default_rng(model.seed)
            for path, param in walk_params(model.net):
                if not param.bias:
                    model.set_param(path, self.broken(rng, param.shape))
        else:
            setattr(broken, "batches" if "batch_size" in inspect.signature(self.broken).parameters else "prepare", self.broken)
        return broken

    def _break_layers(self, model: Model) -> None:
        """The class of each layer that fits, in a network that is the model's own: options, parameters and paths stay as they are."""
        layers = [layer for _, layer in walk_layers(model.net)]
        fitting = {id(layer) for layer in layers if type(layer) is self.clean and self.where(layer)}
        if not fitting:
            raise ValueError(f"bug {self.name!r} breaks a layer such as {self.clean_layer()!r}, and there is none in {model.net!r}")
        for layer in layers:
            if id(layer) in fitting:
                layer.__class__ = self.broken
            elif type(layer) is Dense and id(layer.activation) in fitting and self.broken.forward is not Activation.forward:
                layer.__class__ = OpenDense               # Dense runs an activation by its rules; this one by its forward

    def _fitting(self, piece: Any) -> Any:
        if type(piece) is not self.clean:
            raise ValueError(f"bug {self.name!r} breaks {self.clean.__name__}, and the set-up has {piece!r}")
        return piece

    # How it is found.

    def setup(self, backend: Any = None, seed: int = 0) -> Setup:
        """The clean set-up of this bug's problem; `inject` breaks it."""
        return self.problem.setup(backend, seed)

    def check(self, backend: Any = None, seed: int = 0) -> Finding:
        """Run the check that finds this bug, and where that is another one the gradient check before it."""
        return self.check_setup(self.inject(self.setup(backend, seed)), seed)

    def check_setup(self, setup: Setup, seed: int = 0) -> Finding:
        """The same of any set-up of this bug's problem, broken or not."""
        data = self.problem.data(seed)
        with np.errstate(all="ignore"):                   # what overflows is the point
            found = self.finds(setup, data)
            if self.seen_by_gradient_check:
                text = f"gradient_check: {found.text}"
            else:
                verdict = self.gradient_check(setup, seed).verdict().partition(", to a relative error")[0]
                text = f"gradient_check: {verdict}\n{self.finds.__name__}: {found.text}"
        return Finding(found.caught, text)

    def gradient_check(self, setup: Setup | None = None, seed: int = 0) -> Report:
        """What gradient_check says of the set-up, by default the broken one: its whole report."""
        setup = self.inject(self.setup(seed=seed)) if setup is None else setup
        x, t = first_batch(setup, self.problem.data(seed))
        return gradient_check(setup.model, x, setup.loss, t, max_entries=16)

    def plot(self, ax: Any = None) -> Any:
        """Draw the symptom, clean against broken; computed with NumPy. Returns the Axes."""
        from ..plot.style import one_axes

        ax = one_axes(ax)
        with np.errstate(all="ignore"):
            self.draw(self, ax)
        ax.set_title(f"{self.name}\n{self.title}", fontsize=10)
        return ax

    def _repr_markdown_(self) -> str:
        """The lesson, as a notebook shows it."""
        width = max(len(self.wrong), len(self.right))
        return (f"{self.why}\n\n```python\n{self.wrong:{width}}  # wrong\n{self.right:{width}}  # right\n```\n\n"
                f"**Symptom.** {self.symptom}\n\n**Fix.** {self.fix}")

    def __repr__(self) -> str:
        return f"Bug({self.name!r}: {self.title})"


def first_batch(setup: Setup, data: Any, size: int = 8) -> tuple[Any, Any]:
    """The first samples of the training data as the network sees them, on the model's device."""
    x, _ = setup.prepare(data.x, data.x_test)
    return setup.model.asarray(x[:size]), setup.model.asarray(data.t[:size])


def for_model(optimizer: Optimizer, model: Model) -> Optimizer:
    """A copy with the same options and state, for another model."""
    again = copy.copy(optimizer)
    if optimizer.t:
        again.load_state_dict(model, optimizer.state_dict())
    else:
        again.start(model)
    return again


def _lines(broken: Any) -> dict[str, str]:
    """The one marked line of the source: {"wrong": ..., "right": ...}."""
    (found,) = _MARK.finditer(inspect.getsource(broken))
    return found.groupdict()


def bug(name: str, title: str, finds: Callable[[Setup, Any], Finding], problem: Problem, *, symptom: str, fix: str,
        draw: Callable[[Bug, Any], None], kind: str = "", clean: Any = None, where: Callable[[Any], bool] = lambda layer: True,
        make: Callable[[Any], Any] = lambda cls: cls()) -> Callable[[Any], Any]:
    """Enter the class or function that is decorated into the zoo."""
    def enter(broken: Any) -> Any:
        its_kind = kind or next(k for k, base in (("layer", Layer), ("loss", Loss), ("optimizer", Optimizer)) if issubclass(broken, base))
        its_clean = clean or next((c for c in getattr(broken, "__mro__", ()) if ".bug_zoo." not in c.__module__), None)
        BUGS[name] = Bug(name, title, its_kind, broken, its_clean, finds, problem, symptom, fix, draw, where, make)
        return broken

    return enter


def get(name: str) -> Bug:
    """A bug by its name; ValueError, with the nearest name, where there is none."""
    if name not in BUGS:
        raise unknown("bug", name, BUGS)
    return BUGS[name]


def inject(name: str, setup: Setup) -> Setup:
    """The set-up with one bug: `broken = inject("dropout-unscaled", Setup(model, loss, optimizer))`. The given one stays as it is."""
    return get(name).inject(setup)

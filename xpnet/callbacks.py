"""Callbacks: what is called after each epoch with the run. Any function of one argument is one.

A callback may also have `begin(run)`, called before the first epoch, `epoch_begin(run)`, before each, and `end(run)`, when the run is over,
by an error too.
"""

import math
from collections.abc import Callable
from typing import Any

from .errors import unknown, whole

SCORES = ("accuracy", "top_k", "precision", "recall", "f1", "r2")   # larger is better
ERRORS = ("loss", "mae", "mse", "rmse")                   # smaller is better, of all names that end so


class EarlyStopping:
    """Stop when `patience` epochs have gone by in which `monitor` has not improved on its best by more than `min_delta`.

    monitor       a column of the history; by default the validation loss, or the training loss where there is no validation data
    mode          "min", "max" or "auto": names that end in loss, mae, mse or rmse are minimised, accuracy, top_k, precision, recall, f1
                  and r2 maximised; any other name needs "min" or "max"
    restore_best  give the model the parameters of the best epoch when the run ends, however it ends
    A value that is NaN is worse than any number. Raises ValueError before the first step for a column that there will not be.
    """

    def __init__(self, monitor: str | None = None, patience: int = 10, min_delta: float = 0.0, mode: str = "auto",
                 restore_best: bool = True):
        if mode not in ("min", "max", "auto"):
            raise unknown("mode", mode, ("min", "max", "auto"))
        self.monitor, self.patience, self.min_delta = monitor, whole("EarlyStopping: patience", patience, 1), min_delta
        self.mode, self.restore_best = mode, restore_best
        self.best_epoch: int | None = None
        self.best = math.nan
        self._kept: Any = None

    def begin(self, run: Any) -> None:
        self.best_epoch, self.best, self._kept = None, math.nan, None
        self._name = self.monitor or ("val_loss" if "val_loss" in run.history else "loss")
        run.history[self._name]                           # an unknown column is an error here
        self._sign = -1.0 if self._falls(self._name) else 1.0

    def _falls(self, name: str) -> bool:
        """Is smaller better?"""
        if self.mode == "auto" and not name.endswith(ERRORS) and name.removeprefix("val_") not in SCORES:
            raise ValueError(f"EarlyStopping cannot tell whether a smaller or a larger {name!r} is better; give mode='min' or mode='max'")
        return self.mode == "min" or (self.mode == "auto" and name.endswith(ERRORS))

    def __call__(self, run: Any) -> None:
        value = run.history[self._name][-1]
        gain = self._sign * (value - self.best)
        if self.best_epoch is None or gain > self.min_delta or (math.isnan(self.best) and not math.isnan(value)):
            self.best, self.best_epoch = value, run.epoch
            if self.restore_best:
                self._kept = snapshot(run.model)
        elif run.epoch - self.best_epoch >= self.patience:
            run.stop(f"{self._name} has not improved on {self.best:.6g} (epoch {self.best_epoch + 1}) for {self.patience} "
                     f"epoch{'s' if self.patience > 1 else ''}")

    def end(self, run: Any) -> None:
        if self._kept is not None:
            restore(run.model, self._kept)


class LearningRate:
    """η from a schedule of the *epoch*: `schedule(0)` in the first, and so on. A Plateau is told the validation loss.

    When the run ends the optimizer has its own η again.
    """

    def __init__(self, schedule: Callable[[int], float]):
        self.schedule = schedule

    def begin(self, run: Any) -> None:
        self._before = run.optimizer.lr

    def epoch_begin(self, run: Any) -> None:
        run.optimizer.lr = self.schedule(run.epoch)

    def __call__(self, run: Any) -> None:
        observe(self.schedule, run.history)

    def end(self, run: Any) -> None:
        run.optimizer.lr = self._before


def check_callback(callback: Any) -> None:
    if isinstance(callback, type) or not callable(callback):
        hint = f"; write {callback.__name__}(...)" if isinstance(callback, type) else ""
        raise TypeError(f"a callback is a function of the run, or an object such as EarlyStopping(), got {callback!r}{hint}")


def observe(schedule: Any, history: Any) -> None:
    """Tell a schedule that listens what the last epoch's loss was."""
    if hasattr(schedule, "observe"):
        schedule.observe(history["val_loss" if "val_loss" in history else "loss"][-1])


def snapshot(model: Any) -> tuple[Any, ...]:
    """Copies of what a training step changes in a model; on its device, without waiting for it."""
    with model.backend:
        vectors = [model.xp.asarray(v, copy=True) for v in _vectors(model)]
        state = {buffer: model.xp.asarray(v, copy=True) for buffer, v in model.state.items()}   # a captured step writes into its arrays
    return vectors, state, model.step


def restore(model: Any, kept: tuple[Any, ...]) -> None:
    vectors, state, step = kept
    with model.backend:
        for v, value in zip(_vectors(model), vectors):
            v[...] = value
    model.state.update(state)
    model.step = step


def _vectors(model: Any) -> list[Any]:
    return [model.params] if model.mixed is None else [model.params, model.mixed.scale, model.mixed.good]

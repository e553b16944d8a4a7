"""Callbacks: what is called after each epoch with the run. Any function of one argument is one.

A callback may also have `begin(run)`, called before the first epoch, `epoch_begin(run)`, before each, and `end(run)`, after the last.
"""

import math
from collections.abc import Callable
from typing import Any

from .errors import unknown


class EarlyStopping:
    """Stop when `monitor` has not improved on its best by more than `min_delta` for `patience` epochs.

    monitor       a column of the history; by default the validation loss, or the training loss where there is no validation data
    mode          "min", "max" or "auto": a loss or an error is minimised, anything else maximised
    restore_best  give the model the parameters of the best epoch when the run ends, however it ends
    """

    def __init__(self, monitor: str | None = None, patience: int = 10, min_delta: float = 0.0, mode: str = "auto",
                 restore_best: bool = True):
        if mode not in ("min", "max", "auto"):
            raise unknown("mode", mode, ("min", "max", "auto"))
        if patience < 0:
            raise ValueError(f"EarlyStopping: patience is from 0 on, got {patience!r}")
        self.monitor, self.patience, self.min_delta, self.mode, self.restore_best = monitor, patience, min_delta, mode, restore_best
        self.best_epoch: int | None = None
        self.best = math.nan
        self._kept: Any = None

    def begin(self, run: Any) -> None:
        self.best_epoch, self.best, self._kept = None, math.nan, None

    def __call__(self, run: Any) -> None:
        name = self.monitor or ("val_loss" if "val_loss" in run.history else "loss")
        value = run.history[name][-1]
        small = self.mode == "min" or (self.mode == "auto" and name.removeprefix("val_") in ("loss", "mae", "rmse", "mse"))
        gain = (self.best - value) if small else (value - self.best)
        if self.best_epoch is None or gain > self.min_delta:
            self.best, self.best_epoch = value, run.epoch
            if self.restore_best:
                self._kept = snapshot(run.model)
        elif run.epoch - self.best_epoch > self.patience:
            run.stop(f"{name} has not improved on {self.best:.6g} (epoch {self.best_epoch + 1}) for {self.patience} epochs")

    def end(self, run: Any) -> None:
        if self._kept is not None:
            restore(run.model, self._kept)


class LearningRate:
    """η from a schedule of the *epoch*: `schedule(0)` in the first, and so on. A Plateau is told the validation loss."""

    def __init__(self, schedule: Callable[[int], float]):
        self.schedule = schedule

    def epoch_begin(self, run: Any) -> None:
        run.optimizer.lr = self.schedule(run.epoch)

    def __call__(self, run: Any) -> None:
        observe(self.schedule, run.history)


def observe(schedule: Any, history: Any) -> None:
    """Tell a schedule that listens what the last epoch's loss was."""
    if hasattr(schedule, "observe"):
        schedule.observe(history["val_loss" if "val_loss" in history else "loss"][-1])


def snapshot(model: Any) -> tuple[Any, ...]:
    """Copies of what a training step changes in a model; on its device, without waiting for it."""
    with model.backend:
        return model.xp.asarray(model.params, copy=True), dict(model.state), model.step


def restore(model: Any, kept: tuple[Any, ...]) -> None:
    params, state, step = kept
    with model.backend:
        model.params[...] = params
    model.state.update(state)
    model.step = step

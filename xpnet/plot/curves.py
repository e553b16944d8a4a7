"""Learning curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..callbacks import ERRORS
from ..train import History
from .style import Axes, epochs_along, legend, line, one_axes


def learning_curves(history: Any, columns: Sequence[str] | None = None, ax: Axes = None, log: bool = True) -> Axes:
    """Columns of a history by epoch: training loss, and validation loss where there is one.

    history  a History, or {label: History}: one colour a run, its validation columns dashed
    columns  of the history, such as ["accuracy", "val_accuracy"]; by default "loss" and "val_loss"
    log      a logarithmic axis, for losses and errors that are all positive; other columns have a linear one
    Raises TypeError for what is not a History, ValueError for a history without an epoch and for unknown columns.
    """
    runs = dict(history) if isinstance(history, Mapping) else {"": history}
    if not runs:
        raise ValueError("learning_curves got no history: {} is empty")
    for label, run in runs.items():
        if not isinstance(run, History):
            raise TypeError(f"learning_curves takes the History that fit returns, or {{label: History}}, got {type(run).__name__}")
        if not len(run):
            raise ValueError(f"the history{f' {label!r}' if label else ''} holds no epoch{f': {run.stopped}' if run.stopped else ''}")
    if isinstance(columns, str):
        columns = [columns]
    drawn = [(label, name, run["epoch"], run[name]) for label, run in runs.items()          # an unknown name is an error here
             for name in (("loss", "val_loss") if columns is None else columns) if columns is not None or name in run]
    if not drawn:
        raise ValueError("learning_curves got no columns: [] is empty")

    ax = one_axes(ax)
    bases = list(dict.fromkeys(name.removeprefix("val_") for _, name, _, _ in drawn))
    keys = list(dict.fromkeys((label, name.removeprefix("val_")) for label, name, _, _ in drawn))
    one_kind = len(runs) > 1 and not any(name.startswith("val_") for _, name, _, _ in drawn)   # then the label says it all
    for label, name, epochs, values in drawn:
        base, held_out = name.removeprefix("val_"), name.startswith("val_")
        own = line(keys.index((label, base)), len(keys))
        look = own if one_kind else line(int(held_out), 2) | ({"color": own["color"]} if len(keys) > 1 else {})
        words = label, "" if one_kind else "validation" if held_out else "training", base if len(bases) > 1 else ""
        ax.plot(epochs, values, **look, marker="o" if len(epochs) == 1 else None, label=" ".join(filter(None, words)))
    if log and all(name.endswith(ERRORS) and min(values) > 0 for _, name, _, values in drawn):
        ax.set_yscale("log")
    ax.set_ylabel(" / ".join(bases))
    epochs_along(ax)
    legend(ax, len(drawn))
    return ax

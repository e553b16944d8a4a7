"""Training: `fit` is the five-line loop with data, validation, progress and a history around it."""

import contextlib
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .callbacks import EarlyStopping, LearningRate, check_callback, observe, restore, snapshot
from .capture import captured, eager
from .data import batches as make_batches
from .data import check_finite, check_labels, count_samples
from .data.arguments import _is_array, _leaves, _map
from .errors import unknown
from .losses import Loss
from .metrics import named_metrics
from .model import Model
from .nonfinite import find_nonfinite
from .optim import Optimizer
from .progress import MeanLoss, _Bar, interruptible

__all__ = ["EarlyStopping", "History", "LearningRate", "Run", "evaluate", "fit"]

Array = Any
SNAPSHOT_SECONDS = 2.0                                    # how far back a replay may have to start
TRIAL = 256                                               # samples on which metrics are tried before the first step


class History:
    """What happened in each epoch, column by column: `history["loss"]` is a list with a number an epoch.

    Columns: epoch, loss, val_loss and val_<metric> where there is validation data, <metric> where it is of the training data, lr,
    time (seconds since the start). `stopped` says why the run ended before its last epoch; empty where it did not.
    """

    def __init__(self, columns: Sequence[str] = ("epoch", "loss", "lr", "time")) -> None:
        self.columns: dict[str, list[float]] = {name: [] for name in columns}
        self.stopped = ""

    def add(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            self.columns.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.columns:
            raise unknown("history column", name, self.columns)
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        """How many epochs were completed."""
        return len(self["epoch"])

    def to_pandas(self) -> Any:
        """The history as a pandas DataFrame, indexed by epoch."""
        try:
            import pandas
        except ImportError:
            raise ImportError("History.to_pandas needs pandas: pip install 'xpnet[examples]'") from None
        return pandas.DataFrame(self.columns).set_index("epoch")

    def __repr__(self) -> str:
        if not len(self):
            return f"History(no epoch{', ' + self.stopped if self.stopped else ''})"
        last = ", ".join(f"{name} {column[-1]:.4g}" for name, column in self.columns.items() if name != "epoch")
        return f"History({len(self)} epochs: {last}{'; ' + self.stopped if self.stopped else ''})"


class Run:
    """What a callback is given: the run so far. `stop(reason)` ends it after this epoch.

    `epoch` counts from 0 in each call of fit. The history's columns are there from the start, empty.
    """

    def __init__(self, model: Model, loss: Loss, optimizer: Optimizer, epochs: int, history: History):
        self.model, self.loss, self.optimizer, self.epochs, self.history = model, loss, optimizer, epochs, history
        self.gradient: Callable[..., Array] = functools.partial(eager, model, loss)   # of a batch: ∂L/∂θ into model.grads, and L
        self.epoch = 0

    def stop(self, reason: str) -> None:
        self.history.stopped = self.history.stopped or reason


def fit(model: Model, loss: Loss, optimizer: Optimizer, data: Any, *, validation: Any = None, epochs: int = 1,
        batch_size: int | None = 32, drop_last: bool = False, seed: int | None = None, metrics: Any = (),
        callbacks: Sequence[Callable[[Run], Any]] = (), progress: bool = True, train_metrics: bool = False,
        capture: bool = False) -> History:
    """Train: for each batch, forward, loss, backward, update. Returns the history.

    data           (x, t) or (x, t, sample weights), host or device arrays, or any iterable of such batches
    validation     (x, t) or (x, t, weights), evaluated after each epoch
    batch_size     None is batch gradient descent, 1 stochastic, k mini-batch
    drop_last      leave out an epoch's last batch where it is smaller than the others
    seed           of the order of the samples; the model's by default. The order is another in each epoch of the model (`model.epoch`),
                   so that two calls with 2 epochs see what one with 4 sees
    metrics        names such as "accuracy", or functions (y, t) -> number, or {name: function}: of the validation data; of the training
                   data where there is none, and of both with train_metrics=True. Each is tried on some samples before the first step
    callbacks      called after each epoch with the Run: EarlyStopping(), LearningRate(schedule), any function
    progress       a bar (tqdm where installed, plain lines otherwise); the loss is read from the device only when it is shown
    capture        with CuPy: record forward, loss and backward once as CUDA graphs, and replay them for each batch of the first one's
                   shape; the same numbers with less work for the host. Hyper-parameters of layers and loss (a Dropout's p, say) are
                   frozen by it; those of the optimizer are not. Where it cannot be done a RuntimeWarning says why, and training runs
                   eagerly. See xpnet/capture.py

    The loss of an epoch is the mean over its samples, each as the network was at its batch, with the weights of the loss.
    Values are checked before the first step: shapes, NaN, label range; those of an iterable batch by batch, where they are on the host.
    A loss or parameter that is not finite stops the run with a warning that names the step and layer it began in; the model is then as
    it was before that step. Ctrl-C ends after the step in hand, and returns the history so far.
    """
    _check_arguments(model, loss, optimizer, data, validation, epochs, callbacks)
    chosen = named_metrics(metrics)
    on_train = chosen if train_metrics or validation is None else {}
    if on_train and not isinstance(data, tuple):
        raise ValueError("metrics of the training data need arrays, (x, t), and data is an iterable of batches; give validation=(x, t)"
                         + (", without train_metrics" if train_metrics else ""))
    with model.backend:                                   # casts make arrays, on the model's GPU
        feed = _Feed(model, loss, data, batch_size, model.seed if seed is None else seed, drop_last)
        held_out = None if validation is None else _admit(model, loss, validation, "validation", one_class=True)
        held_out = held_out and _place(model, loss, *held_out)
    if chosen:
        _try_metrics(model, loss, held_out or feed.arrays, chosen)
    names = ["epoch", "loss", *on_train, *(() if held_out is None else (f"val_{name}" for name in ("loss", *chosen))), "lr", "time"]
    run = Run(model, loss, optimizer, epochs, History(names))
    model.link = loss.link
    if capture:
        run.gradient = captured(model, loss)
    start = time.perf_counter()
    with contextlib.ExitStack() as ends, model.backend, interruptible() as interrupted, _Bar(epochs, feed.batches, progress) as bar:
        for callback in callbacks:
            getattr(callback, "begin", _nothing)(run)
            ends.callback(getattr(callback, "end", _nothing), run)   # however the run ends
        for run.epoch in range(epochs):
            for callback in callbacks:
                getattr(callback, "epoch_begin", _nothing)(run)
            lr = optimizer.learning_rate()
            value = _train_epoch(run, feed, bar, interrupted)
            if value is None:
                break
            model.epoch += 1
            row: dict[str, float] = {"epoch": run.epoch + 1, "loss": value}
            if on_train:
                row |= _measure(model, loss, feed.arrays, on_train)
            if held_out is not None:
                row |= {f"val_{name}": v for name, v in _measure(model, loss, held_out, chosen, with_loss=True).items()}
                if not math.isfinite(row["val_loss"]):
                    run.stop(f"the validation loss became non-finite after epoch {run.epoch + 1}")
                    warnings.warn(f"fit stopped: {run.history.stopped}. Look at the validation data's scale.", RuntimeWarning, stacklevel=2)
            run.history.add(row | {"lr": lr, "time": time.perf_counter() - start})
            observe(optimizer.lr, run.history)
            bar.show_epoch(run.history)
            for callback in callbacks:
                callback(run)
            if interrupted[0]:                            # in validation, say
                run.stop("interrupted")
            if run.history.stopped:
                break
    return run.history


def _check_arguments(model: Any, loss: Any, optimizer: Any, data: Any, validation: Any, epochs: Any, callbacks: Any) -> None:
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs is a positive integer, got {epochs!r}")
    check_kinds("fit", model, loss, optimizer)
    if _is_array(data) or (isinstance(data, list) and data and all(_is_array(a) for a in data)):
        raise TypeError(f"data is a tuple of arrays, (x, t) or (x, t, sample weights), or an iterable of such batches, got "
                        f"{'a list of arrays; write (x, t)' if isinstance(data, list) else 'one array'}")
    if isinstance(data, Iterator) and epochs > 1:
        raise ValueError(f"a {type(data).__name__} can be run through once only, and epochs is {epochs}; give a list of batches, or an "
                         "object whose __iter__ starts anew")
    if validation is not None and not isinstance(validation, tuple):
        raise TypeError(f"validation is a tuple of arrays, (x, t) or (x, t, sample weights), got {type(validation).__name__}")
    for callback in callbacks:
        check_callback(callback)


def check_kinds(caller: str, model: Any, loss: Any, optimizer: Any) -> None:
    """Raise TypeError for what is no model, loss or optimizer, or is the class of one."""
    for name, value, kind in (("model", model, Model), ("loss", loss, Loss), ("optimizer", optimizer, Optimizer)):
        if not isinstance(value, kind):
            hint = f"; write {value.__name__}(...)" if isinstance(value, type) else ""
            raise TypeError(f"{caller} takes an instance of {kind.__name__} as {name}, got {value!r}{hint}")


class _Feed:
    """The training data, checked, and batch by batch on the device. Each `for` over it is the next epoch."""

    def __init__(self, model: Model, loss: Loss, data: Any, batch_size: int | None, seed: int, drop_last: bool):
        self.model, self.loss = model, loss
        self.arrays: Any = None
        self.known: dict[Any, Array] = {}                 # the network's output for the kinds of batches that have been checked
        self.again = not isinstance(data, Iterator)       # whether an epoch can be run through again
        if isinstance(data, tuple):
            self.y, self.arrays = _admit(model, loss, data, "data")
            self.cast = any(isinstance(a, np.memmap) for a in _leaves(self.arrays))
            self.batches = make_batches(self.arrays, batch_size, seed=seed, epoch=model.epoch, drop_last=drop_last, backend=model.backend)
        else:
            self.batches = make_batches(data, epoch=model.epoch)

    def __iter__(self) -> Iterator[tuple[Array, tuple[Any, ...]]]:
        """(y, batch), y of the shape that the network's output has for the batch; its numbers mean nothing."""
        for i, batch in enumerate(self.batches, start=1):
            if self.arrays is None:
                self.y, batch = _admit(self.model, self.loss, batch, f"batch {i}", one_class=True, known=self.known)
            if self.arrays is None or self.cast:
                batch = _place(self.model, self.loss, self.y, batch)
            n = batch[1].shape[0]
            if _leaves(self.y)[0].shape[0] != n:
                with self.model.backend:
                    self.y = _map(lambda y: self.model.xp.broadcast_to(y[:1, ...], (n, *y.shape[1:])), self.y)   # noqa: B023
            yield self.y, batch


def _train_epoch(run: Run, feed: _Feed, bar: _Bar, interrupted: list[bool]) -> float | None:
    """One pass over the batches. Returns the loss, None where the run has to end within it."""
    model, loss, optimizer = run.model, run.loss, run.optimizer
    optimizer.start_for(model)
    kept, kept_at, kept_batch = (snapshot(model), optimizer.state_dict()), time.perf_counter(), 0
    mean, steps = MeanLoss(model, loss), 0

    for steps, (y, (x, t, *w)) in enumerate(feed, start=1):
        value = run.gradient(x, t, *w)
        optimizer.step(model)
        with model.backend:
            mean.add(value, loss.mass(model.xp, y, t, *w or (None,)))
        if bar.due():
            so_far = mean.read()
            bar.show_loss(so_far, steps)
            if not math.isfinite(so_far):
                _stop_nonfinite(run, kept, feed, kept_batch)
                return None
            if bar.now - kept_at > SNAPSHOT_SECONDS:
                kept, kept_at, kept_batch = (snapshot(model), optimizer.state_dict()), bar.now, steps
        if interrupted[0]:
            run.stop("interrupted")
            return None
    result = mean.read()
    bar.show_loss(result, steps)
    if not math.isfinite(result):
        _stop_nonfinite(run, kept, feed, kept_batch)
        return None
    return result


def _stop_nonfinite(run: Run, kept: Any, feed: _Feed, first: int) -> None:
    """The loss or a parameter is NaN or infinite: find out where that began, leave the model as it was before, and say so."""
    where = ""
    if feed.again:
        feed.batches.epoch = run.model.epoch
        again = (batch for i, (_, batch) in enumerate(feed) if i >= first)
        where = find_nonfinite(run.model, run.loss, run.optimizer, kept, again, kept[0][2])
    if not where:
        restore(run.model, kept[0])
        run.optimizer.load_state_dict(run.model, kept[1])
        where = "since the last time that progress was read" + ("" if feed.again else
                                                                " (these batches cannot be drawn again, so the step is not known)")
    reason = f"the loss or a parameter became non-finite {where}; the model is as it was before that"
    run.stop(reason)
    warnings.warn(f"fit stopped: {reason}. Try a smaller learning rate, ClipNorm, or scaled inputs.", RuntimeWarning, stacklevel=4)


def evaluate(model: Model, loss: Loss, data: Any, metrics: Any = (), batch_size: int = 1024) -> dict[str, float]:
    """{"loss": L, metric: value, …} over all of `data` at once, in inference mode.

    data: (x, t) or (x, t, sample weights; for the loss only), host or device arrays. metrics: names or functions (y, t) -> number, or
    {name: function}.
    """
    if not isinstance(data, tuple):
        raise TypeError(f"evaluate takes (x, t) or (x, t, sample weights), got {type(data).__name__}")
    with model.backend:
        arrays = prepare(model, loss, data, "data", one_class=True)
    return _measure(model, loss, arrays, named_metrics(metrics), batch_size, with_loss=True)


def _measure(model: Model, loss: Loss, arrays: tuple[Any, ...], metrics: dict[str, Any], batch_size: int = 1024,
             with_loss: bool = False) -> dict[str, float]:
    x, *rest = arrays
    y = model.predict(x, batch_size)
    y, t, *w = _place(model, loss, y, (y, *rest))
    with model.backend:
        row = {"loss": float(loss(y, t, *w)[0])} if with_loss else {}
        if metrics and loss.ignore_index is not None and loss.takes_classes(y, t):   # nor does a metric count them
            y, t = (model.backend.to_host(a) for a in (y, t))
            kept = t != loss.ignore_index
            y, t = y[kept], t[kept]
        return row | {name: float(metric(y, t)) for name, metric in metrics.items()}


def _try_metrics(model: Model, loss: Loss, arrays: tuple[Any, ...], metrics: dict[str, Any]) -> None:
    """A metric that cannot work fails here, not after the first epoch."""
    every = max(1, arrays[1].shape[0] // TRIAL)           # all over the data: the first samples may be of one class
    some = _map(lambda a: a[::every, ...], arrays)
    for name, metric in metrics.items():
        try:
            _measure(model, loss, some, {name: metric})
        except Exception as e:
            raise ValueError(f"metric {name!r} cannot be computed of the network's output and the targets: {e}") from e


def _place(model: Model, loss: Loss, y: Array, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """(x, t[, w]) on the device, in the dtypes that the loss takes for predictions y."""
    x, t, *w = (_map(model.asarray, a) for a in arrays)
    return x, t if loss.takes_classes(y, t) else _floating(model, t), *(_floating(model, v) for v in w)


def prepare(model: Model, loss: Loss, data: Any, name: str, one_class: bool = False) -> tuple[Any, ...]:
    """(x, t) or (x, t, w) checked and cast, where they enter; changes nothing of the model.

    Checked: the number of arrays and their lengths, their backend, that values are finite, that x fits the network and t the loss, and the
    range of targets. Floating numbers are cast to the model's dtype (memory-mapped arrays later, batch by batch); 0 and 1, or counts,
    given as integers to a loss of real targets become floating.
    """
    return _admit(model, loss, data, name, one_class)[1]


def _admit(model: Model, loss: Loss, data: Any, name: str, one_class: bool = False,
           known: dict[Any, Array] | None = None) -> tuple[Array, tuple[Any, ...]]:
    """The network's output for one sample, and what `prepare` gives.

    known: outputs by kind of batch, for many batches: shapes are then checked only of a new kind, and values only of host arrays.
    """
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise ValueError(f"{name} is (x, t) or (x, t, sample weights), got "
                         f"{f'{len(data)} arrays' if isinstance(data, (tuple, list)) else type(data).__name__}")
    data = tuple(a if hasattr(a, "dtype") or isinstance(a, tuple) else np.asarray(a) for a in data)
    count_samples(data, name)
    for array, what in zip(data, ("x", "t", "sample weights")):
        _check_backend(model, array, f"{name}: {what}")
        if known is None or all(isinstance(a, np.ndarray) for a in _leaves(array)):
            check_finite(f"{name}: {what}", array)
    x, t, *w = (_cast(model, a) for a in data)
    readable = known is None or all(isinstance(a, np.ndarray) for a in _leaves(x))   # on the host, or once
    if readable and any("int" in str(a.dtype) for a in _leaves(x)):   # tokens, lengths
        model.net.check_values(_map(model.backend.to_host, x), f"{name}: x")
    kind = tuple((a.shape[1:], a.dtype) for a in _leaves((x, t)))
    y: Any = None if known is None else known.get(kind)
    new = y is None
    if new:
        y, _ = model.forward(_map(lambda a: model.asarray(a[:1, ...]), x), training=False)
        loss.check_count(y)
    labels = loss.takes_classes(y, t)
    if new:
        first = model.asarray(t[:1, ...])
        loss.check(model.xp, _map(lambda a: a[:1, ...], y), first if labels else _floating(model, first))
    if known is None or isinstance(t, np.ndarray):
        if labels:
            check_labels(loss.labels(model.backend.to_host(t)), _leaves(y)[0].shape[-1], one_class=one_class)
        else:
            loss.check_values(model.backend.to_host(t), f"{name}: t")
    if known is not None:
        known[kind] = y
    if not labels and not isinstance(t, np.memmap):
        t = _floating(model, t)
    return y, (x, t, *(_floating(model, v) for v in w))


def _check_backend(model: Model, array: Any, name: str) -> None:
    for a in array if isinstance(array, tuple) else (array,):
        if not isinstance(a, np.ndarray) and not model.backend.owns(a):
            raise TypeError(f"{name} is an array of another backend ({type(a).__module__}.{type(a).__name__}), the model's is "
                            f"{model.backend.name!r}; give host (NumPy) arrays or model.asarray(...)")


def _cast(model: Model, a: Any) -> Any:
    """Floating numbers in the model's dtype, on whichever side the array is."""
    if isinstance(a, tuple):
        return tuple(_cast(model, e) for e in a)
    if isinstance(a, np.memmap):
        return a
    if model.backend.owns(a):
        return model.asarray(a)
    return a.astype(model.dtype, copy=False) if a.dtype.kind == "f" else a


def _floating(model: Model, t: Any) -> Any:
    if isinstance(t, np.ndarray):
        return t.astype(model.dtype, copy=False)
    return model.xp.astype(t, model.params.dtype, copy=False)


def _nothing(run: Run) -> None:
    pass

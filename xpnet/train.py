"""Training: `fit` is the five-line loop with data, validation, progress and a history around it."""

import contextlib
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .backend import elementwise
from .callbacks import EarlyStopping, LearningRate, observe, restore, snapshot
from .data import batches as make_batches
from .data import check_finite, check_labels, count_samples
from .errors import unknown
from .losses import Loss
from .metrics import get_metric
from .model import Model
from .nonfinite import find_nonfinite
from .optim import Optimizer

__all__ = ["EarlyStopping", "History", "LearningRate", "Run", "evaluate", "fit"]

Array = Any
SNAPSHOT_SECONDS = 2.0                                    # how far back a replay may have to start


class History:
    """What happened in each epoch, column by column: `history["loss"]` is a list with a number an epoch.

    Columns: epoch, loss, val_loss and val_<metric> where there is validation data, <metric> where it is of the training data, lr,
    time (seconds since the start). `stopped` says why the run ended before its last epoch; empty where it did not.
    """

    def __init__(self) -> None:
        self.columns: dict[str, list[float]] = {}
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
        return len(self.columns.get("epoch", ()))

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
    """What a callback is given: the run so far. `stop(reason)` ends it after this epoch."""

    def __init__(self, model: Model, loss: Loss, optimizer: Optimizer, epochs: int):
        self.model, self.loss, self.optimizer, self.epochs = model, loss, optimizer, epochs
        self.history = History()
        self.epoch = 0

    def stop(self, reason: str) -> None:
        self.history.stopped = self.history.stopped or reason


def fit(model: Model, loss: Loss, optimizer: Optimizer, data: Any, *, validation: Any = None, epochs: int = 1,
        batch_size: int | None = 32, seed: int | None = None, metrics: Sequence[Any] = (), callbacks: Sequence[Callable[[Run], Any]] = (),
        progress: bool = True, train_metrics: bool = False) -> History:
    """Train: for each batch, forward, loss, backward, update. Returns the history.

    data           (x, t) or (x, t, sample weights), host or device arrays, or any iterable of such batches
    validation     (x, t) or (x, t, weights), evaluated after each epoch
    batch_size     None is batch gradient descent, 1 stochastic, k mini-batch
    seed           of the order of the samples; the model's by default
    metrics        names such as "accuracy", or functions (y, t) -> number, of the validation data (of the training data where there is none,
                   and of both with train_metrics=True)
    callbacks      called after each epoch with the Run: EarlyStopping(), LearningRate(schedule), any function
    progress       a bar (tqdm where installed, plain lines otherwise); the loss is read from the device only when it is shown

    Values are checked before the first step: shapes, NaN, label range. A loss that is not finite stops the run with a warning that names
    the step and layer it began in; the model is then as it was before that step. Ctrl-C ends after the step in hand, and returns the
    history so far.
    """
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs is a positive integer, got {epochs!r}")
    for name, value, kind in (("model", model, Model), ("loss", loss, Loss), ("optimizer", optimizer, Optimizer)):
        if not isinstance(value, kind):
            hint = f"; write {value.__name__}(...)" if isinstance(value, type) else ""
            raise TypeError(f"fit takes an instance of {kind.__name__} as {name}, got {value!r}{hint}")
    chosen = {_metric_name(m): get_metric(m) for m in metrics}
    arrays = prepare(model, loss, data, "data") if isinstance(data, tuple) else None
    held_out = None if validation is None else _on_device(model, prepare(model, loss, validation, "validation", one_class=True))
    order = model.seed if seed is None else seed
    train = make_batches(data) if arrays is None else make_batches(arrays, batch_size=batch_size, seed=order, backend=model.backend)
    model.link = loss.link

    run = Run(model, loss, optimizer, epochs)
    for callback in callbacks:
        getattr(callback, "begin", _nothing)(run)
    start = time.perf_counter()
    with _interruptible() as interrupted, _Bar(epochs, train, progress) as bar:
        for run.epoch in range(epochs):
            for callback in callbacks:
                getattr(callback, "epoch_begin", _nothing)(run)
            lr = optimizer.learning_rate()
            if not _train_epoch(run, train, arrays, bar, interrupted):
                break
            row: dict[str, float] = {"epoch": run.epoch + 1, "loss": bar.loss}
            if arrays is not None and (train_metrics or held_out is None):
                row |= _measure(model, None, arrays, chosen)
            if held_out is not None:
                row |= {f"val_{name}": value for name, value in _measure(model, loss, held_out, chosen).items()}
            run.history.add(row | {"lr": lr, "time": time.perf_counter() - start})
            observe(optimizer.lr, run.history)
            bar.show_epoch(run.history)
            for callback in callbacks:
                callback(run)
            if run.history.stopped:
                break
    for callback in callbacks:
        getattr(callback, "end", _nothing)(run)
    return run.history


def _train_epoch(run: Run, train: Any, arrays: Any, bar: "_Bar", interrupted: list[bool]) -> bool:
    """One pass over the batches; False where the run has to end within it."""
    model, loss, optimizer = run.model, run.loss, run.optimizer
    xp, summed = model.xp, loss.reduction.endswith("sum")
    total = model.backend.zeros((1,), model.params.dtype)
    optimizer.start_for(model)
    kept, kept_at, kept_batch = (snapshot(model), optimizer.state_dict()), time.perf_counter(), 0
    samples, epoch, steps, bar.done = 0, train.epoch, 0, 0
    on_device = arrays is not None and not any(isinstance(a, np.memmap) for a in arrays)

    for steps, batch in enumerate(train, start=1):
        x, t, *w = batch if on_device else _on_device(
            model, batch if arrays is not None else prepare(model, loss, batch, f"batch {steps}", one_class=True))
        y, backward = model.forward(x)
        value, dy = loss(y, t, *w)
        optimizer.step(model, backward(dy))

        n = t.shape[0]
        samples += n
        with model.backend:
            add_rule(xp, total, value, 1.0 if summed else float(n))
        if bar.due():
            if not math.isfinite(bar.read(total, 1 if summed else samples, steps)):
                return _stop_nonfinite(run, kept, train, arrays, epoch, kept_batch)
            if bar.now - kept_at > SNAPSHOT_SECONDS:
                kept, kept_at, kept_batch = (snapshot(model), optimizer.state_dict()), bar.now, steps
        if interrupted[0]:
            run.stop("interrupted")
            return False
    if not math.isfinite(bar.read(total, 1 if summed else samples, steps)):
        return _stop_nonfinite(run, kept, train, arrays, epoch, kept_batch)
    return True


def _stop_nonfinite(run: Run, kept: Any, train: Any, arrays: Any, epoch: int, first: int) -> bool:
    """The loss is NaN or infinite: find out where that began, leave the model as it was before, and say so."""
    where = ""
    if arrays is not None:
        train.epoch = epoch
        again = (_on_device(run.model, b) for i, b in enumerate(train) if i >= first)
        where = find_nonfinite(run.model, run.loss, run.optimizer, kept, again, kept[0][2])
    if not where:
        restore(run.model, kept[0])
        run.optimizer.load_state_dict(run.model, kept[1])
        where = "since the last time that progress was read (these batches cannot be drawn again, so the step is not known)"
    reason = f"the loss became non-finite {where}; the model is as it was before that"
    run.stop(reason)
    warnings.warn(f"fit stopped: {reason}. Try a smaller learning rate, ClipNorm, or scaled inputs.", RuntimeWarning, stacklevel=4)
    return False


def evaluate(model: Model, loss: Loss, data: Any, metrics: Sequence[Any] = (), batch_size: int = 1024) -> dict[str, float]:
    """{"loss": L, metric: value, …} over all of `data` at once, in inference mode.

    data: (x, t) or (x, t, sample weights; for the loss only), host or device arrays. metrics: names or functions (y, t) -> number.
    """
    if not isinstance(data, tuple):
        raise TypeError(f"evaluate takes (x, t) or (x, t, sample weights), got {type(data).__name__}")
    arrays = prepare(model, loss, data, "data", one_class=True)
    return _measure(model, loss, arrays, {_metric_name(m): get_metric(m) for m in metrics}, batch_size)


def _measure(model: Model, loss: Loss | None, arrays: tuple[Any, ...], metrics: dict[str, Any], batch_size: int = 1024) -> dict[str, float]:
    if loss is None and not metrics:
        return {}
    x, t, *w = arrays
    y, t, *w = _on_device(model, (model.predict(x, batch_size), t, *w))
    with model.backend:
        row = {} if loss is None else {"loss": float(loss(y, t, *w)[0])}
        return row | {name: float(metric(y, t)) for name, metric in metrics.items()}


def _on_device(model: Model, arrays: Any) -> tuple[Any, ...]:
    return tuple(_on_device(model, a) if isinstance(a, tuple) else model.asarray(a) for a in arrays)


def prepare(model: Model, loss: Loss, data: Any, name: str, one_class: bool = False) -> tuple[Any, ...]:
    """(x, t) or (x, t, w) checked and cast, where they enter; changes nothing of the model.

    Checked: the number of arrays and their lengths, their backend, that values are finite, that x fits the network and t the loss, and the
    range of labels. Floating numbers are cast to the model's dtype (memory-mapped arrays later, batch by batch); 0 and 1, or counts,
    given as integers to a loss of real targets become floating.
    """
    if len(data) not in (2, 3):
        raise ValueError(f"{name} is (x, t) or (x, t, sample weights), got {len(data)} arrays")
    data = tuple(a if hasattr(a, "dtype") or isinstance(a, tuple) else np.asarray(a) for a in data)
    count_samples(data, name)
    for array, what in zip(data, ("x", "t", "sample weights")):
        _check_backend(model, array, f"{name}: {what}")
        check_finite(f"{name}: {what}", array)
    x, t, *w = (_cast(model, a) for a in data)
    first = tuple(a[:1, ...] for a in x) if isinstance(x, tuple) else x[:1, ...]
    y, _ = model.forward(_on_device(model, first) if isinstance(x, tuple) else model.asarray(first), training=False)
    if loss.takes_classes(y, t):
        loss.check(model.xp, y, model.asarray(t[:1, ...]))
        check_labels(t, y.shape[-1], one_class=one_class)
        return x, t, *(_floating(model, v) for v in w)
    if not isinstance(t, np.memmap):
        t = _floating(model, t)
    loss.check(model.xp, y, _floating(model, model.asarray(t[:1, ...])))
    if loss.link == "sigmoid":
        _check_range(model.backend.to_host(t), name)
    return x, t, *(_floating(model, v) for v in w)


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


def _check_range(t: Any, name: str) -> None:
    low, high = float(t.min()), float(t.max())
    if low < 0.0 or high > 1.0:
        raise ValueError(f"{name}: t holds probabilities in [0, 1] for this loss, got values from {low:g} to {high:g}")


def _metric_name(metric: Any) -> str:
    return metric if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))


def _nothing(run: Run) -> None:
    pass


@elementwise(inplace=True)
def add_rule(xp: Any, total: Array, value: Array, n: float) -> None:
    """Σ of the batches' losses, on the device."""
    total += value * n


@contextlib.contextmanager
def _interruptible() -> Iterator[list[bool]]:
    """Ctrl-C is noted and acted on between two steps, so that no parameter is half updated; a second Ctrl-C acts at once."""
    flag = [False]
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = signal.getsignal(signal.SIGINT)

    def note(signum: int, frame: Any) -> None:
        if flag[0]:
            raise KeyboardInterrupt
        flag[0] = True

    signal.signal(signal.SIGINT, note)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)


class _Bar:
    """Progress, over all epochs: tqdm where it is installed, a line an epoch otherwise. Reading the loss waits for the device, so it is
    read a few times a second only."""

    def __init__(self, epochs: int, train: Any, show: bool):
        self.epochs, self.train, self.show = epochs, train, show
        self.loss = math.nan
        self.now = self.last = time.perf_counter()
        self.done = 0                                     # steps of this epoch that the bar has been told of
        self.tqdm: Any = None

    def __enter__(self) -> "_Bar":
        if self.show:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return self
            try:
                steps = self.epochs * len(self.train)
            except TypeError:                             # a generator does not know how many batches it has
                steps = None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")           # tqdm warns in a notebook without widgets
                self.tqdm = tqdm(total=steps, unit="step", file=sys.stderr, dynamic_ncols=True, leave=True)
        return self

    def __exit__(self, *exc: Any) -> None:
        if self.tqdm is not None:
            self.tqdm.close()

    def due(self) -> bool:
        self.now = time.perf_counter()
        return self.now - self.last > 0.25

    def read(self, total: Array, count: float, steps: int) -> float:
        """The mean loss so far, from the device."""
        self.loss = float(total[0]) / count
        self.last = time.perf_counter()
        if self.tqdm is not None:
            self.tqdm.set_postfix_str(f"loss {self.loss:.4g}", refresh=False)
            self.tqdm.update(steps - self.done)
            self.done = steps
        return self.loss

    def show_epoch(self, history: History) -> None:
        if not self.show:
            return
        line = f"epoch {len(history)}/{self.epochs}  " + "  ".join(
            f"{name} {column[-1]:.4g}" for name, column in history.columns.items() if name not in ("epoch", "time"))
        if self.tqdm is not None:
            self.tqdm.set_postfix_str(line.partition("  ")[2], refresh=False)
        else:
            print(f"{line}  {history['time'][-1]:.1f} s", flush=True)

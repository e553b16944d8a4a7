"""What a run shows, and how it is interrupted: the mean loss so far, a progress bar, Ctrl-C."""

import contextlib
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

from .backend import elementwise

Array = Any


@elementwise(inplace=True)
def add_rule(xp: Any, total: Array, value: Any, mass: Any) -> None:
    """Σ value · mass, on the device."""
    total += value * mass


class MeanLoss:
    """The loss of an epoch so far: Σ L m / Σ m over its batches, m = `Loss.mass`; for a sum reduction Σ L.

    Summed on the device. `read` waits for it, once.
    """

    def __init__(self, model: Any, loss: Any):
        self.model, self.summed = model, loss.reduction.endswith("sum")
        self.sums = model.backend.zeros((2,), model.params.dtype)
        self.losses, self.masses = self.sums[:1], self.sums[1:]
        self.mass = 0.0                                   # Σ m of those that the host knows: without weights it is the number of samples
        self.weighted = False

    def add(self, value: Array, mass: Any) -> None:
        with self.model.backend:
            add_rule(self.model.xp, self.losses, value, mass)
            if isinstance(mass, (int, float)):
                self.mass += mass
            else:
                add_rule(self.model.xp, self.masses, mass, 1.0)
                self.weighted = True

    def read(self) -> float:
        """NaN where a parameter is not finite."""
        model, xp = self.model, self.model.xp
        with model.backend:
            sums = self.sums if self.weighted else self.losses
            sums = xp.where(xp.all(xp.isfinite(model.params)), sums, xp.full_like(sums, math.nan))
            losses, *masses = (float(v) for v in model.backend.to_host(sums))
        if self.summed:
            return losses
        mass = self.mass + sum(masses)
        return losses / mass if mass else losses          # every weight so far is 0, and so is their loss


class _Bar:
    """Progress, over all epochs: tqdm where it is installed, a line an epoch otherwise. Reading the loss waits for the device, so it is
    read a few times a second only."""

    def __init__(self, epochs: int, batches: Any, show: bool):
        self.epochs, self.batches, self.show = epochs, batches, show
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
                steps = self.epochs * len(self.batches)
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

    def show_loss(self, loss: float, steps: int) -> None:
        """The mean loss after so many steps of this epoch."""
        self.last = time.perf_counter()
        if self.tqdm is not None:
            self.tqdm.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self.tqdm.update(steps - self.done)
            self.done = steps

    def show_epoch(self, history: Any) -> None:
        self.done = 0
        if not self.show:
            return
        line = f"epoch {len(history)}/{self.epochs}  " + "  ".join(
            f"{name} {column[-1]:.4g}" for name, column in history.columns.items() if name not in ("epoch", "time"))
        if self.tqdm is not None:
            self.tqdm.set_postfix_str(line.partition("  ")[2], refresh=False)
        else:
            print(f"{line}  {history['time'][-1]:.1f} s", flush=True)


@contextlib.contextmanager
def interruptible() -> Iterator[list[bool]]:
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

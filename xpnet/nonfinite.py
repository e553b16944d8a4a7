"""Where a loss became NaN or infinite: replay the steps since the last snapshot, and look at every array.

Training reads the loss only when progress is read, so the run is some steps past the accident when it is seen. Random numbers are a
pure function of the step and batches of the epoch, so the replay meets the same numbers.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from .backend import Random
from .callbacks import restore, snapshot
from .layer import Backward, Context, Layer, flatten


class Watch(Context):
    """A context that looks at every layer's output and at every gradient, and remembers the first that is not finite."""

    __slots__ = ("found", "path")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.path: list[str] = []
        self.found: list[str] = []

    def look(self, what: str, value: Any) -> None:
        if not self.found and not all_finite(self.xp, value):
            self.found.append(what)

    def forward(self, name: str, layer: Layer, params: dict[str, Any], x: Any) -> tuple[Any, Backward]:
        here = [*self.path, name]
        where = f"layer {'.'.join(here)} ({layer!r})"
        with self._at(here):
            y, back = super().forward(name, layer, params, x)
        self.look(f"the output of {where}", y)

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            with self._at(here):                          # a Checkpoint runs its layers again, below this path
                dx, grads = back(dy, input_grad)
            self.look(f"a gradient of {where}", (dx, *flatten(grads).values()))
            return dx, grads

        return y, backward

    @contextlib.contextmanager
    def _at(self, path: list[str]) -> Iterator[None]:
        before, self.path = self.path, path
        yield
        self.path = before

    def replay(self, site: int) -> "Watch":
        again: Any = super().replay(site)
        again.path, again.found = self.path, self.found
        return again


def find_nonfinite(model: Any, loss: Any, optimizer: Any, kept: Any, batches: Any, first_step: int) -> str:
    """Run the steps on `batches` from the snapshot `kept` until an array is not finite; say which. The model is left as it was before
    that step, the optimizer too; where every step is finite, an empty string.
    """
    restore(model, kept[0])
    optimizer.load_state_dict(model, kept[1])
    for step, (x, t, *w) in enumerate(batches, start=first_step):
        before = snapshot(model), optimizer.state_dict()
        found = _watched_step(model, loss, optimizer, x, t, w)
        if found:
            restore(model, before[0])
            optimizer.load_state_dict(model, before[1])
            return f"at training step {step + 1}, first in {found}"
    return ""


def _watched_step(model: Any, loss: Any, optimizer: Any, x: Any, t: Any, w: list[Any]) -> str:
    ctx = Watch(model._layers_xp, True, Random(model.seed, model.step), model.state)
    ctx.look("the input x", x)
    y, backward = model.run(x, ctx)
    ctx.look("the network's output", y)
    value, dy = loss(y, t, *w)
    ctx.look(f"the loss {loss!r}", value * loss.mass(model.xp, y, t, *w or (None,)))   # what an epoch's mean adds up may overflow before L
    ctx.look("∂L/∂y of the loss", dy)
    backward(dy)
    optimizer.step(model, model.grads)
    ctx.look(f"the parameters after the step of {optimizer!r}", model.params)
    return ctx.found[0] if ctx.found else ""


def all_finite(xp: Any, value: Any) -> bool:
    """Waits for the device."""
    if isinstance(value, tuple):
        return all(all_finite(xp, v) for v in value)
    if value is None or not xp.isdtype(value.dtype, "real floating"):
        return True
    return bool(xp.all(xp.isfinite(value)))

"""The laws of the contract (xpnet/layer.py) that a derivative's value does not show."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..layer import flatten
from .arrays import host, hosts, largest
from .calls import Call, Runner


def broken_laws(runner: Runner, call: Call) -> Iterator[tuple[str, str]]:
    """(array, the law that is broken)."""
    xp = runner.backend.xp
    for what, when in call.changed:
        yield what, f"{when} changes {what} (law 1)"
    y, _ = call.layer.forward(call.params, runner.arrays(call.x, call.many), runner.context(call.site))
    if any(_first_change({"y": a}, {"y": b}) for a, b in zip(call.y, hosts(y))):
        yield "y", "forward gives another y when it is called again: random numbers come from ctx.random, state from ctx.state"
    for e in y if isinstance(y, tuple) else (y,):
        if xp.isdtype(e.dtype, "real floating") and e.dtype != xp.float64:
            yield "y", f"y is {e.dtype} where x is float64 (law 6)"
    declared = list(flatten(call.params))
    for name in sorted(set(call.grads).difference(declared)):
        yield name, f"backward gives a gradient of {name!r}, which is no parameter (these are: {', '.join(declared) or 'none'})"

    def answer(input_grad: bool) -> dict[str, np.ndarray]:
        dx, grads = runner.backward(call, input_grad)
        return _named(call, hosts(dx if input_grad else None), flatten(grads, host))

    first = _named(call, call.dx, call.grads)
    if name := _first_change(first, answer(call.input_grad)):
        yield name, "backward is not repeatable: with the same dy again it gives another answer, since it accumulates, or changes " \
                    "what it closed over (law 2)"
        return
    runner.forward(call, call.params, [0.5 * a if a.dtype.kind == "f" else np.flip(a, axis=0) for a in call.x])
    if name := _first_change(first, answer(call.input_grad)):
        yield name, "backward gives another answer after another forward: what is kept on self belongs in the closure (law 3)"
        return
    if name := _first_change(call.grads, answer(False)):
        yield name, "backward(dy, input_grad=False) gives another gradient of the parameters (law 9)"


def _named(call: Call, dx: list[Any], grads: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a backward gave, by name."""
    return {**grads, **{call.x_name(i): d for i, d in enumerate(dx) if d is not None}}


def _first_change(first: dict[str, np.ndarray], again: dict[str, np.ndarray]) -> str:
    """The first array in which two answers differ, by more than the order of atomic additions explains."""
    for name, a in first.items():
        b = again.get(name)
        if b is None or a.shape != b.shape or np.max(np.abs(a - b), initial=0.0) > 1e-9 * largest(a):
            return name
    return ""

"""A mistake in one line: a layer or loss that is right but for what a function does to its gradient."""

from collections.abc import Callable
from typing import Any

from ..layer import Backward, Context, Layer
from ..layers import Dense
from ..losses import Loss

Array = Any


def spoiled(base: type[Layer], change: Callable[..., tuple[Any, dict[str, Any]]]) -> Any:
    """A class like `base` but for its backward, whose answer goes through change(dx, grads, dy, x, params, xp) -> (dx, grads).

        spoiled(Tanh, lambda dx, grads, *_: (-dx, grads))()      # a tanh whose gradient has the wrong sign
    """

    class Spoiled(base):  # type: ignore[misc, valid-type]
        def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
            y, back = super().forward(params, x, ctx)

            def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
                dx, grads = back(dy)
                return change(dx, grads, dy, x, params, ctx.xp)

            return y, backward

    Spoiled.__name__ = Spoiled.__qualname__ = f"Broken{base.__name__}"
    return Spoiled


def gradient_of(name: str, f: Callable[[Array, Array, Array, Any], Array]) -> Any:
    """A Dense with f(dW or db, dy, x, xp) in the place of the gradient of its parameter `name`."""
    return spoiled(Dense, lambda dx, grads, dy, x, params, xp: (dx, {**grads, name: f(grads[name], dy, x, xp)}))


def spoiled_loss(base: type[Loss], change: Callable[[Array, Array, Array, Any], Array]) -> Any:
    """A loss like `base()`, its gradient going through change(dy, y, t, xp)."""

    class Spoiled(base):  # type: ignore[misc, valid-type]
        def value_and_grad(self, xp: Any, y: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
            loss, dy = super().value_and_grad(xp, y, t, weights)
            return loss, change(dy, y, t, xp)

    Spoiled.__name__ = Spoiled.__qualname__ = f"Broken{base.__name__}"
    return Spoiled()

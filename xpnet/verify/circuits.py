"""Before there are networks: the chain rule on a circuit, and a unit that only adds and compares."""

from typing import Any

from ..layer import Backward, Context, Layer
from ..layers import Dense
from .bench import model_of
from .rows import Row, Source, row

Array = Any
CIRCUIT = Source("CS231n, backpropagation notes", "Karpathy, CS231n, course notes, cs231n.github.io/optimization-2")
NAND = Source("Nielsen (2015), ch. 1", "Nielsen, Neural Networks and Deep Learning, neuralnetworksanddeeplearning.com, chapter 1")


class Circuit(Layer):
    """f = q z with q = x + y, for a row (x, y, z):   ∂f/∂x = ∂f/∂q · 1 = z    ∂f/∂y = z    ∂f/∂z = q"""

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        q, z = x[:, 0:1] + x[:, 1:2], x[:, 2:3]

        def backward(df: Array, input_grad: bool = True) -> tuple[Array, dict[str, Any]]:
            return ctx.xp.concat([df * z, df * z, df * q], axis=1), {}

        return q * z, backward


def cs231n_circuit(bench: Any) -> list[Row]:
    """An addition and a multiplication, x = -2, y = 5, z = -4."""
    f, backward = Circuit()(bench.asarray([[-2.0, 5.0, -4.0]]))
    dx, _ = backward(bench.asarray([[1.0]]))
    return [row(CIRCUIT, "(x + y) z", "-12", f),
            row(CIRCUIT, "∂f/∂x ∂f/∂y ∂f/∂z", "-4 -4 3", dx)]


def nielsen_nand(bench: Any) -> list[Row]:
    """A perceptron with weights -2, -2 and bias 3 is a NAND gate: it fires where z > 0."""
    model = model_of(bench, Dense(2, 1), {"W": [[-2], [-2]], "b": [3]})
    z, _ = model.forward(bench.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    return [row(NAND, "z of a NAND gate at 00 01 10 11", "3 1 1 -1", z)]


CASES = (cs231n_circuit, nielsen_nand)

"""`python -m xpnet explain NAME`: the derivation of one step of a small network, to read or to project."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from ..layers import Dense, Dropout, Residual, Sequential
from ..losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from ..model import Model
from ..optim import SGD, Adam, Momentum
from .derive import explain
from .expression import NOTATIONS


def mazur(backend: Any, seed: int) -> tuple[Any, ...]:
    """Mazur's 2-2-2 network (2015): sigmoids, the squared error, and the most copied numbers of the web"""
    model = Model(Sequential(Dense(2, 2, "sigmoid"), Dense(2, 2, "sigmoid")), backend, "float64")
    for path, value in {"0.W": [[.15, .25], [.20, .30]], "0.b": [.35, .35], "1.W": [[.40, .50], [.45, .55]], "1.b": [.60, .60]}.items():
        model.set_param(path, np.array(value))
    return model, MeanSquaredError("half_sum"), np.array([[.05, .10]]), np.array([[.01, .99]]), SGD(.5, freeze=("*.b",))


def xor(backend: Any, seed: int) -> tuple[Any, ...]:
    """XOR, 2-2-1: binary cross-entropy on a logit, all four samples in one batch"""
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    model = Model(Sequential(Dense(2, 2, "tanh"), Dense(2, 1)), backend, "float64", seed)
    return model, BinaryCrossEntropy(), x, np.array([[0.0], [1.0], [1.0], [0.0]]), SGD(0.5)


def classes(backend: Any, seed: int) -> tuple[Any, ...]:
    """Three classes, 2-4-3: softmax cross-entropy, three samples, Adam"""
    x = np.round(np.random.default_rng(seed).standard_normal((3, 2)), 1)
    model = Model(Sequential(Dense(2, 4, "relu"), Dense(4, 3)), backend, "float64", seed)
    return model, SoftmaxCrossEntropy(), x, np.array([0, 2, 1]), Adam(0.1)


def regression(backend: Any, seed: int) -> tuple[Any, ...]:
    """Regression, 1-3-1: the mean squared error of four samples, momentum"""
    x = np.array([[-1.0], [-0.5], [0.5], [1.0]])
    return Model(Sequential(Dense(1, 3, "tanh"), Dense(3, 1)), backend, "float64", seed), MeanSquaredError(), x, x * x, Momentum(0.1)


def residual(backend: Any, seed: int) -> tuple[Any, ...]:
    """A residual block with dropout: two ways for the gradient, and a mask"""
    x = np.round(np.random.default_rng(seed).standard_normal((2, 3)), 1)
    net = Sequential(Residual(Dense(3, 3, "tanh")), Dropout(0.5), Dense(3, 1))
    return Model(net, backend, "float64", seed), MeanSquaredError(), x, np.ones((2, 1)), SGD(0.1)


EXAMPLES: dict[str, Callable[..., tuple[Any, ...]]] = {f.__name__: f for f in (mazur, xor, classes, regression, residual)}


def add_parser(subparsers: Any) -> None:
    """Register `explain`."""
    parser = subparsers.add_parser(
        "explain", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="The derivation of one training step, with its numbers.",
        epilog="networks:\n" + "\n".join(f"  {name:12} {f.__doc__}" for name, f in EXAMPLES.items()))
    parser.add_argument("network", nargs="?", default="mazur", choices=EXAMPLES, help="which network (default: mazur)")
    parser.add_argument("--out", help="a file: .html is a page with a stepper, .md Markdown, .txt text, .json the numbers")
    parser.add_argument("--notation", default="rows", choices=NOTATIONS)
    parser.add_argument("--digits", type=_from(1), default=9, help="significant digits (default: 9)")
    parser.add_argument("--seed", type=_from(0), default=0, help="of the initial weights")
    parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
    parser.set_defaults(run=run)


def _from(least: int) -> Callable[[str], int]:
    """An argument that is an integer, from `least` on."""
    def integer(text: str) -> int:
        if (number := int(text)) < least:
            raise argparse.ArgumentTypeError(f"an integer from {least} on, got {text}")
        return number
    return integer


def run(args: argparse.Namespace) -> int:
    model, loss, x, t, optimizer = EXAMPLES[args.network](args.backend, args.seed)
    e = explain(model, loss, x, t, optimizer=optimizer, notation=args.notation)
    if args.out is None:
        e.print(args.digits)
        return 0
    try:
        e.save(args.out, args.digits)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    print(f"wrote {args.out}")
    return 0

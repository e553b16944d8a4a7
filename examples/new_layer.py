"""Add a layer of your own, check its gradient, and train with it.

    python examples/new_layer.py [--backend cupy]

A layer is a `forward` that returns y and a `backward`. This one is y = x · sin(ωx), with a trained frequency ω for each feature.
"""

import argparse
from math import pi

from xpnet import Adam, Dense, Layer, MeanSquaredError, Model, Param, Sequential, fit, gradient_check
from xpnet.data import sine
from xpnet.initializers import constant

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--quick", action="store_true", help="a few epochs only, to see that it runs")
args = parser.parse_args()


class Wave(Layer):
    """y = x sin(ωx)

        ∂L/∂x = ∂L/∂y ⊙ (sin(ωx) + ωx cos(ωx))        ∂L/∂ω = Σₙ ∂L/∂y ⊙ x² cos(ωx)

    x: (n, d)    ω: (d,)
    """

    keeps_features = True

    def __init__(self, features):
        self.w = Param((features,), constant(pi / 2))

    def params(self):
        return {"w": self.w}

    def forward(self, params, x, ctx):
        xp, w = ctx.xp, params["w"]
        s, c = xp.sin(w * x), xp.cos(w * x)

        def backward(dy, input_grad=True):
            dw = xp.sum(dy * x * x * c, axis=0)
            return (dy * (s + w * x * c) if input_grad else None), {"w": dw}

        return x * s, backward


class Forgetful(Wave):
    """The same with a classic mistake: the product rule's second term is missing."""

    def forward(self, params, x, ctx):
        y, back = super().forward(params, x, ctx)

        def backward(dy, input_grad=True):
            _, grads = back(dy, input_grad)
            return dy * ctx.xp.sin(params["w"] * x), grads

        return y, backward


x, t = sine(256, noise=0.05, seed=0)
for layer in (Wave, Forgetful):
    model = Model(Sequential(Dense(1, 16), layer(16), Dense(16, 1)), backend=args.backend, seed=0)
    print(gradient_check(model, x[:8], MeanSquaredError(), t[:8]), "\n")

model = Model(Sequential(Dense(1, 16), Wave(16), Dense(16, 1)), backend=args.backend, seed=0)
history = fit(model, MeanSquaredError(), Adam(1e-2), (x, t), epochs=2 if args.quick else 100, batch_size=32, progress=False)
if not len(history):                                      # Ctrl-C in the first epoch
    raise SystemExit("interrupted before the first epoch was complete")
print(f"trained: mean squared error {history['loss'][0]:.3f} -> {history['loss'][-1]:.4f} (the noise alone is 0.0025)")

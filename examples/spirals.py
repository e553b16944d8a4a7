"""Three spirals: a network bends the plane until lines separate them. Draws the picture of the README.

    python examples/spirals.py [--backend cupy] [--out spirals.png]
"""

import argparse

import numpy as np

from xpnet import Adam, Cosine, Dense, Model, Sequential, SoftmaxCrossEntropy, fit
from xpnet.data import spirals

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--out", default=None, help="file for the picture (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="a few epochs only, to see that it runs")
args = parser.parse_args()

x, t = spirals(600, arms=3, noise=0.04, seed=0)
x_test, t_test = spirals(600, arms=3, noise=0.04, seed=1)
epochs, batch_size = (3 if args.quick else 300), 50
net = Sequential(Dense(2, 32, "tanh"), Dense(32, 32, "tanh"), Dense(32, 3))
model = Model(net, backend=args.backend, seed=0)

loss = SoftmaxCrossEntropy()
whole = model.asarray(x), model.asarray(t)
norms = []                                                # ‖∂L/∂W‖ of each layer over all data, once an epoch


def gradient_norms(run):
    y, backward = model.forward(whole[0], training=False)
    backward(loss(y, whole[1])[1])
    norms.append([float(np.linalg.norm(model.backend.to_host(model.get_grad(f"{i}.W")))) for i in range(3)])


history = fit(model, loss, Adam(Cosine(0.01, epochs * len(x) // batch_size)), (x, t), validation=(x_test, t_test), epochs=epochs,
              batch_size=batch_size, metrics=["accuracy"], callbacks=[gradient_norms], progress=False)
if not len(history):                                      # Ctrl-C in the first epoch
    raise SystemExit("interrupted before the first epoch was complete")
print(f"{model.backend.name}: {epochs} epochs in {history['time'][-1]:.1f} s, "
      f"test accuracy {100 * history['val_accuracy'][-1]:.1f} %")

if args.out:
    import matplotlib.pyplot as plt

    colours = np.array([[0.00, 0.45, 0.70], [0.90, 0.62, 0.00], [0.00, 0.62, 0.45]])   # Okabe & Ito: distinct for the colour-blind
    figure, (plane, curve, flow) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    side = np.linspace(-1.25, 1.25, 240)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    p = model.predict_proba(grid).reshape(240, 240, 3)    # each pixel is the mixture of the three colours by probability
    plane.imshow(np.clip(1.0 - 0.55 * (1.0 - p @ colours), 0, 1), extent=(-1.25, 1.25, -1.25, 1.25), origin="lower")
    for label, (marker, colour) in enumerate(zip("os^", colours)):
        points = x_test[t_test == label].T
        plane.scatter(*points, s=9, color=colour, marker=marker, edgecolors="white", linewidths=0.3, label=f"class {label}")
    plane.set(title="P(class | x) and the test data", xlabel="$x_1$", ylabel="$x_2$")
    plane.legend(loc="lower right", fontsize=7)
    curve.plot(history["epoch"], history["loss"], color=colours[0], label="training")
    curve.plot(history["epoch"], history["val_loss"], color=colours[1], linestyle="--", label="test")
    curve.set(title="Learning curve", xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    curve.legend()
    for i, style in enumerate(("-", "--", ":")):
        flow.plot(history["epoch"], [n[i] for n in norms], style, color=colours[i], linewidth=1, label=f"layer {i}")
    flow.set(title="Gradient of each layer", xlabel="epoch", ylabel=r"$\|\partial L/\partial W\|$", yscale="log")
    flow.legend()
    figure.savefig(args.out, dpi=110)
    print(f"wrote {args.out}")

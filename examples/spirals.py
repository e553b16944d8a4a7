"""Three spirals: a network bends the plane until lines separate them. Draws the picture of the README.

    python examples/spirals.py [--backend cupy] [--out spirals.png]
"""

import argparse

from xpnet import Adam, Cosine, Dense, Model, Sequential, SoftmaxCrossEntropy, fit, plot
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

recorder = plot.Recorder(x, t)                            # of each layer, over all data, once an epoch
history = fit(model, SoftmaxCrossEntropy(), Adam(Cosine(0.01, epochs * len(x) // batch_size)), (x, t), validation=(x_test, t_test),
              epochs=epochs, batch_size=batch_size, metrics=["accuracy"], callbacks=[recorder], progress=False)
if not len(history):                                      # Ctrl-C in the first epoch
    raise SystemExit("interrupted before the first epoch was complete")
print(f"{model.backend.name}: {epochs} epochs in {history['time'][-1]:.1f} s, "
      f"test accuracy {100 * history['val_accuracy'][-1]:.1f} %")

if args.out:
    import matplotlib.pyplot as plt

    figure, (plane, curve, flow) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    plot.decision_boundary(model, x_test, t_test, ax=plane).set_title("P(class | x) and the test data")
    plot.learning_curves(history, ax=curve).set(title="Learning curve", ylabel="cross-entropy (nats)")
    plot.gradient_flow(recorder, ax=flow).set_title("Gradient of each layer")
    figure.savefig(args.out, dpi=110)
    print(f"wrote {args.out}")

"""Handwritten digits, 8 x 8 pixels: a first network on real data.

    python examples/digits.py [--backend cupy] [--seeds 5]

Protocol: stratified 80/20 split with seed 0, the last epoch, mean and worst over the seeds of training; nothing is chosen by looking at
the test data (sizes and dropout were chosen on splits of the training part).
"""

import argparse

from xpnet import Adam, Cosine, Dense, Dropout, Model, Sequential, SoftmaxCrossEntropy, evaluate, fit
from xpnet.data import load, split
from xpnet.metrics import confusion_matrix

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--seeds", type=int, default=1, help="how many seeds to train from")
parser.add_argument("--quick", action="store_true", help="one epoch only, to see that it runs")
args = parser.parse_args()

x, t = load("digits")                                     # (1797, 64) pixels from 0 to 16, and the digits
x_train, x_test, t_train, t_test = split(x / 16.0, t, test=0.2, seed=0, stratify=t)
epochs, batch_size = (1 if args.quick else 60), 64
steps = epochs * -(-len(x_train) // batch_size)

loss = SoftmaxCrossEntropy()
accuracies = []
for seed in range(args.seeds):
    net = Sequential(Dropout(0.1), Dense(64, 256, "relu", init="he_normal"), Dropout(0.3), Dense(256, 128, "relu", init="he_normal"),
                     Dense(128, 10))
    model = Model(net, backend=args.backend, seed=seed)
    history = fit(model, loss, Adam(Cosine(3e-3, steps)), (x_train, t_train), epochs=epochs, batch_size=batch_size,
                  progress=args.seeds == 1)
    if not len(history):                                  # Ctrl-C in the first epoch
        raise SystemExit("interrupted before the first epoch was complete")
    result = evaluate(model, loss, (x_test, t_test), metrics=["accuracy"])
    accuracies.append(result["accuracy"])
    print(f"seed {seed}: {model.backend.name}, {epochs} epochs in {history['time'][-1]:.1f} s, training loss {history['loss'][-1]:.4f}, "
          f"test accuracy {100 * result['accuracy']:.2f} %")

if args.seeds > 1:
    print(f"test accuracy: mean {100 * sum(accuracies) / len(accuracies):.2f} %, worst {100 * min(accuracies):.2f} % of {args.seeds} seeds")
print("\nrows: the digit, columns: what the network said")
print(confusion_matrix(model.predict(x_test), t_test, 10))

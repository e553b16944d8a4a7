"""MNIST with the networks of LeCun, Bottou, Bengio & Haffner (1998): 784-300-10, or 784-1000-10 with --hidden 1000.

    python examples/mnist.py --data FOLDER [--backend cupy] [--seeds 5]

FOLDER holds the four IDX files (gzipped or not); without --data they are downloaded once. LeCun et al. report 4.7 % test error for the
first and 4.5 % for the second. Same layer sizes here; what has changed since is the recipe: ReLU, He's initialisation, dropout, Adam with
a cosine schedule, softmax cross-entropy. Protocol: MNIST's own split, the last epoch, mean and worst over the seeds.
"""

import argparse

from xpnet import Adam, Cosine, Dense, Dropout, Model, Sequential, SoftmaxCrossEntropy, evaluate, fit
from xpnet.data import mnist

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--data", default=None, help="folder with the IDX files")
parser.add_argument("--seeds", type=int, default=1, help="how many seeds to train from")
parser.add_argument("--hidden", type=int, default=300, help="hidden units: 300, or 1000 as in the paper's larger network")
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--save", default=None, help="file for the trained model (.npz)")
parser.add_argument("--quick", action="store_true", help="one epoch on 2,000 images, to see that it runs")
args = parser.parse_args()

PUBLISHED = {300: "4.7 %", 1000: "4.5 %"}

x_train, t_train, x_test, t_test = mnist(args.data)
x_train, x_test = x_train.astype("float32") / 255.0, x_test.astype("float32") / 255.0
epochs, batch_size = args.epochs, 128
if args.quick:
    x_train, t_train, x_test, t_test, epochs = x_train[:2000], t_train[:2000], x_test[:1000], t_test[:1000], 1
steps = epochs * -(-len(x_train) // batch_size)

loss = SoftmaxCrossEntropy()
errors = []
for seed in range(args.seeds):
    net = Sequential(Dropout(0.1), Dense(784, args.hidden, "relu", init="he_normal"), Dropout(0.3), Dense(args.hidden, 10))
    model = Model(net, backend=args.backend, seed=seed)
    history = fit(model, loss, Adam(Cosine(2e-3, steps)), (x_train, t_train), epochs=epochs, batch_size=batch_size)
    if not len(history):                                  # Ctrl-C in the first epoch
        raise SystemExit("interrupted before the first epoch was complete")
    error = 100 * (1 - evaluate(model, loss, (x_test, t_test), metrics=["accuracy"])["accuracy"])
    errors.append(error)
    print(f"seed {seed}: {model.backend.name}, {epochs} epochs in {history['time'][-1]:.1f} s, training loss {history['loss'][-1]:.4f}, "
          f"test error {error:.2f} %")

print(f"784-{args.hidden}-10: test error mean {sum(errors) / len(errors):.2f} %, worst {max(errors):.2f} % of {args.seeds} seed(s); "
      f"LeCun et al. (1998): {PUBLISHED.get(args.hidden, 'not given')}")
if args.save:
    model.save(args.save)

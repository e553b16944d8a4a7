"""MNIST with a small convolutional network, against LeNet-5's 0.95 % test error (LeCun, Bottou, Bengio & Haffner, 1998; no distortions).

    python examples/mnist_cnn.py --data FOLDER [--backend cupy] [--out mnist_cnn.png]

FOLDER holds the four IDX files (gzipped or not); without --data they are downloaded once. Like LeNet-5 two convolutions, each followed by
subsampling, and two dense layers. What has changed since is the recipe: ReLU, max pooling, more channels, He's initialisation, dropout,
Adam with a cosine schedule, softmax cross-entropy. As in the figure of 1998 no distorted images are added.
Protocol: MNIST's own split, the last epoch, mean and worst over the seeds.
"""

import argparse

from xpnet import Adam, Conv2D, Cosine, Dense, Dropout, Flatten, MaxPool2D, Model, ReLU, Sequential, SoftmaxCrossEntropy, fit, plot
from xpnet.data import mnist

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--data", default=None, help="folder with the IDX files")
parser.add_argument("--seeds", type=int, default=1, help="how many seeds to train from")
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--save", default=None, help="file for the trained model (.npz)")
parser.add_argument("--out", default=None, help="file for a picture of the filters and of what is misread (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="one epoch on 500 images, to see that it runs")
args = parser.parse_args()

x_train, t_train, x_test, t_test = mnist(args.data)
x_train, x_test = (x.reshape(-1, 1, 28, 28).astype("float32") / 255.0 for x in (x_train, x_test))
epochs, batch_size = args.epochs, 64
if args.quick:
    x_train, t_train, x_test, t_test, epochs = x_train[:500], t_train[:500], x_test[:200], t_test[:200], 1
steps = epochs * -(-len(x_train) // batch_size)


def network():
    """28 x 28 → 24 x 24 → 12 x 12 → 8 x 8 → 4 x 4. ReLU after the pool gives what it gives before it, at a quarter of the work."""
    return Sequential(Conv2D(1, 16, 5, init="he_normal"), MaxPool2D(2), ReLU(),
                      Conv2D(16, 32, 5, init="he_normal"), MaxPool2D(2), ReLU(),
                      Flatten(), Dropout(0.4), Dense(512, 128, "relu", init="he_normal"), Dropout(0.4), Dense(128, 10))


errors = []
for seed in range(args.seeds):
    model = Model(network(), backend=args.backend, seed=seed)
    history = fit(model, SoftmaxCrossEntropy(), Adam(Cosine(2e-3, steps)), (x_train, t_train), epochs=epochs, batch_size=batch_size)
    if not len(history):                                  # Ctrl-C in the first epoch
        raise SystemExit("interrupted before the first epoch was complete")
    read = model.predict_classes(x_test)
    errors.append(100 * float((read != t_test).mean()))
    print(f"seed {seed}: {model.backend.name}, {model.layout.size:,} parameters, {epochs} epochs in {history['time'][-1]:.1f} s, "
          f"training loss {history['loss'][-1]:.4f}, test error {errors[-1]:.2f} %")

print(f"test error mean {sum(errors) / len(errors):.2f} %, worst {max(errors):.2f} % of {args.seeds} seed(s); LeNet-5 (1998): 0.95 %")
if args.save:
    model.save(args.save)

if args.out:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained", width_ratios=(1, 1.2))
    W = model.backend.to_host(model.get_param("0.W"))
    plot.weights(W.reshape(25, 16), ax=left, shape=(5, 5), columns=4).set_title("The 16 filters of the first convolution")
    plot.misclassified(x_test[:, 0], read, t_test, ax=right)
    figure.savefig(args.out, dpi=110)
    print(f"wrote {args.out}")

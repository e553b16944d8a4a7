"""An autoencoder against principal components: the same images through the same number of codes.

    python examples/autoencoder.py [--data FOLDER] [--code 8] [--backend cupy] [--out autoencoder.png]

Without --data scikit-learn's 8 x 8 digits and 8 codes; with it MNIST (FOLDER holds the four IDX files, gzipped or not) and 32 codes. Of
all linear maps to k codes and back, the one onto the first k principal components has the smallest squared error on the training images.
The network's maps are not linear: x → code → x̂, each with two hidden layers of ReLU, trained on |x̂ - x|² alone.
Protocol: digits are split 80/20 with seed 0, MNIST has its own split; the last epoch; the error is the mean over the pixels of held-out
images, pixels from 0 to 1. The sizes for the digits were chosen on a part of their training images.
"""

import argparse

import numpy as np
from sklearn.decomposition import PCA

from xpnet import Adam, Cosine, Dense, MeanSquaredError, Model, Sequential, evaluate, fit
from xpnet.data import load, mnist, split

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--data", default=None, help="folder with MNIST's IDX files, to train on them")
parser.add_argument("--code", type=int, default=None, help="size of the code (8, or 32 for MNIST)")
parser.add_argument("--epochs", type=int, default=None, help="150, or 20 for MNIST")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", default=None, help="file for a picture of images and what is left of them (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="one epoch on 500 images, to see that it runs")
args = parser.parse_args()

if args.data is None:
    x, t = load("digits")                                 # (1797, 64) pixels from 0 to 16, and the digits
    x_train, x_test, t_train, t_test = split((x / 16.0).astype("float32"), t, test=0.2, seed=0, stratify=t)
    k, hidden, epochs, batch_size = args.code or 8, (256, 64), args.epochs or 150, 64
else:
    x_train, _, x_test, t_test = mnist(args.data)
    x_train, x_test = x_train.astype("float32") / 255.0, x_test.astype("float32") / 255.0
    k, hidden, epochs, batch_size = args.code or 32, (512, 128), args.epochs or 20, 128
if args.quick:
    x_train, x_test, t_test, epochs = x_train[:500], x_test[:200], t_test[:200], 1

d, steps = x_train.shape[1], epochs * -(-len(x_train) // batch_size)
encoder = Sequential(Dense(d, hidden[0], "relu", init="he_normal"), Dense(hidden[0], hidden[1], "relu", init="he_normal"),
                     Dense(hidden[1], k))
decoder = Sequential(Dense(k, hidden[1], "relu", init="he_normal"), Dense(hidden[1], hidden[0], "relu", init="he_normal"),
                     Dense(hidden[0], d, "sigmoid"))
model = Model(Sequential(encoder, decoder), backend=args.backend, seed=args.seed)
loss, optimizer = MeanSquaredError(), Adam(Cosine(3e-3 if args.data is None else 1e-3, steps))
history = fit(model, loss, optimizer, (x_train, x_train), epochs=epochs, batch_size=batch_size)
if not len(history):                                      # Ctrl-C in the first epoch
    raise SystemExit("interrupted before the first epoch was complete")

pca = PCA(k, random_state=0).fit(x_train)
linear = pca.inverse_transform(pca.transform(x_test))
ours, theirs = evaluate(model, loss, (x_test, x_test))["loss"], float(np.mean((linear - x_test) ** 2))
print(f"{d} pixels, {k} codes, {len(x_train):,} training images; {model.backend.name}, {epochs} epochs in {history['time'][-1]:.1f} s")
print(f"squared error of held-out images: autoencoder {ours:.5f}, PCA {theirs:.5f}, ratio {ours / theirs:.2f}")

if args.out:
    import matplotlib.pyplot as plt

    side, rows = round(d ** 0.5), {"image": x_test, f"PCA, {k} codes": linear, f"autoencoder, {k} codes": model.predict(x_test)}
    chosen = [int(np.flatnonzero(t_test == digit)[0]) for digit in range(10)]
    figure, grid = plt.subplots(3, 10, figsize=(10, 3.4), layout="constrained")
    for axes, (name, images) in zip(grid, rows.items()):
        for ax, i in zip(axes, chosen):
            ax.imshow(images[i].reshape(side, side), cmap="gray_r", vmin=0.0, vmax=1.0)
            ax.set(xticks=[], yticks=[])
        axes[0].set_title(name, loc="left", fontsize=10)
    figure.savefig(args.out, dpi=110)
    print(f"wrote {args.out}")

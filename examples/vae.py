"""A variational autoencoder of MNIST's digits: a network that draws new ones. Kingma & Welling (2014)

    python examples/vae.py --data FOLDER [--backend cupy] [--out vae.png]

FOLDER holds the four IDX files (gzipped or not); without --data they are downloaded once.

    encoder   x → [μ | s], the normal distribution of the codes z of an image           Dense layers
    sample    z = μ + e^(s/2) ε, ε drawn from N(0, 1)                                    Reparametrize
    decoder   z → logits, of the probability that each pixel is black                    Dense layers
    loss      -ln p(x|z) + KL(N(μ, e^s) ‖ N(0, 1)), in nats an image                     ELBO

Bits: a pixel is black with its grey value as probability (Salakhutdinov & Murray, 2008), drawn anew in each epoch for training, and once,
from seed 0, for the test. Protocol: MNIST's own split, the last epoch; the bound is the mean over the test images and --draws codes of
each.
"""

import argparse

import numpy as np

from xpnet import ELBO, Adam, Context, Cosine, Dense, Identity, Model, Parallel, Reparametrize, Sequential, fit
from xpnet.backend import Random
from xpnet.data import mnist

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--data", default=None, help="folder with the IDX files")
parser.add_argument("--code", type=int, default=20, help="size of the code z")
parser.add_argument("--hidden", type=int, default=400, help="hidden units of each of the four hidden layers")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--draws", type=int, default=5, help="codes drawn for each test image")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--save", default=None, help="file for the trained model (.npz)")
parser.add_argument("--out", default=None, help="file for a picture of new digits and of reconstructions (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="one epoch on 500 images, to see that it runs")
args = parser.parse_args()

grey_train, _, grey_test, _ = mnist(args.data)
epochs, batch_size = args.epochs, 128
if args.quick:
    grey_train, grey_test, epochs = grey_train[:500], grey_test[:200], 1


def bits(grey, rng):
    """1 with the grey value, out of 255, as probability."""
    return (255.0 * rng.random(grey.shape, dtype="float32") < grey).astype("float32")


class Epochs:
    """The training images in batches: each epoch in a new order, with new bits."""

    def __init__(self, grey, seed):
        self.grey, self.rng, self.starts = grey, np.random.default_rng(seed), range(0, len(grey), batch_size)

    def __len__(self):
        return len(self.starts)

    def __iter__(self):
        order = self.rng.permutation(len(self.grey))
        for start in self.starts:
            x = bits(self.grey[order[start:start + batch_size]], self.rng)
            yield x, x                                    # the target is the image itself


d, k, h = grey_train.shape[1], args.code, args.hidden
encoder = Sequential(Dense(d, h, "relu", init="he_normal"), Dense(h, h, "relu", init="he_normal"), Dense(h, 2 * k))
decoder = Sequential(Dense(k, h, "relu", init="he_normal"), Dense(h, h, "relu", init="he_normal"), Dense(h, d))
net = Sequential(encoder, Parallel(Sequential(Reparametrize(k), decoder), Identity()))   # x → (logits, [μ | s])
model = Model(net, backend=args.backend, seed=args.seed)
loss, batches = ELBO(), Epochs(grey_train, args.seed)
history = fit(model, loss, Adam(Cosine(1e-3, epochs * len(batches))), batches, epochs=epochs)
if not len(history):                                      # Ctrl-C in the first epoch
    raise SystemExit("interrupted before the first epoch was complete")

x_test = bits(grey_test, np.random.default_rng(0))
bound = recon = 0.0
for draw in range(args.draws):                            # in a training context, where codes are drawn and not their means
    for start in range(0, len(x_test), 1000):
        part = x_test[start:start + 1000]
        x, share = model.asarray(part), len(part) / len(x_test) / args.draws
        y, _ = model.run(x, Context(model.xp, training=True, random=Random(args.seed + 1, draw * len(x_test) + start), state=model.state))
        bound += share * float(loss(y, x)[0])
        recon += share * float(loss.reconstruction(y[0], x)[0])
print(f"{d}-{h}-{h}-{k}-{h}-{h}-{d}, {model.layout.size:,} parameters; {model.backend.name}, {epochs} epochs, {history['time'][-1]:.1f} s, "
      f"training {history['loss'][-1]:.2f} nats")
print(f"negative ELBO of {len(x_test):,} test images: {bound:.2f} nats an image (reconstruction {recon:.2f}, divergence "
      f"{bound - recon:.2f})")
if args.save:
    model.save(args.save)

if args.out:
    import matplotlib.pyplot as plt

    generator = Model(decoder, backend=args.backend)      # the decoder alone, with what it has learned
    for path in generator.paths():
        generator.set_param(path, model.get_param(f"1.0.1.{path}"))
    generator.link = "sigmoid"
    z = np.random.default_rng(args.seed).standard_normal((100, k)).astype("float32")
    probability = 0.5 + 0.5 * np.tanh(0.5 * model.predict(x_test[:50])[0])   # σ(logit), which overflows nowhere
    pairs = np.stack([x_test[:50].reshape(5, 10, d), probability.reshape(5, 10, d)], axis=1)
    figure, axes = plt.subplots(1, 2, figsize=(11, 5.7), layout="constrained")
    for ax, images, title in ((axes[0], generator.predict_proba(z), "New digits: the decoder's probabilities for codes drawn from N(0, 1)"),
                              (axes[1], pairs, "Test images, and below each its reconstruction")):
        tiles = images.reshape(10, 10, 28, 28).transpose(0, 2, 1, 3).reshape(280, 280)
        ax.imshow(tiles, cmap="gray_r", vmin=0.0, vmax=1.0)
        ax.set_title(title, fontsize=10)
        ax.axis("off")
    figure.savefig(args.out, dpi=110)
    print(f"wrote {args.out}")

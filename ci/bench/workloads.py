"""What is timed: ten training steps (and W9, a forward pass), with initial weights and batches that are the same for every peer.

A batch comes with other labels each time, a fifth of them random, so that nothing can be learnt by heart and the loss stays above zero.
"""

import dataclasses

import numpy as np

BATCHES = 16


@dataclasses.dataclass(frozen=True)
class Workload:
    """kind: "dense", "cnn", "lstm" or "transformer"; sizes of a dense network; burst: steps that are timed at once."""

    what: str
    kind: str
    batch: int
    burst: int
    sizes: tuple = ()
    activation: str = "relu"
    loss: str = "softmax"
    optimizer: str = "adam"
    train: bool = True
    labels: int = 509                                     # sets of labels, times BATCHES
    warmup: int = 2000                                    # steps before the first time


WORKLOADS = {
    "W1": Workload("2-8-1 tanh, BCE on logits, SGD", "dense", 4, 400, (2, 8, 1), "tanh", "binary", "sgd"),
    "W2": Workload("64-128-64-10 ReLU, softmax-CE, Adam", "dense", 32, 150, (64, 128, 64, 10)),
    "W3": Workload("784-256-128-10, Adam", "dense", 128, 20, (784, 256, 128, 10)),
    "W4": Workload("784-2048-2048-10, Adam", "dense", 512, 1, (784, 2048, 2048, 10), labels=31, warmup=400),
    "W5": Workload("8-64-64-1 tanh, MSE, momentum", "dense", 64, 200, (8, 64, 64, 1), "tanh", "mse", "momentum"),
    "W6": Workload("conv3x3(16) pool2 conv3x3(32) pool2 dense 10, Adam", "cnn", 64, 3),
    "W7": Workload("LSTM, 50 steps, 32 to 128, last state to 10, Adam", "lstm", 32, 2),
    "W8": Workload("transformer, 4 blocks, d 128, 4 heads, context 64, AdamW", "transformer", 16, 1, labels=7, warmup=400),
    "W9a": Workload("forward of W3", "dense", 1, 2000, (784, 256, 128, 10), train=False),
    "W9b": Workload("forward of W3", "dense", 128, 60, (784, 256, 128, 10), train=False),
    "W9c": Workload("forward of W3", "dense", 10000, 1, (784, 256, 128, 10), train=False, warmup=100),
    "W10": Workload("W3's network, plain SGD", "dense", 1, 150, (784, 256, 128, 10), optimizer="sgd"),
}
RATES = {"sgd": 0.01, "momentum": 0.01, "adam": 1e-3, "adamw": 1e-3}
LSTM = {"time": 50, "inputs": 32, "units": 128, "classes": 10}
TRANSFORMER = {"blocks": 4, "features": 128, "heads": 4, "context": 64, "tokens": 65}


def data(w: Workload):
    """x (BATCHES, batch, ...), t (labels · BATCHES, batch, ...) and the initial weights, {name: array}; step i takes x[i], t[i], around."""
    return {"dense": dense, "cnn": cnn, "lstm": lstm, "transformer": transformer}[w.kind](w, np.random.default_rng(0))


def noisy(rng, t, classes, sets):
    """Sets of labels for each batch, a fifth of each set random."""
    t = t[np.arange(sets * BATCHES) % BATCHES]
    return np.where(rng.random(t.shape) < 0.2, rng.integers(0, classes, t.shape), t)


def normal(rng, *shape, scale=1.0):
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def dense(w, rng):
    x = normal(rng, BATCHES, w.batch, w.sizes[0])
    scores = x @ rng.standard_normal((w.sizes[0], max(2, w.sizes[-1])))
    weights = {}
    for i, (a, b) in enumerate(zip(w.sizes, w.sizes[1:])):
        weights |= {f"{i}.W": normal(rng, a, b, scale=np.sqrt(2 / a)), f"{i}.b": np.zeros(b, np.float32)}
    if w.loss == "mse":
        t = np.sin(scores[..., :1])[np.arange(w.labels * BATCHES) % BATCHES]
        return x, (t + 0.2 * rng.standard_normal(t.shape)).astype(np.float32), weights
    t = noisy(rng, scores.argmax(-1), max(2, w.sizes[-1]), w.labels)
    return x, (t[..., None].astype(np.float32) if w.loss == "binary" else t), weights


def cnn(w, rng):
    x = normal(rng, BATCHES, w.batch, 1, 28, 28)
    t = noisy(rng, (x.reshape(BATCHES, w.batch, -1) @ rng.standard_normal((784, 10))).argmax(-1), 10, w.labels)
    weights = {"0.W": normal(rng, 3, 3, 1, 16, scale=0.3), "0.b": np.zeros(16, np.float32),
               "1.W": normal(rng, 3, 3, 16, 32, scale=0.1), "1.b": np.zeros(32, np.float32),
               "2.W": normal(rng, 800, 10, scale=0.05), "2.b": np.zeros(10, np.float32)}
    return x, t, weights


def lstm(w, rng):
    time, d, k, classes = LSTM.values()
    x = normal(rng, BATCHES, w.batch, time, d)
    t = noisy(rng, (x[:, :, -1] @ rng.standard_normal((d, classes))).argmax(-1), classes, w.labels)
    weights = {"0.W": normal(rng, d, 4 * k, scale=0.1), "0.U": normal(rng, k, 4 * k, scale=0.08), "0.b": np.zeros(4 * k, np.float32),
               "1.W": normal(rng, k, classes, scale=0.1), "1.b": np.zeros(classes, np.float32)}
    return x, t, weights


def transformer(w, rng):
    blocks, d, _, context, tokens = TRANSFORMER.values()
    x = rng.integers(0, tokens, (BATCHES, w.batch, context))
    t = noisy(rng, (7 * x + 3) % tokens, tokens, w.labels)

    def affine(name, a, b):
        return {f"{name}.W": normal(rng, a, b, scale=0.05), f"{name}.b": np.zeros(b, np.float32)}

    weights = {"embedding": normal(rng, tokens, d, scale=0.1), "positions": normal(rng, context, d, scale=0.1)}
    for i in range(blocks):
        weights |= {k: v for name, a, b in (("q", d, d), ("k", d, d), ("v", d, d), ("o", d, d), ("up", d, 4 * d), ("down", 4 * d, d))
                    for k, v in affine(f"{i}.{name}", a, b).items()}
    return x, t, weights | affine("out", d, tokens)

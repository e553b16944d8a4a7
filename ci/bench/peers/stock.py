"""xpnet as users call it: Model, stock layers, a stock optimizer."""

import importlib.metadata

from workloads import LSTM as RECURRENT
from workloads import RATES, TRANSFORMER

from xpnet import (
    LSTM,
    SGD,
    Adam,
    AdamW,
    BinaryCrossEntropy,
    Conv2D,
    Decoder,
    DecoderBlock,
    Dense,
    Embedding,
    Flatten,
    LayerNorm,
    LearnedPositions,
    MaxPool2D,
    MeanSquaredError,
    Model,
    Momentum,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
)

version = importlib.metadata.version("xpnet")
LOSSES = {"softmax": SoftmaxCrossEntropy, "binary": BinaryCrossEntropy, "mse": MeanSquaredError}
OPTIMIZERS = {"sgd": SGD, "momentum": Momentum, "adam": Adam}


def network(w):
    """The layers, and {path in the model: name of the initial weights}."""
    if w.kind == "dense":
        last = len(w.sizes) - 2
        layers = [Dense(a, b, w.activation if i < last else None) for i, (a, b) in enumerate(zip(w.sizes, w.sizes[1:]))]
        return layers, {f"{i}.{p}": f"{i}.{p}" for i in range(len(layers)) for p in "Wb"}
    if w.kind == "cnn":                                   # max is monotone: ReLU after the pool gives the same numbers for less work
        layers = [Conv2D(1, 16, 3), MaxPool2D(2), ReLU(), Conv2D(16, 32, 3), MaxPool2D(2), ReLU(), Flatten(), Dense(800, 10)]
        return layers, {f"{i}.{p}": f"{j}.{p}" for j, i in enumerate((0, 3, 7)) for p in "Wb"}
    if w.kind == "lstm":
        _, d, k, classes = RECURRENT.values()
        return [LSTM(d, k, last=True), Dense(k, classes)], {p: p for p in ("0.W", "0.U", "0.b", "1.W", "1.b")}
    blocks, d, heads, context, tokens = TRANSFORMER.values()
    layers = [Embedding(tokens, d), LearnedPositions(context, d), Decoder(*(DecoderBlock(d, heads) for _ in range(blocks))), LayerNorm(d),
              Dense(d, tokens)]
    paths = {"0.W": "embedding", "1.P": "positions", "4.W": "out.W", "4.b": "out.b"}
    for i in range(blocks):
        paths |= {f"2.{i}.attention.{p}{name}": f"{i}.{name}.{p}" for name in "qkvo" for p in "Wb"}
        paths |= {f"2.{i}.mlp.{j}.{p}": f"{i}.{name}.{p}" for j, name in enumerate(("up", "down")) for p in "Wb"}
    return layers, paths


def make(w, x, t, weights, threads):
    layers, paths = network(w)
    model = Model(Sequential(*layers), backend="numpy")
    for path, name in paths.items():
        model.set_param(path, weights[name])
    if not w.train:
        return lambda i: model.forward(x[i % len(x)], training=False)[0]
    loss_fn = LOSSES[w.loss]()
    optimizer = AdamW(1e-3) if w.kind == "transformer" else OPTIMIZERS[w.optimizer](RATES[w.optimizer])

    def step(i):
        y, backward = model.forward(x[i % len(x)])
        loss, dy = loss_fn(y, t[i % len(t)])
        optimizer.step(model, backward(dy))
        return loss

    return step

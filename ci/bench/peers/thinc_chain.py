"""Thinc on NumPy: layers chained by closures, as xpnet's are."""

import numpy as np
import thinc
from thinc.api import Adam, CategoricalCrossentropy, Linear, Relu, Softmax, chain, use_ops
from workloads import RATES

version = thinc.__version__


def make(w, x, t, weights, threads):
    if w.kind != "dense" or w.loss != "softmax" or w.optimizer != "adam":
        return None
    with use_ops("numpy"):
        last = Softmax if w.train else Linear             # the forward pass alone is compared in its logits
        layers = [(last if i == len(w.sizes) - 2 else Relu)(b, a) for i, (a, b) in enumerate(zip(w.sizes, w.sizes[1:]))]
        net = chain(*layers)
        net.initialize()
    for i, layer in enumerate(layers):
        layer.set_param("W", np.ascontiguousarray(weights[f"{i}.W"].T))
        layer.set_param("b", weights[f"{i}.b"])
    if not w.train:
        return lambda i: net.predict(x[i % len(x)])
    loss_fn, optimizer = CategoricalCrossentropy(normalize=True), Adam(RATES["adam"], grad_clip=0.0, L2=0.0, eps=1e-8)
    eye = np.eye(w.sizes[-1], dtype=np.float32)

    def step(i):
        y, backward = net.begin_update(x[i % len(x)])
        labels = t[i % len(t)]
        dy = loss_fn.get_grad(y, eye[labels])
        backward(dy)
        net.finish_update(optimizer)
        return -np.mean(np.log(y[np.arange(len(y)), labels]))

    return step

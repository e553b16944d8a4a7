"""autograd (Maclaurin, Duvenaud & Adams): NumPy traced by its own functions."""

import importlib.metadata

import autograd.numpy as np
from autograd import value_and_grad
from workloads import RATES

version = importlib.metadata.version("autograd")


def make(w, x, t, weights, threads):
    if w.kind != "dense":
        return None
    last, rows = len(w.sizes) - 2, np.arange(w.batch)

    def net(p, x):
        for i in range(last + 1):
            x = np.dot(x, p[f"{i}.W"]) + p[f"{i}.b"]
            if i < last:
                x = np.maximum(x, 0.0) if w.activation == "relu" else np.tanh(x)
        return x

    if not w.train:
        return lambda i: net(weights, x[i % len(x)])

    def loss_of(p, x, t):
        y = net(p, x)
        if w.loss == "mse":
            return np.mean((y - t) ** 2)
        if w.loss == "binary":
            return np.mean(np.maximum(y, 0.0) - t * y + np.log1p(np.exp(-np.abs(y))))
        y = y - np.max(y, axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(y), axis=1)) - y[rows, t])

    value_and_gradient, lr = value_and_grad(loss_of), RATES[w.optimizer]
    m, v = ({k: np.zeros_like(p) for k, p in weights.items()} for _ in range(2))
    count = [0]

    def step(i):
        loss, grads = value_and_gradient(weights, x[i % len(x)], t[i % len(t)])
        count[0] += 1
        c1, c2 = 1 - 0.9 ** count[0], (1 - 0.999 ** count[0]) ** 0.5
        for k, g in grads.items():
            if w.optimizer == "adam":
                m[k] += 0.1 * (g - m[k])
                v[k] += 0.001 * (g * g - v[k])
                g = c2 / c1 * m[k] / (np.sqrt(v[k]) + 1e-8 * c2)
            elif w.optimizer == "momentum":
                m[k] = g = 0.9 * m[k] + g
            weights[k] -= lr * g
        return loss

    return step

"""JAX on the CPU: loss, gradient and update as one function under jit, its arguments donated."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
from workloads import RATES, TRANSFORMER

version = jax.__version__


def affine(p, name, x):
    return x @ p[f"{name}.W"] + p[f"{name}.b"]


def dense(w, p, x):
    f = {"relu": jax.nn.relu, "tanh": jnp.tanh}[w.activation]
    for i in range(len(w.sizes) - 2):
        x = f(affine(p, str(i), x))
    return affine(p, str(len(w.sizes) - 2), x)


def cnn(w, p, x):
    x = jnp.transpose(x, (0, 2, 3, 1))
    for i in "01":
        x = jax.lax.conv_general_dilated(x, p[f"{i}.W"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + p[f"{i}.b"]
        x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return affine(p, "2", jnp.transpose(x, (0, 3, 1, 2)).reshape(x.shape[0], -1))


def lstm(w, p, x):
    k = p["0.U"].shape[0]
    z = jnp.transpose(affine(p, "0", x), (1, 0, 2))

    def step(state, z):
        h, c = state
        i, f, g, o = jnp.split(z + h @ p["0.U"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    start = jnp.zeros((x.shape[0], k), x.dtype)
    (h, _), _ = jax.lax.scan(step, (start, start), z)
    return affine(p, "1", h)


def norm(x, p=None, name=""):
    x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * p[f"{name}.gamma"] + p[f"{name}.beta"]


def transformer(w, p, x):
    blocks, d, heads, context, _ = TRANSFORMER.values()
    n = x.shape[0]
    later = jnp.triu(jnp.full((context, context), -1e30), 1)
    x = p["embedding"][x] + p["positions"]
    for i in range(blocks):
        h = norm(x, p, f"{i}.norm1")
        q, k, v = (affine(p, f"{i}.{name}", h).reshape(n, context, heads, -1).transpose(0, 2, 1, 3) for name in "qkv")
        a = jax.nn.softmax(q @ k.transpose(0, 1, 3, 2) / (d / heads) ** 0.5 + later) @ v
        x = x + affine(p, f"{i}.o", a.transpose(0, 2, 1, 3).reshape(n, context, d))
        x = x + affine(p, f"{i}.down", jax.nn.gelu(affine(p, f"{i}.up", norm(x, p, f"{i}.norm2")), approximate=False))
    return affine(p, "out", norm(x, p, "norm"))


def loss_of(w, y, t):
    if w.loss == "mse":
        return jnp.mean((y - t) ** 2)
    if w.loss == "binary":
        return jnp.mean(jnp.maximum(y, 0) - t * y + jnp.log1p(jnp.exp(-jnp.abs(y))))
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(y), t[..., None], axis=-1))


def make(w, x, t, weights, threads):
    net = {"dense": dense, "cnn": cnn, "lstm": lstm, "transformer": transformer}[w.kind]
    if w.kind == "transformer":
        d = TRANSFORMER["features"]
        names = ["norm", *(f"{i}.norm{j}" for i in range(TRANSFORMER["blocks"]) for j in (1, 2))]
        weights = weights | {f"{n}.gamma": jnp.ones(d) for n in names} | {f"{n}.beta": jnp.zeros(d) for n in names}
    p, x, t = {k: jnp.asarray(v) for k, v in weights.items()}, [jnp.asarray(b) for b in x], [jnp.asarray(b) for b in t]
    if not w.train:
        forward = jax.jit(lambda p, x: net(w, p, x))
        return lambda i: forward(p, x[i % len(x)]).block_until_ready()
    name = "adamw" if w.kind == "transformer" else w.optimizer
    lr, tree = RATES[name], jax.tree_util.tree_map

    def step(p, m, v, count, x, t):
        loss, g = jax.value_and_grad(lambda p: loss_of(w, net(w, p, x), t))(p)
        if name == "sgd":
            return tree(lambda p, g: p - lr * g, p, g), m, v, count, loss
        if name == "momentum":
            m = tree(lambda m, g: 0.9 * m + g, m, g)
            return tree(lambda p, m: p - lr * m, p, m), m, v, count, loss
        count = count + 1
        m, v = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g), tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 - 0.9 ** count, jnp.sqrt(1 - 0.999 ** count)
        decay = 1 - lr * 0.01 if name == "adamw" else 1.0
        return tree(lambda p, m, v: decay * p - lr * c2 / c1 * m / (jnp.sqrt(v) + 1e-8 * c2), p, m, v), m, v, count, loss

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    zeros = tree(jnp.zeros_like, p)
    state = [p, zeros, tree(jnp.zeros_like, p), jnp.zeros(())]

    def run(i):
        *state[:], loss = step(*state, x[i % len(x)], t[i % len(t)])
        return loss.block_until_ready()

    return run

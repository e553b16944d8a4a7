"""Convolution and pooling, by hand."""

from collections.abc import Iterator

import numpy as np

from ...layers import Conv1D, Conv2D, MaxPool2D
from ..derivation import Derivation, explained, model_of
from ..draw import Draw
from ..functions import LayerTask, Probe
from ..question import Question, topic


@topic("convolution", "A convolution and its three gradients")
def convolution(q: Question, draw: Draw) -> None:
    k, n = draw.of((2, 3)), 5
    x, w, b = draw.integers(n), draw.numbers(k), draw.number(0.1, 0.9)
    places = n - k + 1
    dz = draw.numbers(places)
    e = explained(Conv1D(1, 1, k, init=w[:, None, None], bias_init=[b]), x[None, None], dz[None, None], checks=False)
    z, dw, db, dx = (np.reshape(e[name], (-1,)) for name in ("z", "∂L/∂W", "∂L/∂b", "∂L/∂x"))
    U = np.stack([x[p:p + k] for p in range(places)])
    T = np.stack([np.concatenate([np.zeros(p), w, np.zeros(n - k - p)]) for p in range(places)])
    forward = Derivation({"U": U, "w": w[:, None], "b": b}, "z = U @ w + b", title="Forward: each window of x is a row of U")
    backward = Derivation({"U": U, "dz": dz[:, None], "T": T}, "dw = U.T @ dz", "db = total(dz)", "dx = T.T @ dz", title="Backward", notes={
        "dx": "T has the kernel in each row, one place further on: z is also Tx + b. An x in several windows gets a gradient from each"})
    q.say(f"A convolution with one channel moves a kernel of {k} weights along a signal of {n} numbers, without padding: "
          "zₚ = Σᵢ wᵢ xₚ₊ᵢ + b. The gradient that comes back is $dz$.")
    q.given(x=x, w=w, b=b, dz=dz)
    q.ask("z", z, "What is $z$?", mistakes={
        "the kernel is flipped: what networks call a convolution is a correlation": np.convolve(x, w, "valid") + b, "b is missing": z - b})
    q.ask("dw", dw, "What is $dw$?", mistakes={"the order is reversed": dw[::-1], "a mean over the places, where it is a sum": dw / places})
    q.ask("db", db.item(), "What is $db$?", mistakes={"a mean over the places, where it is a sum": dz.mean()})
    q.ask("dx", dx, "What is $dx$?", mistakes={
        "the kernel is the wrong way round: what xₚ₊ᵢ gets from place p is wᵢ times its gradient": np.convolve(dz, w[::-1])})
    q.solve(forward)
    q.solve(backward)
    q.remark("$dx$ is the convolution of $dz$ with the flipped kernel, over all places where the two overlap.")

    def probes(rng: np.random.Generator) -> Iterator[Probe]:
        for n, c, length, out, size in ((1, 1, 5, 1, 2), (2, 3, 6, 2, 3), (3, 2, 4, 3, 1), (2, 1, 3, 4, 3)):
            yield Probe(Conv1D(c, out, size), rng.standard_normal((n, c, length)))

    q.function(LayerTask("backward(dz, x, W, b)  ->  dx, dW, db     # x: (n, c, length), W: (size, c, k), b: (k,), z: (n, k, places)\n"
                         "layer(x, W, b)  ->  z, backward           # with backward(dz) -> dx, dW, db", probes, {"W": "W", "b": "b"}, "z"))


@topic("max-pool", "Max pooling, and where its gradient goes")
def max_pool(q: Question, draw: Draw) -> None:
    x = draw.integers(4, 4, low=-9, high=9)
    x[2:, 2:] = np.maximum(x[2:, 2:], x[2:, 2:].T)        # a tie, often
    dy = draw.numbers(2, 2)
    e = explained(MaxPool2D(2), x[None, None], dy[None, None], checks=False)
    y, dx = e["y"][0, 0], e["∂L/∂x"][0, 0]

    def rows(a: np.ndarray) -> np.ndarray:
        """Each window of 2 x 2 as a row."""
        return np.reshape(np.swapaxes(np.reshape(a, (2, 2, 2, 2)), 1, 2), (4, 4))

    U = rows(x)
    first = np.asarray(np.arange(4) == np.argmax(U, axis=1)[:, None], dtype=np.float64)
    spread, among = np.kron(dy, np.ones((2, 2))), x == np.kron(y, np.ones((2, 2)))
    q.say("Max pooling takes the largest number of each window of 2 × 2; windows do not overlap. Of several largest numbers the first, row "
          "by row, is taken as the maximum. The gradient that comes back is $dy$.")
    q.given(x=x, dy=dy)
    q.ask("y", y, "What is $y$?", mistakes={"the mean of each window, where it is the largest number": np.reshape(U.mean(axis=1), (2, 2))})
    mistakes = {"only the maximum of a window has an influence, and a gradient": spread,
                "the gradient is not shared out: all of it goes to the maximum": spread / 4.0}
    if among.sum() > 4:
        mistakes["of equal maxima only the first gets the gradient"] = spread * among
    q.ask("dx", dx, "What is $dx$?", mistakes=mistakes)
    q.solve(Derivation({"U": U}, "y = max_k(U)", title="Forward: each window is a row of U"))
    q.solve(Derivation({"M": first, "dy": np.reshape(dy, (4, 1))}, "dU = dy * M", title="Backward", notes={
        "dU": "M is 1 at the maximum of each window; in dx each number of ∂L/∂U stands where its x stands"}))

    def probes(rng: np.random.Generator) -> Iterator[Probe]:
        for shape in ((1, 1, 2, 2), (2, 3, 4, 6), (3, 1, 6, 4)):
            yield Probe(MaxPool2D(2), rng.standard_normal(shape))

    q.function(LayerTask("backward(dy, x, y)  ->  dx        # windows 2 x 2; x: (n, c, height, width), both even\n"
                         "layer(x)  ->  y, backward          # with backward(dy) -> dx", probes))


@topic("convolution-counting", "The size and the cost of a convolution")
def counting(q: Question, draw: Draw) -> None:
    c, k, size = draw.of((1, 3, 6)), draw.integer(4, 12), draw.integer(10, 20)
    kernel, stride, padding = draw.of((3, 5)), draw.of((1, 2)), draw.of((0, 1, 2))
    layer = Conv2D(c, k, kernel, stride=stride, padding=padding)
    out = layer.out_size((size, size))[0]
    q.need(out != size)
    rest = (size + 2 * padding - kernel) % stride
    derived = Derivation({"c": c, "k": k, "s": stride, "f": kernel, "h": size, "p": padding, "r": rest}, "o = (h + 2 * p - f - r) / s + 1",
                         "P = f ** 2 * c * k + k", "F = o ** 2 * k * f ** 2 * c", title="Of one image", notes={
                             "o": "the first place, and one for each stride that is left; r is what does not fill a stride"})
    q.say(f"A convolution takes images of {size} × {size} with {c} channel{'s' * (c > 1)} to {k} channels. Its kernels are "
          f"{kernel} × {kernel}, its stride is {stride}, and its padding is {padding} zeros on each side.")
    q.ask("places", out, "How many places has a row of the result?", exact=True, mistakes={
        "the first place is missing": out - 1, "this is the size of the image": size})
    q.ask("parameters", model_of(layer).layout.size, "How many parameters are there, with a bias for each output channel?", exact=True,
          mistakes={"the biases are missing": kernel ** 2 * c * k,
                    "the weights are the same at every place": out ** 2 * kernel ** 2 * c * k + k})
    q.ask("multiplications", derived["F"], "How many multiplications has the forward pass of one image?", exact=True,
          mistakes={"this is one place; the result has many": kernel ** 2 * c * k})
    q.solve(derived)

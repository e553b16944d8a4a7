"""LeNet-5 as LeCun, Bottou, Bengio & Haffner (1998) describe it (section II.B, table I, eq. 9), on MNIST: 0.95 % test error there.

    python examples/lenet5.py --data FOLDER [--backend cupy] [--out lenet5.png]

FOLDER holds the four IDX files (gzipped or not); without --data they are downloaded once. As in the paper:

    input  32 x 32, the digit in the middle; paper is -0.1 and ink 1.175, so that mean and variance are about 0 and 1
    C1     6 maps 28 x 28, windows 5 x 5                                     156 parameters
    S2     6 maps 14 x 14: w · (sum of 2 x 2) + b for each map                12
    C3     16 maps 10 x 10, windows 5 x 5 of the maps that table I names   1,516
    S4     16 maps 5 x 5, as S2                                               32
    C5     120 maps 1 x 1, windows 5 x 5                                  48,120
    F6     84 units                                                       10,164
    output 10 units: the squared distance of F6 to a fixed bitmap of each digit, 7 x 12 of ±1; the nearest is what is read

each but the last followed by 1.7159 tanh(2a/3), and weights drawn from U(-2.4/F, 2.4/F), F the unit's number of inputs. The loss is eq. 9,
L = y_t + log(e^-j + Σᵢ e^-yᵢ), which is softmax cross-entropy over the outputs -yᵢ and an eleventh, -j, for what is no digit.
What differs: the bitmaps are drawn here (the paper has them as a picture, figure 3); j, which it leaves open, is 10; and in the place of
the stochastic diagonal Levenberg-Marquardt method, on single images, stands Adam with a cosine schedule on batches, for as many epochs, 20.
"""

import argparse

import numpy as np

from xpnet import (
    Activation,
    Adam,
    AvgPool2D,
    Buffer,
    Conv2D,
    Cosine,
    Dense,
    Flatten,
    Layer,
    Model,
    Param,
    Sequential,
    SoftmaxCrossEntropy,
    fit,
    gradient_check,
    plot,
)
from xpnet.data import mnist
from xpnet.initializers import fans

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--data", default=None, help="folder with the IDX files")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--save", default=None, help="file for the trained model (.npz)")
parser.add_argument("--out", default=None, help="file for a picture of the filters and of what is misread (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="one epoch on 500 images, to see that it runs")
args = parser.parse_args()

# Table I: which of the 6 maps of S2 (rows) each of the 16 maps of C3 (columns) sees.
TABLE = """
    X . . . X X X . . X X X X . X X
    X X . . . X X X . . X X X X . X
    X X X . . . X X X . . X . X X X
    . X X X . . X X X X . . X . X X
    . . X X X . . X X X X . X X . X
    . . . X X X . . X X X X . X X X"""
# The outputs' bitmaps, after figure 3.
BITMAPS = """
    .......  .......  .......  .......  .......  .......  .......  .......  .......  .......
    ..###..  ...##..  ..###..  ..###..  ....##.  ######.  ..####.  ######.  ..###..  ..###..
    .#...#.  ..###..  .#...#.  .#...#.  ...###.  #......  .##....  ######.  .#...#.  .#...#.
    #.....#  .#.##..  #.....#  #....#.  ..#.##.  #......  ##.....  .....##  #.....#  #.....#
    #.....#  ...##..  ......#  .....#.  .#..##.  #......  #......  .....#.  #.....#  #.....#
    #.....#  ...##..  .....#.  ...##..  .#..##.  #.###..  #.###..  ....##.  .#...#.  #.....#
    #.....#  ...##..  ....#..  ....##.  #...##.  ##...#.  ##...#.  ....#..  ..###..  .#...##
    #.....#  ...##..  ...#...  .....##  #######  .....##  #.....#  ...##..  .#...#.  ..###.#
    #.....#  ...##..  ..#....  ......#  ....##.  .....##  #.....#  ...#...  #.....#  .....##
    #.....#  ...##..  .#.....  #.....#  ....##.  #....##  #.....#  ..##...  #.....#  .....#.
    .#...#.  ...##..  #......  .#...#.  ....##.  ##..##.  .#...#.  ..##...  .#...#.  ....##.
    ..###..  .######  #######  ..###..  ....##.  ..###..  ..###..  ..##...  ..###..  .###..."""
mask = np.array([[c == "X" for c in row.split()] for row in TABLE.split("\n") if row], dtype=float)
bitmaps = np.array([[[1.0 if c == "#" else -1.0 for c in digit] for digit in row.split()] for row in BITMAPS.split("\n") if row])
codes = np.moveaxis(bitmaps, 1, -1).reshape(84, 10)       # column i: digit i
RUBBISH = 10.0                                            # j of eq. 9


class ScaledTanh(Activation):
    """f(a) = A tanh(S a), A = 1.7159, S = 2/3        f' = S (A - f²/A)

    f(±1) = ±1 where |f''| is largest, so targets of ±1 lie within its range, where it still learns (paper, appendix A).
    """

    saves = "output"

    def f(self, xp, x):
        return 1.7159 * xp.tanh((2.0 / 3.0) * x)

    def df(self, xp, dy, y):
        return dy * ((2.0 / 3.0) * (1.7159 - y * y * (1.0 / 1.7159)))


class Subsampling(Layer):
    """z[n, c, p, q] = w_c s + b_c,  s = Σ_{i,j} x[n, c, 2p + i, 2q + j] over 2 x 2

        ∂L/∂w_c = Σ ∂L/∂z s        ∂L/∂b_c = Σ ∂L/∂z        ∂L/∂x[n, c, 2p + i, 2q + j] = w_c ∂L/∂z[n, c, p, q]
    """

    def __init__(self, channels):
        self.pool = AvgPool2D(2)
        self.w = Param((channels,), lambda rng, shape: rng.uniform(-2.4 / 4, 2.4 / 4, shape))
        self.b = Param((channels,), "zeros", bias=True)

    def params(self):
        return {"w": self.w, "b": self.b}

    def forward(self, params, x, ctx):
        xp = ctx.xp
        mean, back = self.pool.forward({}, x, ctx)
        s, w = 4.0 * mean, params["w"][:, None, None]

        def backward(dz, input_grad=True):
            grads = {"w": xp.sum(dz * s, axis=(0, 2, 3)), "b": xp.sum(dz, axis=(0, 2, 3))}
            return (back(4.0 * w * dz)[0] if input_grad else None), grads

        return w * s + params["b"][:, None, None], backward


class PartialConv2D(Conv2D):
    """Conv2D with W ⊙ m: map k sees map c where m[c, k] = 1.  ∂L/∂W = m ⊙ (that of Conv2D)"""

    def __init__(self, mask, kernel_size, activation):
        super().__init__(*mask.shape, kernel_size, activation, init=lambda rng, shape: rng.uniform(-1.0, 1.0, shape) * 2.4 / (
            kernel_size ** 2 * mask.sum(axis=0)))
        self.mask = Buffer((1, 1, *mask.shape), mask[None, None])

    def buffers(self):
        return {"mask": self.mask}

    def forward(self, params, x, ctx):
        m = ctx.state[self.mask]
        y, back = super().forward({**params, "W": m * params["W"]}, x, ctx)

        def backward(dy, input_grad=True):
            dx, grads = back(dy, input_grad)
            return dx, {**grads, "W": m * grads["W"]}

        return y, backward


class Distances(Layer):
    """-yᵢ = -Σⱼ (xⱼ - cⱼᵢ)² for each code c, a column, and -j as the last;  ∂L/∂x = Σᵢ 2 (cᵢ - x) ∂L/∂(-yᵢ)

    x: (n, d)    c: (d, k)    result: (n, k + 1)
    Σⱼ (xⱼ - cⱼ)² = Σⱼ xⱼ² - 2 Σⱼ xⱼ cⱼ + Σⱼ cⱼ²: one product for all codes.
    """

    def __init__(self, codes):
        self.codes = Buffer(codes.shape, codes)

    def buffers(self):
        return {"codes": self.codes}

    def forward(self, params, x, ctx):
        xp, c = ctx.xp, ctx.state[self.codes]
        y = xp.sum(x * x, axis=1, keepdims=True) - 2.0 * (x @ c) + xp.sum(c * c, axis=0)

        def backward(dy, input_grad=True):
            dy = dy[:, :-1]                               # the last is a constant
            return (2.0 * (dy @ c.T - xp.sum(dy, axis=1, keepdims=True) * x) if input_grad else None), {}

        return xp.concat([-y, xp.full((x.shape[0], 1), -RUBBISH, dtype=x.dtype, device=x.device)], axis=1), backward


def uniform(rng, shape):
    """U(-2.4/F, 2.4/F)"""
    limit = 2.4 / fans(shape)[0]
    return rng.uniform(-limit, limit, shape)


f = ScaledTanh()
net = Sequential(Conv2D(1, 6, 5, f, init=uniform), Subsampling(6), f,                  # C1, S2
                 PartialConv2D(mask, 5, f), Subsampling(16), f,                        # C3, S4
                 Conv2D(16, 120, 5, f, init=uniform), Flatten(),                       # C5
                 Dense(120, 84, f, init=uniform), Distances(codes))                    # F6, output

x_train, t_train, x_test, t_test = mnist(args.data)


def images(x):
    return np.pad(x.reshape(-1, 1, 28, 28), ((0, 0), (0, 0), (2, 2), (2, 2))).astype("float32") * (1.275 / 255.0) - 0.1


x_train, x_test = images(x_train), images(x_test)
epochs, batch_size = args.epochs, 32
if args.quick:
    x_train, t_train, x_test, t_test, epochs = x_train[:500], t_train[:500], x_test[:200], t_test[:200], 1
steps = epochs * -(-len(x_train) // batch_size)

model = Model(net, backend=args.backend, seed=args.seed)
unused = int((1 - mask).sum()) * 25
print(f"{model.layout.size - unused:,} trained parameters (60,000 in the paper), and {unused:,} weights of C3 that table I leaves out")
print(f"the gradients of its layers: {'right' if gradient_check(model, x_train[:2], SoftmaxCrossEntropy(), t_train[:2]).ok else 'WRONG'}")
history = fit(model, SoftmaxCrossEntropy(), Adam(Cosine(4e-3, steps)), (x_train, t_train), epochs=epochs, batch_size=batch_size)
if not len(history):                                      # Ctrl-C in the first epoch
    raise SystemExit("interrupted before the first epoch was complete")
read = model.predict(x_test)[:, :10].argmax(axis=1)
print(f"{model.backend.name}, {epochs} epochs in {history['time'][-1]:.1f} s, training loss {history['loss'][-1]:.4f}, "
      f"test error {100 * (read != t_test).mean():.2f} %; LeCun et al. (1998): 0.95 %")
if args.save:
    model.save(args.save)

if args.out:
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained", width_ratios=(1, 1, 1.1))
    plot.weights(codes, ax=left, shape=(12, 7), columns=5).set_title("What F6 is compared with")
    W = model.backend.to_host(model.get_param("0.W"))
    plot.weights(W.reshape(25, 6), ax=middle, shape=(5, 5), columns=3).set_title("The 6 filters of C1")
    plot.misclassified((x_test[:, 0, 2:-2, 2:-2] + 0.1) / 1.275, read, t_test, ax=right)
    figure.savefig(args.out, dpi=110)
    print(f"wrote {args.out}")

"""The whole training loop written out: what `fit` does, without `fit`.

    python examples/by_hand.py [--backend cupy]

Two moons, two hidden layers: forward, loss, backward, update, and again. Then the delta recursion itself, with plain arrays.
"""

import argparse

from xpnet import Dense, Model, Momentum, Sequential, SoftmaxCrossEntropy
from xpnet.data import batches, moons, split
from xpnet.metrics import accuracy

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--quick", action="store_true", help="two epochs only, to see that it runs")
args = parser.parse_args()

x, t = moons(1000, noise=0.15, seed=0)
x_train, x_test, t_train, t_test = split(x, t, test=0.2, seed=0, stratify=t)

net = Sequential(Dense(2, 16, "tanh"), Dense(16, 16, "tanh"), Dense(16, 2))
model = Model(net, backend=args.backend, seed=0)
xp = model.xp
loss_fn = SoftmaxCrossEntropy()
optimizer = Momentum(0.1, momentum=0.9)
train = model.asarray(x_train), model.asarray(t_train)    # to the device, once

for epoch in range(2 if args.quick else 40):
    for x, t in batches(train, batch_size=32, seed=0, epoch=epoch):
        y, backward = model.forward(x)                    # forward pass; the closures keep what backward needs
        loss, dy = loss_fn(y, t)                          # L and ∂L/∂y
        grads = backward(dy)                              # the delta recursion, from the last layer to the first
        optimizer.step(model, grads)                      # θ ← θ - η v
    if epoch % 10 == 0:
        print(f"epoch {epoch + 1:2}: loss of the last batch {float(loss):.4f}, "
              f"largest gradient {float(xp.max(xp.abs(model.get_grad('0.W')))):.4f}")

y = model.predict(x_test)
print(f"test accuracy {100 * float(accuracy(y, t_test)):.1f} %")

# The third of those four lines by hand: the delta recursion of a two-layer network.
net = Sequential(Dense(2, 8, "tanh"), Dense(8, 2))
model = Model(net, backend=args.backend, dtype="float64", seed=1)
x, t = model.asarray(x_train[:5]), model.asarray(t_train[:5])
W1, b1, W2, b2 = (model.get_param(path) for path in model.paths())

a1 = xp.tanh(x @ W1 + b1)                                 # forward
z2 = a1 @ W2 + b2
_, dz2 = loss_fn(z2, t)                                   # δ₂ = (softmax(z₂) - t)/n
dW2, db2 = a1.T @ dz2, xp.sum(dz2, axis=0)
dz1 = (dz2 @ W2.T) * (1.0 - a1 * a1)                      # δ₁ = (δ₂ W₂ᵀ) ⊙ (1 - a₁²)
dW1, db1 = x.T @ dz1, xp.sum(dz1, axis=0)

y, backward = model.forward(x)
backward(loss_fn(y, t)[1])
for path, mine in zip(model.paths(), (dW1, db1, dW2, db2)):
    difference = float(xp.max(xp.abs(mine - model.get_grad(path))))
    print(f"∂L/∂{path}: by hand and by the library differ by at most {difference:.1e}")

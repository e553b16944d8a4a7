"""XOR: the smallest problem that one layer cannot solve, and two can.

    python examples/xor.py [--backend cupy] [--seeds 20]

A single neuron draws one straight line, and no line separates (0,1), (1,0) from (0,0), (1,1). Eight tanh units bend the plane first.
"""

import argparse

from xpnet import SGD, BinaryCrossEntropy, Dense, Model, Momentum, Sequential, fit
from xpnet.data import xor

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--seeds", type=int, default=1, help="how many seeds to train from")
parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it runs")
args = parser.parse_args()

x, t = xor()
steps = 50 if args.quick else 2000
solved = 0
for seed in range(args.seeds):
    model = Model(Sequential(Dense(2, 8, "tanh"), Dense(8, 1)), backend=args.backend, seed=seed)
    # Four samples in one batch: batch gradient descent, an epoch is a step.
    history = fit(model, BinaryCrossEntropy(), Momentum(0.1), (x, t), epochs=steps, batch_size=None, progress=False)
    if not len(history):                                  # Ctrl-C in the first epoch
        raise SystemExit("interrupted before the first epoch was complete")
    loss = history["loss"][-1]
    solved += loss < 0.05
    print(f"seed {seed}: loss {history['loss'][0]:.3f} -> {loss:.4f} after {steps} steps")

print("\n x1  x2   target   P(1)")
for (x1, x2), target, p in zip(x, t[:, 0], model.predict_proba(x)[:, 0]):
    print(f"{x1:3.0f} {x2:3.0f} {target:8.0f} {p:6.3f}")
print(f"\nsolved (loss < 0.05) for {solved} of {args.seeds} seeds")

# One layer is a line: it stays at ln 2 = 0.693, the loss of a coin.
line = Model(Sequential(Dense(2, 1)), backend=args.backend)
history = fit(line, BinaryCrossEntropy(), SGD(0.5), (x, t), epochs=steps, batch_size=None, progress=False)
if not len(history):                                      # Ctrl-C in the first epoch
    raise SystemExit("interrupted before the first epoch was complete")
print(f"one layer without hidden units: loss {history['loss'][-1]:.4f} (ln 2 = 0.6931)")

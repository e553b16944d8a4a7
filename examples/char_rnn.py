"""A character language model of one recurrent layer, on the text of Python's own help pages, with sampling.

    python examples/char_rnn.py [--backend cupy] [--epochs 10] [--out bits.png]

The training text is laid out in 32 streams that run side by side, 64 characters a step. The state is carried from step to step, so that
the network has read what came before; the gradient ends at the step's first character (truncated backpropagation through time). The loop
is written out: the state goes in with the characters and comes out with the logits.

Bits per character on a held-out tenth of the text, beside an interpolated 5-gram with Witten-Bell smoothing, counted on the same training
part. Another tenth is for watching the training; nothing is chosen by looking at the held-out part.
"""

import argparse
import math
import time

import numpy as np

from xpnet import LSTM, Adam, ClipNorm, Cosine, Dense, Dropout, Embedding, History, Model, SoftmaxCrossEntropy, Stacked
from xpnet.data.text import Characters, in_parts, ngram_bits, python_text, write

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--hidden", type=int, default=256, help="hidden units of the LSTM")
parser.add_argument("--length", type=int, default=400, help="how many characters to write at the end")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", default=None, help="file for the picture of the learning curve (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="a small network and text, to see that it runs")
args = parser.parse_args()

STREAMS, TIME = (4, 8) if args.quick else (32, 64)
EPOCHS, HIDDEN = (1, 12) if args.quick else (args.epochs, args.hidden)


def streams(tokens, n):
    """The text in n rows, one part below the other; what is left over is dropped."""
    length = len(tokens) // n
    return tokens[:n * length].reshape(n, length)


def parts(rows, time):
    """x and t = the character after each, in the order of the text."""
    for start in range(0, rows.shape[1] - 1, time):
        stop = min(start + time, rows.shape[1] - 1)
        yield rows[:, start:stop], rows[:, start + 1:stop + 1]


def bar(steps, total, words):
    """The steps, with a progress bar where tqdm is installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return steps
    return tqdm(steps, total=total, desc=words, unit="step", dynamic_ncols=True, leave=False)


def bits_per_character(model, tokens):
    """Mean of -log₂ p of each character but the first of each stream, in inference, the state carried through the text."""
    rows = streams(tokens, 8)
    state, total, count = model.net.initial_state(8, model.params), 0.0, 0
    for x, t in parts(rows, 256):
        (y, *state), _ = model.forward((model.asarray(x), *state), training=False)
        total += float(loss_fn(y, model.asarray(t))[0]) * t.size
        count += t.size
    return total / count / math.log(2)


class Reader:
    """Logits of what comes next; what came before is in the state."""

    def __init__(self, model):
        self.model, self.state = model, model.net.initial_state(1, model.params)

    def __call__(self, tokens):
        (y, *self.state), _ = self.model.forward((self.model.asarray(tokens), *self.state), training=False)
        return self.model.backend.to_host(y)[0, -1]


text = python_text()
symbols = Characters(text)
train, validation, test = in_parts(symbols.encode(text)[:3_000 if args.quick else None])
baseline = ngram_bits(train, test, len(symbols))
print(f"{len(train)} characters to train on, {len(symbols)} different ones; 5-gram on the held-out {len(test)}: {baseline:.3f} bits")

net = Stacked(Embedding(len(symbols), 64, init="glorot_uniform", deterministic=True), LSTM(64, HIDDEN), Dropout(0.3),
              Dense(HIDDEN, len(symbols)))
model = Model(net, backend=args.backend, seed=args.seed)
loss_fn = SoftmaxCrossEntropy()
rows = model.asarray(streams(train, STREAMS))
steps = -(-(rows.shape[1] - 1) // TIME)
optimizer = Adam(Cosine(4e-3, EPOCHS * steps, warmup=steps // 4), clip=ClipNorm(1.0))
print(f"{model.backend.name}: {model.layout.size} parameters, {steps} steps an epoch")

history = History(("epoch", "loss", "val_loss"))
nothing = net.initial_state(STREAMS, model.params)        # 0: the gradient of the state that goes out
begin = time.perf_counter()
for epoch in range(EPOCHS):
    state, losses = nothing, []
    for x, t in bar(parts(rows, TIME), steps, f"epoch {epoch + 1}/{EPOCHS}"):
        (y, *state), backward = model.forward((x, *state))
        loss, dy = loss_fn(y, t)
        optimizer.step(model, backward((dy, *nothing)))
        losses.append(loss)
    mean = sum(map(float, losses)) / len(losses) / math.log(2)
    history.add({"epoch": epoch + 1, "loss": mean, "val_loss": bits_per_character(model, validation)})
    print(f"epoch {epoch + 1:2d}  {time.perf_counter() - begin:5.0f} s  training {mean:.3f}  validation {history['val_loss'][-1]:.3f} bits",
          flush=True)

print(f"held out {bits_per_character(model, test):.3f} bits a character; the 5-gram {baseline:.3f}")
print("\n" + write(Reader(model), symbols, "The ", 40 if args.quick else args.length, np.random.default_rng(args.seed), temperature=0.7))

if args.out:
    from xpnet import plot

    ax = plot.learning_curves(history, log=False)
    ax.set(title="Character language model", ylabel="bits a character")
    ax.axhline(baseline, color="#777777", linestyle=":", label="5-gram, held out")
    ax.legend()
    ax.figure.savefig(args.out, dpi=110)
    print(f"wrote {args.out}")

"""A character language model of four transformer blocks, on the text of Python's own help pages, with sampling.

    python examples/tiny_transformer.py [--backend cupy] [--steps 2000] [--out loss.png]

Bits per character on a held-out tenth of the text, beside an interpolated 5-gram with Witten-Bell smoothing, counted on the same training
part. The network sees 128 characters at a time. Tokens are embedded, pass through pre-norm blocks with rotary positions, and the
embedding's own table makes the logits (tied weights). A text is written token by token, with a cache of keys and values, so that a step
does not compute the past again.
"""

import argparse
import math
import time

import numpy as np

from xpnet import AdamW, ClipNorm, Cosine, Decoder, DecoderBlock, Embedding, Layer, LayerNorm, Model, SoftmaxCrossEntropy, Unembedding, fit
from xpnet.data.text import Characters, in_parts, ngram_bits, python_text, stretches, write

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--steps", type=int, default=2000, help="training steps, of 16 stretches of 128 characters each")
parser.add_argument("--length", type=int, default=400, help="how many characters to write at the end")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", default=None, help="file for the picture of the learning curve (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="a small network, a few steps, to see that it runs")
args = parser.parse_args()

CONTEXT, BATCH = (16, 4) if args.quick else (128, 16)
FEATURES, HEADS, BLOCKS = (16, 2, 2) if args.quick else (128, 4, 4)
STEPS, PER_EPOCH = (6, 3) if args.quick else (args.steps, 200)


class LanguageModel(Layer):
    """Tokens (n, t) -> logits (n, t, symbols); with a cache, (tokens, cache) -> (logits, the longer cache)."""

    takes_tuples = True

    def __init__(self, symbols):
        embedding = Embedding(symbols, FEATURES, deterministic=True)   # few symbols: the product with the one-hot matrix is fast
        self.parts = {"embedding": embedding,
                      "blocks": Decoder(*(DecoderBlock(FEATURES, HEADS, rotary=True, dropout=0.1) for _ in range(BLOCKS))),
                      "norm": LayerNorm(FEATURES), "head": Unembedding(embedding)}

    def children(self):
        return self.parts

    def forward(self, params, x, ctx):
        tape = []
        tokens, cache = x if isinstance(x, tuple) else (x, None)
        for name, layer in self.parts.items():
            given = (tokens, cache) if name == "blocks" and cache is not None else tokens
            tokens, back = ctx.forward(name, layer, params, given)
            if isinstance(given, tuple):
                tokens, cache = tokens
            tape.append((name, back))

        def backward(dy, input_grad=True):
            grads = {}
            for name, back in reversed(tape):
                dy, grads[name] = back(dy)
            return dy, grads

        return (tokens if cache is None else (tokens, cache)), backward


class Stretches:
    """An epoch's batches, from random places of the text; other ones in each epoch."""

    def __init__(self, tokens):
        self.tokens, self.epoch = tokens, 0

    def __len__(self):
        return PER_EPOCH

    def __iter__(self):
        self.epoch += 1
        for i in range(PER_EPOCH):
            yield stretches(self.tokens, BATCH, CONTEXT, seed=args.seed + self.epoch * PER_EPOCH + i)


def bits_per_character(model, tokens):
    """Each character is predicted from at least half a context before it (the first ones from what there is)."""
    half = CONTEXT // 2
    total = 0.0
    starts = list(range(0, len(tokens) - CONTEXT - 1, half))
    for at in range(0, len(starts), 64):
        rows = np.array(starts[at:at + 64])[:, None] + np.arange(CONTEXT + 1)[None, :]
        z = model.predict(tokens[rows[:, :-1]]).astype(np.float64)
        z -= z.max(axis=-1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
        picked = np.take_along_axis(log_p, tokens[rows[:, 1:]][..., None], axis=-1)[..., 0]
        total += picked[:, half:].sum() + (picked[0, :half].sum() if at == 0 else 0.0)
    return -total / math.log(2) / (len(starts) * half + half)


class Reader:
    """Logits of what comes next; keys and values of what came before are in the cache.

    Where the cache is as long as what the network was trained on, it starts anew from the last half: positions beyond that it has never
    seen.
    """

    def __init__(self, model):
        self.model, self.seen = model, np.zeros((1, 0), dtype=np.int64)
        self.empty = model.net.parts["blocks"].empty_cache(model.xp, model.backend.zeros((1, 1), model.params.dtype))
        self.cache = self.empty

    def __call__(self, tokens):
        self.seen = np.concatenate([self.seen, tokens], axis=1)[:, -CONTEXT:]
        if self.cache.shape[4] + tokens.shape[1] > CONTEXT:
            self.cache, tokens = self.empty, self.seen[:, -CONTEXT // 2:]
        (z, self.cache), _ = self.model.forward((self.model.asarray(tokens), self.cache), training=False)
        return self.model.backend.to_host(z)[0, -1]


text = python_text()
symbols = Characters(text)
train, validation, test = in_parts(symbols.encode(text)[:25_000 if args.quick else None])
baseline = ngram_bits(train, test, len(symbols))
print(f"{len(train)} characters to train on, {len(symbols)} different ones; 5-gram on the held-out {len(test)}: {baseline:.3f} bits a "
      "character")

model = Model(LanguageModel(len(symbols)), backend=args.backend, seed=args.seed)
print(f"{model.backend.name}: {model.layout.size} parameters")
optimizer = AdamW(Cosine(2e-3, STEPS, warmup=STEPS // 20), weight_decay=0.1, decay_biases=False, clip=ClipNorm(1.0))
start = time.perf_counter()
history = fit(model, SoftmaxCrossEntropy(), optimizer, Stretches(train), epochs=STEPS // PER_EPOCH)
if not len(history):                                      # Ctrl-C in the first epoch
    raise SystemExit("interrupted before the first epoch was complete")
print(f"trained {STEPS} steps in {time.perf_counter() - start:.0f} s, training loss {history['loss'][-1] / math.log(2):.3f} bits")
print(f"validation {bits_per_character(model, validation):.3f} bits, held out {bits_per_character(model, test):.3f} bits a character; "
      f"the 5-gram {baseline:.3f}")
print("\n" + write(Reader(model), symbols, "The ", 40 if args.quick else args.length, np.random.default_rng(args.seed)))

if args.out:
    from xpnet import plot

    ax = plot.learning_curves(history)
    ax.set(title="Character language model", ylabel="cross-entropy (nats a character)")
    ax.axhline(baseline * math.log(2), color="#777777", linestyle=":", label="5-gram, held out")
    ax.legend()
    ax.figure.savefig(args.out, dpi=110)
    print(f"wrote {args.out}")

"""Text as numbers: a corpus that ships with Python, characters as integers, stretches of it as batches, and the baseline that counts.

A language model is judged in bits per character: the mean of -log₂ P(character | those before it) on text that it has not seen. It is the
size that a perfect compressor with these probabilities would need.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np

from ..errors import whole
from .arguments import _TEXT, _rng


def python_text() -> str:
    """The reference texts of Python's own `help()`, topics in alphabetical order: some 450,000 characters. They differ between versions."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


class Characters:
    """The characters of a text, numbered in their order: `encode` gives integers, `decode` the text again."""

    def __init__(self, text: str):
        self.symbols = sorted(set(text))
        self.numbers = {c: i for i, c in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        """(len(text),) int64. Raises ValueError for a character that the text they were made of does not have."""
        if missing := sorted(set(text) - set(self.numbers)):
            raise ValueError(f"these characters are not among the {len(self)} known ones: {missing[:10]}")
        return np.array([self.numbers[c] for c in text], dtype=np.int64)

    def decode(self, numbers: np.ndarray) -> str:
        return "".join(self.symbols[int(i)] for i in np.ravel(numbers))


def in_parts(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, validation and held-out part by position: the first 80 %, the next 10 %, the last 10 %."""
    a, b = int(0.8 * len(tokens)), int(0.9 * len(tokens))
    return tokens[:a], tokens[a:b], tokens[b:]


def write(logits: Callable[[np.ndarray], np.ndarray], symbols: Characters, start: str, length: int, rng: np.random.Generator,
          temperature: float = 0.8) -> str:
    """Sample a text that goes on from `start`, one character at a time, from softmax(z / temperature).

    logits: a function of the tokens that are new (1, t), which keeps what came before, to z of the next character, (symbols,)
    """
    tokens, written = symbols.encode(start)[None, :], start
    for _ in range(length):
        z = np.asarray(logits(tokens), dtype=np.float64) / temperature
        p = np.exp(z - z.max())
        tokens = np.array([[rng.choice(len(p), p=p / p.sum())]])
        written += symbols.decode(tokens)
    return written


def stretches(tokens: np.ndarray, n: int, length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n stretches from random places, x: (n, length), and t: (n, length), the same moved on by one: what comes next."""
    n, length = whole("n", n, 1), whole("length", length, 1)
    if len(tokens) <= length:
        raise ValueError(f"stretches of {length} take a text of at least {length + 1} characters, got {len(tokens)}")
    starts = _rng(seed, _TEXT).integers(0, len(tokens) - length, n)
    at = starts[:, None] + np.arange(length + 1)[None, :]
    return tokens[at[:, :-1]], tokens[at[:, 1:]]


def ngram_bits(train: np.ndarray, test: np.ndarray, symbols: int, n: int = 5) -> float:
    """Bits per character of an interpolated n-gram with Witten-Bell smoothing, counted on `train`, on `test`

        P(c | h) = (count(h c) + T(h) P(c | h')) / (count(h) + T(h))

    h is the n - 1 characters before, h' the same without its first, T(h) how many different characters have followed h; below the empty h
    all symbols are equally likely. A context that was never seen passes on to the shorter one.
    Witten & Bell (1991), as in Chen & Goodman (1998), section 2.5.
    """
    counts = [_count(train, k) for k in range(n)]
    text, bits = test.tolist(), 0.0
    for i, c in enumerate(text):
        p = 1.0 / symbols
        for k in range(min(n, i + 1)):
            after = counts[k].get(tuple(text[i - k:i]))
            if after is None:
                break
            p = (after[0].get(c, 0) + len(after[0]) * p) / (after[1] + len(after[0]))
        bits -= math.log2(p)
    return bits / len(text)


def _count(tokens: np.ndarray, k: int) -> dict[tuple[int, ...], tuple[Counter[int], int]]:
    """For each context of k characters: what followed it and how often, and the sum."""
    text = tokens.tolist()
    found: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for i in range(k, len(text)):
        found[tuple(text[i - k:i])][text[i]] += 1
    return {h: (after, sum(after.values())) for h, after in found.items()}

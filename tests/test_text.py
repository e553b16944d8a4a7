"""Text as numbers, and the n-gram that a language model has to beat."""

import math

import numpy as np
import pytest

from xpnet.data.text import Characters, in_parts, ngram_bits, python_text, stretches, write


def test_characters_there_and_back():
    symbols = Characters("abracadabra")
    assert len(symbols) == 5 and symbols.encode("cab").tolist() == [2, 0, 1]
    assert symbols.decode(symbols.encode("abracadabra")) == "abracadabra"
    with pytest.raises(ValueError, match=r"not among the 5 known ones: \['x'\]"):
        symbols.encode("ax")
    assert len(python_text()) > 300_000


def test_stretches_are_the_text_moved_on_by_one():
    tokens = np.arange(50)
    x, t = stretches(tokens, 7, 5, seed=3)
    assert x.shape == t.shape == (7, 5)
    np.testing.assert_array_equal(t, x + 1)
    np.testing.assert_array_equal(np.diff(x, axis=1), 1)
    np.testing.assert_array_equal(stretches(tokens, 7, 5, seed=3)[0], x)
    assert not np.array_equal(stretches(tokens, 7, 5, seed=4)[0], x)
    with pytest.raises(ValueError, match="at least 51 characters, got 50"):
        stretches(tokens, 1, 50)


def test_unigram_by_hand():
    """Counts 3, 1 of 2 + 1 unseen symbols: P = (count + T/3)/(4 + T), T = 2."""
    bits = ngram_bits(np.array([0, 0, 1, 0]), np.array([0, 1, 2]), 3, n=1)
    p = [(3 + 2 / 3) / 6, (1 + 2 / 3) / 6, (2 / 3) / 6]
    assert sum(p) == pytest.approx(1.0)
    assert bits == pytest.approx(-sum(map(math.log2, p)) / 3, rel=1e-12)


def test_bigram_by_hand():
    """After 0 came 1 twice: P(1|0) = (2 + 1 P(1))/(2 + 1); a context that was never seen passes on to the shorter one."""
    train = np.array([0, 1, 0, 1])
    p1 = {c: (2 + 2 / 3 if c < 2 else 2 / 3) / 6 for c in range(3)}
    want = -(math.log2(p1[0]) + math.log2((2 + p1[1]) / 3) + math.log2((0 + p1[2]) / 2) + math.log2(p1[0])) / 4
    assert ngram_bits(train, np.array([0, 1, 2, 0]), 3, n=2) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_probabilities_sum_to_one(n):
    """Of all continuations of one context."""
    rng = np.random.default_rng(0)
    train, head = rng.integers(0, 4, 300), rng.integers(0, 4, 6)
    before = ngram_bits(train, head, 5, n) * len(head)
    total = sum(2 ** -(ngram_bits(train, np.append(head, c), 5, n) * (len(head) + 1) - before) for c in range(5))
    assert total == pytest.approx(1.0, rel=1e-9)


def test_longer_contexts_help_where_the_text_has_them():
    train = np.tile([0, 1, 2, 1], 100)
    bits = [ngram_bits(train, np.tile([0, 1, 2, 1], 20), 3, n) for n in (1, 2, 3)]
    assert bits[0] > bits[1] > 10 * bits[2]


def test_parts_are_by_position():
    train, validation, held_out = in_parts(np.arange(100))
    assert [len(p) for p in (train, validation, held_out)] == [80, 10, 10]
    np.testing.assert_array_equal(np.concatenate([train, validation, held_out]), np.arange(100))


def test_writing_follows_the_logits_and_keeps_what_is_new():
    symbols, seen = Characters("abc"), []

    def next_letter(tokens):
        seen.append(tokens.tolist())
        return np.where(np.arange(3) == (tokens[0, -1] + 1) % 3, 0.0, -1e9)

    assert write(next_letter, symbols, "ab", 5, np.random.default_rng(0)) == "abcabca"
    assert seen == [[[0, 1]], [[2]], [[0]], [[1]], [[2]]]
    flat = write(lambda tokens: np.array([0.0, 1.0, 0.0]), symbols, "a", 4000, np.random.default_rng(0), temperature=0.5)
    assert flat.count("b") / 4000 == pytest.approx(math.exp(2) / (2 + math.exp(2)), abs=0.03)

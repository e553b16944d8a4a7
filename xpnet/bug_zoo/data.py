"""Bugs of the data, before the network has seen a number: everything computes, and learns, the wrong thing."""

from collections.abc import Iterator

import numpy as np

from . import checks, pictures
from .bug import bug
from .problems import CLASSES, DRIFTED, PIXELS, SORTED
from .setup import shuffled, standardized


@bug("not-shuffled", "the data come in the order of the file", checks.batches_are_right, SORTED, kind="data", clean=shuffled,
     symptom="The loss falls more slowly and less far. Each batch holds one class or two, and the network leans to the class that came "
             "last.",
     fix="Another random order in each epoch.", draw=pictures.curves)
def not_shuffled(x: np.ndarray, t: np.ndarray, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A mini-batch's gradient stands for that of all data only if the batch is drawn from all data. Files are often sorted by
    class, and then every batch says: always this one."""
    order = np.arange(len(x))                             # should be: order = np.random.default_rng((seed, epoch)).permutation(len(x))
    for i in range(0, len(x), batch_size):
        chosen = order[i:i + batch_size]
        yield x[chosen], t[chosen]


@bug("labels-shuffled-apart", "inputs are shuffled, labels are not", checks.batches_are_right, CLASSES, kind="data", clean=shuffled,
     symptom="The loss stays at ln C, at best: there is nothing to learn. A small fixed batch is learnt by heart all the same.",
     fix="One permutation for both.", draw=pictures.curves)
def labels_shuffled_apart(x: np.ndarray, t: np.ndarray, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Input and label belong together by their position only. Reordering one of the two gives each input the label of another sample."""
    order = np.random.default_rng((seed, epoch)).permutation(len(x))
    for i in range(0, len(x), batch_size):
        chosen = order[i:i + batch_size]
        labels = t[i:i + batch_size]                      # should be: labels = t[chosen]
        yield x[chosen], labels


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature; 1 for the deviation of a constant."""
    std = x.std(axis=0)
    return x.mean(axis=0), np.where(std > 0.0, std, 1.0)


@bug("test-statistics-in-scaling", "the scaler has seen the test set", checks.preparation, DRIFTED, kind="data", clean=standardized,
     symptom="Test results that cannot be had in use. The effect is small for a mean and a deviation, and large for anything fitted more "
             "closely: a selection of features, an imputation, a dictionary of words.",
     fix="Fit on the training data, apply to both: standardize(train, test) does.", draw=pictures.scaled_training_data)
def leakage(x: np.ndarray, x_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The test set stands for data that do not exist yet. What is computed from it and used in training leaks: the training
    data change with the test data, here because one wild value of the test set squeezes them."""
    known = np.concatenate([x, x_test])                   # should be: known = x
    mean, std = statistics(known)
    return (x - mean) / std, (x_test - mean) / std


@bug("test-scaled-by-itself", "the test set is scaled by its own statistics", checks.preparation, DRIFTED, kind="data", clean=standardized,
     symptom="A test set that has drifted is moved back, so results look better than they are; and a single sample, as in use, becomes "
             "all zeros.",
     fix="The training data's mean and deviation are part of the model: keep them, and apply them to everything.",
     draw=pictures.scaled_test_data)
def test_by_itself(x: np.ndarray, x_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The network has learnt what a value means on the scale of the training data. On another scale the same number means something
    else, and which scale it is now depends on the samples that happen to be together."""
    mean, std = statistics(x)
    mean_test, std_test = statistics(x_test)              # should be: mean_test, std_test = mean, std
    return (x - mean) / std, (x_test - mean_test) / std_test


@bug("bytes-wrap-around", "arithmetic in the pixels' own dtype", checks.preparation, PIXELS, kind="data", clean=standardized,
     symptom="Dark pixels become the brightest. The network learns, but from pictures in which half of the values are at the wrong end.",
     fix="Convert to floating numbers first: x.astype(float).", draw=pictures.bytes_wrap)
def bytes_wrap(x: np.ndarray, x_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels are bytes, 0 to 255. A difference of bytes is a byte: 100 - 128 is 228, without an error or a warning. (A product and a sum
    wrap as well, and an assignment into an integer array cuts off the fraction.)"""
    mean, std = statistics(x)

    def scaled(a: np.ndarray) -> np.ndarray:
        difference = a - mean.astype(a.dtype)             # should be: difference = a - mean
        return difference / std

    return scaled(x), scaled(x_test)

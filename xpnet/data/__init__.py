"""Data: checked where it enters, encoded, scaled, split, cut into batches, made from a seed, read from files.

Drawing and reading are host work, from a seed or a file, so they give the same numbers for every backend. Scaling,
encoding and cutting are written against the namespace: device arrays in, device arrays out.
"""

from .arguments import count_samples
from .batching import Batches, ReadyBatches, batches
from .checks import check_finite, check_labels
from .files import load, mnist, read_csv, read_idx
from .scaling import MinMax, Scaler, Standardizer, mean_of_rows, minmax, one_hot, standardize
from .splits import split
from .toys import circles, moons, sine, spirals, xor

__all__ = ["Batches", "MinMax", "ReadyBatches", "Scaler", "Standardizer", "batches", "check_finite", "check_labels", "circles",
           "count_samples", "load", "mean_of_rows", "minmax", "mnist", "moons", "one_hot", "read_csv", "read_idx", "sine", "spirals",
           "split", "standardize", "xor"]

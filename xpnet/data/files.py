"""Files and real data sets."""

import math
import os
import struct
from typing import Any

import numpy as np

from ..errors import unknown
from .arguments import _count, _optional

_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """An IDX file, gzipped or not, as an array in its own dtype (and the host's byte order).

    The format: two zero bytes, a byte for the dtype, a byte for the number of dimensions, each dimension as an unsigned
    32-bit integer, and the values, last index fastest; all big-endian. Y. LeCun, "The MNIST database".
    Raises ValueError for a file that is none, or is cut off.
    """
    with open(path, "rb") as f:
        raw = f.read()
    if raw[:2] == b"\x1f\x8b":
        import gzip
        import zlib

        try:
            raw = gzip.decompress(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error) as e:
            raise ValueError(f"{path} is a damaged or cut-off gzip file ({e})") from e
    if len(raw) < 4 or raw[:2] != b"\x00\x00" or raw[2] not in _IDX_DTYPES:
        codes = ", ".join(f"{code:02x}" for code in _IDX_DTYPES)
        raise ValueError(f"{path} is not an IDX file: it starts with {raw[:4].hex(' ') or 'nothing'}, expected 00 00, "
                         f"the dtype (one of {codes}) and the number of dimensions")
    dtype = np.dtype(">" + _IDX_DTYPES[raw[2]])
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise ValueError(f"{path} is cut off within its header: {len(raw)} bytes of {start}")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    size = math.prod(shape) * dtype.itemsize
    if len(raw) - start != size:
        raise ValueError(f"{path} is {'cut off' if len(raw) - start < size else 'too long'}: "
                         f"shape {shape} of {dtype.name} takes {size} bytes, the file has {len(raw) - start}")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_csv(path: str | os.PathLike[str], target: Any, *, features: list[Any] | None = None, one_hot: bool = False,
             **options: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A CSV file as (x, t, feature_names), through pandas.

    target    name of the target column. Floating numbers give t: (n, 1) float64. Integers, truth values and text give
              labels t: (n,) int64, text numbered in sorted order
    features  names of the feature columns; None: all others
    one_hot   a column of text becomes one column for each distinct value, in sorted order, named `column=value`; False:
              it is an error
    options   as pandas.read_csv takes them (sep=, header=, na_values=, ...)

    x: (n, d) float64. Raises ValueError for unknown columns, text where numbers are needed, and missing values.
    """
    pandas = _optional("pandas", "read_csv")
    frame = pandas.read_csv(path, **options)
    chosen = [c for c in frame.columns if c != target] if features is None else list(features)
    if target in chosen:
        raise ValueError(f"the target column {target!r} is among the features, which would give the answer away")
    for c in (target, *chosen):
        if c not in frame.columns:
            raise unknown("column", c, map(str, frame.columns))
    if len(frame) == 0 or not chosen:
        raise ValueError(f"{path} has {_count(len(frame), 'row')} and {_count(len(chosen), 'feature column')}")
    missing = {c: int(frame[c].isna().sum()) for c in (*chosen, target)}
    if any(missing.values()):
        where = ", ".join(f"{n} in {c!r}" for c, n in missing.items() if n)
        raise ValueError(f"{path} has missing values: {where}; fill them or drop those rows first")

    types = pandas.api.types
    text = [c for c in chosen if not types.is_numeric_dtype(frame[c])]
    if text and not one_hot:
        raise ValueError(f"{path} has text, not numbers, in {', '.join(map(repr, text))}; give one_hot=True, "
                         "or the numeric columns as features=[...]")
    columns, names = [], []
    for c in chosen:
        values = frame[c].to_numpy()
        if c in text:
            values = values.astype(str)
            for value in np.unique(values):
                columns.append(values == value)
                names.append(f"{c}={value}")
        else:
            columns.append(values)
            names.append(str(c))

    t = frame[target].to_numpy()
    if types.is_float_dtype(frame[target]):
        t = t.astype(np.float64)[:, None]
    elif types.is_numeric_dtype(frame[target]):
        t = t.astype(np.int64)
    else:
        t = np.unique(t.astype(str), return_inverse=True)[1].astype(np.int64)
    return np.stack(columns, axis=1).astype(np.float64), t, names


# Real data.

_SKLEARN = ("breast_cancer", "diabetes", "digits", "iris", "wine")


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """(x, t) of a data set that comes with scikit-learn, in its order.

    x: (n, d) float64    t: (n,) int64 labels, or (n, 1) float64

    | name | n | d | classes | what |
    |---|---|---|---|---|
    | "iris" | 150 | 4 | 3 | flowers by four lengths (Fisher, 1936) |
    | "wine" | 178 | 13 | 3 | cultivars by chemical analysis |
    | "breast_cancer" | 569 | 30 | 2 | 0 malignant, 1 benign, by measures of cell nuclei |
    | "digits" | 1797 | 64 | 10 | 8×8 images of digits, values 0 to 16 |
    | "diabetes" | 442 | 10 | - | a measure of progress after a year; column 2 is the body-mass index |

    The features of diabetes are centred and scaled to sums of squares of 1, as scikit-learn gives them; others are raw.
    """
    if name not in _SKLEARN:
        raise unknown("data set", name, _SKLEARN)
    _optional("sklearn", f"load({name!r})")
    from sklearn import datasets

    x, t = getattr(datasets, f"load_{name}")(return_X_y=True)
    return x.astype(np.float64), t.astype(np.float64)[:, None] if name == "diabetes" else t.astype(np.int64)


# Each file of MNIST with the MD5 of its gzipped form.
_MNIST = {"train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
          "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
          "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
          "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c"}
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_WAYS = ("MNIST comes from a folder that holds its four IDX files, gzipped or not: mnist(folder); or is "
               "downloaded once, with pip install 'xpnet[examples]' and a network: mnist()")


def mnist(folder: str | os.PathLike[str] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_train, t_train, x_test, t_test of the handwritten digits. LeCun, Bottou, Bengio & Haffner (1998)

    x: (60000, 784) and (10000, 784) uint8, from 0 (paper) to 255 (ink)    t: (60000,) and (10000,) int64
    folder: where the files train-images-idx3-ubyte, ... are, gzipped or not (other data in the same files serve too).
    None: they are downloaded into the user's cache, once, and their checksums compared.
    """
    files = {name: _fetch(name) if folder is None else _find(os.fspath(folder), name) for name in _MNIST}
    arrays = []
    for part in ("train", "t10k"):
        images, labels = files[f"{part}-images-idx3-ubyte"], files[f"{part}-labels-idx1-ubyte"]
        x, t = read_idx(images), read_idx(labels)
        if x.ndim != 3 or t.shape != x.shape[:1]:
            raise ValueError(f"expected shapes (n, height, width) and (n,), got {x.shape} of {images} "
                             f"and {t.shape} of {labels}")
        arrays += [np.reshape(x, (x.shape[0], -1)), t.astype(np.int64)]
    return arrays[0], arrays[1], arrays[2], arrays[3]


def _find(folder: str, name: str) -> str:
    for path in (os.path.join(folder, name), os.path.join(folder, f"{name}.gz")):
        if os.path.isfile(path):
            return path
    raise FileNotFoundError(f"{folder} has no {name} or {name}.gz. {_MNIST_WAYS}")


def _fetch(name: str) -> str:
    try:
        import pooch
    except ImportError as e:
        raise ImportError(f"the package pooch is not installed. {_MNIST_WAYS}") from e
    try:
        return pooch.retrieve(f"{_MNIST_URL}{name}.gz", f"md5:{_MNIST[name]}", f"{name}.gz", pooch.os_cache("xpnet"))
    except OSError as e:                                  # of the network, or of the cache folder
        raise OSError(f"{name}.gz could not be downloaded ({e}). {_MNIST_WAYS}") from e

"""Denormal numbers, found: in arrays, and in each operation on arrays. For tests/test_denormals.py and ci/denormals."""

import contextlib

import numpy as np


def denormals(*arrays):
    """How many numbers of these arrays are denormal."""
    return sum(int(np.sum((a != 0) & (np.abs(a) < np.finfo(a.dtype).smallest_normal))) for a in arrays)


class Watched(np.ndarray):
    """An array of which every ufunc counts the denormal numbers that it reads and makes, temporaries among them."""

    found = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        inputs = [_plain(a) for a in inputs]
        if out is not None:
            options["out"] = tuple(map(_plain, out))
        Watched.found += denormals(*(a for a in inputs if isinstance(a, np.ndarray) and a.dtype.kind == "f"))
        result = getattr(ufunc, method)(*inputs, **options)
        if result.dtype.kind == "f":
            Watched.found += denormals(result)
        return result.view(Watched) if out is None else out[0]


def _plain(a):
    return a.view(np.ndarray) if isinstance(a, Watched) else a


@contextlib.contextmanager
def watched(model, optimizer):
    """Within this, the operations of the model's parameters, of their gradients and of the optimizer are counted in Watched.found."""
    kept = model._params, model._grads, optimizer.state
    model._params, model._grads = (v.view(Watched) for v in kept[:2])
    optimizer.state = {name: v.view(Watched) for name, v in kept[2].items()}
    Watched.found = 0
    try:
        yield Watched
    finally:
        model._params, model._grads, optimizer.state = kept

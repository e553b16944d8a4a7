"""Elementwise rules: one text for a formula, and each backend's own way to run it.

A rule is a function of a namespace, arrays and numbers that works element by element, in operators and functions that NumPy,
CuPy and the standard share. It either returns new arrays, or (marked `inplace=True`) writes into its array arguments by
in-place operators and returns nothing.

NumPy runs a long rule over large arrays in blocks that stay in the cache (blocks.py), or, where numba is installed and the work is
worth its start, in one compiled loop (loops.py); both are written from the operations of the text and give the same bits. CuPy compiles the
rule into one kernel (`cupy.fuse`). Anything else runs the text as it stands.
"""

import functools
import importlib.util
import math
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .registry import _kinds, kind

SMALL = 8 * 1024                                          # elements: below that the calls cost more than what they do,
LARGE = 32 * 1024                                         # and without numba below that
WORTH = 1.5e9                                             # operations on elements: 0.4 s of work, about what numba's start costs


def elementwise(text: Any = None, *, inplace: bool = False) -> Any:
    """Mark a rule: `@elementwise` or `@elementwise(inplace=True)`. Call it as `rule(xp, *arrays_and_numbers)`."""
    return functools.partial(Rule, inplace=inplace) if text is None else Rule(text, inplace)


class Rule:
    """An elementwise rule, and the way each backend runs its text."""

    def __init__(self, text: Callable[..., Any], inplace: bool = False):
        self.text = text
        self.inplace = inplace
        self.fell_back = False
        self._runners: dict[Any, Callable[..., Any]] = {}
        functools.update_wrapper(self, text)

    def __call__(self, xp: Any, *args: Any) -> Any:
        run = self._runners.get(xp)
        if run is None:
            run = self._runners[xp] = self._runner(xp)
        return run(*args)

    def _runner(self, xp: Any) -> Callable[..., Any]:
        plain = functools.partial(self.text, xp)
        if kind(xp) == "numpy":
            return on_numpy(xp, self.text)
        if kind(xp) == "cupy":
            return self._fused(plain)
        if hasattr(xp, "rule"):                           # the dry run counts a rule as what it is on CuPy: one kernel
            return functools.partial(xp.rule, plain)
        return plain

    def _fused(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        import cupy

        name = getattr(self.text, "__name__", "rule").replace("<lambda>", "rule")
        fused = cupy.fuse(kernel_name=name)(functools.partial(self.text, _fusing()))

        def run(*args: Any) -> Any:
            if not self.fell_back:
                try:
                    return fused(*args)
                except (TypeError, ValueError, NotImplementedError, AttributeError, KeyError, IndexError) as e:
                    # A wrong argument fails in the plain text too, and that error is the caller's.
                    result = plain(*args)
                    self.fell_back = True
                    warnings.warn(f"elementwise rule {name!r} could not be fused by CuPy ({type(e).__name__}: {e}); "
                                  "it runs as separate kernels", RuntimeWarning, stacklevel=3)
                    return result
            return plain(*args)

        return run


class HasRules:
    """An object that makes rules of its own formulas, on first use. Copies and pickles leave them out, and make theirs; and so does an
    object whose attributes change, since a rule may have been traced with their values.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if not name.startswith("_") and not isinstance(value, Rule):
            for made in [n for n, v in self.__dict__.items() if isinstance(v, Rule)]:
                del self.__dict__[made]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not isinstance(value, Rule)}


def on_numpy(xp: Any, text: Callable[..., Any]) -> Callable[..., Any]:
    """A rule on NumPy: its text for small arrays, blocks or a compiled loop for large ones."""
    made: dict[Any, Callable[..., Any]] = {}              # by the shapes, orders and dtypes of the arguments
    least = SMALL if math.isfinite(worth()) else LARGE
    xp = direct(xp)

    def run(*args: Any) -> Any:
        if getattr(args[0], "size", 0) < least:
            return text(xp, *args)
        key = tuple([(a.shape, a.strides, a.dtype) if isinstance(a, np.ndarray) else type(a) for a in args])
        best = made.get(key)
        if best is None:
            if len(made) > 256:                           # batches of ever new shapes
                made.clear()
            from .blocks import fastest

            best = made[key] = fastest(functools.partial(text, xp), text, args)
        return best(*args)

    return run


class Direct:
    """NumPy's namespace as a rule's text sees it: without the layer around `astype`."""

    def __init__(self, xp: Any):
        self._xp = xp
        _kinds[self] = "numpy"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._xp, name)
        setattr(self, name, found)
        return found

    @staticmethod
    def astype(x: Any, dtype: Any, *, copy: bool = True) -> Any:
        return x.astype(dtype, copy=copy)


@functools.cache
def direct(xp: Any) -> Direct:
    """One for each namespace."""
    return Direct(xp)


def worth() -> float:
    """After how many operations on elements a rule is compiled: $XPNET_NUMBA=1 asks for it at once, 0 for never."""
    given = os.environ.get("XPNET_NUMBA", "")
    if given == "1" and not numba_is_installed():
        raise ImportError("XPNET_NUMBA=1 asks for numba, which is not installed: pip install 'xpnet[numba]', or leave the variable out")
    return 0.0 if given == "1" else math.inf if given == "0" or not numba_is_installed() else WORTH


@functools.cache
def numba_is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _fusing() -> Any:
    """CuPy's namespace as a fused function sees it: the standard's names on CuPy's tracing objects."""
    import cupy

    class Fusing:
        @staticmethod
        def astype(x: Any, dtype: Any) -> Any:
            return x.astype(dtype)

        @staticmethod
        def abs(x: Any) -> Any:
            return cupy.absolute(x)

        def __getattr__(self, name: str) -> Any:
            return getattr(cupy, name)

    fusing = Fusing()
    _kinds[fusing] = "cupy"
    return fusing

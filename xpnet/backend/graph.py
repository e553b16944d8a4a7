"""CUDA graphs: what is asked of the device, recorded once and replayed without asking again. CuPy only."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

Array = Any


class Recorder:
    """What CuPy is asked for within `with recorder.recording():`, to be replayed: CUDA graphs, cut at each product x @ y.

    CuPy (14) refuses cuBLAS calls while a stream is captured. At `x @ y` the graph is therefore ended, and the next one begun after it;
    between the two CuPy makes the product at each replay as it ever does, into the array recorded. `cupy.ndarray.__matmul__` is replaced
    while recording, and acts on the recorder's stream only. Any other way to a product (`xp.matmul`, `tensordot`) raises CuPy's error,
    as do copies from and to the host, such as `float(x)`.

    What is recorded is addresses and numbers: arrays that are read or written must stay where they are, and Python numbers stay as they
    were. Temporary arrays, which Python drops while recording, are needed at each replay. So they lie in a pool of the recorder's own,
    whose free memory nobody else is given.
    """

    def __init__(self) -> None:
        import cupy

        self.pool = cupy.cuda.MemoryPool()
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.parts: list[Callable[[], Any]] = []          # launches of graphs, and products between them

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Work on the recorder's stream and in its pool, after all that was asked for before and before all that is asked for after."""
        import cupy

        cupy.cuda.get_current_stream().synchronize()
        with cupy.cuda.using_allocator(self.pool.malloc), self.stream:
            try:
                yield
            finally:
                self.stream.synchronize()

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record, within `aside`; nothing is executed but products."""
        import cupy

        plain = cupy.ndarray.__matmul__

        def matmul(x: Array, y: Array) -> Array:
            return self._product(x, y) if cupy.cuda.get_current_stream() == self.stream else plain(x, y)

        cupy.ndarray.__matmul__ = matmul
        try:
            self.stream.begin_capture()
            yield
            self.parts.append(self.stream.end_capture().launch)
        except BaseException:
            with contextlib.suppress(Exception):          # the stream may no longer be capturing
                self.stream.end_capture()
            raise
        finally:
            del cupy.ndarray.__matmul__                   # its base class has the one that was there

    def _product(self, x: Array, y: Array) -> Array:
        import cupy

        self.parts.append(self.stream.end_capture().launch)
        z = cupy.matmul(x, y)
        # Up to two axes `matmul` calls `dot`, which has less to do on the host.
        multiply = cupy.ndarray.dot if max(x.ndim, y.ndim) <= 2 else cupy.matmul

        def again() -> None:
            multiply(x, y, out=z)

        again()                                           # what it refuses, it refuses here
        self.parts.append(again)
        self.stream.begin_capture()
        return z

    def replay(self) -> None:
        """On the current stream."""
        for part in self.parts:
            part()

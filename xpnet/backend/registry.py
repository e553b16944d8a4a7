"""Backends: an array namespace, a device, and the way to and from the host.

A backend is named in one place only, `Model(net, backend=...)`. Importing this module imports no array library but NumPy:
array-api-compat, CuPy and PyTorch are imported when a backend is first asked for.
"""

import importlib
import importlib.util
import os
from typing import Any

import numpy as np

from ..errors import BackendError, unknown

Array = Any
NAMES = ("numpy", "cupy", "torch", "array-api-strict")
_INSTALL = {"cupy": "pip install 'xpnet[cupy]' (CUDA 13) or 'xpnet[cupy12]' (CUDA 12)", "torch": "pip install torch",
            "array-api-strict": "pip install array-api-strict"}
_MODULE = {"numpy": "numpy", "cupy": "cupy", "torch": "torch", "array-api-strict": "array_api_strict"}


class Backend:
    """An array library on one device.

    name    "numpy", "cupy", "cupy:1", "torch", "array-api-strict:device1", ...
    xp      its Array API namespace (through array-api-compat)
    device  what arrays are made on

    `with backend:` makes its device the current one (CuPy's device is a context, not an argument), and says what to do where the GPU's
    memory does not suffice.
    """

    def __init__(self, kind: str, index: str = "", xp: Any = None):
        self.kind = kind
        self.name = f"{kind}:{index}" if index else kind
        self.xp = _import(kind) if xp is None else xp
        self.device = self._device(index)

    def _device(self, index: str) -> Any:
        if self.kind == "numpy" and index not in ("", "cpu"):
            raise BackendError(f"backend {self.name!r}: NumPy has no devices; use 'numpy'")
        if self.kind == "torch":
            try:
                return self.xp.empty(0, device=index or "cpu").device   # asks the device, not only for its name
            except (RuntimeError, AssertionError) as e:
                raise BackendError(f"backend {self.name!r}: {str(e).splitlines()[0]}") from e
        if self.kind == "array-api-strict":
            try:
                return self.xp.Device(index or "CPU_DEVICE")
            except ValueError as e:
                raise BackendError(f"backend {self.name!r}: {e}") from e
        if self.kind == "cupy":
            return _cupy_device(index)
        return "cpu"

    def __enter__(self) -> "Backend":
        if self.kind == "cupy":
            self.device.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.kind == "cupy":
            self.device.__exit__(kind, error, trace)
            if error is not None and _is_out_of_memory(error):
                raise BackendError(self._out_of_memory(error)) from error

    def __repr__(self) -> str:
        return f"Backend({self.name!r})"

    def owns(self, x: Any) -> bool:
        """Is x an array of this library, on this device?"""
        if type(x) not in _namespaces and not _is_array(x):
            return False
        if namespace(x) is not self.xp:
            return False
        return self.kind == "numpy" or x.device == self.device

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """x as an array of this backend. A host array is copied to the device: the one way in."""
        if isinstance(dtype, str):
            dtype = getattr(self.xp, dtype)
        if self.owns(x):
            if dtype is None or x.dtype == dtype:
                return x
            with self:
                return self.xp.astype(x, dtype)
        host = to_host(x)
        if dtype is not None:                             # on the host: the device may have no float64
            host = host.astype(getattr(dtype, "__name__", str(dtype)).rpartition(".")[2], copy=False)
        if self.kind == "numpy":
            return host
        if self.kind == "torch":                          # takes no negative strides, and warns of read-only memory
            host = np.require(host, requirements=["C", "W"])
        with self:
            return self.xp.asarray(host) if self.kind == "cupy" else self.xp.asarray(host, device=self.device)

    def to_host(self, x: Any) -> np.ndarray:
        """x as a NumPy array; waits for the device."""
        return to_host(x)

    def zeros(self, shape: Any, dtype: Any) -> Array:
        with self:
            return self.xp.zeros(shape, dtype=dtype) if self.kind == "cupy" else \
                self.xp.zeros(shape, dtype=dtype, device=self.device)

    def synchronize(self) -> None:
        """Wait until the device has done all it was given (for timing)."""
        if self.kind == "cupy":
            import cupy

            with self:
                cupy.cuda.get_current_stream().synchronize()
        elif self.kind == "torch" and self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def free_memory(self) -> float:
        """Bytes that may still be allocated on the device, those that CuPy's pool holds unused among them; infinite on the host."""
        if self.kind == "cupy":
            import cupy

            with self:
                return float(self.device.mem_info[0] + cupy.get_default_memory_pool().free_bytes())
        return float("inf")

    def _out_of_memory(self, error: BaseException) -> str:
        free, total = self.device.mem_info
        return (f"backend {self.name!r}: the GPU's memory does not suffice ({error}); GPU {self.device.id} has {total / 1e6:,.0f} MB, "
                f"of which {free / 1e6:,.0f} are free. Take a smaller batch_size or network, wrap layers in Checkpoint, leave the data "
                "on the host and give fit an iterable of batches, or end what else nvidia-smi shows on this GPU")

    def describe(self) -> str:
        """What runs, on what: for reports and the test header."""
        import importlib.metadata as metadata

        if self.kind == "cupy":
            import cupy

            name = cupy.cuda.runtime.getDeviceProperties(self.device.id)["name"].decode()
            version = ".".join(cupy.__version__.split(".")[:2])
            if name.startswith("cuda-on-cpu"):
                return f"cupy {version} on an emulated device"
            return f"cupy {version} on {'an' if name.startswith('NVIDIA') else 'a'} {name}"
        version = np.__version__ if self.kind == "numpy" else metadata.version(_MODULE[self.kind].replace("_", "-"))
        return f"{self.kind} {version} on {self.device}"


# One namespace object a library, so that `is` compares and a dictionary finds it.
_namespaces: dict[type, Any] = {}
_kinds: dict[Any, str] = {}


def _import(kind: str) -> Any:
    """The namespace of a library, imported when it is first asked for."""
    if kind == "cupy":
        _require_cupy()
    else:
        _require(kind)
    xp = importlib.import_module("array_api_strict" if kind == "array-api-strict" else f"array_api_compat.{kind}")
    _kinds[xp] = kind
    return xp


def _require(kind: str) -> None:
    if importlib.util.find_spec(_MODULE[kind]) is None:
        raise BackendError(f"backend {kind!r}: the package is not installed; {_INSTALL[kind]}")


def _require_cupy() -> None:
    """Availability is a question to the driver and to CUDA's libraries, not to the import system: `import cupy` works without a GPU."""
    _require("cupy")
    try:
        import cupy
    except ImportError as e:
        raise BackendError(f"backend 'cupy': CuPy cannot be imported: {e}; install it anew: {_INSTALL['cupy']}") from e

    runtime, installed = cupy.cuda.runtime, f"CuPy {cupy.__version__} is installed"
    no_gpu = "backend 'cupy': the NVIDIA driver reports no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES, or use backend='numpy'"
    built = runtime.runtimeGetVersion() // 1000
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as e:
        driver = runtime.driverGetVersion()               # the newest CUDA that it can run; 0 without a driver
        if driver == 0:
            raise BackendError(f"backend 'cupy': no NVIDIA driver: {installed} but no NVIDIA driver answers ({e}); "
                               "install the NVIDIA driver, or use backend='numpy'") from e
        if driver // 1000 < built:
            raise BackendError(f"backend 'cupy': wrong CUDA version: {installed} for CUDA {built}, the NVIDIA driver runs CUDA "
                               f"{_version(driver)} at most; update the driver, or pip uninstall cupy-cuda{built}x and "
                               f"{_INSTALL['cupy']}") from e
        raise BackendError(no_gpu) from e
    if count == 0:
        raise BackendError(no_gpu)
    try:                                                  # else they would be missed at the first kernel, and at the first product
        cupy.cuda.nvrtc.getVersion()
        cupy.cuda.cublas.getVersion                       # noqa: B018 (loads the library)
    except (ImportError, AttributeError, RuntimeError) as e:
        raise BackendError(f"backend 'cupy': CUDA libraries are missing: {installed} for CUDA {built} ({' '.join(str(e).split())}); "
                           f"install them: pip install 'cupy-cuda{built}x[ctk]', or the CUDA {built} toolkit") from e


def _version(number: int) -> str:
    """CUDA's way to write 12.4 is 12040."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _is_out_of_memory(error: BaseException) -> bool:
    """From CuPy's pool, or from what allocates beside it: the runtime, the driver when it loads a kernel, cuBLAS."""
    text = str(error)
    return type(error).__name__ == "OutOfMemoryError" or \
        any(name in text for name in ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"))


def _cupy_device(index: str) -> Any:
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    if index and not (index.isascii() and index.isdigit()):
        raise BackendError(f"backend 'cupy:{index}': the device is a number, as in 'cupy:0'")
    if index and int(index) >= count:
        raise BackendError(f"backend 'cupy:{index}': there is no such GPU, the driver reports {count} (0 to {count - 1}); check nvidia-smi "
                           "and CUDA_VISIBLE_DEVICES")
    return cupy.cuda.Device(int(index)) if index else cupy.cuda.Device()


def _is_array(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] in ("numpy", "cupy", "torch", "array_api_strict") and hasattr(x, "dtype")


def kind(xp: Any) -> str:
    """Which library a namespace is of: "numpy", "cupy", "torch", "array-api-strict" or "other"."""
    return _kinds.get(xp, "other")


def namespace(x: Any) -> Any:
    """The Array API namespace of an array: a dictionary look-up by type after the first time."""
    xp = _namespaces.get(type(x))
    if xp is None:
        root = type(x).__module__.partition(".")[0]
        for name, module in _MODULE.items():
            if root == module and _is_array(x):
                xp = _namespaces[type(x)] = _import(name)
                break
        else:
            if not hasattr(x, "__array_namespace__"):
                raise TypeError(f"expected an array of {', '.join(NAMES)}, got {type(x).__module__}.{type(x).__name__}")
            xp = x.__array_namespace__()
    return xp


def backend_of(x: Any) -> Backend:
    """The backend an array lives on."""
    xp = namespace(x)
    name = kind(xp)
    if name == "numpy":
        return get_backend("numpy")
    if name == "cupy":
        return Backend(name, str(x.device.id), xp=xp)
    made = Backend(name, xp=xp)
    made.device = x.device
    return made


def to_host(x: Any) -> np.ndarray:
    """Any array, list or number as a NumPy array; waits for the device."""
    if isinstance(x, np.ndarray):
        return x
    if not _is_array(x):
        return np.asarray(x)
    root = type(x).__module__.partition(".")[0]
    if root == "cupy":
        return x.get()
    if root == "torch":
        return x.detach().cpu().numpy()
    if root == "array_api_strict":
        import array_api_strict

        return np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE")))
    return np.asarray(x)


def get_backend(backend: Any = None) -> Backend:
    """A backend from its name ("numpy", "cupy", "cupy:1", "torch", "array-api-strict:device1"), a namespace or a Backend.

    None means the environment variable XPNET_BACKEND, else NumPy.

    "cupy:1" is the second GPU; "cupy" the one that is current now. What a model does, and `fit`, `evaluate` and `batches`, is done on the
    model's GPU, whichever is current. A loss, a metric or any array operation of your own is not: CuPy runs it on the *current* GPU, and
    where the arrays lie on another one it warns and reads them across (or raises ValueError, where the two cannot reach each other), and
    leaves the result on the wrong one. So with a GPU that is not the current one write your own loop within `with model.backend:`. For
    one GPU to a process, CUDA_VISIBLE_DEVICES=1 and plain "cupy" do the same.

    Raises BackendError where it cannot be used here, saying why, and ValueError for an unknown name.
    """
    if backend is None:
        backend = os.environ.get("XPNET_BACKEND") or "numpy"
    if isinstance(backend, Backend):
        return backend
    if not isinstance(backend, str):                      # a namespace: numpy, cupy, torch, or its compat twin
        library = getattr(backend, "__name__", "").removeprefix("array_api_compat.")
        for name in NAMES:
            if library == _MODULE[name]:
                return Backend(name)
        raise unknown("backend", getattr(backend, "__name__", backend), NAMES)
    name, _, index = backend.partition(":")
    if name not in NAMES:
        raise unknown("backend", backend, NAMES)
    return Backend(name, index)


def available_backends() -> dict[str, str]:
    """Each backend with "available", or with why it cannot be used here and what to do."""
    state = {}
    for name in NAMES:
        try:
            get_backend(name)
            state[name] = "available"
        except BackendError as e:
            state[name] = str(e)
    return state

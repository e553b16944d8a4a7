"""Backends: an array namespace, a device, and the way to and from the host.

A backend is named in one place only, `Model(net, backend=...)`. Importing this module imports no array library but NumPy:
array-api-compat, CuPy and PyTorch are imported when a backend is first asked for.
"""

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

    `with backend:` makes its device the current one (CuPy's device is a context, not an argument).
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
                return self.xp.device(index or "cpu")
            except RuntimeError as e:
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

    def __exit__(self, *exc: Any) -> None:
        if self.kind == "cupy":
            self.device.__exit__(*exc)

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
            return x if dtype is None or x.dtype == dtype else self.xp.astype(x, dtype)
        host = to_host(x)
        if self.kind == "numpy":
            return host if dtype is None or host.dtype == dtype else host.astype(dtype)
        with self:
            if self.kind == "torch" and not host.flags.writeable:
                host = host.copy()                        # torch warns when it is given read-only memory
            if self.kind == "cupy":
                return self.xp.asarray(host, dtype=dtype)
            made = self.xp.asarray(host, device=self.device)
            return made if dtype is None or made.dtype == dtype else self.xp.astype(made, dtype)

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
        """Bytes that may still be allocated on the device; infinite on the host."""
        if self.kind == "cupy":
            with self:
                return float(self.device.mem_info[0])
        return float("inf")

    def describe(self) -> str:
        """What runs, on what: for reports and the test header."""
        import importlib.metadata as metadata

        if self.kind == "cupy":
            import cupy

            name = cupy.cuda.runtime.getDeviceProperties(self.device.id)["name"].decode()
            return f"cupy {cupy.__version__} on {name}"
        version = np.__version__ if self.kind == "numpy" else metadata.version(_MODULE[self.kind].replace("_", "-"))
        return f"{self.kind} {version} on {self.device}"


# One namespace object a library, so that `is` compares and a dictionary finds it.
_namespaces: dict[type, Any] = {}
_kinds: dict[Any, str] = {}


def _import(kind: str) -> Any:
    if kind == "numpy":
        import array_api_compat.numpy as xp
    elif kind == "cupy":
        _require_cupy()
        import array_api_compat.cupy as xp
    elif kind == "torch":
        _require(kind)
        import array_api_compat.torch as xp
    else:
        _require(kind)
        import array_api_strict as xp
    _kinds[xp] = kind
    return xp


def _require(kind: str) -> None:
    if importlib.util.find_spec(_MODULE[kind]) is None:
        raise BackendError(f"backend {kind!r}: the package is not installed; {_INSTALL[kind]}")


def _require_cupy() -> None:
    """Availability is a question to the driver, not to the import system: `import cupy` works without a GPU."""
    _require("cupy")
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as e:                                # CUDARuntimeError, or a missing shared library
        raise BackendError(
            f"backend 'cupy': CuPy {cupy.__version__} is installed but no NVIDIA driver answers ({e}); "
            "install the NVIDIA driver, or use backend='numpy'") from e
    if count == 0:
        raise BackendError("backend 'cupy': the NVIDIA driver reports no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES, "
                           "or use backend='numpy'")


def _cupy_device(index: str) -> Any:
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    if index and not index.isdigit():
        raise BackendError(f"backend 'cupy:{index}': the device is a number, as in 'cupy:0'")
    if index and int(index) >= count:
        raise BackendError(f"backend 'cupy:{index}': there is no such GPU, the driver reports {count} (0 to {count - 1})")
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
    Raises BackendError where it cannot be used here, saying why, and ValueError for an unknown name.
    """
    if backend is None:
        backend = os.environ.get("XPNET_BACKEND") or "numpy"
    if isinstance(backend, Backend):
        return backend
    if not isinstance(backend, str):                      # a namespace: numpy, cupy, torch, or its compat twin
        for name in NAMES:
            if _MODULE[name] in getattr(backend, "__name__", "").split("."):
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

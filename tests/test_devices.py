"""Devices: `backend="cupy:1"` does its work there and nowhere else, and what is missing or too small says so.

The emulated CUDA device is one, so "there" is tested by what reaches it outside `with backend:`; a second GPU is used where there is one.
"""

import importlib.util
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import STATE, reason

import xpnet as xn
from xpnet.backend import Backend, available_backends, backend_of, get_backend
from xpnet.data import Standardizer, batches, one_hot, split
from xpnet.errors import BackendError

cupy = pytest.importorskip("cupy")
needs_device = pytest.mark.skipif(STATE["cupy"] is not None, reason=reason(STATE["cupy"] or ""))
needs_emulator = pytest.mark.skipif("cuda_on_cpu" not in sys.modules, reason="needs the counters of the emulated device (ci/cuda_on_cpu)")
needs_two = pytest.mark.skipif(STATE["cupy"] is not None or cupy.cuda.runtime.getDeviceCount() < 2, reason="needs two GPUs")


@pytest.fixture
def runtime(monkeypatch):
    """CUDA as it would answer elsewhere: with two GPUs, all libraries and a driver for CUDA 13; a test changes what it is about."""
    answers = {"getDeviceCount": 2, "driverGetVersion": 13000, "runtimeGetVersion": 13020}

    def answer(name):
        if isinstance(answers[name], Exception):
            raise answers[name]
        return answers[name]

    for name in answers:
        monkeypatch.setattr(cupy.cuda.runtime, name, lambda name=name: answer(name))
    monkeypatch.setattr(cupy.cuda.nvrtc, "getVersion", lambda: (13, 0))
    monkeypatch.setitem(vars(cupy.cuda), "cublas", types.SimpleNamespace(getVersion=None))   # CuPy loads it when it is first asked for
    return answers


def cuda_error(status):
    return cupy.cuda.runtime.CUDARuntimeError(status)


# What is missing.


@pytest.mark.parametrize("status,driver,short,advice", [
    (35, 0, "no NVIDIA driver", "no NVIDIA driver answers .*install the NVIDIA driver, or use backend='numpy'"),
    (35, 12040, "wrong CUDA version", r"for CUDA 13, the NVIDIA driver runs CUDA 12.4 at most; update the driver, or .*'xpnet\[cupy12\]'"),
    (100, 13000, "the NVIDIA driver reports no GPU", "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use backend='numpy'"),
])
def test_the_driver_decides(status, driver, short, advice, runtime):
    runtime["getDeviceCount"], runtime["driverGetVersion"] = cuda_error(status), driver
    with pytest.raises(BackendError, match=advice) as caught:
        get_backend("cupy")
    assert reason(str(caught.value)) == short             # what the header of a test run says
    assert available_backends()["cupy"] == str(caught.value)


@pytest.mark.parametrize("library", ["nvrtc", "cublas"])
def test_libraries_are_missed_before_the_first_kernel(library, runtime, monkeypatch):
    def missing(*args):
        raise ImportError(f"lib{library}.so.13: cannot open shared object file")

    if library == "nvrtc":
        monkeypatch.setattr(cupy.cuda.nvrtc, "getVersion", missing)
    else:
        monkeypatch.setitem(vars(cupy.cuda), "cublas", type("Unavailable", (), {"__getattr__": missing})())
    advice = rf"CUDA libraries are missing: .* for CUDA 13 \(lib{library}.*install them: pip install 'cupy-cuda13x\[ctk\]'"
    with pytest.raises(BackendError, match=advice):
        get_backend("cupy")


def test_a_cupy_that_cannot_be_imported(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="CuPy cannot be imported: .*install it anew: pip install"):
        get_backend("cupy")


def test_an_index_of_its_own_for_each_gpu(runtime):
    for i in (0, 1):
        backend = get_backend(f"cupy:{i}")
        assert backend.name == f"cupy:{i}" and backend.device.id == i
    with pytest.raises(BackendError, match=r"'cupy:2': there is no such GPU, the driver reports 2 \(0 to 1\); check nvidia-smi"):
        get_backend("cupy:2")
    for wrong in ("one", "-1", "1.0", "²"):
        with pytest.raises(BackendError, match="the device is a number, as in 'cupy:0'"):
            get_backend(f"cupy:{wrong}")


@pytest.mark.parametrize("name,said", [
    (b"NVIDIA H100 80GB HBM3", "on an NVIDIA H100 80GB HBM3"),
    (b"Tesla T4", "on a Tesla T4"),
    (b"cuda-on-cpu (host emulation, no GPU)", "on an emulated device"),
])
def test_the_header_says_what_runs_on_what(name, said, runtime, monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", lambda i: {"name": name})
    monkeypatch.setattr(cupy, "__version__", "14.2.0")
    assert get_backend("cupy:1").describe() == f"cupy 14.2 {said}"


# Where the work is done.


class Watch:
    """What reaches the device outside `with backend:`. Copies to the host are not among it: CuPy enters the array's own device for them."""

    COUNTED = ("kernel_launches", "blas_calls", "h2d_copies", "d2d_copies", "memsets")

    def __init__(self, monkeypatch):
        import cuda_on_cpu

        self.counters, self.depth, self.found = cuda_on_cpu.counters, 0, dict.fromkeys(self.COUNTED, 0)
        enter, leave = Backend.__enter__, Backend.__exit__

        def watched_enter(backend):
            self.look()
            self.depth += 1
            return enter(backend)

        def watched_leave(backend, *error):
            self.look()
            self.depth -= 1
            return leave(backend, *error)

        monkeypatch.setattr(Backend, "__enter__", watched_enter)
        monkeypatch.setattr(Backend, "__exit__", watched_leave)
        self.before = self.counters()

    def look(self):
        now = self.counters()
        if self.depth == 0:
            for name in self.COUNTED:
                self.found[name] += now[name] - self.before[name]
        self.before = now

    def outside(self):
        """Since the last time that this was asked."""
        self.look()
        found, self.found = self.found, dict.fromkeys(self.COUNTED, 0)
        return {name: n for name, n in found.items() if n}


def network():
    return xn.Sequential(xn.Dropout(0.2), xn.Dense(6, 8, "relu"), xn.Residual(xn.Dense(8, 8), xn.Tanh()), xn.Dense(8, 3))


def arrays(dtype="float32"):
    rng = np.random.default_rng(0)
    return rng.standard_normal((20, 6)).astype(dtype), rng.integers(0, 3, 20)


@needs_device
@needs_emulator
@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed"])
def test_a_model_works_on_its_own_device_only(dtype, monkeypatch, tmp_path):
    x, t = arrays()
    wide, t_device = get_backend("cupy").asarray(x.astype("float64")), get_backend("cupy").asarray(t)
    watch = Watch(monkeypatch)
    model = xn.Model(network(), backend="cupy:0", dtype=dtype)
    assert not watch.outside(), "Model"
    loss, optimizer = xn.SoftmaxCrossEntropy(), xn.Adam(1e-3, weight_decay=0.1, clip=xn.ClipNorm(1.0), lr_scale={"1.*": 0.5}, freeze="3.b")

    for data in ((x, t), (wide, t_device)):               # host and device arrays, of the model's dtype and not
        xn.fit(model, loss, optimizer, data, validation=data, epochs=2, batch_size=8, metrics=["accuracy"], train_metrics=True,
               callbacks=[xn.EarlyStopping(), lambda run: model.predict(x)], progress=False)
        assert not watch.outside(), "fit"
        xn.evaluate(model, loss, (*data, np.ones(20)), metrics=["accuracy"])
        assert not watch.outside(), "evaluate"
        model.predict(data[0]), model.predict_proba(data[0]), model.predict_classes(data[0], batch_size=7)
        assert not watch.outside(), "predict"

    answers = get_backend("cupy").asarray(arrays()[1][:, None] == np.arange(3)), get_backend("cupy").asarray(np.ones(20))
    watch.outside()
    xn.fit(model, xn.BinaryCrossEntropy(), xn.Momentum(1e-3), (wide, *answers), progress=False)
    assert not watch.outside(), "fit, which casts targets and weights"
    xn.evaluate(model, xn.BinaryCrossEntropy(), (wide, *answers))
    assert not watch.outside(), "evaluate, which casts targets and weights"

    for xb, tb in batches((x, t), batch_size=8, seed=0, backend=model.backend):
        y, backward = model.forward(model.asarray(xb))
        with model.backend:
            value, dy = loss(y, tb)
        optimizer.step(model, backward(dy))
    assert not watch.outside(), "a loop written out"

    optimizer.load_state_dict(model, optimizer.state_dict())
    assert not watch.outside(), "the optimizer's state"
    model.set_param("1.W", model.get_param("1.W"))
    model.get_grad("1.W")
    model.save(tmp_path / "model.npz")
    model.load(tmp_path / "model.npz")
    assert not watch.outside(), "parameters and files"

    loss(*(model.asarray(a) for a in (np.zeros((4, 3)), np.zeros(4, dtype=int))))
    assert watch.outside()["kernel_launches"], "a loss called outside is seen"


@needs_device
@needs_emulator
def test_data_are_cut_and_scaled_where_they_lie(monkeypatch):
    x, t = (get_backend("cupy").asarray(a) for a in arrays())
    wide = get_backend("cupy").asarray(arrays("float64")[0])
    watch = Watch(monkeypatch)
    list(batches((x, t), batch_size=8, seed=0))
    split(x, t, test=0.3, stratify=t)
    one_hot(t, 3)
    scaler = Standardizer().fit(x)
    scaler.inverse(scaler.transform(wide))                # casts what was fitted
    assert not watch.outside()


@needs_device
def test_arrays_of_another_gpu_are_refused(monkeypatch):
    """They would be read across, with a warning of CuPy's, and the result left on the wrong GPU."""
    model = xn.Model(network(), backend="cupy")
    x = model.asarray(arrays()[0])
    y, backward = model.forward(x)
    monkeypatch.setattr(model.backend, "device", cupy.cuda.Device(x.device.id + 1))
    with pytest.raises(TypeError, match="got cupy.ndarray on <CUDA Device 0>; .*model.asarray.* within `with model.backend:`"):
        model.forward(x)
    with pytest.raises(TypeError, match="got cupy.ndarray on <CUDA Device 0>"):
        backward(y)


@needs_device
def test_the_backend_of_an_array_names_its_gpu():
    assert backend_of(get_backend("cupy").asarray([1.0])).name == "cupy:0"


@needs_two
def test_training_on_the_second_gpu():
    """With the first GPU current, and CuPy's warning about reading across an error."""
    x, t = arrays()
    model = xn.Model(network(), backend="cupy:1")
    loss, optimizer = xn.SoftmaxCrossEntropy(), xn.Adam(1e-2)
    with cupy.cuda.Device(0):
        history = xn.fit(model, loss, optimizer, (x, t), validation=(x, t), epochs=3, metrics=["accuracy"], progress=False)
        y, backward = model.forward(model.asarray(x))
        with model.backend:
            _, dy = loss(y, model.asarray(t))
        optimizer.step(model, backward(dy))
        first = xn.Model(network(), backend="cupy:0")
        xn.fit(first, loss, xn.Adam(1e-2), (x, t), epochs=3, progress=False)
    assert history["loss"][-1] < history["loss"][0]
    assert {a.device.id for a in (model.params, model.grads, y, dy, *optimizer.state.values())} == {1}
    assert first.params.device.id == 0


# Out of memory: 64 MB, really.

TOO_MUCH = """
import numpy as np, xpnet as xn
from xpnet.errors import BackendError

def attempt(what, f):
    try:
        f()
        print(what, "fits")
    except BackendError as e:
        print(what, "cause", type(e.__cause__).__name__, e)

def small():
    return xn.Model(xn.Sequential(xn.Dense(100, 100, "relu"), xn.Dense(100, 2)), backend="cupy")

model = small()
x, t = np.ones((100_000, 100), "float32"), np.arange(100_000) % 2
attempt("model", lambda: xn.Model(xn.Dense(10_000, 1_000), backend="cupy"))
attempt("to-device", lambda: model.asarray(np.ones((200_000, 100), "float32")))
attempt("forward", lambda: model.forward(model.asarray(x)))
attempt("fit", lambda: xn.fit(small(), xn.SoftmaxCrossEntropy(), xn.Adam(), (x, t), batch_size=None, progress=False))
attempt("again", lambda: xn.fit(small(), xn.SoftmaxCrossEntropy(), xn.Adam(), (x[:1000], t[:1000]), progress=False))
"""


@needs_device
@needs_emulator
def test_out_of_memory_says_what_to_do():
    result = subprocess.run([sys.executable, "-c", TOO_MUCH], capture_output=True, text=True, timeout=120,
                            env={**os.environ, "CUDA_ON_CPU": "1", "CUDA_ON_CPU_MEMORY_MB": "64"})
    assert result.returncode == 0, result.stderr
    said = {line.partition(" ")[0]: line for line in result.stdout.splitlines()}
    for what, size in (("model", "40,004,"), ("to-device", "80,000,"), ("forward", "40,000,"), ("fit", "40,000,")):
        assert "cause OutOfMemoryError" in said[what], said
        assert f"Out of memory allocating {size}" in said[what]
        assert "GPU 0 has 67 MB, of which" in said[what] and "Take a smaller batch_size or network" in said[what]
    assert said["again"] == "again fits"                  # an attempt that failed leaves nothing behind


@needs_device
@pytest.mark.parametrize("error", ["CUDADriverError: CUDA_ERROR_OUT_OF_MEMORY: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"])
def test_out_of_memory_beside_the_pool(error):
    with pytest.raises(BackendError, match="memory does not suffice") as caught, get_backend("cupy"):
        raise RuntimeError(error)
    assert str(caught.value.__cause__) == error


@needs_device
def test_other_errors_pass():
    with pytest.raises(ValueError, match="^mine$"), get_backend("cupy"):
        raise ValueError("mine")


@needs_device
def test_memory_that_the_pool_holds_unused_is_free():
    backend = get_backend("cupy")
    before = backend.free_memory()
    x = backend.zeros((2 ** 22,), backend.xp.float32)
    assert before - backend.free_memory() >= x.nbytes
    del x
    assert backend.free_memory() >= before

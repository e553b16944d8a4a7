"""Backends and dtypes for every test.

A test that takes `backend` runs once for each of

    numpy           as a user has it
    numpy-readonly  every input is read-only, so that a forbidden in-place write fails
    strict          array-api-strict on a device that is not the host: refuses what the standard does not promise, and
                    `np.asarray(x)`, exactly as CuPy does
    strict-float32  the same on a device without float64, without boolean indexing and data-dependent shapes
    torch           on the CPU
    cupy            on a GPU, or on an emulated device

and one that takes `dtype` for each floating dtype the backend has. What is not installed is left out; the header says why.
"""

import os
import re
import shutil
import warnings

import numpy as np
import pytest

import xpnet
from xpnet.backend import get_backend
from xpnet.errors import BackendError

NAMES = {"numpy": "numpy", "numpy-readonly": "numpy", "strict": "array-api-strict:device1",
         "strict-float32": "array-api-strict:no_float64", "torch": "torch", "cupy": "cupy"}


def state_of(name):
    """None where the backend can be used, else why not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            get_backend(NAMES[name])
        return None
    except BackendError as e:
        return str(e)


STATE = {name: state_of(name) for name in NAMES}


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="also run the tests that take longer")
    parser.addoption("--backend", action="append", default=[], choices=list(NAMES), help="only these backends (repeatable)")


def reason(state):
    """The first clause of a BackendError: "backend 'cupy': no NVIDIA driver: CuPy ..." is "no NVIDIA driver"."""
    return re.split("[:;] ", state.partition(": ")[2])[0]


def chosen(config):
    return [n for n in (config.getoption("--backend") or NAMES) if STATE[n] is None]


def pytest_report_header(config):
    lines = [f"xpnet {xpnet.__file__}", "backends (xpnet.available_backends() says what to do about one that is skipped):"]
    for name in NAMES:
        if STATE[name] is not None:
            lines.append(f"  {name:15} skipped: {reason(STATE[name])}")
        elif name not in chosen(config):
            lines.append(f"  {name:15} not chosen")
        else:
            lines.append(f"  {name:15} {get_backend(NAMES[name]).describe()}")
    return lines


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--full"):
        for item in items:
            if "full" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes longer: runs with --full"))


def pytest_generate_tests(metafunc):
    names = chosen(metafunc.config)
    if metafunc.definition.get_closest_marker("float64"):
        names = [n for n in names if n != "strict-float32"]
    if "backend" in metafunc.fixturenames and "dtype" in metafunc.fixturenames:
        pairs = [(n, d) for n in names for d in ("float32", "float64") if not (n == "strict-float32" and d == "float64")]
        metafunc.parametrize("backend,dtype", pairs, indirect=["backend"], ids=[f"{n}-{d}" for n, d in pairs])
    elif "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", names, indirect=True)


class Bench:
    """A backend as tests use it."""

    def __init__(self, name):
        self.name = name
        self.backend = get_backend(NAMES[name])
        self.xp = self.backend.xp
        self.readonly = name == "numpy-readonly"
        self.float64 = name != "strict-float32"

    @property
    def widest(self):
        return "float64" if self.float64 else "float32"

    def asarray(self, x, dtype=None):
        """A fresh array of this backend; read-only where that is what is tested."""
        x = np.array(x)
        if dtype is not None:
            x = x.astype(dtype)
        elif x.dtype == np.float64 and not self.float64:
            x = x.astype(np.float32)
        made = self.backend.asarray(x)
        if self.readonly:
            made.flags.writeable = False
        return made

    def host(self, x):
        return np.array(self.backend.to_host(x))

    def model(self, net, dtype="float32", seed=0):
        """A Model; on numpy-readonly its layers see read-only parameters."""
        model = xpnet.Model(net, backend=self.backend, dtype=dtype, seed=seed)
        if self.readonly:
            lock(model._views)
        return model


def lock(tree):
    for v in tree.values():
        if isinstance(v, dict):
            lock(v)
        else:
            v.flags.writeable = False


@pytest.fixture
def backend(request):
    bench = Bench(request.param)
    if request.param != "strict-float32":
        yield bench
        return
    import array_api_strict

    with array_api_strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False):
        yield bench


@pytest.fixture(autouse=True)
def default_backend(monkeypatch):
    """Tests do not depend on the caller's environment."""
    monkeypatch.delenv("XPNET_BACKEND", raising=False)


@pytest.fixture
def no_sync(monkeypatch):
    """Any conversion of a strict array to a Python number, and any copy to the host, raises."""
    array_api_strict = pytest.importorskip("array_api_strict")
    cls = type(array_api_strict.asarray(1.0))

    def refuse(name):
        def method(self, *args):
            raise AssertionError(f"host synchronisation: {name} of an array")
        return method

    for name in ("__float__", "__int__", "__bool__", "__index__", "__complex__"):
        monkeypatch.setattr(cls, name, refuse(name))
    return array_api_strict


@pytest.fixture(scope="session")
def chromium_path(request):
    """Where Chromium is. Pages are made on NumPy, so what a browser shows is looked at once, where NumPy is tested."""
    pytest.importorskip("playwright")
    if "numpy" not in chosen(request.config):
        pytest.skip("not chosen: numpy")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium: neither chromium, chromium-browser nor google-chrome is on the PATH")
    return path


@pytest.fixture(scope="module")
def chromium(chromium_path):
    """A browser, to open pages in."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium_path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        yield browser
        browser.close()


TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def assert_close(actual, expected, bench, rtol=None, atol=None, dtype=None):
    """Namespace, device, dtype and shape first, then the values. `expected` is a host array."""
    expected = np.asarray(expected)
    assert xpnet.backend.namespace(actual) is bench.xp or bench.name.startswith("numpy"), type(actual)
    if hasattr(actual, "device") and not bench.name.startswith("numpy"):
        assert actual.device == bench.backend.device, (actual.device, bench.backend.device)
    if dtype is not None:
        assert str(actual.dtype).rpartition(".")[2] == dtype, (actual.dtype, dtype)
    assert tuple(actual.shape) == expected.shape, (tuple(actual.shape), expected.shape)
    kind = str(actual.dtype).rpartition(".")[2]
    tol = TOLERANCE.get(kind, 0.0)
    np.testing.assert_allclose(bench.host(actual), expected, rtol=tol if rtol is None else rtol, atol=tol if atol is None else atol)


os.environ.setdefault("MPLBACKEND", "Agg")

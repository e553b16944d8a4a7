"""Every example runs on every backend, as its own process, as a user starts it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import NAMES, STATE

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(p.name for p in EXAMPLES.glob("*.py"))
NEEDS = {"digits.py": "sklearn", "diabetes.py": "sklearn", "autoencoder.py": "sklearn", "forecast.py": "statsmodels"}
BACKENDS = [n for n in ("numpy", "strict", "torch", "cupy") if STATE[n] is None]


def run(*arguments, timeout=600, **environment):
    result = subprocess.run([sys.executable, "-W", "error::RuntimeWarning", *arguments], capture_output=True, text=True, timeout=timeout,
                            cwd=EXAMPLES.parent, env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), **environment})
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory):
    """scikit-learn's digits in the four files of MNIST, enlarged to 28 x 28."""
    x, t = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    images = np.zeros((len(x), 28, 28), dtype=np.uint8)
    images[:, 2:26, 2:26] = np.kron(x.reshape(-1, 8, 8), np.ones((3, 3))) * 15.9
    folder = tmp_path_factory.mktemp("mnist")
    for name, part in (("train", slice(0, 1500)), ("t10k", slice(1500, None))):
        write_idx(folder / f"{name}-images-idx3-ubyte", images[part])
        write_idx(folder / f"{name}-labels-idx1-ubyte", t[part].astype(np.uint8))
    return folder


def write_idx(path, array):
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">i4").tobytes() + array.tobytes())


def chosen(request, name):
    only = request.config.getoption("--backend")
    if only and name not in only:
        pytest.skip(f"not chosen: {name}")


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_example(script, name, request):
    chosen(request, name)
    arguments = [f"examples/{script}", "--quick", "--backend", NAMES[name]]
    if script in ("mnist.py", "mnist_cnn.py", "lenet5.py", "autoencoder.py", "vae.py"):
        arguments += ["--data", str(request.getfixturevalue("small_mnist"))]
    if script in NEEDS:
        pytest.importorskip(NEEDS[script])
    assert run(*arguments).strip()


# What the README and the examples claim. These train for real.

@pytest.mark.full
def test_claim_digits(request):
    chosen(request, "numpy")
    out = run("examples/digits.py", "--seeds", "5")
    assert float(re.search(r"mean ([\d.]+) %", out)[1]) >= 97.5, out


@pytest.mark.full
def test_claim_xor(request):
    chosen(request, "numpy")
    out = run("examples/xor.py", "--seeds", "20")
    assert "for 20 of 20 seeds" in out, out


@pytest.mark.full
def test_claim_diabetes(request):
    chosen(request, "numpy")
    out = run("examples/diabetes.py")
    for line in out.splitlines()[1:5]:
        ours, published = (float(v) for v in line.split()[-2:])
        assert abs(ours - published) <= 1e-6 * abs(published), out


@pytest.mark.full
@pytest.mark.skipif("XPNET_MNIST" not in os.environ, reason="XPNET_MNIST names no folder with the MNIST files")
def test_claim_mnist(request):
    chosen(request, "numpy")
    out = run("examples/mnist.py", "--data", os.environ["XPNET_MNIST"])
    assert float(re.search(r"test error mean ([\d.]+) %", out)[1]) <= 1.9, out


@pytest.mark.full
@pytest.mark.skipif("XPNET_MNIST" not in os.environ, reason="XPNET_MNIST names no folder with the MNIST files")
def test_claim_mnist_cnn(request):
    chosen(request, "numpy")
    out = run("examples/mnist_cnn.py", "--epochs", "3", "--data", os.environ["XPNET_MNIST"], timeout=1800)   # the README's 12 epochs take minutes
    assert float(re.search(r"test error mean ([\d.]+) %", out)[1]) <= 1.3, out


@pytest.mark.full
def test_claim_forecast(request):
    chosen(request, "numpy")
    pytest.importorskip("statsmodels")
    out = run("examples/forecast.py")
    ours, naive, drift = (float(re.search(rf"^{name}.* ([\d.]+)$", out, re.M)[1])
                          for name in ("GRU, mean", "seasonal naive  ", "seasonal naive with drift"))
    assert ours < 0.75 and ours < drift < naive, out


@pytest.mark.full
def test_claim_autoencoder(request):
    chosen(request, "numpy")
    pytest.importorskip("sklearn")
    ours, pca = map(float, re.search(r"autoencoder ([\d.]+), PCA ([\d.]+)", run("examples/autoencoder.py")).groups())
    assert ours < 0.75 * pca

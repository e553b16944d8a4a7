"""The notebooks of examples/: what is stored in each, and that each runs on NumPy, printing what is stored, and on CuPy."""

import importlib.util
import os
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from conftest import NAMES, STATE

ROOT = Path(__file__).parent.parent
RUNNER = ROOT / "ci" / "notebooks"
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
PER_NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
MACHINE = re.compile(rf"{re.escape(str(ROOT))}|{re.escape(sys.prefix)}\b|/tmp/|/home/|/root/|[/\\]Users[/\\]|site-packages|ipykernel_\d|\bat 0x[0-9a-f]+")
ONE_MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def runner():
    """ci/notebooks as a module."""
    pytest.importorskip("nbformat")
    loader = SourceFileLoader("ci_notebooks", str(RUNNER))
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader("ci_notebooks", loader))
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


@PER_NOTEBOOK
def test_what_is_stored(path, runner):
    import nbformat

    notebook = runner.read(path)
    nbformat.validate(notebook)
    assert path.stat().st_size < ONE_MEGABYTE, f"{path.stat().st_size:,} bytes: fewer or smaller figures"

    first, *_ = notebook.cells
    cells = runner.code_cells(notebook)
    assert first.cell_type == "markdown" and first.source.startswith("# "), "begins with a title"
    assert notebook.cells[1] is cells[0] and len(runner.BACKEND.findall(cells[0].source)) == 1, 'then a cell with BACKEND = "numpy"'
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run once, from the top"

    outputs = [output for cell in cells for output in cell.outputs]
    assert any(runner.texts(cell) for cell in cells), "outputs are stored: ci/notebooks --write"
    assert not [o for o in outputs if o.output_type == "error"], "no cell fails"
    assert not [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"], "no warnings"
    assert notebook.metadata == runner.METADATA and not any("execution" in cell.metadata for cell in cells), "stored by ci/notebooks --write"
    for output in outputs:
        for kind in [kind for kind in output.get("data", ()) if kind.startswith("image/")]:
            del output.data[kind]
    assert not MACHINE.findall(str(notebook)), "paths or addresses of a machine"


@pytest.mark.full
@PER_NOTEBOOK
@pytest.mark.parametrize("name", [n for n in ("numpy", "cupy") if STATE[n] is None])
def test_runs(path, name, request):
    """On NumPy it also prints what is stored."""
    only = request.config.getoption("--backend")
    if only and name not in only:
        pytest.skip(f"not chosen: {name}")
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    result = subprocess.run([sys.executable, str(RUNNER), "--backend", NAMES[name], str(path)], capture_output=True, text=True, timeout=1200,
                            env={k: v for k, v in os.environ.items() if k != "XPNET_BACKEND"})
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("a, b, same", [
    ("loss 0.1234", "loss 0.1235", True),                 # the last digit
    ("loss 0.1234", "loss 0.1239", False),
    ("1.234e-05", "1.236e-05", True),
    ("1.234e-05", "1.234e-06", False),
    ("difference 1.1e-16", "difference 0.0", True),       # noise
    ("difference 1.1e-16", "difference 3e-4", False),
    ("113 of 114", "112 of 114", False),                  # counts are exact
    ("a  0.5\n-----", "a 0.50001\n---------", True),      # a column has become wider
    ("W has the loss 0.5", "b has the loss 0.5", False),
    ("1.0 2.0", "1.0", False),
    ("x = -0.5", "x = 0.5", False),
])
def test_same_text(a, b, same, runner):
    assert runner.same_text(a, b) is same and runner.same_text(b, a) is same


def made(runner, *sources, outputs=()):
    """A notebook with these code cells."""
    import nbformat.v4 as v4

    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# Title"), *(v4.new_code_cell(s) for s in sources)])
    for cell, text in zip(runner.code_cells(notebook), outputs):
        cell.outputs = [v4.new_output("stream", name="stdout", text=text)] if text else []
    return notebook


def test_compare_names_the_cell(runner):
    stored = made(runner, "a", "b", outputs=("1.50", "2.50"))
    runner.compare(stored, made(runner, "a", "b", outputs=("1.50", "2.51")))
    with pytest.raises(runner.Failed, match=r"(?s)other text than is stored.*b\n--- stored\n2\.50\n--- now\n2\.60"):
        runner.compare(stored, made(runner, "a", "b", outputs=("1.50", "2.60")))
    with pytest.raises(runner.Failed):
        runner.compare(stored, made(runner, "a", "b", outputs=("1.50", "")))
    runner.code_cells(stored)[1].metadata["tags"] = ["varies"]
    runner.compare(stored, made(runner, "a", "b", outputs=("1.50", "9")))


@pytest.mark.full
def test_execute(runner):
    """The backend is put in, outputs come back, and an error, a warning or a missing BACKEND line fails."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    assert runner.texts(runner.code_cells(runner.execute(made(runner, 'BACKEND = "numpy"\nprint(BACKEND, 1 + 1)'), "torch"))[0]) == ["torch 2\n"]
    with pytest.raises(runner.Failed, match="division by zero"):
        runner.execute(made(runner, 'BACKEND = "numpy"', "1 / 0"), "numpy")
    with pytest.raises(runner.Failed, match="stderr"):
        runner.execute(made(runner, 'BACKEND = "numpy"', "import warnings; warnings.warn('careful')"), "numpy")
    with pytest.raises(runner.Failed, match="BACKEND"):
        runner.execute(made(runner, "backend = 1"), "numpy")


def test_write_is_for_numpy_only():
    result = subprocess.run([sys.executable, str(RUNNER), "--backend", "cupy", "--write"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "--backend numpy only" in result.stderr

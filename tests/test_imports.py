"""The shape of the package: imports go one way, and array code names no library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xpnet

ROOT = Path(xpnet.__file__).parent
# A module may import from those to its left, and from its own group.
ORDER = ["errors", "backend", "initializers", "layer", "layers", "losses", "optim", "layout", "precision", "model", "data", "metrics", "callbacks",
         "nonfinite", "capture", "progress", "train", "dryrun", "advice", "gradcheck", "comparison", "profiling",
         "plot", "derivation", "bug_zoo", "exercises", "verify", "cli", "__main__"]
METHODS = {("model", "dryrun")}                           # Model.summary starts the dry run, which needs the model
HOST = {"layout", "precision", "model", "data", "metrics", "callbacks", "train", "dryrun", "gradcheck", "comparison", "initializers", "layer",
        "plot", "derivation", "bug_zoo", "exercises", "verify"}   # may use NumPy, on the host


def modules():
    return sorted(p for p in ROOT.rglob("*.py") if p.name != "__init__.py" or p.parent != ROOT)


def group(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """(level, module) of each import in a file, those within functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, node.module or alias.name) for alias in node.names[:None if node.module is None else 1])


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    here = group(path)
    assert here in ORDER, f"say where {here} stands in the order of imports"
    depth = len(path.relative_to(ROOT).parts)
    for level, module in imports(path):
        if level == depth:                                # from the package's top
            there = module.partition(".")[0]
            assert ORDER.index(there) <= ORDER.index(here) or (here, there) in METHODS, f"{here} imports {there}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_array_code_names_no_library(path):
    allowed = {"numpy"} if group(path) in HOST else set()
    if group(path) == "backend":
        return
    for level, module in imports(path):
        root = module.partition(".")[0]
        if level == 0:
            assert root not in {"numpy", "cupy", "cupyx", "torch", "array_api_compat", "array_api_strict", "scipy"} - allowed, module


def test_importing_xpnet_is_light():
    code = "import sys, xpnet; print([m for m in ('cupy', 'torch', 'array_api_compat', 'pandas', 'sklearn', 'scipy', 'tqdm', 'numpy.random') " \
           "if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert result.stdout.strip() == "[]"


def test_tools_are_functions_whatever_was_imported_before():
    """A package of the same name would take a function's place in the namespace as soon as it is imported."""
    code = "import xpnet.derivation, xpnet.exercises, xpnet.gradcheck, xpnet.profiling; " \
           "from xpnet import exercise, explain, gradient_check, parity, advise, profile; " \
           "print([callable(f) and not hasattr(f, '__path__') for f in (exercise, explain, gradient_check, parity, advise, profile)])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert result.stdout.strip() == "[True, True, True, True, True, True]"

"""ci/bench: what it compares is the same, and what it says is what it measured. Times are no test's business."""

import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent.parent / "ci" / "bench"
README = HERE.parent.parent / "README.md"
if not HERE.exists():
    pytest.skip("ci/bench is for a checkout", allow_module_level=True)
MODULES = ("workloads", "peers", "peers.stock", "floor", "__main__")


@pytest.fixture
def bench(monkeypatch):
    """ci/bench as modules, which are gone afterwards; the parent's own is `bench.main`."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location("ci_bench", HERE / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in [n for n in sys.modules if n in MODULES[:4] or n.startswith("peers")]:
        del sys.modules[name]


def test_every_workload_trains_as_stock_layers(bench):
    """A step of each on its data: the loss is finite and falls within ten steps of one batch, or the forward pass has its shape."""
    workloads, stock = importlib.import_module("workloads"), importlib.import_module("peers.stock")
    for name, w in bench.WORKLOADS.items():
        if name in ("W4", "W8", "W9c"):                   # large: W3 and W9b are the same at another size
            continue
        x, t, weights = workloads.data(w)
        again = workloads.data(w)
        assert np.array_equal(x, again[0]) and np.array_equal(t, again[1]) and weights.keys() == again[2].keys(), name
        step = stock.make(w, x[:1], t[:1], weights, 1)
        if not w.train:
            assert step(0).shape == (w.batch, 10)
            continue
        losses = [float(step(0)) for _ in range(10)]
        assert np.isfinite(losses).all() and losses[-1] < losses[0], (name, losses)


def test_a_fifth_of_the_labels_is_random_and_none_repeats(bench):
    workloads = importlib.import_module("workloads")
    _, t, _ = workloads.data(bench.WORKLOADS["W3"])
    first, again = t[0], t[workloads.BATCHES]             # the labels of batch 0, drawn twice
    assert 0.2 < np.mean(first != again) < 0.45


def test_other_losses_are_refused(bench):
    ours = [0.7, 0.6]
    bench.check_losses("W1", {"xpnet": (ours, 2e-3), "torch": ([0.7001, 0.6], 2e-3), "mean": ([0.65], 2e-3)})
    with pytest.raises(SystemExit, match="W1: torch computes other losses"):
        bench.check_losses("W1", {"xpnet": (ours, 2e-3), "torch": ([0.7, 0.61], 2e-3)})
    with pytest.raises(SystemExit, match="nan"):
        bench.check_losses("W1", {"xpnet": (ours, 2e-3), "torch": ([0.7, float("nan")], 2e-3)})


def row(ratio, quartiles, workload="W2"):
    return {"workload": workload, "threads": 1, "peers": {"xpnet": {"ratio": ratio, "quartiles": quartiles}}}


def test_the_guard_says_what_got_worse_than_its_noise(bench, monkeypatch, tmp_path):
    committed = tmp_path / "results.json"
    committed.write_text(json.dumps({"rows": [row(0.30, [0.28, 0.31]), row(0.80, [0.70, 0.95], "W3")]}))
    monkeypatch.setattr(bench, "RESULTS", committed)
    said = bench.guard([row(0.40, [0.38, 0.41]), row(0.90, [0.85, 0.95], "W3")])
    assert "W2 with 1 thread(s): 0.40, was 0.30" in said and "W3" not in said
    assert bench.guard([row(0.29, [0.28, 0.31])]).startswith("nothing is worse")
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "none.json")
    assert bench.guard([]) == "no committed table"


def test_a_floor_is_products_and_bytes(bench):
    floor = importlib.import_module("floor")
    w = bench.WORKLOADS["W3"]
    products = floor.seconds(w, {"gemm": 1.0, "bytes": float("inf")})
    a, b, c, d = w.sizes
    assert products == 2 * w.batch * (3 * (a * b + b * c + c * d) - a * b)   # forward, and twice backward, but for the network's input
    assert floor.seconds(w, {"gemm": float("inf"), "bytes": 1.0}) > 7 * 4 * 235146


def test_the_table_of_the_readme_is_the_committed_one(bench):
    results = json.loads(bench.RESULTS.read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8").split("<!-- bench -->")
    assert len(text) == 3
    assert text[1].strip() == bench.readme_table(results["rows"]).strip()


@pytest.mark.full
def test_it_runs(tmp_path):
    pytest.importorskip("torch")
    out = subprocess.run([sys.executable, HERE, "--workloads", "W1", "--peers", "torch", "--rounds", "3", "--warmup", "20", "--json",
                          tmp_path / "r.json"], capture_output=True, text=True, check=True).stdout
    assert "| W1 | 1 |" in out and "GFLOP/s" in out
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["about"]["numpy"] == np.__version__ and found["rows"][0]["peers"]["torch"]["ratio"] == 1.0

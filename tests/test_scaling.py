"""Memory as ci/scaling measures it: what `model.summary()` foretells, and no more after many steps. Times are ci/scaling's alone."""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from xpnet import (
    LSTM,
    BatchNorm,
    Conv2D,
    DecoderBlock,
    Dense,
    Flatten,
    MaxPool2D,
    Model,
    ReLU,
    Residual,
    Sequential,
)

SCRIPT = Path(__file__).parent.parent / "ci" / "scaling"
if not SCRIPT.exists():
    pytest.skip("ci/scaling is for a checkout", allow_module_level=True)


@pytest.fixture
def scaling(monkeypatch):
    """The script as a module, without a __pycache__ beside it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("ci_scaling", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("ci_scaling", loader))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("width,hidden", [(256, 3), (1024, 2), (64, 16)])
def test_memory_of_dense_layers_is_what_the_summary_foretells(width, hidden, scaling):
    """Within 2 %: of a sample; and of a batch, but for the gradients of weights that NumPy writes where they belong, and the dry run not."""
    model = scaling.network(width, hidden)
    found = scaling.memory(model, (scaling.INPUT,))
    assert found["per_sample"] == pytest.approx(found["foretold_per_sample"], rel=0.02)
    in_place = 4 * sum(slot.stop - slot.start for slot in model.layout.slots if id(model._view(slot.paths[0])) in model._places)
    assert found["foretold_batch"] - in_place <= 1.02 * found["batch"] and found["batch"] <= 1.02 * found["foretold_batch"]


OTHERS = {
    "BatchNorm": (lambda: Sequential(Dense(64, 256), BatchNorm(256), ReLU(), Dense(256, 10)), (64,)),
    "Conv2D": (lambda: Sequential(Conv2D(1, 8, 3, padding=1), ReLU(), MaxPool2D(2), Flatten(), Dense(8 * 49, 10)), (1, 14, 14)),
    "LSTM": (lambda: LSTM(32, 64), (20, 32)),
    "DecoderBlock": (lambda: DecoderBlock(64, 4), (32, 64)),
    "Residual": (lambda: Residual(Sequential(Dense(64, 256, "tanh"), Dense(256, 64))), (64,)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_memory_of_other_layers_is_foretold_within_a_factor_of_two(name, scaling, monkeypatch):
    """The dry run counts a rule as one kernel, which on NumPy has temporaries; and some layers work through a batch in parts there."""
    monkeypatch.setattr(scaling, "BATCHES", (16, 32))
    make, shape = OTHERS[name]
    found = scaling.memory(Model(make(), backend="numpy"), shape)
    assert 0.5 < found["per_sample"] / found["foretold_per_sample"] < 2.0


def test_memory_does_not_grow_with_the_number_of_steps(scaling):
    """2,000 steps hold no more than 100, to a few Python numbers."""
    _, step = scaling.training(16, 2, 8)
    first, last = scaling.in_use(step, (100, 2000))
    assert last - first < 2048

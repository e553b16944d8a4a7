"""The playground: what it computes, on every backend, and the page itself in a real browser."""

import importlib.util
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parent.parent / "examples" / "playground.py"


@pytest.fixture(scope="module")
def module():
    pytest.importorskip("marimo")
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("playground", FILE)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_what_is_missing_is_said(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for options, status in (["--quick"], 0), ([], 1):
        monkeypatch.setattr("sys.argv", [str(FILE), *options])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(FILE), run_name="__main__")
        assert int(stop.value.code) == status
        assert "needs marimo and matplotlib: pip install 'xpnet[playground]'" in capsys.readouterr().out


def test_a_step_and_what_is_kept_of_it(module, backend):
    made, same = (module.Playground(units=(3,), backend=backend.backend) for _ in range(2))
    made.use("SGD", lr=0.5, batch_size=300)
    made.train()
    before, g, after = map(backend.host, made.last)
    y, backward = same.model.forward(same.data[0])        # batch gradient descent: the first batch is all data, in their order
    np.testing.assert_allclose(g, backend.host(backward(same.loss(y, same.data[1])[1])), rtol=1e-5, atol=1e-7)
    assert made.steps == 1 and np.abs(g).max() > 1e-3
    np.testing.assert_allclose(after, before - 0.5 * g, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(after, backend.host(made.model.params))


def test_one_sample_in_numbers(module, backend):
    """The numbers that are shown follow from each other by the formulas beside them, and the step shown is the step made."""
    made = module.Playground("three spirals", units=(4, 3), activation="sigmoid", backend=backend.backend)
    made.use("Momentum", lr=0.1, weight_decay=0.01)
    made.train(epochs=2)
    vector = backend.host(made.model.params)
    calls, L, L_after, g, after = made.one(7)
    np.testing.assert_array_equal(vector, backend.host(made.model.params))   # it was tried on a copy
    params, grads = (dict(made.named(v)) for v in (vector, g))
    close = {"rtol": 2e-5, "atol": 1e-6}
    np.testing.assert_allclose(backend.host(calls[0]["x"])[0], made.x[7], **close)
    for call, following in zip(calls, [*calls[1:], None]):
        x, y, dy, dx = (backend.host(call[k]) for k in ("x", "y", "dy", "dx"))
        if following:
            np.testing.assert_array_equal(y, backend.host(following["x"]))
            np.testing.assert_array_equal(dy, backend.host(following["dx"]))
        if "Dense" in repr(call["layer"]):
            W, b, dW, db = (tree[f"{call['path']}.{name}"] for tree in (params, grads) for name in "Wb")
            np.testing.assert_allclose(y, x @ W + b, **close)
            np.testing.assert_allclose(dx, dy @ W.T, **close)
            np.testing.assert_allclose(dW, x.T @ dy, **close)
            np.testing.assert_allclose(db, dy[0], **close)
        else:
            np.testing.assert_allclose(y, 1 / (1 + np.exp(-x)), **close)
            np.testing.assert_allclose(dx, dy * y * (1 - y), **close)
    p = np.exp(y[0]) / np.exp(y[0]).sum()
    np.testing.assert_allclose(dy[0], p - np.eye(3)[made.t[7]], **close)
    assert abs(L + np.log(p[made.t[7]])) < 1e-5
    made.alone(7)
    np.testing.assert_array_equal(after, backend.host(made.model.params))
    assert abs(made.one(7)[1] - L_after) < 1e-6


def test_the_optimizer_may_change_in_mid_course(module):
    made = module.Playground()
    made.train(epochs=1)
    params, optimizer = np.array(made.model.params), made.optimizer
    made.use("Adam", lr=0.003, weight_decay=0.1, batch_size=60)
    assert made.optimizer is optimizer and (optimizer.lr, optimizer.weight_decay, made.per_epoch) == (0.003, 0.1, 5)
    made.use("SGD", lr=0.1)
    assert type(made.optimizer).__name__ == "SGD"
    np.testing.assert_array_equal(params, made.model.params)
    made.train(epochs=1)
    assert len(made.history) == 3                         # the start, and two epochs


@pytest.mark.parametrize("data", ["spirals", "three spirals", "moons", "circles", "xor"])
def test_views_show_the_network_that_there_is(module, data):
    made = module.Playground(data, noise=0.1, units=(5, 12, 1), activation="relu", dropout=0.2)
    made.train(epochs=1)
    classes = 3 if data == "three spirals" else 2
    svg = module.diagram(made, 3)
    assert svg.count("<image") == 2 + 5 + 12 + 1 + classes
    assert svg.count("<line") == 2 * 5 + 5 * 12 + 12 * 1 + 1 * classes
    assert module.gradients(made).count("<tr>") == 1 + 8
    assert "5 × 12, its beginning" in module.matrices(made, "3.W")
    assert module.one_sample(made, 3).count("Dense(") == 2 * 4
    assert module.pictures(made, 3).count("<img") == 2
    assert "softmax" in module.derived(made, 3)
    straight = module.Playground(data, units=())          # no hidden layer at all
    assert module.diagram(straight, 0).count("<image") == 2 + classes


def test_too_large_a_learning_rate_stops_the_training(module):
    made = module.Playground(activation="relu")
    made.use("SGD", lr=1e30)
    made.train(epochs=5)
    assert not made.finite and len(made.history) == 2
    assert "not finite" in module.standing(made)
    assert module.pictures(made, 0)
    assert module.gradients(made)


# The page.

@pytest.fixture(scope="module")
def address(chromium_path):
    """The playground as a user starts it, on a free port of this machine; it is stopped whatever happens."""
    for package in ("marimo", "matplotlib"):
        pytest.importorskip(package)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(FILE.parent.parent)}
    environment.pop("XPNET_BACKEND", None)
    server = subprocess.Popen([sys.executable, str(FILE), "--port", str(port), "--headless"], env=environment, start_new_session=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None, "the server has ended"
                time.sleep(0.25)
        else:
            raise AssertionError("the server did not answer within a minute")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)             # the script and the server that it started
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(20)


@pytest.fixture
def page(address, chromium):
    """A fresh session of it in Chromium. No error in the console and no request to another host is part of every test."""
    errors, hosts = [], set()
    session = chromium.new_context(viewport={"width": 1440, "height": 900})
    try:
        made = session.new_page()
        made.set_default_timeout(60_000)
        made.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        made.on("pageerror", lambda e: errors.append(str(e)))
        made.on("request", lambda r: hosts.add(re.sub(r"^(\w+):(//[^/:]*)?.*", r"\1:\2", r.url, flags=re.DOTALL)))
        made.on("websocket", lambda w: hosts.add(re.sub(r"^(\w+):(//[^/:]*)?.*", r"\1:\2", w.url)))
        made.goto(address)
        made.wait_for_selector("#epoch")
        yield made
    finally:
        session.close()
    assert not errors
    assert hosts <= {"http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"}, hosts
    assert "ws://127.0.0.1" in hosts                      # what is watched for was there to be seen


def number(page, name):
    return float(page.inner_text(f"#{name}").removesuffix(" %"))


def until(page, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, page.inner_text("body")
        page.wait_for_timeout(50)


def slider(page, label):
    return page.locator("marimo-slider", has_text=label).get_by_role("slider")


@pytest.mark.full
def test_it_trains_on_the_spirals_and_passes_95_percent(page):
    assert number(page, "epoch") == 0 and number(page, "validation-accuracy") < 70
    page.get_by_role("button", name="Train").click()
    seen = set()

    def passes():
        seen.add(number(page, "epoch"))
        return number(page, "validation-accuracy") > 95 and number(page, "training-accuracy") > 95

    until(page, passes, 240)
    assert len(seen) > 5, seen                            # it could be watched on its way
    start = time.monotonic()                              # in the midst of training the page answers
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Train").wait_for()
    assert time.monotonic() - start < 5
    page.wait_for_timeout(1500)                           # a frame that was under way
    epoch = number(page, "epoch")
    page.wait_for_timeout(1500)
    assert number(page, "epoch") == epoch
    page.get_by_role("button", name="Reset").click()
    until(page, lambda: number(page, "epoch") == 0)
    assert number(page, "validation-accuracy") < 70


@pytest.mark.full
def test_the_number_of_layers_changes_what_is_shown(page):
    def settings():
        labels = "noise", "units in layer 1", "dropout", "learning rate", "weight decay", "batch size", "epochs a frame"
        return [slider(page, label).get_attribute("aria-valuenow") for label in labels]

    first = settings()
    images, edges = page.locator("svg .unit image"), page.locator("svg line:has(title)")
    assert (images.count(), edges.count()) == (2 + 8 + 8 + 2, 16 + 64 + 16)
    slider(page, "hidden layers").press("ArrowRight")
    until(page, lambda: (images.count(), edges.count()) == (2 + 8 + 8 + 8 + 2, 16 + 64 + 64 + 16))
    slider(page, "units in layer 3").press("ArrowLeft")
    until(page, lambda: images.count() == 2 + 8 + 8 + 7 + 2)
    slider(page, "epochs a frame").press("ArrowRight")    # below the new slider in the list each is still itself
    until(page, lambda: settings() != first)
    assert [a for a, b in zip(settings(), first) if a != b] == settings()[-1:]
    response = images.nth(2).get_attribute("href")
    page.get_by_role("button", name="One epoch").click()
    until(page, lambda: number(page, "epoch") == 1)
    until(page, lambda: images.nth(2).get_attribute("href") != response)   # the parts of the page are drawn one after the other
    until(page, lambda: re.search(r"‖∂L/∂θ‖.*6\.W\s+7 × 2\s+[\d.]+\s+[\d.]+e[-+]\d\d", page.inner_text("body"), re.DOTALL))


@pytest.mark.full
def test_one_sample_is_stepped_through_in_numbers(page):
    page.get_by_role("tab", name="One sample, step by step").click()
    page.wait_for_selector("#loss-after")

    def losses():
        """L before and after the step, as the page has it."""
        found = re.search(r"takes L from (\d+\.\d+) to (\d+\.\d+)", page.inner_text("body"))
        return float(found[1]), float(found[2])

    rows = page.locator("table.rules").first.locator("tr")
    assert rows.count() == 1 + 5 + 2                      # its head; 3 Dense and 2 Tanh, softmax, loss
    first, x = losses(), rows.nth(1).inner_text()
    slider(page, "sample").press("ArrowRight")
    until(page, lambda: rows.nth(1).inner_text() != x and losses() != first)
    before, after = losses()
    assert after < before
    page.get_by_role("button", name="Step: this sample alone").click()
    until(page, lambda: number(page, "steps") == 1)
    until(page, lambda: abs(losses()[0] - after) < 2e-6)  # the step that was foretold is the one that was made
    page.get_by_role("tab", name="The same, derived").click()
    page.locator("pre", has_text="z⁽⁰⁾ = x W⁽⁰⁾ + b⁽⁰⁾").wait_for()

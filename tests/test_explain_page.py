"""The page of an explanation: it is one file and whole, and in a real browser it steps, draws, and follows weights to the right numbers."""

import json
import re
import xml.etree.ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from cases import LAYERS
from test_explain import draw, joined

import xpnet as xn
from xpnet.derivation import Explanation, explain
from xpnet.derivation.graph import graph
from xpnet.derivation.page import page
from xpnet.layer import Layer

PHASES = ["forward", "loss", "backward", "update", "after"]


def made(net, loss, x, t, seed=0, **options):
    return explain(xn.Model(net, dtype="float64", seed=seed), loss, np.asarray(x), np.asarray(t), **options)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def mazur():
    """Matt Mazur's step-by-step example."""
    model = xn.Model(xn.Sequential(xn.Dense(2, 2, "sigmoid"), xn.Dense(2, 2, "sigmoid")), dtype="float64")
    for name, value in {"0.W": [[.15, .25], [.20, .30]], "0.b": [.35, .35], "1.W": [[.40, .50], [.45, .55]], "1.b": [.6, .6]}.items():
        model.set_param(name, np.array(value))
    return explain(model, xn.MeanSquaredError("half_sum"), np.array([[.05, .10]]), np.array([[.01, .99]]),
                   optimizer=xn.SGD(.5, freeze=("*.b",)))


def tanh(notation="rows", **options):
    return made(xn.Sequential(xn.Dense(2, 3, "tanh"), xn.Dense(3, 2)), xn.SoftmaxCrossEntropy(), normal(3, 2), [0, 1, 1],
                notation=notation, **options)


def residual(notation="rows"):
    net = xn.Sequential(xn.Dense(2, 3), xn.Residual(xn.Dense(3, 4, "relu"), xn.Dense(4, 3)), xn.Dense(3, 1))
    return made(net, xn.MeanSquaredError(), normal(2, 2), normal(2, 1, seed=1), notation=notation)


def concat():
    net = xn.Sequential(xn.Concat(xn.Dense(2, 3, "tanh"), xn.Dense(2, 2, "relu")), xn.Dense(5, 2))
    return made(net, xn.SoftmaxCrossEntropy(), normal(2, 2), [1, 0], seed=2)


def dropout():
    net = xn.Sequential(xn.Dense(3, 6, "relu"), xn.Dropout(0.5), xn.Dense(6, 2), xn.Softmax())
    return made(net, xn.MeanSquaredError(), normal(2, 3), normal(2, 2, seed=1), seed=3, optimizer=xn.Adam(0.01))


def shared():
    layer = xn.Dense(3, 3, "tanh")
    return made(xn.Sequential(layer, layer, xn.Dense(3, 1)), xn.MeanSquaredError(), normal(2, 3), normal(2, 1, seed=1))


def wide():
    net = xn.Sequential(xn.Dense(784, 128, "relu"), xn.Dense(128, 10))
    return made(net, xn.SoftmaxCrossEntropy(), np.abs(normal(3, 784)), [0, 1, 2], checks=False)


NETS = {"mazur": mazur, "tanh": tanh, "tanh, columns": lambda: tanh("columns"), "residual": residual,
        "residual, columns": lambda: residual("columns"), "concat": concat, "dropout": dropout, "shared": shared, "784-128-10": wide}


class Parsed(HTMLParser):
    """Scripts by id, the text of each heading, and what is loaded."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.headings, self.loaded, self.at = {}, [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        at = dict(attributes)
        self.loaded += [at[name] for name in ("src", "href", "data", "action", "srcset") if name in at]
        if tag == "script":
            self.at = at.get("id", "program")
            assert self.at not in self.scripts
            self.scripts[self.at] = ""
        elif tag == "h2":
            self.at = tag
            self.headings.append("")

    def handle_endtag(self, tag):
        if tag in ("script", "h2"):
            self.at = None

    def handle_data(self, data):
        if self.at == "h2":
            self.headings[-1] += data
        elif self.at:
            self.scripts[self.at] += data


# Without a browser.

@pytest.mark.parametrize("name", NETS)
def test_it_is_one_file_and_holds_the_explanation(name):
    e = NETS[name]()
    text = page(e)
    parsed = Parsed(text)
    assert parsed.loaded == ["data:,"]                    # the icon, which is empty
    assert "default-src 'none'" in text and "@import" not in text and "url(" not in text and not re.search(r"\{\{\w+\}\}", text)
    assert set(parsed.scripts) == {"explanation", "graph", "program"}
    again = Explanation.from_json(parsed.scripts["explanation"])
    assert again == e and again.to_dict() == e.to_dict()
    assert parsed.headings == [s.title for s in e.steps]
    for formula in re.findall(r"<math[^>]*>.*?</math>", text):
        xml.etree.ElementTree.fromstring(formula.replace("&nbsp;", " "))
    assert text.count("<math") > 2 * len(e.lines())


def test_what_a_layer_is_called_cannot_break_out():
    bad = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>&amp;{{data}}"

    class Bad(xn.Tanh):
        def __repr__(self):
            return bad

    e = made(xn.Sequential(xn.Dense(2, 2), Bad()), xn.MeanSquaredError(), normal(1, 2), normal(1, 2, seed=1))
    parsed = Parsed(page(e))
    assert set(parsed.scripts) == {"explanation", "graph", "program"} and parsed.loaded == ["data:,"]
    assert json.loads(parsed.scripts["explanation"])["network"] == e.network and bad in e.network
    assert any(bad in heading for heading in parsed.headings)


def resolve(e, ref):
    line = e.steps[ref[0]].lines[ref[1]]
    return line.value if ref[2] is None else line.inputs[ref[2]]


def slopes_give_the_gradients(e, g):
    """Each gradient is the sum over the units of those it comes from, times the slopes. How many were so."""
    by_key, seen = {s["key"]: s for s in g["slopes"]}, 0
    for s in g["slopes"]:
        if s["from"] and all(f["slope"] is not None for f in s["from"]):
            def rows(ref):
                a = resolve(e, ref).array
                return a.T if e.notation == "columns" else a
            total = sum(np.einsum("sk,skj->sj", rows(by_key[f["key"]]["value"]), np.array(f["slope"])) for f in s["from"])
            np.testing.assert_allclose(total, rows(s["value"]), rtol=1e-9, atol=1e-14)
            seen += 1
    return seen


@pytest.mark.parametrize("name", NETS)
def test_the_drawing_refers_to_the_right_arrays(name):
    e = NETS[name]()
    g = graph(e)
    dense = [x for x in g["links"] if x["kind"] == "dense"]
    assert len(dense) == e.network.count("Dense(")
    for link in dense:
        W, dW, x, z = (resolve(e, link[k]) for k in ("W", "dW", "x", "z"))
        assert W.shape == dW.shape
        if W.array is not None:
            rows = (lambda a: a) if e.notation == "rows" else np.transpose
            product = rows(x.array) @ rows(W.array) + rows(resolve(e, link["b"]).array)
            np.testing.assert_allclose(product, rows(z.array), rtol=1e-12)
            delta = next(s for s in g["slopes"] if s["key"] == link["delta"])
            gradient = rows(x.array).T @ rows(resolve(e, delta["value"]).array) / g["perSample"]
            np.testing.assert_allclose(gradient, rows(dW.array), rtol=1e-9, atol=1e-15)
            assert any(line.symbol.letter == "W" and not line.symbol.grad for line in e.steps[link["newW"]].lines)
    if name == "concat":
        assert [x["offset"] for x in g["links"] if x["kind"] == "units"] == [0, 3]
    assert [n["depth"] for n in g["nodes"]] == sorted(n["depth"] for n in g["nodes"])
    assert slopes_give_the_gradients(e, g) >= (0 if name == "784-128-10" else len([n for n in g["nodes"] if n["kind"] != "loss"]) - 1)


def explained(name):
    make, shape = LAYERS[name]
    layer = joined(make(), draw(shape, np.random.default_rng(3)))
    x = draw(shape, np.random.default_rng(3))
    model = xn.Model(layer, dtype="float64", seed=1)
    y, _ = model.forward(x)
    return explain(model, xn.MeanSquaredError(), x, normal(*y.shape), checks=False)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_a_page(name):
    e = explained(name)
    parsed = Parsed(page(e))
    g = json.loads(parsed.scripts["graph"])
    assert (len(g["nodes"]) >= 2 and g["nodes"][-1]["kind"] == "loss") if e.lines("forward") else not g["nodes"]
    for node in g["nodes"]:
        for key in ("value", "gradient", "z", "zGradient", "target"):
            assert not node.get(key) or resolve(e, node[key]) is not None
    slopes_give_the_gradients(e, g)


# In a browser.

@pytest.fixture
def shown(chromium, tmp_path):
    """A function that opens an explanation. No error in the console and no request but that of the file is part of every test."""
    errors, requests, contexts = [], [], []

    def open_page(e, hash="", width=1280, height=800, file="step.html", **options):
        path = tmp_path / file
        path.write_text(page(e), encoding="utf-8")
        contexts.append(chromium.new_context(viewport={"width": width, "height": height}, **options))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(20_000)
        tab.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda r: requests.append(r.url))
        tab.goto(f"{path.as_uri()}{hash}")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not errors, errors
    assert requests and all(url.startswith((tmp_path.as_uri(), "data:,")) for url in requests), requests


def step_of(tab):
    """The number of the step that is shown; that it is alone is checked."""
    steps = tab.eval_on_selector_all(".step", "all => all.map((s, i) => [i, s.checkVisibility()]).filter(s => s[1]).map(s => s[0])")
    assert len(steps) == 1, steps
    return steps[0]


FOLLOW = """([k, i, j]) => {
  const choose = (id, v) => { const s = document.getElementById(id); s.value = v; s.dispatchEvent(new Event("change")); };
  choose("link", k); choose("from", i); choose("to", j);
  document.getElementById("choose").requestSubmit();
  return { ...document.getElementById("follow").dataset };
}"""


@pytest.mark.full
def test_keys_go_through_the_phases_in_order(shown):
    e = mazur()
    tab = shown(e)
    seen, texts = [], set()
    for i, step in enumerate(e.steps):
        assert step_of(tab) == i and tab.inner_text(f"#s{i} h2") == step.title
        assert tab.inner_text("#where").startswith(f"Step {i + 1} of {len(e.steps)}")
        assert tab.locator(".phase[aria-current]").get_attribute("class") == f"phase {step.phase}"
        assert tab.evaluate("location.hash") == f"#step={i + 1}"
        assert tab.locator(f"#s{i} math").first.evaluate("m => m.getBoundingClientRect().width") > 20
        seen.append(tab.get_attribute(f"#s{i}", "data-phase"))
        texts.add(tab.inner_text("#steps"))
        tab.keyboard.press("ArrowRight")
    assert [p for i, p in enumerate(seen) if i == 0 or p != seen[i - 1]] == PHASES
    assert len(texts) == len(e.steps) and step_of(tab) == len(e.steps) - 1     # the last step stays
    for key, there in ("ArrowLeft", len(e.steps) - 2), ("Home", 0), ("ArrowLeft", 0), ("End", len(e.steps) - 1):
        tab.keyboard.press(key)
        assert step_of(tab) == there
    tab.click('[data-go="first"]')
    tab.click('[data-go="next"]')
    assert step_of(tab) == 1
    tab.click(".phase.backward")
    assert step_of(tab) == next(i for i, s in enumerate(e.steps) if s.phase == "backward")


@pytest.mark.full
def test_space_plays_and_the_address_remembers(shown):
    e = mazur()
    tab = shown(e, "#step=4")
    assert step_of(tab) == 3
    tab.clock.install()
    tab.keyboard.press(" ")
    assert tab.inner_text('[data-go="play"]') == "Pause"
    tab.clock.run_for(2600)
    assert step_of(tab) == 4
    tab.keyboard.press(" ")
    tab.clock.run_for(20_000)
    assert step_of(tab) == 4
    tab.keyboard.press(" ")
    tab.clock.run_for(60_000)
    assert step_of(tab) == len(e.steps) - 1 and tab.inner_text('[data-go="play"]') == "Play"   # it ends at the end


@pytest.mark.full
def test_the_drawing_shows_the_numbers_and_the_step(shown):
    e = mazur()
    tab = shown(e)
    assert tab.locator("#drawing circle").count() == 6 and tab.locator("#drawing .hit").count() == 8
    text = tab.text_content("#drawing svg")
    for shown_now in ("0.05", "0.15", "0.25", "0.5933", "0.5969", "z 0.3775"):
        assert shown_now in text
    for later in ("0.7514", "0.29837", "δ"):              # not computed yet
        assert later not in text
    highlighted = []
    for i in range(len(e.steps)):
        highlighted.append(tab.eval_on_selector_all("[data-now]", "all => all.map(b => Number(b.dataset.now))"))
        if i < len(e.steps) - 1:
            tab.keyboard.press("ArrowRight")
    assert highlighted == [[1], [2], [3], [2], [1], [1], [1], [2], [2], []]
    text = tab.text_content("#drawing svg")
    for number in ("0.29837", "δ 0.1385", "δ −0.0381", "0.1498", "0.3589", "0.5614"):
        assert number in text


@pytest.mark.full
def test_the_sample_can_be_chosen(shown):
    for notation in ("rows", "columns"):
        e = tanh(notation)
        a = e["a⁽⁰⁾"] if notation == "rows" else e["a⁽⁰⁾"].T
        tab = shown(e, file=f"{notation}.html")
        for n in range(3):
            tab.select_option("#sample", index=n)
            units = [float(tab.text_content(f'[data-unit="1.{u}"]').replace("−", "-")) for u in range(3)]
            np.testing.assert_allclose(units, a[n], rtol=6e-3)


@pytest.mark.full
@pytest.mark.parametrize("name", NETS)
def test_a_followed_weight_ends_at_its_gradient(shown, name):
    """The sum of its chain's products is the gradient that the explanation prints, for every weight and bias, in every sample."""
    e = NETS[name]()
    g, tab = graph(e), shown(e)
    seen = 0
    for k, link in enumerate(g["links"]):
        if link["kind"] != "dense":
            continue
        dW, db, W = (resolve(e, link[n]) for n in ("dW", "db", "W"))
        numbers = [v.corner if v.array is None else v.array for v in (dW, db, W)]
        gradient, bias, weights = [np.atleast_2d(a) for a in numbers] if e.notation == "rows" else [np.atleast_2d(a).T for a in numbers]
        for sample in range(g["shown"] if k == 0 else 1):
            tab.select_option("#sample", index=sample) if g["samples"] > 1 else None
            for i in [*range(len(gradient)), "b"]:
                for j in range(gradient.shape[1]):
                    data = tab.evaluate(FOLLOW, [k, i, j])
                    expected = bias[0, j] if i == "b" else gradient[i, j]
                    assert float(data["gradient"]) == expected, (k, i, j)
                    assert float(data["sum"]) == pytest.approx(expected, rel=1e-9, abs=1e-15)
                    if name != "784-128-10":
                        assert float(data["paths"]) == pytest.approx(float(data["delta"]), rel=1e-9, abs=1e-15)
                    assert i == "b" or float(data["weight"]) == weights[i, j]
                    assert tab.locator("#follow .same.not").count() == 0
                    seen += 1
    assert seen >= 6


@pytest.mark.full
def test_following_a_weight_shows_its_chain(shown):
    e = mazur()
    tab = shown(e, "#step=5")
    tab.locator("#drawing .hit").first.click(force=True)
    data = tab.evaluate("({ ...document.getElementById('follow').dataset })")
    assert float(data["gradient"]) == e["∂L/∂W⁽⁰⁾"][0, 0] and float(data["weight"]) == 0.15
    text = tab.inner_text("#follow").replace("\n", "")
    for number in ("0.05", "0.15", "0.3775", "0.59327", "0.000438568", "0.149781"):   # x, w, z, a, ∂L/∂w and the new w
        assert number in text, number
    assert "2 paths lead from it to L" in text and text.count("✓") == 2
    parts = tab.eval_on_selector_all("#follow [data-part]", "all => all.map(p => p.dataset.part.split(' ')[0])")
    assert parts == ["forward", "loss", "backward", "backward", "update"]
    difference = float(re.search(r"finite difference\s*([\d.e−]+)", text)[1].replace("−", "-"))
    assert difference == pytest.approx(e["∂L/∂W⁽⁰⁾"][0, 0], rel=1e-5)
    assert tab.locator("line.followed").count() == 1 and tab.locator("line.onward").count() == 4      # a to both z, both to L
    assert "weight=0.0.0" in tab.evaluate("location.hash")
    tab.reload()                                          # the address remembers the weight too
    assert tab.is_visible("#follow") and not tab.is_visible("#steps")
    tab.keyboard.press("ArrowRight")
    assert step_of(tab) == 5 and not tab.is_visible("#follow") and tab.locator("line.followed").count() == 1
    tab.keyboard.press("Escape")
    assert tab.locator("line.followed").count() == 0


@pytest.mark.full
@pytest.mark.parametrize("name", NETS)
def test_a_phone_needs_no_scrolling_sideways(shown, name):
    e = NETS[name]()
    tab = shown(e, width=375, height=812, is_mobile=True, has_touch=True)
    for _ in e.steps:
        tab.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
        assert tab.evaluate("document.scrollingElement.scrollWidth") <= 375
        assert tab.evaluate("visualViewport.width") <= 375
        tab.keyboard.press("ArrowRight")
    tab.evaluate(FOLLOW, [0, 0, 0])
    assert tab.evaluate("document.scrollingElement.scrollWidth") <= 375
    small = tab.eval_on_selector_all("nav button", "all => all.map(b => b.getBoundingClientRect()).filter(r => r.height < 30 || r.width < 30).length")
    assert small == 0


CONTRAST = """() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const probe = document.body.appendChild(document.createElement("i"));
  const of = name => { probe.style.color = `var(--${name})`; return light(getComputedStyle(probe).color); };
  const ratio = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  const made = {};
  for (const text of ["ink", "quiet", "forward", "loss", "backward", "update", "after", "mark"])
    made[text] = Math.min(...["paper", "panel"].map(ground => ratio(of(text), of(ground))));
  return made;
}"""


@pytest.mark.full
def test_dark_and_light_are_readable(shown):
    grounds = []
    for scheme in ("light", "dark"):
        tab = shown(mazur(), file=f"{scheme}.html", color_scheme=scheme)
        grounds.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        contrasts = tab.evaluate(CONTRAST)
        assert min(contrasts.values()) >= 4.5, contrasts  # WCAG 2, level AA
    assert grounds[0] != grounds[1]


@pytest.mark.full
def test_what_has_no_name_cannot_be_used_without_eyes(shown):
    tab = shown(mazur())
    names = tab.eval_on_selector_all("button, select, svg, nav, section.now", """all => all.filter(x => x.checkVisibility()).map(x =>
        x.getAttribute("aria-label") || document.getElementById(x.getAttribute("aria-labelledby"))?.textContent ||
        x.closest("label")?.firstElementChild.textContent.trim() || x.textContent.trim() || x.outerHTML)""")
    assert names and not [n for n in names if n.startswith("<") or not re.search("[A-Za-z]{2}", n)], names
    tab.keyboard.press("ArrowRight")
    assert tab.get_attribute("#where", "aria-live") == "polite"
    tab.focus("#link")
    tab.keyboard.press("End")                             # a key that the control itself needs is left to it
    assert step_of(tab) == 1


@pytest.mark.full
def test_on_paper_and_without_a_script_every_step_stands(shown):
    e = mazur()
    for tab in shown(e), shown(e, java_script_enabled=False, file="plain.html"):
        tab.emulate_media(media="print")
        for i, step in enumerate(e.steps):
            assert tab.is_visible(f"#s{i}") and step.title in tab.inner_text(f"#s{i}")
        assert not tab.is_visible("nav")


@pytest.mark.full
def test_a_name_that_is_markup_is_only_text_in_the_browser(shown):
    class Bad(xn.Tanh):
        def __repr__(self):
            return "</script><img src=x onerror=window.broken=1>(b)"

    e = made(xn.Sequential(xn.Dense(2, 2), Bad(), xn.Dense(2, 1)), xn.MeanSquaredError(), normal(1, 2), normal(1, 1, seed=1))
    tab = shown(e)
    for _ in e.steps:
        tab.keyboard.press("ArrowRight")
    tab.evaluate(FOLLOW, [0, 0, 0])
    assert tab.evaluate("window.broken === undefined") and tab.locator("img").count() == 0


@pytest.mark.full
def test_every_layer_can_be_gone_through(shown, tmp_path):
    tab, steps = shown(mazur()), len(mazur().steps)
    for n, name in enumerate(["", *LAYERS]):
        if name:
            e = explained(name)
            steps = len(e.steps)
            (tmp_path / f"{n}.html").write_text(page(e), encoding="utf-8")
            tab.goto((tmp_path / f"{n}.html").as_uri())
        said = tab.evaluate("""n => [...Array(n)].map(() => {
            document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
            return document.querySelector("#where").textContent + document.querySelector("#drawing").textContent;
        }).join()""", steps)
        assert step_of(tab) == steps - 1, name
        assert "After the step" in said and not re.search("undefined|NaN|object", said), (name, said)


def test_a_users_layer_without_formulas_has_a_page():
    class Wave(Layer):
        def forward(self, params, x, ctx):
            return ctx.xp.sin(x), lambda dy, input_grad=True: (dy * ctx.xp.cos(x), {})

    e = made(xn.Sequential(xn.Dense(2, 3), Wave(), xn.Dense(3, 1)), xn.MeanSquaredError(), normal(2, 2), normal(2, 1, seed=1))
    g = graph(e)
    assert [n["kind"] for n in g["nodes"]] == ["input", "dense", "box", "dense", "loss"]
    assert [f["slope"] for s in g["slopes"] for f in s["from"] if s["key"] == "δ⁽⁰⁾"] == [None]
    page(e)

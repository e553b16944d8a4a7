"""A playground on a local web page: watch a small network learn, unit by unit, and read its gradients as numbers.

    python examples/playground.py [--backend cupy]        (the same page as `marimo run examples/playground.py`)

Pick data, layers and an optimizer; train, pause, go step by step; take one sample through forward, loss, backward and update.

The page is a marimo notebook. marimo was chosen over Panel and Streamlit since its cells are plain Python that state what depends on what,
so that a slider runs again what hangs on it and nothing else; since it installs fewer packages (25; Panel 31, Streamlit 34); and since its
page asks no other host for anything (as they come, a Panel template asks for a font and Streamlit for its statistics of use).
"""

import sys
from importlib.util import find_spec

# Before marimo is imported; its editor drops this from the file when it saves, `marimo run` does not mind.
if missing := [name for name in ("marimo", "matplotlib") if find_spec(name) is None]:
    print(f"the playground needs {' and '.join(missing)}: pip install 'xpnet[playground]'")
    sys.exit("--quick" not in sys.argv)

import marimo

app = marimo.App(width="full", app_title="xpnet playground")

with app.setup:
    import argparse
    import base64
    import contextlib
    import copy
    import functools
    import html
    import io
    import itertools
    import math
    import subprocess
    import sys
    import time

    import marimo as mo
    import numpy as np

    import xpnet
    from xpnet import Context, Dense, Dropout, History, Model, Sequential, SoftmaxCrossEntropy, batches, evaluate, explain
    from xpnet.backend.registry import to_host
    from xpnet.data import circles, moons, spirals, xor
    from xpnet.layers.activations import NAMES as ACTIVATIONS
    from xpnet.layers.activations import Activation
    from xpnet.model import apply_link

    def corners(n, noise, seed):
        """XOR with noise: clouds about the four corners (±1, ±1)."""
        x, t = xor()
        which = np.arange(n) % 4
        return 2.0 * x[which] - 1.0 + noise * np.random.default_rng(seed).standard_normal((n, 2)), t[which, 0].astype(np.int64)

    DATA = {"spirals": spirals, "three spirals": functools.partial(spirals, arms=3), "moons": moons, "circles": circles, "xor": corners}
    OPTIMIZERS = {name: getattr(xpnet, name) for name in ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW", "Lion")}
    RATES = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
    SIDE = 36                                             # pixels along a picture of a unit's response
    STYLE = """<style>
        .xp {border-collapse: collapse; font-size: 13px; margin: 4px 0 12px} .xp span, .xp td:first-child {white-space: nowrap}
        .xp td, .xp th {padding: 2px 9px; text-align: left; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums}
        .rules td:nth-child(2) {white-space: nowrap} .bad {color: #D55E00} .row {display: flex; flex-wrap: wrap; gap: 24px}
        .standing {display: flex; flex-wrap: wrap; gap: 26px; margin-bottom: 8px} .standing b {display: block; font-size: 20px}
        .marimo-output-stale {opacity: 1 !important; filter: none !important} /* else each frame begins with a fade */
        [class*="xl:px-24"] {padding-left: 2rem; padding-right: 2rem}</style>"""
    BLUE, WHITE, ORANGE = np.array([[0, 114, 178], [255, 255, 255], [213, 94, 0]])   # Okabe & Ito: distinct for the colour-blind


@app.class_definition
class Trace(Context):
    """A context that listens to each layer: `calls` is a list of {path, layer, x, y} and, after backward, {dy, dx, grads}."""

    def __init__(self, xp):
        super().__init__(xp)
        self.calls = []

    def forward(self, name, layer, params, x):
        y, back = super().forward(name, layer, params, x)
        call = {"path": name, "layer": layer, "x": x, "y": y}
        self.calls.append(call)

        def backward(dy, input_grad=True):
            dx, grads = back(dy, True)
            call.update(dy=dy, dx=dx, grads=grads)
            return dx, grads

        return y, backward


@app.class_definition
class Playground:
    """Data, a network and its optimizer, trained a few steps at a time."""

    def __init__(self, data="spirals", noise=0.03, units=(8, 8), activation="tanh", dropout=0.0, seed=0, backend=None):
        self.x, self.t = DATA[data](n=300, noise=noise, seed=seed)
        held_out = DATA[data](n=300, noise=noise, seed=seed + 1)
        layers = []
        for d, k in itertools.pairwise((2, *units)):      # activations as layers of their own, so that z and f(z) can both be seen
            layers += [Dense(d, k), ACTIVATIONS[activation](), *([Dropout(dropout)] if dropout else [])]
        net = Sequential(*layers, Dense((2, *units)[-1], int(self.t.max()) + 1))
        self.model = Model(net, backend=backend, seed=seed)
        self.model.link = "softmax"
        self.loss = SoftmaxCrossEntropy()
        self.data, self.held_out = (tuple(map(self.model.asarray, pair)) for pair in ((self.x, self.t), held_out))
        self.history = History(["epoch", "loss", "val_loss", "accuracy", "val_accuracy"])
        self.steps, self.last = 0, None
        self.use()
        self.measure()
        self.history.add({"epoch": 0, **self.now})

    def use(self, optimizer="Adam", lr=0.01, weight_decay=0.0, batch_size=30):
        """Go on with these; the network stays as it is. An optimizer of another kind starts with a fresh state."""
        if not hasattr(self, "optimizer") or type(self.optimizer) is not OPTIMIZERS[optimizer]:
            self.optimizer = OPTIMIZERS[optimizer](lr)
            self.optimizer.start_for(self.model)
        self.optimizer.lr, self.optimizer.weight_decay = lr, weight_decay
        order = batches(self.data, batch_size, seed=self.model.seed, epoch=len(self.history))
        self.feed, self.per_epoch, self.in_epoch = itertools.chain.from_iterable(itertools.repeat(order)), len(order), 0

    @np.errstate(all="ignore")                            # a learning rate that is too large is part of the lesson
    def step(self, x, t):
        """One step of gradient descent; what it did is kept as (θ before, ∂L/∂θ, θ after)."""
        model = self.model
        y, backward = model.forward(x)                    # forward pass
        _, dy = self.loss(y, t)                           # L and ∂L/∂y
        grads = backward(dy)                              # the delta recursion
        with model.backend:
            before, grads = (model.xp.asarray(v, copy=True) for v in (model.params, grads))
        self.optimizer.step(model, grads)                 # θ ← θ - η ∂L/∂θ
        self.last = before, grads, model.params           # θ after it is the model's own vector, which only a step changes
        self.steps += 1

    def train(self, epochs=0, steps=1, seconds=math.inf):
        """So many epochs, or steps where epochs is 0, but no longer than `seconds`."""
        end, steps = time.monotonic() + seconds, epochs * self.per_epoch or steps
        while steps and self.finite and time.monotonic() < end:
            self.step(*next(self.feed))
            steps, self.in_epoch = steps - 1, self.in_epoch + 1
            if self.in_epoch == self.per_epoch:
                self.in_epoch = 0
                self.measure()
                self.history.add({"epoch": len(self.history), **self.now})
        self.measure()

    def alone(self, i):
        """A step on sample i alone, which belongs to no epoch."""
        self.step(*(a[i:i + 1, ...] for a in self.data))
        self.measure()

    @np.errstate(all="ignore")
    def measure(self):
        here, there = (evaluate(self.model, self.loss, data, ["accuracy"]) for data in (self.data, self.held_out))
        self.now = {**here, **{f"val_{name}": value for name, value in there.items()}}

    @property
    def finite(self):
        return all(map(math.isfinite, self.now.values()))

    @np.errstate(all="ignore")
    def responses(self, points):
        """[(name, outputs (m, k))] of the inputs, each hidden layer and the last layer, over points (m, 2)."""
        trace = Trace(self.model.xp)
        self.model.run(self.model.asarray(points), trace)
        seen = [c for c in trace.calls if isinstance(c["layer"], Activation)] + trace.calls[-1:]
        return [("x", points), *((f"{c['path']}: {c['layer']!r}", to_host(c["y"])) for c in seen)]

    @np.errstate(all="ignore")
    def one(self, i):
        """What a training step on sample i alone would do, tried on a copy: (calls of the layers, L before, L after, ∂L/∂θ, θ after)."""
        again = copy.deepcopy(self.model)
        optimizer = type(self.optimizer)(self.optimizer.lr, weight_decay=self.optimizer.weight_decay)
        optimizer.load_state_dict(again, self.optimizer.state_dict())
        x, t, trace = self.data[0][i:i + 1, :], self.data[1][i:i + 1], Trace(again.xp)
        z, backward = again.run(x, trace)                 # without dropout
        before, dz = self.loss(z, t)
        backward(dz)
        optimizer.step(again)
        after, _ = self.loss(again.forward(x, training=False)[0], t)
        return trace.calls, float(before), float(after), to_host(again.grads), to_host(again.params)

    def named(self, *vectors):
        """[(path, array, …)]: of each parameter its part of vectors such as θ and ∂L/∂θ, on the host."""
        slots = [(path, self.model.layout.slot(path)) for path in self.model.paths()]
        return [(path, *(to_host(v)[s.start:s.stop].reshape(s.param.shape) for v in vectors)) for path, s in slots]


@app.function
def table(header, rows, kind=""):
    cells = ("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table class='xp {kind}'><tr>{''.join(f'<th>{name}</th>' for name in header)}</tr>{''.join(cells)}</table>"


@app.function
def show(a, most=8):
    """An array of any backend as numbers in a row; what is left out is counted."""
    a = to_host(a).ravel()
    return "&ensp; ".join(f"<span>{v:.4g}</span>" for v in a[:most]) + (f"&ensp; <span>… ({a.size})</span>" if a.size > most else "")


@app.function
def colours(a, largest):
    """White for 0, orange towards +largest, blue towards -largest; (..., 3) in 0 … 255."""
    share = np.clip(np.nan_to_num(a / (largest or 1.0)), -1.0, 1.0)[..., None]
    return (WHITE + np.abs(share) * (np.where(share > 0, ORANGE, BLUE) - WHITE)).astype(np.uint8)


@app.function
def picture(draw, size=(4.8, 3.7)):
    """The figure that `draw(axes)` makes, as an image of the page."""
    from matplotlib.figure import Figure

    figure, (width, height) = Figure(size, dpi=130), size
    draw(figure.add_axes((0.9 / width, 0.5 / height, 1 - 0.95 / width, 1 - 0.75 / height)))   # a fixed place is drawn in half the time
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return f"<img style='width:100%' src='{data_url(file)}'>"


@app.function
def data_url(file):
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@app.function
def diagram(playground, i, width=760):
    """The network as SVG: for each unit its output all over the plane and, below it, its output for sample i; an edge for each weight."""
    from matplotlib.image import imsave

    x, model = playground.x, playground.model
    low, high = x.min(axis=0) - 0.1 * np.ptp(x, axis=0), x.max(axis=0) + 0.1 * np.ptp(x, axis=0)
    across, up = (low[j] + (np.arange(SIDE) + 0.5) / SIDE * (high[j] - low[j]) for j in (0, 1))
    plane = np.stack(np.meshgrid(across, up[::-1]), axis=-1).reshape(-1, 2)
    columns = playground.responses(np.concatenate([plane, x[i:i + 1]]))
    most = max(a.shape[1] for _, a in columns)
    tile = min(46, 520 // most - 14)

    def place(c, j):                                      # the upper left corner of unit j in column c
        return 8 + c * (width - tile - 60) / (len(columns) - 1), 34 + (j + (most - columns[c][1].shape[1]) / 2) * (tile + 14)

    parts = []
    weights = [named for named in playground.named(model.params, model.params if playground.last is None else playground.last[1])
               if named[0].endswith("W")]
    for c, (path, W, dW) in enumerate(weights, start=1):
        for j, k in np.ndindex(*W.shape):
            (x1, y1), (x2, y2), share = place(c - 1, j), place(c, k), abs(W[j, k]) / (np.abs(W).max() or 1.0)
            colour = "#D55E00" if W[j, k] > 0 else "#0072B2"
            gradient = "" if playground.last is None else f", ∂L/∂W = {dW[j, k]:.4g}"
            parts.append(f"<line x1='{x1 + tile:.0f}' y1='{y1 + tile / 2:.0f}' x2='{x2:.0f}' y2='{y2 + tile / 2:.0f}' stroke='{colour}' "
                         f"stroke-width='{0.3 + 2.7 * share:.2f}' opacity='{0.15 + 0.6 * share:.2f}'>"
                         f"<title>{path}[{j}, {k}] = {W[j, k]:.4f}{gradient}</title></line>")
    for c, (name, outputs) in enumerate(columns):
        parts.append(f"<text x='{place(c, 0)[0] + tile / 2}' y='14' text-anchor='middle' font-weight='bold'>{name}</text>")
        for j, a in enumerate(outputs.T):
            (left, top), file, largest = place(c, j), io.BytesIO(), np.abs(a[:-1]).max()
            imsave(file, colours(a[:-1].reshape(SIDE, SIDE), largest), format="png")
            parts.append(f"<g class='unit'><title>{name}, unit {j}: from {a[:-1].min():.3f} to {a[:-1].max():.3f} over the plane</title>"
                         f"<image x='{left:.0f}' y='{top:.0f}' width='{tile}' height='{tile}' href='{data_url(file)}'/>"
                         f"<rect x='{left:.0f}' y='{top:.0f}' width='{tile}' height='{tile}' fill='none' stroke='#555'/>"
                         f"<text x='{left + tile / 2:.0f}' y='{top + tile + 11:.0f}' text-anchor='middle'>{a[-1]:.2f}</text></g>")
    return f"<svg viewBox='0 0 {width} {40 + most * (tile + 14)}' style='width:100%;font:11px sans-serif'>{''.join(parts)}</svg>"


@app.function
def standing(playground):
    """Where training stands, in large figures."""
    now = playground.now
    shown = {"backend": playground.model.backend.name, "epoch": len(playground.history) - 1, "steps": playground.steps,
             "training loss": f"{now['loss']:.4f}", "validation loss": f"{now['val_loss']:.4f}",
             "training accuracy": f"{100 * now['accuracy']:.1f} %", "validation accuracy": f"{100 * now['val_accuracy']:.1f} %"}
    too_far = "" if playground.finite else "<p class='bad'>The loss is not finite any more: take a smaller learning rate, then Reset.</p>"
    return f"{STYLE}<div class='standing'>" + "".join(
        f"<div>{name}<b id='{name.replace(' ', '-')}'>{value}</b></div>" for name, value in shown.items()) + f"</div>{too_far}"


@app.function
def pictures(playground, i):
    """The network beside the plane and the learning curves."""
    from xpnet import plot

    def boundary(ax):
        if playground.finite:
            plot.decision_boundary(playground.model, playground.x, playground.t, ax=ax, resolution=100)
        ax.scatter(*playground.x[i], s=120, facecolors="none", edgecolors="black", linewidths=1.5)
        ax.set_title(f"P(class | x), training data; ring: sample {i}", fontsize="medium")

    def curves(ax):
        plot.learning_curves(playground.history, ax=ax)

    return f"""<div class='row'><div style='flex: 3 0 480px'>{diagram(playground, i)}
        <p>Each picture is a unit's response over the plane: white is 0, orange positive, blue negative; below it the unit's output for
        sample {i}. Lines are weights by size and sign; point at one for its numbers.</p></div>
        <div style='flex: 2 0 320px'>{picture(boundary)}{picture(curves, (4.8, 2.2))}</div></div>"""


@app.function
def gradients(playground):
    """The gradient of every parameter at the last step, summed up in a row."""
    rows, norm = [], np.linalg.norm
    for path, before, g, after in playground.named(*playground.last):
        ratio = f"{norm(after - before) / norm(before):.2e}" if norm(before) else "from 0"
        rows.append([path, " × ".join(map(str, g.shape)), f"{norm(before):.4f}", f"{norm(g):.3e}", f"{g.mean():+.3e}",
                     f"{np.abs(g).max():.3e}", f"{100 * (g == 0).mean():.0f} %", ratio])
    return table(("θ", "shape", "‖θ‖", "‖∂L/∂θ‖", "mean of ∂L/∂θ", "largest |∂L/∂θ|", "zeros in ∂L/∂θ", "‖Δθ‖ / ‖θ‖"), rows)


@app.function
def matrices(playground, path, most=8):
    """A parameter, its gradient and its update at the last step, tinted by sign and size; no more than the first rows and columns."""
    _, before, g, after = next(named for named in playground.named(*playground.last) if named[0] == path)
    tables = []
    for name, a in ((f"{path}, before", before), (f"∂L/∂{path}", g), (f"Δ{path}, the update", after - before)):
        a = np.atleast_2d(a)
        tints = colours(a, np.abs(a).max())
        rows = [["<span style='background: rgb({} {} {} / 45%)'>{:.4f}</span>".format(*tints[i, j], a[i, j])
                 for j in range(min(most, a.shape[1]))] for i in range(min(most, a.shape[0]))]
        part = ", its beginning" if max(a.shape) > most else ""
        tables.append(f"<div><b>{name}</b> {a.shape[0]} × {a.shape[1]}{part}{table((), rows)}</div>")
    return f"<div class='row'>{''.join(tables)}</div>"


@app.function
def one_sample(playground, i):
    """Sample i through forward, loss, backward and update, in numbers."""
    calls, L, L_after, g, after = playground.one(i)
    z, t = calls[-1]["y"], playground.t[i]
    p = apply_link(np, "softmax", to_host(z))
    forward, back, header = [], [], ("layer", "rule", "takes", "gives")
    for call in calls:
        name, dense = f"{call['path']}: {call['layer']!r}", isinstance(call["layer"], Dense)
        forward.append([name, "z = xW + b" if dense else "a = f(z)", show(call["x"]), show(call["y"])])
        back.append([name, "∂L/∂x = ∂L/∂z Wᵀ" if dense else "∂L/∂z = ∂L/∂a ⊙ f′(z)", show(call["dy"]), show(call["dx"])])
    forward += [["softmax", "pᵢ = exp zᵢ / Σⱼ exp zⱼ", show(z), show(p)], ["loss", f"L = -ln pₜ, t = {t}", show(p), f"{L:.4g}"]]
    back.append(["loss", "∂L/∂z = p - onehot(t)", show(p), show(calls[-1]["dy"])])
    update = [[path, show(old), show(d), show(new - old), show(new)]
              for path, old, d, new in playground.named(playground.model.params, g, after)]
    return f"""<b>Forward</b>{table(header, forward, 'rules')}<b>Backward</b>{table(header, back[::-1], 'rules')}
        <div><b>Gradients</b> ∂L/∂W = xᵀ ∂L/∂z and ∂L/∂b = ∂L/∂z, <b>and the update</b> that {playground.optimizer!r} makes of them.
        It takes L from {L:.6f} to <span id='loss-after'>{L_after:.6f}</span>.</div>
        {table(("θ", "before", "∂L/∂θ", "Δθ", "after"), update)}"""


@app.function
def derived(playground, i):
    """The same step as `explain` derives it: every formula with its numbers, and a finite difference beside each gradient."""
    x, t = (a[i:i + 1, ...] for a in playground.data)
    told = explain(playground.model, playground.loss, x, t, optimizer=playground.optimizer, training=False)
    return f"<pre style='font-size: 12px; overflow: auto; line-height: 1.25'>{html.escape(str(told))}</pre>"


@app.cell
def script():
    parser = argparse.ArgumentParser(description="The playground, a local web page. Other options are those of `marimo run`.")
    parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
    parser.add_argument("--quick", action="store_true", help="train a few epochs without the page, to see that it runs")
    args, others = parser.parse_known_args()              # such as --port 2718 --headless
    on_page = mo.app_meta().mode != "script"
    if not on_page and args.quick:
        small = Playground(backend=args.backend)
        small.train(epochs=3)
        print(f"{small.model.backend.name}: {small.history}")
        print(f"sample 0: L = {small.one(0)[1]:.4f}, after a step on it alone {small.one(0)[2]:.4f}")
    elif not on_page:
        backend = ["--", "--backend", args.backend] if args.backend else []
        with contextlib.suppress(KeyboardInterrupt):
            subprocess.run([sys.executable, "-m", "marimo", "--log-level", "ERROR", "run", *others, __file__, *backend])
    return args, on_page


@app.cell
def controls(on_page):
    mo.stop(not on_page)                                  # and with it every cell that needs one of these
    data = mo.ui.dropdown(list(DATA), "spirals", label="data")
    noise = mo.ui.slider(0.0, 0.3, 0.01, 0.03, label="noise", show_value=True)
    depth = mo.ui.slider(0, 4, 1, 2, label="hidden layers", show_value=True)
    units = mo.ui.array([mo.ui.slider(1, 12, 1, 8, label=f"units in layer {i + 1}", show_value=True) for i in range(depth.stop)])
    activation = mo.ui.dropdown([n for n in ACTIVATIONS if "softmax" not in n and n != "prelu"], "tanh", label="activation")
    dropout = mo.ui.slider(0.0, 0.8, 0.1, 0.0, label="dropout p", show_value=True)
    seed = mo.ui.number(0, 999, 1, 0, label="seed")
    optimizer = mo.ui.dropdown(list(OPTIMIZERS), "Adam", label="optimizer")
    lr = mo.ui.slider(steps=RATES, value=0.01, label="learning rate η", show_value=True)
    decay = mo.ui.slider(steps=[0.0, 0.0001, 0.001, 0.003, 0.01, 0.03, 0.1], value=0.0, label="weight decay λ", show_value=True)
    batch_size = mo.ui.slider(steps=[1, 5, 10, 30, 60, 100, 300], value=30, label="batch size", show_value=True)
    per_frame = mo.ui.slider(steps=[1, 2, 5, 10, 20, 50], value=2, label="epochs a frame", show_value=True)
    running, set_running = mo.state(False, allow_self_loops=True)   # the button that changes it is drawn by it
    version, set_version = mo.state(0)                    # counts what has changed the network, so that what shows it runs again
    reset = mo.ui.button(value=0, on_click=lambda n: n + 1, on_change=lambda _: set_running(False), label="↺ Reset")
    return (activation, batch_size, data, decay, depth, dropout, lr, noise, optimizer, per_frame, reset, running, seed, set_running,
            set_version, units, version)


@app.cell
def sidebar(activation, batch_size, data, decay, depth, dropout, lr, noise, optimizer, per_frame, seed, units):
    # A list of its own: sliders that move along a list get each other's values.
    hidden = mo.vstack(units[:depth.value]).style(flex="none")
    mo.sidebar(mo.vstack([mo.Html("<b>xpnet playground</b>"), data, noise, depth, hidden, activation, dropout, seed,
                          mo.Html("<p>These may be changed while it trains:</p>"), optimizer, lr, decay, batch_size, per_frame]),
               width="330px")


@app.cell
def network(activation, args, data, depth, dropout, noise, reset, seed, units):
    _ = reset.value                                       # a press makes everything anew
    sizes = units.value[:depth.value]
    playground = Playground(data.value, noise.value, sizes, activation.value, dropout.value, seed.value, args.backend)
    return (playground,)


@app.cell
def options(batch_size, decay, lr, optimizer, playground):
    playground.use(optimizer.value, lr.value, decay.value, batch_size.value)
    tuned = playground                                    # the cells that train take it by this name, so that they run after this one
    return (tuned,)


@app.cell
def choice(playground):
    sample = mo.ui.slider(0, len(playground.x) - 1, 1, 0, label="sample", show_value=True)
    tab = mo.ui.tabs({"Gradients of the last step": "", "One sample, step by step": "", "The same, derived": ""})
    path = mo.ui.dropdown(playground.model.paths(), playground.model.paths()[0], label="The numbers of")
    return path, sample, tab


@app.cell
def buttons(per_frame, reset, running, sample, set_running, set_version, tuned):
    def act(change, *args, **how):
        change(*args, **how)
        if not tuned.finite:
            set_running(False)
        set_version(lambda n: n + 1)

    start = mo.ui.button(label="❚❚ Pause" if running() else "▶ Train", kind="success", on_change=lambda _: set_running(not running()))
    one_step = mo.ui.button(label="Step: one batch", on_change=lambda _: act(tuned.train), disabled=running())
    one_epoch = mo.ui.button(label="One epoch", on_change=lambda _: act(tuned.train, epochs=1), disabled=running())
    alone = mo.ui.button(label="Step: this sample alone", on_change=lambda _: act(tuned.alone, sample.value), disabled=running())
    # While training, the browser asks for the next frame at this interval: between two of them the page answers to everything else.
    clock = mo.ui.refresh(default_interval=0.3, on_change=lambda _: act(tuned.train, epochs=per_frame.value, seconds=0.5))
    mo.hstack([start, one_step, one_epoch, reset, sample, alone, clock.style(display="none") if running() else ""], justify="start")
    return alone, clock, one_epoch, one_step, start


@app.cell
def above(playground, sample, version):
    version()
    mo.Html(standing(playground) + pictures(playground, sample.value))


@app.cell
def below(path, sample, tab, tuned, version):
    version()
    if tab.value.startswith("Gradients") and tuned.last is None:
        shown = [mo.md("No step has been made yet: press Step or Train.")]
    elif tab.value.startswith("Gradients"):
        shown = [mo.Html(gradients(tuned)), path, mo.Html(matrices(tuned, path.value))]
    else:
        shown = [mo.Html((derived if tab.value.endswith("derived") else one_sample)(tuned, sample.value))] if tuned.finite else []
    mo.vstack([tab, *shown])


if __name__ == "__main__":
    app.run()

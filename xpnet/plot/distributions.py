"""What a Recorder has heard: activations and gradients of each layer, over time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import unknown
from ..model import Model
from .recorder import Recorder, host_arrays, weight_paths
from .style import COLOURS, Axes, epochs_along, legend, line, many_axes, one_axes


def activations(recorder: Recorder, ax: Any = None, layers: Sequence[str] | None = None) -> np.ndarray:
    """The outputs of each layer over the epochs, one panel a layer: median, the middle 50 % and 90 % of all values, minimum and maximum.

    Saturated units show as bands at the ends of the activation's range, dead ones as a band at 0.

    layers  which, by path; by default all
    Glorot & Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks", look at networks this way.
    """
    drawn = _chosen(recorder, _recorded(recorder, "activations"), "layer", layers)
    panels = many_axes(ax, len(drawn))
    handles: Any = []
    for panel, path in zip(panels, drawn):
        handles = _bands(panel, recorder.epochs, recorder.activations[path], COLOURS[0], (0, 100))
        panel.set(title=_title(path, recorder.layers[path]), ylabel="activation")
    _legend(panels, handles, own=ax is None)
    return panels


def gradients(recorder: Recorder, ax: Any = None, layers: Sequence[str] | None = None, of: str = "weights") -> np.ndarray:
    """|∂L/∂W| of each layer over the epochs, one panel a layer, on one logarithmic scale, so that vanishing gradients show.

    of      "weights": of each weight matrix; "outputs": |∂L/∂y| of each layer's output y, the deltas of backpropagation
    layers  which, by path of the parameter or layer; by default all weight matrices, or all layers
    Entries that are 0, as those of dead units, lie below the picture.
    """
    if of not in ("weights", "outputs"):
        raise unknown("of", of, ("weights", "outputs"))
    kept = _recorded(recorder, "gradients" if of == "weights" else "deltas")
    drawn = _chosen(recorder, kept, "parameter" if of == "weights" else "layer", layers,
                    [p for p in recorder.weights if p in kept] if of == "weights" else None)
    panels = many_axes(ax, len(drawn), sharey=True)
    handles: Any = []
    everything = np.array([kept[path] for path in drawn])
    positive = everything[everything > 0.0]
    low, high = (positive.min(), positive.max()) if positive.size else (1e-12, 1.0)
    typical = np.array([[q[5] for q in kept[path]] for path in drawn])
    low = max(low, 0.3 * float(typical[typical > 0.0].min(initial=high)))   # single tiny entries are not worth decades of paper
    for panel, path in zip(panels, drawn):
        handles = _bands(panel, recorder.epochs, [np.maximum(q, low / 10.0) for q in kept[path]], COLOURS[3], (100,))
        panel.set(title=path if of == "weights" else _title(path, recorder.layers[path]), yscale="log", ylim=(low, 2.0 * high),
                  ylabel=r"$|\partial L/\partial W|$" if of == "weights" else r"$|\partial L/\partial y|$")
    _legend(panels, handles, own=ax is None)
    return panels


def gradient_flow(recorder_or_model: Any, ax: Axes = None) -> Axes:
    """‖∂L/∂W‖ of each weight matrix: over the epochs with a Recorder, or of a Model's last backward pass."""
    if isinstance(recorder_or_model, Model):
        return _flow_now(recorder_or_model, ax)
    recorder = recorder_or_model
    norms = _recorded(recorder, "norms")
    ax = one_axes(ax)
    for i, path in enumerate(recorder.weights):
        ax.plot(recorder.epochs, norms[path], **line(i, len(recorder.weights)), linewidth=1.2, label=path,
                marker="o" if len(recorder.epochs) == 1 else None)
    if any(v > 0.0 for path in recorder.weights for v in norms[path]):
        ax.set_yscale("log")
    ax.set_ylabel(r"$\|\partial L/\partial W\|$")
    epochs_along(ax)
    legend(ax, len(recorder.weights))
    return ax


def _flow_now(model: Model, ax: Axes) -> Axes:
    paths = weight_paths(model)
    if not paths:
        raise ValueError(f"the network has no parameters: {model.net!r}")
    norms = [float(np.linalg.norm(host_arrays(model.get_grad(path))[0])) for path in paths]
    if not any(norms):
        raise ValueError("every gradient of the model is 0: run a backward pass first, "
                         "y, backward = model.forward(x); backward(loss(y, t)[1])")
    ax = one_axes(ax)
    ax.plot(range(len(paths)), norms, "o-", color=COLOURS[0])
    ax.set_xticks(range(len(paths)), paths, rotation=0 if len(paths) <= 8 else 90)
    positive = [v for v in norms if v > 0.0]
    ax.set(xlabel="parameter, from input to output", ylabel=r"$\|\partial L/\partial W\|$", yscale="log",
           ylim=(min(positive) / 3.0, max(positive) * 3.0))
    return ax


def _recorded(recorder: Any, name: str) -> dict[str, Any]:
    if not isinstance(recorder, Recorder):
        raise TypeError("expected a Recorder (or, for gradient_flow, a Model), as in recorder = plot.Recorder(x, t), "
                        f"got {type(recorder).__name__}")
    if not recorder.epochs:
        raise ValueError("the Recorder has recorded nothing yet: give it to fit(..., callbacks=[recorder]), or call "
                         "recorder.record(model, loss)")
    return getattr(recorder, name)


def _chosen(recorder: Recorder, kept: dict[str, Any], kind: str, wanted: Sequence[str] | None,
            default: list[str] | None = None) -> list[str]:
    for path in wanted or ():
        if path not in kept:
            raise unknown(kind, path, kept)
    drawn = list(wanted) if wanted is not None else default or [path for path in recorder.layers if path in kept]
    if not drawn:
        raise ValueError(f"there is no {kind} to draw")
    return drawn


def _bands(ax: Axes, epochs: list[int], rows: list[np.ndarray], colour: str, extremes: tuple[int, ...]) -> list[Any]:
    q, marker = np.array(rows).T, "o" if len(epochs) == 1 else None
    handles = [ax.plot(epochs, q[50], color=colour, linewidth=1.5, marker=marker, label="median")[0],
               ax.fill_between(epochs, q[25], q[75], color=colour, alpha=0.45, linewidth=0, label="25 to 75 %"),
               ax.fill_between(epochs, q[5], q[95], color=colour, alpha=0.25, linewidth=0, label="5 to 95 %")]
    for level in extremes:
        edge, = ax.plot(epochs, q[level], color=colour, linewidth=0.7, linestyle=":", marker=marker, markersize=3)
    edge.set_label("minimum, maximum" if len(extremes) > 1 else "maximum")
    epochs_along(ax)
    return [*handles, edge]


def _legend(panels: np.ndarray, handles: list[Any], own: bool) -> None:
    """One for all panels: below them in a figure of our own, else in the first."""
    if own:
        panels[0].figure.legend(handles=handles, loc="outside lower center", ncols=4 if len(panels) > 1 else 2, fontsize="small")
    else:
        panels[0].legend(handles=handles, fontsize="x-small")


def _title(path: str, layer: Any) -> str:
    text = repr(layer)
    return f"{path}: {text if len(text) <= 28 else type(layer).__name__}" if path else text

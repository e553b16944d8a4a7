"""examples/viva.ipynb: every topic is asked, answered and shown, and every cell stands alone."""

import ast
import json
import re
from pathlib import Path

import pytest
from conftest import STATE, chosen

NOTEBOOK = Path(__file__).parent.parent / "examples" / "viva.ipynb"
TOPICS = """
does backpropagation compute | does backpropagation not compute | chain rule for a scalar | reverse mode | vector-Jacobian product | Jacobian never formed
used twice | Zeroing or accumulating | dW, db and dx | db a sum over the batch | Broadcasting | Where does 1/n | 1/n enters twice | output weights are updated first
σ′ from the output | tanh′ | ReLU′ at 0 | Jacobian of softmax | derive p − t | fuse softmax | maximum subtracted | saturated sigmoid
each layer keep | memory grow with depth | checkpointing | twice the forward | weights start equal | Xavier | He's variance | gradients vanish | gradients explode | clipping
residual | max-pooling | tie | where does the flip | padding | What is im2col | adjoint of im2col | BatchNorm's gradient | training and inference | inverted dropout
scatter-*add* | sum over time | truncated BPTT | LSTM | dQ, dK and dV | 1/√d | Momentum | RMSProp | Adam: what is its state | Adam correct a bias | Adam's ε
decoupled weight decay | which formula, which step | which dtype | which tolerance | kinks | NaN at step 300 | stuck at ln C
"""


def cells():
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"]), cell.get("outputs", [])) for cell in found]


CELLS = cells()
AT = [i for i, (_, source, _) in enumerate(CELLS) if re.match(r'<a id="q\d+"></a>\n### \d+\. ', source)]
TITLES = [CELLS[i][1].splitlines()[1].partition(". ")[2] for i in AT]
SETUP = [source for kind, source, _ in CELLS[:AT[0]] if kind == "code"]
EACH = pytest.mark.parametrize("i", AT, ids=[f"q{number}" for number in range(1, len(AT) + 1)])


def test_every_topic_is_asked():
    topics = [topic.strip() for topic in re.split(r"[|\n]", TOPICS) if topic.strip()]
    assert len(topics) == len(TITLES) == 60
    for topic in topics:
        assert len([title for title in TITLES if topic in title]) == 1, topic


def test_numbers_and_contents():
    assert CELLS[0][1].startswith(f"# Viva: {len(AT)} questions")
    assert [re.findall(r"\d+", CELLS[i][1])[:2] for i in AT] == [[str(n), str(n)] for n in range(1, len(AT) + 1)]
    contents = next(source for _, source, _ in CELLS if source.startswith("## Contents"))
    assert re.findall(r"^(\d+)\. \[(.+)\]\(#q(\d+)\)$", contents, re.MULTILINE) == [(str(n), t, str(n)) for n, t in enumerate(TITLES, start=1)]
    assert re.findall(r"\*\*(.+)\*\*", contents) == [source[3:].splitlines()[0] for _, source, _ in CELLS[len(SETUP) + 1:] if
                                                     source.startswith("## ") and "Set-up" not in source and "Contents" not in source]


@EACH
def test_answered_and_shown(i):
    """Question and answer, then a cell that shows it: short, with an assertion, so that a wrong answer stops the notebook."""
    answer = CELLS[i][1].split("\n\n", 1)[1]
    assert 150 < len(answer) < 1100
    kind, source, outputs = CELLS[i + 1]
    assert kind == "code" and len([line for line in source.splitlines() if line.strip()]) <= 20
    assert outputs and not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    nodes = list(ast.walk(ast.parse(source)))
    assert any(isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check") for node in nodes)


@pytest.fixture(scope="module", params=["numpy", "cupy"])
def namespace(request):
    """What the set-up cells define."""
    if STATE[request.param] is not None or request.param not in chosen(request.config):
        pytest.skip(f"not here, or not chosen: {request.param}")
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context():
        matplotlib.use("Agg")
        names = {"__name__": "__main__"}
        for source in SETUP:
            exec(source.replace('BACKEND = "numpy"', f'BACKEND = "{request.param}"'), names)
        yield names


@EACH
def test_each_cell_stands_alone(i, namespace, monkeypatch):
    """After the set-up cells, each runs without the others."""
    plt = namespace["plt"]
    monkeypatch.setattr(plt, "show", lambda: None)
    try:
        exec(compile(CELLS[i + 1][1], CELLS[i][1].splitlines()[1], "exec"), dict(namespace))
    finally:
        plt.close("all")


def test_check_refuses_a_wrong_gradient(namespace, capsys):
    xp, check, x = namespace["xp"], namespace["check"], namespace["array"]([[0.5, -1.0], [2.0, 0.3]])
    check(lambda x: xp.sum(x ** 3), 3.0 * x ** 2, x)
    assert "agrees" in capsys.readouterr().out
    wrong = 3.0 * x ** 2
    wrong[1, 0] += 1e-3
    for gradient in (wrong, -3.0 * x ** 2, 2.0 * x, 0.0 * x):
        with pytest.raises(AssertionError, match="the gradient is wrong"):
            check(lambda x: xp.sum(x ** 3), gradient, x)

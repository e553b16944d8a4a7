"""`ci/gpu`: what it plans, how it runs a step, and what the report says. No GPU is asked."""

import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
import types
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "ci" / "gpu"
if not SCRIPT.exists() or os.name != "posix":
    pytest.skip("ci/gpu is for a checkout, on Linux", allow_module_level=True)


@pytest.fixture
def gpu(monkeypatch):
    """The script as a module, without a __pycache__ beside it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("CUDA_ON_CPU", "0")                # main may set it, for its steps
    loader = importlib.machinery.SourceFileLoader("ci_gpu", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("ci_gpu", loader))
    loader.exec_module(module)
    return module


def python(code):
    return [sys.executable, "-c", code]


# Arguments, and what to install.


def test_arguments(gpu, capsys, monkeypatch, tmp_path):
    args = gpu.parse([])
    assert (args.python, args.quick, args.rehearse, args.limit, str(args.out)) == (None, False, False, 180, "ci-gpu-report")
    assert gpu.parse(["--python", "P", "--limit", "2.5", "--out", "D"]).limit == 2.5
    with pytest.raises(SystemExit):
        gpu.parse(["--limit", "0"])
    assert "a positive number of minutes" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["gpu", "--rehearse", "--python", "nowhere/python", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="nowhere/python is not a Python"):
        gpu.main()


@pytest.mark.parametrize("version,extra,package", [(13000, "cupy", "cupy-cuda13x[ctk]"), (14010, "cupy", "cupy-cuda13x[ctk]"),
                                                   (12040, "cupy12", "cupy-cuda12x[ctk]")])
def test_the_driver_chooses_the_package(version, extra, package, gpu, tmp_path):
    """With CUDA's libraries: a bare machine has the driver only."""
    assert gpu.cuda_extra(version) == (extra, package)
    interpreter, (make, install) = gpu.installation(tmp_path / "venv", version)
    assert interpreter == tmp_path / "venv" / "bin" / "python"
    assert make.command[1:] == ["-m", "venv", str(tmp_path / "venv")]
    assert install.command[0] == str(interpreter) and install.command[-2:] == [f"{gpu.ROOT}[test,examples,{extra}]", package]


def test_a_driver_that_is_too_old(gpu):
    with pytest.raises(SystemExit, match="runs CUDA 11.8 at most, CuPy needs 12: update the driver"):
        gpu.cuda_extra(11080)


def no_library(name):
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("library,said", [
    (no_library, "no NVIDIA driver: libcuda.so.1: cannot open"),
    (lambda name: types.SimpleNamespace(cuInit=lambda flags: 100), "the NVIDIA driver reports no GPU"),
    (lambda name: types.SimpleNamespace(cuInit=lambda flags: 803), "the NVIDIA driver answers with error 803"),
])
def test_without_a_gpu_it_says_so_at_once(library, said, gpu, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu.ctypes, "CDLL", library)
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path / "report")])
    with pytest.raises(SystemExit) as stopped:
        gpu.main()
    assert stopped.value.code == 2 and not (tmp_path / "report").exists()
    assert said in capsys.readouterr().err


def test_the_driver_is_asked_for_its_version(gpu, monkeypatch):
    def answer(value):
        def call(pointer):
            pointer._obj.value = value
            return 0
        return call

    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: types.SimpleNamespace(
        cuInit=lambda flags: 0, cuDriverGetVersion=answer(12040), cuDeviceGetCount=answer(2)))
    assert gpu.driver() == (12040, 2)


# The plan.


def test_the_plan(gpu):
    everything = dict.fromkeys(gpu.PACKAGES, True)
    full = {s.name: s for s in gpu.plan("P", everything, gpus=2, mnist="FOLDER")}
    assert all(not s.reason for s in full.values())       # nothing is skipped where all is there
    assert list(full)[:2] == ["device", "self-check"]     # what cannot go wrong for another reason goes first
    assert full["suite"].command == ["P", "-m", "pytest", "-q", "--backend", "cupy", "--full"]
    assert full["second GPU"].command[-2:] == ["--device", "cupy:1"]
    assert {f"{p.stem} on cupy" for p in (gpu.ROOT / "examples").glob("*.py")} <= set(full)
    assert {"digits on numpy", "mnist on numpy", "timings"} <= set(full)
    assert full["mnist on cupy"].command[-2:] == ["--data", "FOLDER"]

    quick = {s.name: s for s in gpu.plan("P", everything, gpus=1, quick=True)}
    assert quick["second GPU"].reason == "one GPU only"
    assert "XPNET_MNIST" in quick["mnist on cupy"].reason
    assert quick["xor on cupy"].command[-1] == "--quick" and "digits on numpy" not in quick
    for step in [*full.values(), *quick.values()]:        # what it starts is there
        for part in step.command:
            assert not part.startswith(str(gpu.ROOT)) or Path(part).exists(), part


def test_what_is_not_installed_is_skipped_with_the_reason(gpu):
    steps = {s.name: s for s in gpu.plan("P", {"numpy": True, "cupy": True}, gpus=1)}
    assert steps["suite"].reason == "not installed: pytest"
    assert steps["digits on cupy"].reason == "not installed: sklearn"
    assert not steps["self-check"].reason and not steps["timings"].reason and not steps["xor on cupy"].reason

    steps = gpu.plan("P", {"pytest": True}, gpus=1)       # some test files cannot be imported without hypothesis
    suite, = (s for s in steps if s.name == "suite")
    left_out, = (s for s in steps if s.reason == "not installed: hypothesis")
    assert not suite.reason and f"--ignore={gpu.ROOT / 'tests' / 'test_losses.py'}" in suite.command
    assert "test_losses.py" in left_out.name and "test_layer_laws.py" not in left_out.name


# A step.


def test_a_step_that_passes_brings_its_figures(gpu, tmp_path):
    code = "import os, json; print('one'); print('two'); json.dump([{'title': 'T', 'rows': [{'a': 1}]}], open(os.environ['XPNET_FIGURES'], 'w'))"
    (tmp_path / "figures.json").write_text("of a run that was cut off")
    assert gpu.Step("before", python("")).run(tmp_path, 60)["figures"] == []
    record = gpu.Step("a b", python(code), keep=1).run(tmp_path, 60)
    assert record["verdict"] == "passed" and record["output"] == "two" and record["figures"][0]["rows"] == [{"a": 1}]
    assert (tmp_path / "a-b.log").read_text() == "one\ntwo\n"
    assert gpu.Step("next", python("")).run(tmp_path, 60)["figures"] == []   # not those of the step before


def test_a_step_that_fails_says_how(gpu, tmp_path):
    record = gpu.Step("s", python("print('what it was'); raise SystemExit(3)")).run(tmp_path, 60)
    assert (record["verdict"], record["reason"], record["output"]) == ("failed", "exit status 3", "what it was")


@pytest.mark.parametrize("limit,left", [(2.0, 60), (60, 2.0)])
def test_a_step_is_stopped_with_what_it_started(limit, left, gpu, tmp_path):
    code = ("import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
            f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); print('started', flush=True); p.wait()")
    record = gpu.Step("s", python(code), limit=limit).run(tmp_path, left)
    assert (record["verdict"], record["reason"]) == ("failed", "stopped after its limit of 2 s")
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
            if "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
                break
        except (ProcessLookupError, FileNotFoundError):
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("what the step had started runs on")


def test_a_step_may_be_skipped_or_not_reached(gpu, tmp_path):
    assert gpu.Step("s", python("1 / 0"), reason="why").run(tmp_path, 60)["verdict"] == "skipped"
    record = gpu.Step("s", python("1 / 0")).run(tmp_path, 0.5)
    assert (record["verdict"], record["reason"]) == ("not reached", "the run's time limit")


def test_the_tail_of_a_progress_bar_is_its_end(gpu):
    assert gpu.tail("a\n\n 0%\r 50%\r100%\nb\n", 3) == "a\n100%\nb"
    assert gpu.tail("a\nb\n", 1) == "b"


# The report.


def record(name, verdict, **more):
    return {"name": name, "verdict": verdict, "reason": "", "seconds": 1.6, "command": f"run {name}", "output": "", "figures": []} | more


def test_the_verdict(gpu):
    passed, skipped = record("a", "passed"), record("b", "skipped")
    assert gpu.summarize([passed, skipped]) == ("1 of 2 steps passed; 1 skipped (b).", True)
    assert gpu.summarize([passed, record("c", "failed")]) == ("1 of 2 steps passed; 1 failed (c).", False)
    assert gpu.summarize([passed, record("d", "not reached")])[1] is False


@pytest.mark.parametrize("emulated", [True, False])
def test_the_report_holds_every_figure(emulated, gpu, tmp_path):
    rows = [{"network": "W2", "steps/s": 12345.6}, {"network": "a|b", "steps/s": 0.00001234}]
    steps = [record("timings", "passed", figures=[{"title": "Training steps", "rows": rows, "note": "how"}]),
             record("suite", "failed", reason="exit status 1", output="E  assert 1 == 2")]
    report = {"emulated": emulated, "machine": {"device": "NVIDIA H100"}, "steps": steps}
    gpu.write(tmp_path, report)
    text = (tmp_path / "report.md").read_text("utf-8")
    for said in ("1 of 2 steps passed; 1 failed (suite).", "| device | NVIDIA H100 |", "| suite | failed | 2 | exit status 1 |", "`run suite`",
                 "## Training steps\n\n| network | steps/s |\n| --- | --- |\n| W2 | 12,346 |\n| a\\|b | 1.234e-05 |\n\nhow", "E  assert 1 == 2"):
        assert said in text, text
    assert ("emulated device: times mean nothing" in text) == emulated
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["steps"] == steps
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["passed"] is False


@pytest.mark.parametrize("code,status", [("1 / 0", 1), ("", 0)])
def test_a_run_goes_on_after_a_failure(code, status, gpu, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "plan", lambda *args: [gpu.Step("first", python(code)), gpu.Step("second", python("print('here')"))])
    monkeypatch.setattr(sys, "argv", ["gpu", "--rehearse", "--python", sys.executable, "--out", str(tmp_path)])
    assert gpu.main() == status
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [s["verdict"] for s in report["steps"]] == ["failed" if status else "passed", "passed"]
    assert report["emulated"] and "emulated device: times mean nothing" in capsys.readouterr().out


def test_a_figure_is_printed_and_kept(gpu, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XPNET_FIGURES", str(tmp_path / "f.json"))
    gpu.figure("One", [{"a": 1.5}])
    gpu.figure("Two", [{"b": "x"}], "note")
    assert "| 1.5 |" in capsys.readouterr().out
    assert [f["title"] for f in json.loads((tmp_path / "f.json").read_text())] == ["One", "Two"]


def test_timings_are_of_rounds_that_end_with_a_synchronisation(gpu):
    calls = []
    fastest, median, slowest = gpu.measure(lambda i: calls.append("step"), lambda: calls.append("wait"), rounds=3, least=4, spend=1e-4)
    assert 0 < fastest <= median <= slowest
    assert calls[:6] == ["step"] * 5 + ["wait"] and calls[-1] == "wait" and calls.count("wait") == 6

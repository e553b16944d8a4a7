"""python -m xpnet"""

import argparse
import importlib
import json
import os
import subprocess
import sys

import pytest

from xpnet import cli


def xpnet(*args, **env):
    return subprocess.run([sys.executable, "-m", "xpnet", *args], capture_output=True, text=True, env={**os.environ, **env})


def test_help_names_the_commands_and_imports_none_of_them(capsys):
    code = "import sys; from xpnet.cli import main\ntry: main(['--help'])\n" \
           "except SystemExit as e: print(e.code, [m for m in sys.modules if m.startswith('xpnet.verify')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "0 []"
    for name in cli.COMMANDS:
        assert f"    {name} " in out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_registers_itself(name):
    module, what = cli.COMMANDS[name]
    subparsers = argparse.ArgumentParser().add_subparsers()
    importlib.import_module(module).add_parser(subparsers)
    assert list(subparsers.choices) == [name] and what
    assert callable(subparsers.choices[name].get_default("run"))


def test_backends(capsys):
    assert cli.main(["backends"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["numpy", "cupy", "torch", "array-api-strict"]
    assert " numpy " in lines[0] and lines[0].endswith("on cpu")


def test_verify():
    plain = xpnet("verify", "--only", "circuit")
    assert plain.returncode == 0 and plain.stderr == "" and "2 reproduced, 0 errata reproduced, 0 differ" in plain.stdout
    made = xpnet("verify", "--only", "circuit", "--only", "nand", "--json", "--backend", "numpy")
    assert made.returncode == 0 and json.loads(made.stdout)["ok"] and len(json.loads(made.stdout)["rows"]) == 3


def test_verify_as_markdown(capsys):
    assert cli.main(["verify", "--only", "circuit", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| source | quantity | published | here | difference | verdict |\n| --- |")


@pytest.mark.parametrize("args, env, says", [
    (["verify", "--backend", "nump"], {}, "unknown backend 'nump'; did you mean 'numpy'?"),
    (["verify"], {"XPNET_BACKEND": "nump"}, "unknown backend 'nump'; did you mean 'numpy'?"),
    (["verify", "--backend", "numpy:1"], {}, "backend 'numpy:1': NumPy has no devices"),
    (["verify", "--only", "nothing"], {}, "unknown case 'nothing'")])
def test_wrong_input_is_one_line_and_status_2(args, env, says):
    result = xpnet(*args, **env)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith(f"python -m xpnet verify: {says}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("args", [[], ["nothing"], ["verify", "--markdown", "--json"]])
def test_wrong_usage_is_status_2(args, capsys):
    with pytest.raises(SystemExit) as e:
        cli.main(args)
    assert e.value.code == 2
    assert "error:" in capsys.readouterr().err

"""`python -m xpnet`: a subcommand for each tool that is worth one.

A subcommand is a module with a function `add_parser(subparsers)`, which calls `subparsers.add_parser(name, ...)`, adds its arguments and
sets `run`, a function of the parsed arguments that returns the exit status. The module is named in COMMANDS, and imported only when it is
asked for, so that `--help` stays quick. What `--backend` names reaches `run` as a Backend. For input that makes no sense `run` raises
argparse.ArgumentTypeError: its message is printed, one line, and the exit status is 2.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from .backend import available_backends, get_backend
from .errors import BackendError

COMMANDS = {                                              # name: (module, what it does)
    "backends": ("xpnet.cli", "say which backends can be used here, and what to do about the others"),
    "explain": ("xpnet.derivation.command", "derive one training step of a small network, with its numbers"),
    "exercise": ("xpnet.exercises.command", "print an exercise with numbers, its worked solution, or a sheet of several"),
    "verify": ("xpnet.verify.command", "recompute published numbers on a backend and compare"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Returns the exit status: 0 fine, 1 the subcommand's own no, 2 wrong usage."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m xpnet", description="Backpropagation you can read.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((a for a in argv if not a.startswith("-")), None)
    for name, (module, what) in COMMANDS.items():
        if name == asked:
            importlib.import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=what)
    args = parser.parse_args(argv)
    try:
        if hasattr(args, "backend"):
            args.backend = backend_of(args.backend)
        return args.run(args)
    except (argparse.ArgumentTypeError, BackendError) as e:
        print(f"{parser.prog} {args.command}: {e}", file=sys.stderr)
        return 2


def backend_of(name: str | None) -> Any:
    """The backend that `--backend` names; None: $XPNET_BACKEND or NumPy."""
    try:
        return get_backend(name)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def add_parser(subparsers: Any) -> None:
    """Register `backends`."""
    parser = subparsers.add_parser("backends", description="Which backends can be used here, and what to do about the others.")
    parser.set_defaults(run=backends)


def backends(args: argparse.Namespace) -> int:
    state = available_backends()
    width = max(map(len, state))
    for name, what in state.items():
        print(f"{name:{width}}  {get_backend(name).describe() if what == 'available' else what}")
    return 0

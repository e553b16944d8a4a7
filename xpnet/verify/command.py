"""`python -m xpnet verify`"""

import argparse
import sys
from typing import Any

from . import verify

EPILOG = """The exit status is 0 where every number holds, 1 where one differs, 2 where the backend cannot be used. Not in the table: the
test errors of LeCun, Bottou, Bengio & Haffner (1998) on MNIST, which take the data and minutes of training: examples/mnist.py."""


def add_parser(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("verify", description="Recompute published numbers on a backend, in float64, and compare.",
                                   epilog=EPILOG)
    parser.add_argument("--backend", help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only cases with NAME in their name, as in mazur "
                        "(repeatable)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print a Markdown table")
    form.add_argument("--json", action="store_true", help="print JSON, with every number")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        table = verify(args.backend, args.only)
    except ValueError as e:                               # a case that does not exist
        raise argparse.ArgumentTypeError(str(e)) from e
    if args.markdown or args.json:
        print(table.to_markdown() if args.markdown else table.to_json())
    else:
        show(table)
    return 0 if table.ok else 1


def show(table: Any) -> None:
    """In colour on a terminal where rich is installed; else plain, so that a pipe or a file gets whole lines."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
        except ImportError:
            pass
        else:
            Console().print(table)
            return
    print(table)

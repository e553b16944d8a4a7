"""`python -m xpnet exercise`"""

import argparse
import sys
from typing import Any

from . import TOPICS, exercise, sheet

EPILOG = """Several topics make one sheet. The same seed gives the same numbers, everywhere: hand out the sheet, and keep the seed for
its solution."""


def add_parser(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("exercise", description="Print an exercise with numbers, or its worked solution.", epilog=EPILOG)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="as in dense-backward; --list has them all")
    parser.add_argument("--seed", type=int, default=0, help="of the numbers (default 0)")
    parser.add_argument("--solution", action="store_true", help="the worked solution, not the question")
    parser.add_argument("--out", metavar="FILE", help="write to a file: .html, .md or .txt (default: print Markdown)")
    parser.add_argument("--title", help="of a sheet with several topics")
    parser.add_argument("--list", action="store_true", help="list the topics")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.list:
        width = max(map(len, TOPICS))
        for name, topic in TOPICS.items():
            print(f"{name:{width}}  {topic.title}")
        return 0
    if not args.topics:
        raise argparse.ArgumentTypeError("which topic? --list has them all")
    try:
        if len(args.topics) == 1 and args.title is None:
            made: Any = exercise(args.topics[0], args.seed)
        else:
            made = sheet(args.topics, args.seed, args.title or "Backpropagation")
        document = made.solution if args.solution else made.question
        if args.out:
            document.save(args.out)
        else:
            sys.stdout.write(document.markdown())
    except (ValueError, TypeError) as e:                  # a topic or ending that does not exist
        raise argparse.ArgumentTypeError(str(e)) from e
    except OSError as e:
        raise argparse.ArgumentTypeError(f"{args.out}: {e.strerror}") from e
    return 0

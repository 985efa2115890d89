"""The question before money is spent. Nothing is bought without a yes, and where nobody can answer that is said."""

import sys

import typer

from kiejobs.cli import render
from kiejobs.errors import NotPossible


def agreed(question: str) -> bool:
    """Ask for a yes. Ctrl-C is a no; NotPossible where nobody can answer."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        render.say("", to=render.err())
        if sys.stdin.isatty():
            return False
        raise NotPossible(
            "nothing was bought: there is no terminal to ask on", remedy="Add --yes to buy without being asked."
        ) from None

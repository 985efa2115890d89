"""`python -m workers worker|beat …`: these two of Celery's commands, with their options and variables, for this app.

`celery -A workers worker|beat …` does the same. It also loads what all its other commands need, among them a shell and
Flower, and that stays in memory: 13 MB of each process. `--detach` is its alone: it starts Celery's own command line.
"""

import sys

from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker
from click import Group

from workers.app import app


def main() -> None:
    """Run the command that is named first."""
    for command in (worker, beat):
        command.params = [parameter for parameter in command.params if parameter.name != "detach"]
    banner = sys.stdout.isatty()  # people read it, log collectors do not
    context = CLIContext(app=app, no_color=not banner, workdir=None, quiet=not banner)
    commands = Group(commands={"worker": worker, "beat": beat})
    commands.main(prog_name="python -m workers", obj=context, auto_envvar_prefix="CELERY")


if __name__ == "__main__":
    main()

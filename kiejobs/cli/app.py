"""The commands, and the edge where errors become one clear line, its remedy and an exit code.

Exit codes: 0 done, 1 the job failed, 2 bad usage or input, 3 a dependency cannot be reached, 4 still running, parked or
timed out. A bug is not dressed up: it keeps its traceback.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kiejobs import __version__
from kiejobs.cli import (
    deliveries,
    demo,
    doctor,
    gateway,
    jobs,
    keys,
    migrate,
    models,
    orders,
    render,
    simulator,
    top,
    up,
)
from kiejobs.cli.exits import exit_code_of
from kiejobs.errors import KieJobsError

_ABOUT = """Buy AI generations at Kie.ai once, watch them to the end, keep every result.

\b
New here?  kiejobs demo     the whole way on this machine: no key, no set-up, nothing paid
           kiejobs up       the same, kept running: broker, workers, schedule, dashboard
           kiejobs doctor   what is configured, what is reachable, what to do about the rest

Exit codes: 0 done, 1 the job failed, 2 bad usage or input, 3 a dependency cannot be reached, 4 still running, parked
or timed out."""


_UsageError: Any = typer.BadParameter.__mro__[1]
"""Wrong options and arguments; typer has it under no public name."""


class _Edge(TyperGroup):
    """Turns our own errors into lines; everything else is a bug and stays one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before the command, and find the command."""
        with _usage_told(as_json="--json" in args):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        as_json = "--json" in ctx.args
        try:
            with _usage_told(as_json=as_json):
                return super().invoke(ctx)
        except KieJobsError as error:
            render.tell_error(error, as_json=as_json)
            raise typer.Exit(exit_code_of(error)) from None


@contextmanager
def _usage_told(*, as_json: bool) -> Iterator[None]:
    """Print a usage error's document where one was asked for; typer prints its lines and ends with 2."""
    try:
        yield
    except _UsageError as error:
        error.message = error.message.replace("Value error, ", "")  # pydantic's, which typer checks values with
        if as_json:
            remedy = f"{error.ctx.command_path} --help" if error.ctx else "kiejobs --help"
            render.print_json(render.error_document(error.format_message(), remedy, field=_field(error)))
        raise


def _field(error: Any) -> str | None:
    """Name the option or argument at fault, as it is typed."""
    parameter = getattr(error, "param", None)
    if parameter is None:
        given: str | None = getattr(error, "option_name", None)
        return given
    option = next((name for name in parameter.opts if name.startswith("--")), None)
    return str(option or parameter.metavar or parameter.name)


app = typer.Typer(
    cls=_Edge,
    help=_ABOUT,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # examples keep their lines, and `--help` needs no rich
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"kiejobs {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


demo.add_to(app)
up.add_to(app)
jobs.add_to(app)
orders.add_to(app)
deliveries.add_to(app)
models.add_to(app)
top.add_to(app)
doctor.add_to(app)
migrate.add_to(app)
gateway.add_to(app)
keys.add_to(app)
simulator.add_to(app)

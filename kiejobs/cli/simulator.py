"""`simulator`: the local Kie, with the flags of `python -m kiejobs.simulator`."""

import typer

from kiejobs.errors import SettingsError


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(short_help="Run a local Kie.", context_settings=passed_on, add_help_option=False)(simulator)


def simulator(context: typer.Context) -> None:
    """Run a local Kie to test against: no key, no money. Its own --help lists flags and scenarios."""
    try:
        from kiejobs.simulator.__main__ import main
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"the simulator needs {error.name}, which is not installed",
            remedy='Install it with: pip install "kiejobs[simulator]"',
        ) from None
    raise typer.Exit(main(context.args))

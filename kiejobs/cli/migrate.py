"""`migrate`: create or upgrade the schema."""

import typer

from kiejobs.cli import render
from kiejobs.cli.render import Json, examples


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    lines = ("kiejobs migrate", "KIEJOBS_DATABASE_URL=postgresql+psycopg://… kiejobs migrate")
    app.command(short_help="Create or upgrade the schema.", epilog=examples(*lines))(migrate)


def migrate(json: Json = False) -> None:
    """Create the database's schema or bring it to this version. Safe to run twice, and from two places at once."""
    from kiejobs.db import migrate as history
    from kiejobs.db.session import Database
    from kiejobs.settings import load

    database = Database(load().database)
    shown = database.url.render_as_string(hide_password=True)
    before, after = history.migrate(database)
    if json:
        render.print_json({"database": shown, "before": before, "after": after})
    elif before == after:
        render.say(f"{shown} is at revision {after}, the newest. Nothing to do.")
    else:
        render.say(f"{shown} brought from {before or 'nothing'} to revision {after}.")

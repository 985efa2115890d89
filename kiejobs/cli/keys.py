"""`keys`: who may use the gateway. A key is shown once; the setting holds what it is known by."""

from typing import Annotated, Literal

import typer

from kiejobs.cli import render
from kiejobs.cli.render import Json, examples
from kiejobs.errors import InvalidInput
from kiejobs.jobs import DEFAULT_TENANT


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(help="Make and list the gateway's keys.", no_args_is_help=True, rich_markup_mode=None)
    keys.command(
        name="new",
        short_help="Make a key.",
        epilog=examples("kiejobs keys new", "kiejobs keys new --tenant shop --scope read", "kiejobs keys new --json"),
    )(new)
    keys.command(name="list", short_help="List the keys that are set.", epilog=examples("kiejobs keys list"))(list_keys)
    app.add_typer(keys, name="keys", short_help="Make and list the gateway's keys.")


def new(
    tenant: Annotated[
        str, typer.Option(help="Whose key it is. Tenants do not see each other's jobs.")
    ] = DEFAULT_TENANT,
    scope: Annotated[
        Literal["read", "write", "admin"], typer.Option(help="read looks, write also buys, admin also sees accounts.")
    ] = "write",
    json: Json = False,
) -> None:
    """Make a key: printed once, on standard output; nothing is stored. Standard error has the entry for the setting.

    Several keys of one tenant may be valid at once: add the new entry, hand the key out, take the old entry away.
    """
    from kiejobs.gateway.keys import digest_of, new_key
    from kiejobs.settings import checked_tenant

    try:
        checked_tenant(tenant)
    except ValueError as error:
        raise InvalidInput(str(error), field="--tenant", given=tenant) from None
    key = new_key()
    entry = f"{tenant}:{scope}:{digest_of(key)}"
    if json:
        render.print_json({"key": key, "tenant": tenant, "scope": scope, "setting": entry})
        return
    render.say(key)
    render.hint("This key is shown once. For the gateway, entries separated by commas:")
    render.hint(f"KIEJOBS_GATEWAY_KEYS={entry}")


def list_keys(json: Json = False) -> None:
    """List the keys that are set here, by the beginning of what they are known by."""
    from kiejobs.settings import load

    found = load().gateway_keys
    if json:
        told = [{"tenant": key.tenant, "scope": key.scope, "sha256": key.sha256} for key in found]
        render.print_json({"keys": told})
    elif not found:
        render.hint("KIEJOBS_GATEWAY_KEYS is not set: the gateway listens on loopback only, for tenant default.")
    else:
        rows = [(key.tenant, key.scope, key.sha256[:12]) for key in found]
        render.out().print(render.table(("tenant", "scope", "sha256"), rows))

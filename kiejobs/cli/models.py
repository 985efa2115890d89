"""`models`: what the catalogue knows of Kie's models and their parameters."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiejobs.cli import render
from kiejobs.cli.render import Json, examples
from kiejobs.errors import InvalidInput

if TYPE_CHECKING:
    from kiejobs.kie.catalogue import Field, Model


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    lines = ("kiejobs models", "kiejobs models kling-2.6/text-to-video", "kiejobs models z-image --json")
    app.command(short_help="List the known models, or show one.", epilog=examples(*lines))(models)


def models(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="One model's id: its parameters.")] = None,
    json: Json = False,
) -> None:
    """List the models whose parameters are known, or show one's. Other models of Kie's jobs API work too."""
    from kiejobs.kie import catalogue

    if model is not None:
        _one(model, as_json=json)
    elif json:
        render.print_json({"models": [_document(entry) for entry in catalogue.models()]})
    else:
        rows = [(entry.id, entry.kind, _price(entry), _required(entry)) for entry in catalogue.models()]
        render.out().print(render.table(("model", "makes", "credits", "needs"), rows))
        render.hint("One model's parameters: kiejobs models MODEL")


def _one(model_id: str, *, as_json: bool) -> None:
    from kiejobs.kie import catalogue

    entry = catalogue.find(model_id)
    if entry is None:
        meant = catalogue.near(model_id)
        raise InvalidInput(
            f"{model_id} is not in the catalogue",
            field="model",
            given=model_id,
            remedy=(f"Did you mean {meant}? " if meant else "")
            + "`kiejobs models` lists those that are; `submit` takes others too.",
        )
    if as_json:
        render.print_json(_document(entry) | {"input": catalogue.schema(model_id)})
        return
    render.facts(
        [
            ("model", entry.id),
            ("makes", entry.kind),
            ("status", entry.status),
            ("credits", _price(entry)),
            ("note", entry.note),
            ("page", entry.doc),
            ("as of", str(entry.date)),
        ]
    )
    if not entry.fields:
        render.say("Its parameters are not known; the input is sent as it is.")
        return
    render.say("")
    rows = [_field_row(field) for field in entry.fields]
    render.out().print(render.table(("input", "needed", "takes", "default", "note"), rows))


def _document(entry: "Model") -> dict[str, Any]:
    return {
        "id": entry.id,
        "kind": entry.kind,
        "vendor": entry.vendor,
        "status": entry.status,
        "priceCredits": entry.price_credits,
        "typicalS": entry.typical_s,
        "note": entry.note,
        "doc": entry.doc,
        "date": str(entry.date),
    }


def _price(entry: "Model") -> str:
    return f"{entry.price_credits:g}" if entry.price_credits is not None else ""


def _required(entry: "Model") -> str:
    if entry.withdrawn:
        return "withdrawn by Kie"
    return ", ".join(field.name for field in entry.fields if field.must_be_given)


def _field_row(field: "Field") -> tuple[str, ...]:
    import json

    from kiejobs.kie.catalogue.checking import describe

    default = "" if field.default is None else json.dumps(field.default, ensure_ascii=False)
    return (field.name, "yes" if field.must_be_given else "", describe(field), default, field.note)

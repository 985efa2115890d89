"""`models`: what the catalogue knows of Kie's models and their parameters."""

from typing import TYPE_CHECKING, Annotated

import typer

from kiejobs.cli import render
from kiejobs.cli.render import Json, examples
from kiejobs.documents import model_document
from kiejobs.errors import InvalidInput

if TYPE_CHECKING:
    from kiejobs.kie.catalogue import Field, Model


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    lines = (
        "kiejobs models",
        "kiejobs models kling",
        "kiejobs models kling-2.6/text-to-video",
        "kiejobs models z-image --json",
        "kiejobs models z-image --schema",
    )
    app.command(short_help="List the known models, or show one.", epilog=examples(*lines))(models)


def models(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="One model's id, or a part of several.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of one model's input.")] = False,
    json: Json = False,
) -> None:
    """List the models whose parameters are known, or show one's. Other models of Kie's jobs API work too.

    A part of an id lists the models whose ids hold it. docs/models.md has them all, by vendor.
    """
    from kiejobs.kie import catalogue
    from kiejobs.settings import load

    catalogue.use(load().catalogue)
    if schema and model is None:
        raise InvalidInput("--schema is of one model", field="--schema", remedy="kiejobs models MODEL --schema")
    if model is None or (catalogue.find(model) is None and not schema and _holding(model)):
        _list(_holding(model or ""), as_json=json)
    else:
        _one(model, as_json=json, schema_only=schema)


def _holding(part: str) -> "list[Model]":
    from kiejobs.kie import catalogue

    return [entry for entry in catalogue.models() if part.lower() in entry.id.lower()]


def _list(found: "list[Model]", *, as_json: bool) -> None:
    if as_json:
        render.print_json({"models": [model_document(entry) for entry in found]})
        return
    rows = [(entry.id, entry.kind, _price(entry), _required(entry)) for entry in found]
    render.out().print(render.table(("model", "makes", "credits", "needs"), rows))
    render.hint("One model's parameters: kiejobs models MODEL")


def _one(model_id: str, *, as_json: bool, schema_only: bool) -> None:
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
    if schema_only:
        render.print_json(catalogue.schema(model_id))
    elif as_json:
        render.print_json(model_document(entry) | {"input": catalogue.schema(model_id)})
    else:
        _tell(entry)


def _tell(entry: "Model") -> None:
    render.facts(
        [
            ("model", entry.id),
            ("makes", entry.kind),
            ("status", entry.status),
            ("credits", _price(entry)),
            ("takes", f"about {entry.typical_s:g} s" if entry.typical_s else ""),
            ("job", _parent(entry)),
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


def _parent(entry: "Model") -> str:
    if entry.parent is None:
        return ""
    chosen = "; `--input output=N` chooses one of its outputs" if entry.parent.part or entry.parent.index else ""
    return f"`--input job=ID` of a finished generation fills in {', '.join(sorted(entry.parent.fields))}{chosen}"


def _price(entry: "Model") -> str:
    return f"{entry.price_credits:g}" if entry.price_credits is not None else ""


def _required(entry: "Model") -> str:
    if entry.withdrawn:
        return "withdrawn by Kie"
    if not entry.fields:
        return "(fields not known)"
    needed = [field.name for field in entry.fields if field.must_be_given]
    if entry.parent and entry.parent.fields.intersection(needed):
        needed = ["job", *(name for name in needed if name not in entry.parent.fields)]
    return ", ".join(needed)


def _field_row(field: "Field") -> tuple[str, ...]:
    import json

    from kiejobs.kie.catalogue.checking import describe

    default = "" if field.default is None else json.dumps(field.default, ensure_ascii=False)
    return (field.name, "yes" if field.must_be_given else "", describe(field), default, field.note)

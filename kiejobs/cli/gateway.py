"""`gateway`: the HTTP API, Kie's callbacks and the health checks, as one process."""

from typing import Annotated

import typer

from kiejobs.cli import render
from kiejobs.cli.render import Json, examples

PORT = 8787


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    lines = (
        "kiejobs gateway                          # on loopback, without keys",
        "KIEJOBS_GATEWAY_KEYS=… kiejobs gateway --host 0.0.0.0",
        "curl http://127.0.0.1:8787/readyz",
    )
    app.command(short_help="Serve the HTTP API.", epilog=examples(*lines))(gateway)


def gateway(
    host: Annotated[str, typer.Option(help="Where to listen. Beyond loopback KIEJOBS_GATEWAY_KEYS must be set.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = PORT,
    json: Json = False,
) -> None:
    """Serve the HTTP API until Ctrl-C or SIGTERM: generations, models, accounts, Kie's callbacks, /healthz, /readyz.

    Any number may run beside each other. GET /openapi.json describes all of it.
    """
    from kiejobs.cli import environment
    from kiejobs.settings import load

    settings = load()
    environment.require(["fastapi", "jinja2", "prometheus_client", "uvicorn", "obstore"])
    from kiejobs.gateway import server
    from kiejobs.gateway.app import make_app
    from kiejobs.gateway.services import open_services
    from kiejobs.logs import setup_logging

    server.check_address(settings, host)
    setup_logging(settings)
    sock = server.listen(host, port)
    services = open_services(settings)
    address = f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"

    def announce() -> None:
        if json:
            render.print_json({"gatewayUrl": address})
        render.say(f"The gateway listens on {address}; what there is: {address}/openapi.json", to=render.err())

    with sock:
        server.serve(make_app(settings, services=services), sock, announce)

"""The command line of the simulator: `python -m kiejobs.simulator`.

Prints the two addresses once both ports listen, then serves until Ctrl-C or SIGTERM and leaves with 0. A port that is
taken is two lines on standard error and exit code 3, wrong usage is exit code 2. With `--json` standard output has one
JSON document, of the addresses or of the error.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TextIO

from kiejobs.simulator.scenarios import scenario_help
from kiejobs.simulator.server import Simulator

CANNOT_LISTEN = 3
REMEDY = "Name other ports with --port and --files-port (0: a free one), or another --host."


def make_parser() -> argparse.ArgumentParser:
    """All flags, with the scenario table below them."""
    parser = argparse.ArgumentParser(
        prog="kiejobs simulator",
        description="A local Kie.ai: point a client's base URL at it and spend nothing.",
        epilog=scenario_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--port", type=int, default=8788, help="port of the API, 0 for a free one (default %(default)s)")
    add("--files-port", type=int, default=8789, help="port of the result files (default %(default)s)")
    add("--public-host", metavar="NAME", help="name by which others reach this machine; it is put into result links")
    add("--duration-s", type=float, default=6.0, help="how long a generation takes (default %(default)s)")
    add("--create-limit", type=int, default=20, help="creates per account and window, 0 for no limit (default 20)")
    add("--create-window-s", type=float, default=10.0, help="length of that sliding window (default %(default)s)")
    add("--query-limit-per-s", type=int, default=0, help="queries per account and second (default 0: no limit)")
    add("--file-ttl-s", type=float, default=86400, help="how long result links work (default %(default)s)")
    add("--credits", type=float, default=10000.0, help="what each account starts with (default %(default)s)")
    add(
        "--key",
        action="append",
        metavar="KEY[=ACCOUNT]",
        help="accept this key, for this account; may be repeated (default: any key, each an account of its own)",
    )
    add("--hmac-key", metavar="KEY", help="sign callbacks with this key")
    add("--json", action="store_true", help="print one line of JSON with the two addresses, the rest to standard error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the simulator; the exit code."""
    options = make_parser().parse_args(argv)
    simulator = Simulator(
        host=options.host,
        port=options.port,
        files_port=options.files_port,
        duration_s=options.duration_s,
        create_limit=options.create_limit,
        create_window_s=options.create_window_s,
        query_limit_per_s=options.query_limit_per_s,
        file_ttl_s=options.file_ttl_s,
        credits=options.credits,
        keys=_accounts_by_key(options.key),
        hmac_key=options.hmac_key,
        public_host=options.public_host,
    )
    try:
        simulator.serve_forever(_print_as_json if options.json else _print_addresses)
    except OSError as error:
        _tell(str(error.strerror or error), as_json=options.json)
        return CANNOT_LISTEN
    return 0


def _tell(error: str, *, as_json: bool) -> None:
    sys.stderr.write(f"kiejobs simulator: {error}\n{REMEDY}\n")
    if as_json:
        told = {"message": error, "action": REMEDY, "field": None, "allowed": None}
        sys.stdout.write(json.dumps({"error": told}) + "\n")


def _print_as_json(simulator: Simulator) -> None:
    sys.stdout.write(json.dumps({"simulatorUrl": simulator.base_url, "filesUrl": simulator.files_url}) + "\n")
    sys.stdout.flush()
    _print_addresses(simulator, sys.stderr)


def _print_addresses(simulator: Simulator, to: TextIO | None = None) -> None:
    out = to or sys.stdout
    out.write(f"Kie simulator: {simulator.base_url}\nResult files: {simulator.files_url}\n")
    out.flush()


def _accounts_by_key(keys: list[str] | None) -> dict[str, str] | None:
    if keys is None:
        return None
    pairs = (key.partition("=") for key in keys)
    return {key: account or key for key, _, account in pairs}


if __name__ == "__main__":
    sys.exit(main())

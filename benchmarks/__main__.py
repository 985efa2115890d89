"""All measurements, one after the other: `python -m benchmarks [--small] [NAME …]`; `make bench` runs it.

Each script is a process of its own; what it says goes to `benchmarks/results.md`, with the machine named. Ends with 1 where
a figure missed its bound. A run of one script replaces its part and leaves the others.
"""

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS, PARTS = HERE / "results.md", HERE / "results.json"
SCRIPTS = {
    "cost": "A generation, beside the textbook Celery implementation",
    "lateness": "Looks at Kie's records",
    "pacing": "Learned pacing",
    "completion": "From completion to stored",
    "enqueue": "Enqueueing",
    "budget": "Kie's create limit",
    "backlog": "A large database",
    "memory": "Memory and starts",
    "pools": "Pools",
    "store": "Copies",
    "gateway": "The gateway",
    "callbacks": "Callbacks",
}
LONGEST_S = 1200


def run(name: str, *, small: bool) -> dict[str, Any] | None:
    """Run one script; None where it said nothing that can be read."""
    words = [sys.executable, "-m", f"benchmarks.{name}", *(["--small"] if small else [])]
    began = time.monotonic()
    done = subprocess.run(words, cwd=HERE.parent, stdout=subprocess.PIPE, check=False, timeout=LONGEST_S, text=True)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        sys.stderr.write(f"{name}: no figures (exit code {done.returncode})\n")
        return None
    return {"figures": found["figures"], "took_s": round(time.monotonic() - began), "small": small}


def machine() -> str:
    """Name this machine."""
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "CPU")
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {model}, {memory / 1e6:.0f} GB, {system}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def page(parts: dict[str, Any]) -> Iterator[str]:
    """Write the page, line by line."""
    yield "# What was measured"
    yield ""
    yield "By `make bench`, on two cores that PostgreSQL, Redis, the S3 server, the simulator and the load share."
    yield "Each script's docstring says what is compared, and why that is fair. A time depends on the machine; a ratio was"
    yield "measured beside its peer in the same run."
    for name, title in SCRIPTS.items():
        if name in parts:
            yield from _part(name, title, parts[name])


def _part(name: str, title: str, part: dict[str, Any]) -> Iterator[str]:
    size = ", the small run" if part["small"] else ""
    ran = f"`python -m benchmarks.{name}`, {part['on']}, {part['took_s']} s{size}, on {part['machine']}"
    yield from ("", f"## {title}", "", ran, "")
    yield from ("| figure | measured | bound | beside |", "|---|---|---|---|")
    for figure in part["figures"]:
        yield f"| {figure['what']} | {_value(figure)} | {_bound(figure)} | {figure['beside']} |"


def _value(figure: dict[str, Any]) -> str:
    value = figure["value"]
    shown = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    said = f"{shown} {figure['unit']}".strip()
    return said if figure["good"] else f"**{said}** (missed)"


def _bound(figure: dict[str, Any]) -> str:
    if figure["at_most"] is not None:
        return f"≤ {figure['at_most']:g}"
    return f"≥ {figure['at_least']:g}" if figure["at_least"] is not None else ""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *SCRIPTS], metavar="NAME", help=", ".join(SCRIPTS))
    parser.add_argument("--small", action="store_true", help="a quicker run with less of everything")
    given = parser.parse_args()
    parts: dict[str, Any] = json.loads(PARTS.read_text()) if PARTS.exists() and given.names else {}
    missed = False
    for name in given.names or SCRIPTS:
        sys.stderr.write(f"── {name}\n")
        found = run(name, small=given.small)
        if found is None:
            missed = True
            continue
        parts[name] = found | {"on": dt.datetime.now(dt.UTC).date().isoformat(), "machine": machine()}
        missed |= not all(figure["good"] for figure in found["figures"])
        PARTS.write_text(json.dumps(parts, indent=2, ensure_ascii=False) + "\n")
        RESULTS.write_text("\n".join(page(parts)) + "\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

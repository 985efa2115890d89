"""A local stand-in for the Kie.ai HTTP API, to point tests at: no key, no money, no network.

It serves every family of Kie's API and answers on the wire as Kie does (HTTP 200 with the real status in the body),
makes real little media files, and misbehaves on request: a marker such as `[[fail=500]]` in the prompt chooses what
goes wrong. It shares no code with the client it tests, so a misunderstanding in one cannot hide in the other.
"""

from kiejobs.simulator.scenarios import scenario_help
from kiejobs.simulator.server import Simulator

__all__ = ["Simulator", "scenario_help"]

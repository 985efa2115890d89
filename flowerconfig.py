"""Flower: loopback only, behind a login, read-only, and no arguments beyond ids.

`KIEJOBS_FLOWER_AUTH` (`user:password`) is the login; without one Flower does not start. Bound to loopback: reach it
through an SSH tunnel or a proxy that adds TLS. `/metrics` and `/healthcheck` of Flower are open by its design.
"""

import sys

from kiejobs.settings import load

_auth = load().flower_auth
if _auth is None or ":" not in _auth.get_secret_value():
    sys.stderr.write("flower: KIEJOBS_FLOWER_AUTH is not set.\nSet it to user:password; `kiejobs up` makes one.\n")
    raise SystemExit(2)

address = "127.0.0.1"
port = 5555
basic_auth = [_auth.get_secret_value()]
read_only = True  # looking, not revoking or shutting down
max_tasks = 20000  # about 110 MB; the default keeps 100,000
persistent = False  # the history is in the database
natural_time = False
tasks_columns = "name,uuid,state,retries,received,runtime,worker"  # what fits a screen; ids are searched for

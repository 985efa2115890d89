"""Flower: loopback only, behind a login, read-only, and no arguments beyond ids.

`KIEJOBS_FLOWER_AUTH` (`user:password`) is the login; without one Flower does not start. Bound to loopback: reach it
through an SSH tunnel or a proxy that adds TLS. `/metrics` and `/healthcheck` of Flower are open by its design. What it has
seen survives a restart, in the data dir; where that cannot be written, Flower begins anew each time.
"""

import os
import sys

from kiejobs.logs import setup_logging
from kiejobs.settings import load

_settings = load()
setup_logging(
    _settings
)  # redacted, as every process of ours; Flower itself, and the libraries under it, set up nothing
logging = "none"  # … because Tornado is told not to
_auth = _settings.flower_auth
if _auth is None or ":" not in _auth.get_secret_value():
    sys.stderr.write("flower: KIEJOBS_FLOWER_AUTH is not set.\nSet it to user:password; `kiejobs up` makes one.\n")
    raise SystemExit(2)

_kept = _settings.data_dir.absolute() / "flower"
try:
    _kept.mkdir(mode=0o700, parents=True, exist_ok=True)  # ours alone: Flower unpickles what it finds there
    persistent = os.access(_kept, os.W_OK)
except OSError:
    persistent = False
if not persistent:
    sys.stderr.write(f"flower: {_kept} cannot be written, so a restart forgets what was seen (KIEJOBS_DATA_DIR).\n")

db = str(_kept / "seen")
state_save_interval = 300_000  # ms; also at each stop. A crash loses five minutes of Flower's view, and no job
address = "127.0.0.1"
port = 5555
basic_auth = [_auth.get_secret_value()]
read_only = True  # looking, not revoking or shutting down
max_tasks = 20000  # about 110 MB; the default keeps 100,000
natural_time = False
# What fits a screen. The id is the job's, so the arguments, which say no more, are on a task's own page. The result says
# what came of the job: a look that finds a failure is a success of the look.
tasks_columns = "name,uuid,state,result,retries,received,runtime"

"""Celery's settings, each with its reason. Addresses come from kiejobs' settings, queues and routes from its nudges.

The shape behind them: rows in the database are the truth, messages are hints. So a lost message is cheap (the sweep
finds the row) and a message that runs twice is harmless (the row's version lets only one through).
"""

import sys

from kiejobs.errors import SettingsError
from kiejobs.nudge import PRUNE, PUMP, ROUTES, SWEEP, WATCH, transport_options
from kiejobs.nudge import task_queues as queues
from kiejobs.settings import load

try:
    _settings = load()
    _broker = _settings.broker
    if _broker is None:
        raise SettingsError(
            "KIEJOBS_BROKER_URL is not set",
            remedy="Set it to redis://host:6379/0 or amqp://…, or run `kiejobs up`, which brings a broker of its own.",
        )
except SettingsError as error:
    sys.stderr.write(f"kiejobs: {error}\n{error.remedy}\n")
    raise SystemExit(2) from None

# The broker ──────────────────────────────────────────────────────────────────────────────────────────────────────────
broker_url = _broker
broker_transport_options = transport_options(_broker)  # timeouts; why each, is said there
broker_connection_retry_on_startup = True  # a worker that starts before its broker waits for it
broker_connection_max_retries = None  # … and never gives up; the default ends the worker after 100 tries
broker_pool_limit = 20  # sixteen threads publish at once, and the consumer and the events need theirs

# Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────────
task_serializer = "json"
accept_content = ["json"]  # never pickle: whoever reaches the broker must not be able to run code
result_accept_content = ["json"]
task_ignore_result = True  # no result backend: state is in rows
task_store_errors_even_if_ignored = False
task_queues = queues()
task_routes = {task: {"queue": queue} for task, queue in ROUTES.items()}
task_default_queue = "sweep"
task_create_missing_queues = False  # a misspelt queue is an error, not a queue that nobody reads
task_publish_retry_policy = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}

# Acknowledging ───────────────────────────────────────────────────────────────────────────────────────────────────────
task_acks_late = False  # early: keeps `unacked` empty, so a killed worker leaves nothing frozen there
task_reject_on_worker_lost = False  # the row counts executions; a message that comes back for ever cannot be counted
task_acks_on_failure = True  # a bug must not become a message that fails for ever
task_acks_on_timeout = True
worker_cancel_long_running_tasks_on_connection_loss = False  # a create call in flight must report what came of it

# The worker ──────────────────────────────────────────────────────────────────────────────────────────────────────────
worker_pool = "threads"  # the work waits for HTTP; threads hold ten times more of it per MB than processes
worker_concurrency = 16
worker_consumer = "workers.consumer:Consumer"  # Celery's own, less what costs something at every look; see there
worker_disable_rate_limits = True  # the ledger is the rate limiter
worker_prefetch_multiplier = 1  # a message waits in the broker, where others can take it, not in a busy worker
worker_disable_prefetch = False  # with threads and early acks it would stall the consumer
worker_soft_shutdown_timeout = 0  # threads cannot be interrupted; long copies watch for the shutdown themselves
worker_hijack_root_logger = False  # our logging redacts secrets; Celery's would not
worker_redirect_stdouts = False
worker_enable_remote_control = True  # `doctor` and Flower ask workers how they are

# Flower's view ───────────────────────────────────────────────────────────────────────────────────────────────────────
worker_send_task_events = True
task_send_sent_event = False  # three events per task instead of four
task_track_started = True

# Beat ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
timezone = "UTC"
beat_scheduler = "workers.scheduler:Scheduler"  # Celery's without a file, and without a spin before each turn
beat_max_loop_interval = 5
PUMP_EVERY_S = 1.0
WATCH_EVERY_S = 60.0
PRUNE_EVERY_S = 3600.0
beat_schedule = {
    "pump": {"task": PUMP, "schedule": PUMP_EVERY_S, "options": {"expires": PUMP_EVERY_S * 5}},
    "prune": {"task": PRUNE, "schedule": PRUNE_EVERY_S, "options": {"expires": PRUNE_EVERY_S}},
    "watch": {"task": WATCH, "schedule": WATCH_EVERY_S, "options": {"expires": WATCH_EVERY_S}},
    "sweep": {
        "task": SWEEP,
        "schedule": _settings.sweep_interval_s,
        "options": {"expires": _settings.sweep_interval_s},  # sweeps that nobody ran do not pile up
    },
}

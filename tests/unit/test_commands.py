"""`python -m workers` is Celery's own commands, without what its other commands load."""

import subprocess
import sys
from pathlib import Path

import pytest
from celery.bin.beat import beat
from celery.bin.worker import worker

TOP = Path(__file__).parents[2]
NOT_NEEDED = ("flower", "tornado", "prompt_toolkit", "celery.bin.celery", "sqlalchemy.orm")


def python(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run Python as a worker is run, with a broker that nobody listens at."""
    environment = {
        "KIEJOBS_BROKER_URL": "redis://127.0.0.1:1/0",
        "KIEJOBS_DATA_DIR": str(folder),
        "PYTHONPATH": str(TOP),
    }
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", [worker, beat], ids=["worker", "beat"])
def test_a_command_has_all_the_options_that_celery_gives_it(tmp_path: Path, command: object) -> None:
    """So that whoever knows Celery knows it."""
    name = str(getattr(command, "name", ""))
    told = python(tmp_path, "-m", "workers", name, "--help")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"Usage: python -m workers {name} ")
    for parameter in getattr(command, "params", []):
        name = max(parameter.opts, key=len)
        assert (name in told.stdout) is (name != "--detach")


def test_what_only_other_commands_need_is_not_loaded(tmp_path: Path) -> None:
    """It would stay in the memory of every process."""
    script = (
        "import sys; from workers.__main__ import main; sys.argv = ['workers', 'worker', '--help']\n"
        "try: main()\n"
        f"except SystemExit: print(*(name for name in {NOT_NEEDED!r} if name in sys.modules), file=sys.stderr)"
    )
    told = python(tmp_path, "-c", script)
    assert "Usage" in told.stdout
    assert told.stderr.split() == []


def test_celerys_variables_are_read(tmp_path: Path) -> None:
    """`CELERY_WORKER_CONCURRENCY` is `--concurrency`, as with `celery worker`."""
    script = "import os, runpy, sys; os.environ['CELERY_WORKER_CONCURRENCY'] = 'many'; sys.argv[1:] = ['worker']; "
    told = python(tmp_path, "-c", script + "runpy.run_module('workers', run_name='__main__')")
    assert "'many'" in told.stderr


def test_gevent_is_there_before_what_it_replaces(tmp_path: Path) -> None:
    """A TLS context that was loaded before would call itself for ever."""
    pytest.importorskip("gevent")
    script = "import sys; sys.argv[1:] = ['worker', '-P', 'gevent']; import workers; from kiejobs.tls import context; "
    script += "from gevent import monkey; print(context().verify_mode, monkey.is_module_patched('threading'))"
    told = python(tmp_path, "-c", script)
    assert told.stderr == ""
    assert told.stdout.split() == ["2", "True"]
    told = python(tmp_path, "-m", "workers", "worker", "-P", "gevent", "--help")
    assert (told.returncode, told.stderr) == (0, "")


def test_a_mistyped_option_ends_it_without_a_traceback(tmp_path: Path) -> None:
    """As Celery itself says it."""
    told = python(tmp_path, "-m", "workers", "worker", "--concurrency", "many")
    assert told.returncode == 2
    assert "'many'" in told.stderr
    assert "Traceback" not in told.stderr

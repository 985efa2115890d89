"""`python -m kiejobs.cli.fakebroker --port N`: fakeredis as a Redis server on loopback, where no real one is installed.

Ten to a hundred times slower than Redis per command, which no development box notices; Nagle's delay is switched off,
because with it every transaction waits 40 ms.
"""

import argparse
import signal
import sys
import threading

from kiejobs.cli.broker import READY
from kiejobs.cli.ports import LOOPBACK


def main() -> int:
    """Serve until SIGTERM; 3 if the port is taken, 2 if fakeredis is not installed."""
    parser = argparse.ArgumentParser(prog="python -m kiejobs.cli.fakebroker")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    try:
        from fakeredis import TcpFakeServer
    except ImportError:
        sys.stderr.write('fakeredis is not installed: pip install "kiejobs[embedded]", or install redis-server\n')
        return 2
    _without_nagle()
    try:
        server = TcpFakeServer((LOOPBACK, port), server_type="redis", server_version=(7, 0))
    except OSError as error:
        sys.stderr.write(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}\n")
        return 3
    server.daemon_threads = True
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)  # before any thread: they inherit it, and `sigwait` gets the signal
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{READY} (fakeredis on {LOOPBACK}:{port})\n")
    sys.stdout.flush()
    signal.sigwait(_ENDS)
    return 0


_ENDS = {signal.SIGTERM, signal.SIGINT}


def _without_nagle() -> None:
    try:
        from fakeredis._clients._tcp_server import TCPFakeRequestHandler
    except ImportError:  # a private module: without it the broker is slower, not wrong
        return
    TCPFakeRequestHandler.disable_nagle_algorithm = True


if __name__ == "__main__":
    sys.exit(main())

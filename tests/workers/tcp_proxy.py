"""A line to a server that a test can cut: ``tcp_proxy.py PORT HOST SERVER_PORT`` passes bytes on until it dies.

From SIGUSR1 on what the server says on the connections of that moment is lost; new ones are served."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self


class Proxy:
    """The proxy's process as a test sees it; as a context it is up, and gone afterwards."""

    def __init__(self, host: str, server_port: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._command = [sys.executable, str(Path(__file__)), str(self.port), host, str(server_port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command)
        while True:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)

    def stop(self) -> None:
        """Cut all connections; new ones are refused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Keep all connections, and let nothing through."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def lose_answers(self) -> None:
        """Keep all connections that there are, but lose what the server says on them; new ones are served."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


lost: set[socket.socket] = set()
answering: set[socket.socket] = set()


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            if source not in lost:
                target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main(port: int, host: str, server_port: int) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: lost.update(answering))
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            client, _ = server.accept()
            upstream = socket.create_connection((host, server_port))
            answering.add(upstream)
            for ends in ((client, upstream), (upstream, client)):
                threading.Thread(target=pump, args=ends, daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

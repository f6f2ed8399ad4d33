"""A PostgreSQL server of a test's own, which it may stop and start."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; None where they are not installed."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = packaged[-1] if packaged else shutil.which("initdb")
    return Path(found).parent if found else None


class Postgres:
    """The server; as a context it is up, and gone afterwards."""

    def __init__(self, folder: Path) -> None:
        self._programs = folder
        # The server refuses to be run by root.
        self._user = next((u.pw_name for u in pwd.getpwall() if u.pw_name == "postgres"), "nobody")
        self._as_user = {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid} if os.getuid() == 0 else {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._call("pg_ctl", "start", "-w", "-o", options, "-l", str(self._data / "server.log"))

    def stop(self, mode: str) -> None:
        """Stop it: "fast" ends all connections in order, "immediate" is a crash, with recovery at the next start."""
        self._call("pg_ctl", "stop", "-w", "-m", mode)

    def __enter__(self) -> Self:
        self._data = Path(tempfile.mkdtemp(prefix="tuner-postgres-"))
        if self._as_user:
            shutil.chown(self._data, self._user)
        self._call("initdb", "-E", "UTF8", "-A", "trust", "-U", "postgres", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([self._programs / "pg_ctl", "stop", "-m", "immediate", "-D", self._data], cwd="/",
                       capture_output=True, check=False, **self._as_user)  # fmt: skip
        shutil.rmtree(self._data)

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments, "-D", str(self._data)]
        # To a file: the server keeps what it inherits open.
        with (self._data.parent / f"{self._data.name}.log").open("w+b") as said:
            done = subprocess.run(command, cwd="/", stdout=said, stderr=said, check=False, **self._as_user)
            said.seek(0)
            assert done.returncode == 0, said.read().decode()
        Path(said.name).unlink()

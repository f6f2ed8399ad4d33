"""optuna-dashboard on a storage of ours, with the artifacts of all its studies."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, BinaryIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage

from tuner.config.errors import ConfigError, StudyError, nearest
from tuner.storage.database import connect
from tuner.storage.folders import studies_folder
from tuner.storage.urls import masked
from tuner.studies.state.renamed import mark

WSGIApp = Callable[..., Iterable[bytes]]
UPLOADS = ".uploads"
"""Folder of uploaded files beside the studies' folders; no study has a name with a dot in front."""


class StudyArtifacts:
    """The artifacts of several studies as one store, by optuna's `ArtifactStore` protocol; their ids are UUIDs.

    Args:
        folders: Gives the artifact folders; asked at each request, because studies come and go.
        uploads: Folder of the files that are uploaded on the page. It is no study's: which one they belong to is not
            said, and a study that is deleted must not take another's files with it.
    """

    def __init__(self, folders: Callable[[], Iterable[Path]], uploads: Path) -> None:
        self._folders = folders
        self._uploads = uploads

    def _holding(self, artifact_id: str) -> FileSystemArtifactStore:
        for folder in (self._uploads, *self._folders()):
            if (folder / Path(artifact_id).name).is_file():
                return FileSystemArtifactStore(folder)
        raise ArtifactNotFound("not found")

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact, in whichever study it is."""
        return self._holding(artifact_id).open_reader(artifact_id)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact; one that is gone already (made on another machine, say) is no error."""
        try:
            self._holding(artifact_id).remove(artifact_id)
        except ArtifactNotFound:
            return

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep a file that was uploaded on the page."""
        self._uploads.mkdir(parents=True, exist_ok=True)
        FileSystemArtifactStore(self._uploads).write(artifact_id, content_body)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def dashboard_of(url: str | None, study: str | None, host: str, port: int) -> Iterator[tuple[WSGIServer, str]]:
    """The dashboard of a database of studies, listening, and the address of its page; both are closed at the end.

    Args:
        url: Database URL; None for the default.
        study: Name of the study whose page is meant; None: the list of studies.
        host: Address to listen on.
        port: TCP port; 0 for any free one.

    Raises:
        StorageError: The database is not there or cannot be reached.
        StudyError: There is no such study.
        ConfigError: The port is in use or the address is not this machine's.
    """
    with closing(connect(url, create=False)) as database:
        database.run(mark)  # older studies, too, before one is renamed there
        page = "/dashboard"
        if study is not None:
            with database.errors():
                ids = {known.study_name: known._study_id for known in database.optuna.get_all_studies()}
            if study not in ids:
                hint = nearest(study, ids) if ids else "Begin one with `tuner run`."
                raise StudyError(f"{masked(database.url)} has no study {study!r}", hint=hint)
            page = f"/dashboard/studies/{ids[study]}"
        folder = studies_folder(database.url)
        artifacts = StudyArtifacts(lambda: folder.glob("*/artifacts"), folder / UPLOADS)
        with make_dashboard(database.optuna, artifacts, host, port) as server:
            shown = f"[{host}]" if ":" in host else host
            yield server, f"http://{shown}:{server.server_port}{page}"


def make_dashboard(storage: BaseStorage, artifacts: StudyArtifacts, host: str, port: int) -> WSGIServer:
    """A server that listens; call `serve_forever()` on it. Port 0 takes any free one (`server_port`).

    Args:
        storage: Optuna's storage.
        artifacts: Of the storage's studies.
        host: Address to listen on. On a loopback address only requests that name a loopback host are answered:
            the dashboard has no authentication, and a web page of another site must not reach it by DNS rebinding.
        port: TCP port.

    Raises:
        ConfigError: The port is in use or the address is not this machine's.
    """
    app = optuna_dashboard.wsgi(storage, artifact_store=artifacts)
    try:
        return make_server(
            host,
            port,
            _only_local_names(app) if is_loopback(host) else app,
            server_class=_Server6 if ":" in host else _Server,
            handler_class=_QuietHandler,
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is in use", hint=f"Choose another, such as --port {port + 1}."
            ) from None
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}", hint="Leave --host and --port out."
        ) from None


def _only_local_names(app: WSGIApp) -> WSGIApp:
    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        name = environ.get("HTTP_HOST", "localhost").rsplit(":", 1)[0].strip("[]")
        if not is_loopback(name):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"This dashboard answers to localhost only."]
        return app(environ, start_response)

    return guarded


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The base class looks the host's full name up, which takes seconds where there is no name server.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        return

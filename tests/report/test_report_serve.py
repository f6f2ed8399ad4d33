"""The dashboard's server: what it serves, and whom it refuses."""

from __future__ import annotations

import io
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.artifacts.exceptions import ArtifactNotFound

from tuner.config.errors import ConfigError, StorageError, StudyError
from tuner.report.serve import StudyArtifacts, dashboard_of, is_loopback
from tuner.storage.database import connect


@contextmanager
def serving(url: str, study: str | None = None) -> Iterator[tuple[str, str]]:
    with dashboard_of(url, study, "127.0.0.1", 0) as (server, page):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", page
        finally:
            server.shutdown()
            thread.join()


def refused(url: str, study: str | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
    with dashboard_of(url, study, host, port):
        raise AssertionError("it listens")


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/tuner.db"
    database = connect(url)
    optuna.create_study(study_name="cells", storage=database.optuna, direction="maximize")
    database.close()
    return url


def get(url: str, host: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_lists_the_studies_of_the_storage(url: str) -> None:
    with serving(url, "cells") as (address, page):
        status, body = get(f"{address}/api/studies")
        assert status == 200
        assert [s["study_name"] for s in json.loads(body)["study_summaries"]] == ["cells"]
        assert page.startswith(f"{address}/dashboard/studies/")
        assert get(page)[0] == 200


def test_answers_no_request_that_names_another_host(url: str) -> None:
    with serving(url) as (address, _):
        assert get(f"{address}/api/studies", host="evil.example:8080")[0] == 403
        assert get(f"{address}/api/studies", host="localhost:8080")[0] == 200


def test_says_that_the_port_is_in_use(url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            refused(url, port=port)
        assert f"--port {port + 1}" in caught.value.hint


def test_says_that_the_address_is_not_of_this_machine(url: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        refused(url, host="192.0.2.1")


def test_listens_on_the_loopback_address_of_version_6(url: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with dashboard_of(url, None, "::1", 0) as (server, page):
        assert page == f"http://[::1]:{server.server_port}/dashboard"


def test_names_the_study_that_is_meant(url: str) -> None:
    with pytest.raises(StudyError, match="no study 'cell'") as caught:
        refused(url, "cell")
    assert "'cells'" in caught.value.hint


def test_makes_no_database_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        refused(f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()


def test_finds_artifacts_in_whichever_study_holds_them(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, name, body in zip(folders, ("1f", "2f"), (b"first", b"second"), strict=True):
        folder.mkdir()
        (folder / name).write_bytes(body)
    store = StudyArtifacts(lambda: folders, tmp_path / "uploads")
    for name, body in (("1f", b"first"), ("2f", b"second")):
        with store.open_reader(name) as file:
            assert file.read() == body
    store.remove("2f")
    store.remove("2f")
    with pytest.raises(ArtifactNotFound):
        store.open_reader("2f")


def test_an_upload_goes_into_no_folder_of_a_study(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    store = StudyArtifacts(lambda: [tmp_path / "a"], tmp_path / "uploads")
    store.write("1f", io.BytesIO(b"text"))
    assert list((tmp_path / "a").iterdir()) == []
    with store.open_reader("1f") as file:
        assert file.read() == b"text"


def test_no_artifact_outside_the_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "secret").write_text("x")
    with pytest.raises(ArtifactNotFound):
        StudyArtifacts(lambda: [tmp_path / "a"], tmp_path / "b").open_reader("../secret")


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_knows_loopback_addresses(host: str, local: bool) -> None:
    assert is_loopback(host) is local

"""The folders of studies, which workers on several machines may share."""

import os
from pathlib import Path

from tuner.storage.folders import OWNER, make_study_folder
from tuner.storage.identity import identity
from tuner.storage.urls import resolve


def test_workers_with_the_same_process_id_may_make_a_folder_at_once(tmp_path: Path) -> None:
    """In containers all processes have the same few ids."""
    url, study = resolve(f"sqlite:///{tmp_path}/tuner.db"), identity("cells", 1.0)
    theirs = tmp_path / "cells" / f"{OWNER}.{os.getpid()}"
    theirs.parent.mkdir()
    theirs.touch()
    assert (make_study_folder(url, "cells", study) / OWNER).read_text().startswith(study)
    assert theirs.exists()

"""The results of a trial's epochs in its folder, so that those that the database never got outlive worker and process.

While the database is away a worker keeps what its trials report. Should it die then, the trial's checkpoint is
further than its curve in the database; the next attempt first reports what stands here.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from tuner.evaluation.metrics import Metrics
from tuner.trainers.contract import EpochResult

RESULTS = "results.jsonl"
"""File in a trial's folder with a line for each epoch."""


def write_result(folder: Path, result: EpochResult) -> None:
    """Append an epoch, on the disk for good before a later checkpoint is, which goes on from there.

    Raises:
        OSError: It cannot be written.
    """
    fields = asdict(result) | {"metrics": result.metrics.model_dump(mode="json")}
    with (folder / RESULTS).open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        torn = b"\n" if file.read(1) not in (b"", b"\n") else b""  # a line that was written in part ends here
        file.write(torn + json.dumps(fields).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_results(folder: Path, first_epoch: int) -> list[EpochResult]:
    """The epochs from `first_epoch` on, in order, as far as none is missing; of one that stands twice the later."""
    try:
        lines = (folder / RESULTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found: dict[int, EpochResult] = {}
    for line in lines:
        try:
            fields = json.loads(line)
        except ValueError:  # written in part when its process died
            continue
        result = EpochResult(**fields | {"metrics": Metrics.model_validate(fields["metrics"])})
        found[result.epoch] = result
    results: list[EpochResult] = []
    while (epoch := first_epoch + len(results)) in found:
        results.append(found[epoch])
    return results

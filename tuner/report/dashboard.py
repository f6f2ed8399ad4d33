"""What is attached to a trial in optuna-dashboard when it ends: a note with its config, and pictures."""

from __future__ import annotations

import json
import logging
import mimetypes
import re
import tempfile
import uuid
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace

import yaml
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard import get_note, save_note

from tuner.config.errors import TunerError
from tuner.models.predictions import Detections
from tuner.postprocess.apply import hits_of
from tuner.postprocess.matching import TruthIndex
from tuner.report.anchor_plot import draw_anchors
from tuner.report.curves import draw_precision_recall
from tuner.report.evidence import example_picture
from tuner.report.learning_curves import draw_trial_curve
from tuner.report.pictures import encode
from tuner.studies.state.records import Assignment, TrialRecord
from tuner.studies.study import Study
from tuner.trainers.contract import DETECTIONS
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Ended
from tuner.workers.observer import Observer

ARTIFACTS = "artifacts"
"""Folder of a study's artifacts, in the study's folder."""

_OURS = re.compile(r"\*\*\w+\*\* after \d+ of \d+ epochs, seed .*?```yaml\n.*?```\n?", re.DOTALL)
"""Our part of a trial's note."""

logger = logging.getLogger(__name__)


class DashboardObserver(Observer):
    """Attaches a note to each trial that begins, and note and pictures to each that ends.

    What cannot be drawn is left out, with one line in the log.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study

    def trial_started(self, assignment: Assignment, slot: SlotPlan) -> None:
        """Note the config, which the dashboard has nowhere else: a trial that is lost does not come to its end here."""
        record = self._record(assignment) if assignment.first_epoch == 1 else None  # one that goes on has its note
        if record is not None:
            _try(assignment.number, "note", lambda: self._save_note(assignment, record))

    def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
        """Draw what there is of the trial; one that will go on later is left alone."""
        if ended.outcome == "interrupted":
            return
        record = self._record(assignment)
        if record is None:
            return
        _try(record.number, "note", lambda: self._save_note(assignment, record))
        with tempfile.TemporaryDirectory(prefix="tuner-report-") as name:
            folder = Path(name)
            _try(record.number, "anchors", lambda: self._draw_anchors(record, folder))
            _try(record.number, "learning curve", lambda: self._draw_learning_curve(record, folder))
            _try(record.number, "detections", lambda: self._draw_detections(record, folder))
            for file in sorted(folder.iterdir()):
                _try(record.number, file.name, partial(self._attach, assignment.trial_id, file))

    def _record(self, assignment: Assignment) -> TrialRecord | None:
        try:
            return self._study.trials(numbers=[assignment.number])[0]
        except Exception as error:  # whatever happens here, the study goes on
            _log(assignment.number, "record", error)
            return None

    @cached_property
    def _store(self) -> FileSystemArtifactStore:
        # Not before there is something to store: the folder of a study that was renamed gets its name with the worker.
        folder = self._study.folder / ARTIFACTS
        folder.mkdir(parents=True, exist_ok=True)
        return FileSystemArtifactStore(folder)

    @cached_property
    def _truth(self) -> TruthIndex:
        return TruthIndex(self._study.dataset.val)

    def _draw_anchors(self, record: TrialRecord, folder: Path) -> None:
        if record.config.anchor_sizes is not None:
            draw_anchors(record.config, self._study.dataset.train, folder / "1-anchors.png")

    def _draw_learning_curve(self, record: TrialRecord, folder: Path) -> None:
        if record.epochs:
            draw_trial_curve(
                [row.epoch for row in record.epochs],
                {
                    "mAP": [row.metrics.map for row in record.epochs],
                    "AP50": [row.metrics.map50 for row in record.epochs],
                },
                [sum(v for v in row.losses.values() if v is not None) for row in record.epochs],
                folder / "2-learning-curve.png",
            )

    def _draw_detections(self, record: TrialRecord, folder: Path) -> None:
        file = self._study.folder / "trials" / str(record.number) / DETECTIONS
        point = record.operating_point
        if point is None or not file.exists():  # no epoch was finished, or it was trained on another machine
            return
        split = self._study.dataset.val
        detections = Detections.load(file)
        hits = hits_of(detections, self._truth)
        draw_precision_recall(hits.curve(), point, folder / "3-precision-recall.png")
        picture = example_picture(hits, detections, point, split)
        (folder / "4-examples.jpg").write_bytes(encode(picture))

    def _save_note(self, assignment: Assignment, record: TrialRecord) -> None:
        # `save_note` wants a trial, but making one of Optuna's asks the sampler for values: these are what it reads.
        study, text = self._study.optuna, trial_note(record, self._study.spec.objective.metric)
        trial = SimpleNamespace(storage=study._storage, study=study, _trial_id=assignment.trial_id)
        with self._study.database.errors():
            save_note(trial, renewed(get_note(trial), text))

    def _attach(self, trial_id: int, file: Path) -> None:
        """Store a file and tell the dashboard of it.

        `optuna.artifacts.upload_artifact` refuses finished trials, and a trial must not stay open while its
        pictures are drawn. So the link goes where optuna-dashboard also looks: among the study's attributes.
        A trial that was paused ends several times: the id follows from trial and name, so that the last picture stays.
        """
        number = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{trial_id}/{file.name}"))
        with file.open("rb") as body:
            self._store.write(number, body)
        kind, encoding = mimetypes.guess_type(file.name)
        meta = {"artifact_id": number, "filename": file.name, "mimetype": kind, "encoding": encoding}
        study, name = self._study.optuna, f"dashboard:artifacts:{trial_id}:{number}"
        with self._study.database.errors():
            study._storage.set_study_system_attr(study._study_id, name, json.dumps(meta))


def trial_note(record: TrialRecord, metric: str) -> str:
    """What became of a trial and its full config, in Markdown."""
    lines = [f"**{record.state}** after {record.last_epoch} of {record.config.epochs} epochs, seed {record.seed}"]
    if record.is_default:
        lines.append("This is the study's default config.")
    if record.value is not None:
        lines.append(f"{metric} **{record.value:.4f}**")
    if record.reason:
        lines.append(record.reason)
    point = record.operating_point
    if point is not None:
        lines.append(
            f"Operating point: {point.merging}, confidence {point.confidence:.3f}: "
            f"precision {point.precision:.3f}, recall {point.recall:.3f}, F1 {point.f1:.3f}"
        )
    lines.append(f"{record.cost.seconds:.0f} s, peak memory {record.cost.peak_memory / 2**20:.0f} MiB")
    if record.epochs and record.epochs[-1].executed:
        lines.append("Ran with " + ", ".join(f"{k} {v}" for k, v in record.epochs[-1].executed.items()))
    config = yaml.safe_dump(record.config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=72)
    return "\n\n".join(lines) + f"\n\n```yaml\n{config}```\n"


def renewed(note: str, ours: str) -> str:
    """A trial's note with our part as it is now, and what readers of the dashboard have written around it as it was.

    Args:
        note: As it stands in the dashboard.
        ours: As of `trial_note`.
    """
    found = _OURS.search(note)
    before, after = (note[: found.start()], note[found.end() :]) if found else (note.rstrip() + "\n\n", "")
    return before.lstrip() + ours + after


def _try(number: int, part: str, make: Callable[[], object]) -> None:
    try:
        make()
    except Exception as error:  # whatever happens here, the study goes on
        _log(number, part, error)


def _log(number: int, part: str, error: Exception) -> None:
    text = error.message if isinstance(error, TunerError) else f"{type(error).__name__}: {error}"
    logger.warning("trial %d: no %s for the dashboard: %s", number, part, " ".join(text.split()))

"""What an epoch is worth: raw predictions of the averaged weights on the validation split, and their metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tuner.config.errors import DataError
from tuner.config.trial import Tiles
from tuner.data.batches import evaluation_batches
from tuner.evaluation.cost import ImageCost
from tuner.evaluation.judge import judge
from tuner.evaluation.metrics import Metrics
from tuner.models.detector import Detector
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.operating_point import Merging, OperatingPoint
from tuner.trainers.contract import DETECTIONS, DiskFull, Diverged, TrainingTask
from tuner.trainers.detection.cost import measure_cost
from tuner.trainers.detection.fitting import as_many_as_fit, at_once_on
from tuner.trainers.detection.memory import peak_memory
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import predict
from tuner.trainers.detection.prepared_data import PreparedData
from tuner.trainers.detection.tiling import predict_tiles

LEAST_AT_ONCE = 16

_Result = TypeVar("_Result")


class EpochJudge:
    """Judges a detector on the validation split, epoch after epoch.

    Args:
        task: The trial.
        data: Its data on its canvas.
        detector: Whose weights are judged as they are at each call.
        precision: Of the forward passes.

    Attributes:
        peak_memory: Largest memory in bytes before the cost was measured, which begins a new count.
    """

    def __init__(self, task: TrainingTask, data: PreparedData, detector: Detector, precision: Precision) -> None:
        self.peak_memory = 0
        self._task = task
        self._data = data
        self._detector = detector
        self._precision = precision
        most, classes = max(task.config.batch_size, LEAST_AT_ONCE), len(data.dataset.val.classes)
        self._at_once = at_once_on(precision.device, most, task.config, data.canvas, classes)
        self._point: OperatingPoint | None = None
        self._cost: ImageCost | None = None

    def __call__(self, epoch: int, *, last: bool) -> Metrics:
        """The metrics after an epoch, whose detections are saved; tiles and NMS are swept after the last one only.

        Raises:
            Diverged: Not all predictions are numbers.
            DiskFull: The detections cannot be saved.
        """
        task = self._task
        swept = task.swept if last else task.swept.within_training()
        seen = ((tiles, self._predict(tiles, epoch)) for tiles in swept.tiles or (task.config.tiles,))
        judgement = judge(
            self._data.evaluator,
            seen,
            task.config,
            swept,
            objective=task.objective,
            criteria=task.criteria,
            device=str(self._precision.device),
            alive=task.alive,
        )
        metrics = judgement.metrics
        self._point = metrics.operating_point
        self._save(judgement.detections)
        if task.measure_cost:
            # After the first epoch, so that pruned trials have it; after the last once more, because the time of
            # post-processing hangs on what was learnt.
            if self._cost is None or last:
                self._cost = self._measure_cost()
            metrics = metrics.model_copy(update={"cost": self._cost})
        return metrics

    def _save(self, detections: Detections) -> None:
        """Write the detections beside the checkpoint."""
        path = self._task.workdir / DETECTIONS
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            detections.save(path)
        except OSError as error:
            raise DiskFull(
                f"detections {path} cannot be written: {error.strerror or error}",
                hint="Free disk space or mend that; then give the same command again.",
            ) from error

    def _predict(self, tiles: Tiles, epoch: int) -> RawPredictions:
        """Raw predictions, which are numbers all."""
        raw = self._fitting(self._at_once, lambda at_once: self._predict_batches(tiles, at_once))
        val = self._data.dataset.val
        try:
            raw.check(len(val), len(val.classes))
        except DataError as error:
            raise Diverged(f"after epoch {epoch}: {error.message}", hint="Try a smaller learning rate.") from None
        return raw

    def _fitting(self, most: int, result: Callable[[int], _Result]) -> _Result:
        """What is made of so many images at a time, at most, or of as many as fit the GPU's memory."""
        asked = min(most, self._at_once)
        made, fitted = as_many_as_fit(asked, result)
        if fitted < asked:
            self._at_once = fitted
        return made

    def _predict_batches(self, tiles: Tiles, at_once: int) -> RawPredictions:
        val, images, alive = self._data.dataset.val, self._data.val_images, self._task.alive
        if tiles.size:
            return predict_tiles(self._detector, val, tiles, images.canvas, self._precision, at_once, alive)
        batches = evaluation_batches(images, at_once)
        return predict(self._detector, batches, images.placements, val.sizes, self._precision, alive)

    def _measure_cost(self) -> ImageCost:
        self.peak_memory = peak_memory(self._precision.device)
        config, alive = self._task.config, self._task.alive
        merging = self._point or Merging(tiles=config.tiles, nms=config.nms, nms_iou=config.nms_iou)
        val, images = self._data.dataset.val, self._data.val_images

        def measured(at_once: int) -> ImageCost:
            return measure_cost(self._detector, images, val, config, self._precision, merging, at_once, alive)

        return self._fitting(config.batch_size, measured)

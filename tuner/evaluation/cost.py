"""`ImageCost`: what an image costs in production. Measured by `tuner.evaluation.latency`."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from tuner.config.base import Frozen


class Timing(Frozen):
    """Wall time of one batch in milliseconds."""

    median: NonNegativeFloat
    p90: NonNegativeFloat = Field(description="90th percentile")


class BatchTimes(Frozen):
    """Wall times of one batch, in milliseconds."""

    batch_size: PositiveInt
    runs: PositiveInt
    network: Timing = Field(description="from images on the device to candidates")
    postprocess: Timing = Field(description="from candidates to what production shows, copies to the host included")
    total: Timing


class ImageCost(Frozen):
    """What an image costs on one device, with what else ran there at that moment."""

    device: str
    precision: str
    canvas: tuple[PositiveInt, PositiveInt] = Field(description="width and height of the network's input in pixels")
    single: BatchTimes = Field(description="one image at a time")
    batch: BatchTimes = Field(description="as many images at a time as in training, or as fit the GPU then")
    parameters: NonNegativeInt
    multiply_adds: NonNegativeInt = Field(description="of matrix products and convolutions for one image")
    inference_memory_mb: NonNegativeFloat | None = Field(
        description="weights and the largest sum of activations for one image, in MiB; None: not measured on a CPU"
    )

    @property
    def latency_ms(self) -> float:
        """Median for a single image, network and post-processing."""
        return self.single.total.median

    @property
    def latency_p90_ms(self) -> float:
        """90th percentile for a single image."""
        return self.single.total.p90

    @property
    def batch_latency_ms(self) -> float:
        """Median for each image of a batch."""
        return self.batch.total.median / self.batch.batch_size

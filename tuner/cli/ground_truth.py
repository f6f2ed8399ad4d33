"""Annotated images that a command judges by: a split of a study file, or a COCO JSON with its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tuner.data.bad_boxes import BoxReport
    from tuner.data.split import Split


def is_study_file(path: Path) -> bool:
    """Whether a file is a study file rather than a COCO JSON, by its ending."""
    return path.suffix in (".yaml", ".yml")


def ground_truth(
    data: Path,
    which: Literal["train", "val", "test"],
    images: Path | None,
    on_bad_boxes: Literal["refuse", "repair"] | None,
    *,
    needs_images: bool = True,
    needs_boxes: bool = True,
) -> tuple[Split, BoxReport]:
    """Annotated images, and what is wrong with their boxes.

    Args:
        data: A study file, or a COCO JSON.
        which: Split of a study file.
        images: Value of `--images`.
        on_bad_boxes: Value of `--on-bad-boxes`.
        needs_images: Whether the image files must be there.
        needs_boxes: See `tuner.data.annotations.read_annotations`.

    Raises:
        ConfigError: `--images` stands beside a study file, or no folder of images is found.
        DataError: The data set is broken, or not there.
    """
    from tuner.config.errors import ConfigError
    from tuner.config.load import load_study_spec
    from tuner.config.study import DataSpec
    from tuner.data.annotations import read_annotations
    from tuner.data.coco import load_split

    if is_study_file(data):
        if images is not None:
            raise ConfigError("--images goes with a COCO JSON; a study file names its images itself")
        spec = load_study_spec(data).data
    else:
        folder = images_folder(data, images, otherwise=None if needs_images else data.parent)
        if not needs_images:
            return read_annotations(data, folder, name=data.stem, on_bad_boxes=on_bad_boxes or "refuse")
        # One file only: it stands for every split of the data set.
        spec = DataSpec(root=Path.cwd(), images=folder, train=data, val=data, test=data)
    spec = spec.model_copy(update={"on_bad_boxes": on_bad_boxes or spec.on_bad_boxes})
    return load_split(spec, which, needs_boxes=needs_boxes)


def images_folder(data: Path, images: Path | None, *, otherwise: Path | None = None) -> Path:
    """The folder of an annotation file's images.

    Args:
        data: The annotation file.
        images: What the user names; None: the folder `images` beside the file or beside its folder.
        otherwise: What is taken where there is no such folder; None: that is refused.

    Raises:
        ConfigError: There is none.
        DataError: `data` is no file.
    """
    from tuner.config.errors import ConfigError, DataError

    if data.is_dir():
        raise DataError(
            f"--data: {data} is a folder; expected a COCO JSON or a study file", hint="Name the file, not its folder."
        )
    if not data.is_file():
        raise DataError(f"--data: the file {data} does not exist", hint="Check the path.")
    here = data.absolute().parent
    beside = (here / "images", here.parent / "images")
    folder = images or next((folder for folder in beside if folder.is_dir()), otherwise)
    if folder is None:
        raise ConfigError(f"no folder `images` beside {data} or beside its folder", hint="Name it with --images.")
    return folder

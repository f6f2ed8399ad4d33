"""The text of a commented study file."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

from tuner.config.study import DataSpec, StudySpec
from tuner.config.writing import yaml_text
from tuner.data.bad_boxes import BoxReport
from tuner.studies.proposal.choice import Choice
from tuner.studies.proposal.propose import Proposal

_WIDTH = 118


def study_file(
    name: str, data: DataSpec, reports: dict[str, BoxReport], proposal: Proposal, *, folder: Path, device: str
) -> str:
    """A study file that runs as it is.

    Args:
        name: Name of the study.
        data: The data set, with absolute paths.
        reports: What was found wrong with the boxes, by split.
        proposal: The default config and the budget, with reasons.
        folder: Folder of the file, from which its paths start where they are near.
        device: Value of `device`.
    """
    pruner = f"\npruner:\n{_choices(proposal.pruner)}\n" if proposal.pruner else ""
    spec = StudySpec(name=name, data=data)
    flips = ""
    if "augment.horizontal_flip" not in proposal.defaults:
        flips = (
            "# Every second image is flipped left-right; where that makes another class: augment.horizontal_flip: 0\n"
        )
    took = ""
    if proposal.hours is not None:
        took = f"{_hours(proposal.hours)} to {_hours(4 * proposal.hours)}, by the machine: a guess. ".capitalize()
    return f"""\
# A study of `tuner`. Start it, or go on with it, with: tuner run FILE
# Whatever is not written here has its default; `tuner keys` explains every key.
name: {_scalar(name)}

data:
{_data(data, reports, folder)}

# The default config: what the first trial trains, and what all gains are measured against.
{flips}defaults:
{_choices(proposal.defaults)}

# What is searched around it: a ready-made space (default: learning rate, weight decay, mosaic, anchors, NMS IoU and
# confidence; detection: optimiser, batch size, image size and more as well), a file of your own, or dimensions:
#   space:
#     learning_rate: {{type: float, low: 1e-4, high: 1e-1, log: true}}
space: {spec.space}

# mAP is COCO's AP over IoU 0.50:0.95 on the validation split. Others: map50, map75, map_small, f1.
objective:
  metric: {spec.objective.metric}
{pruner}
# Whichever comes first ends the study; it goes on when you raise one and run it again.
{_comment(f"{took}Weak trials are pruned before their last epoch.", 0)}
budget:
  trials: {proposal.trials}
  # timeout: 2h

# auto, cpu, cuda (all GPUs) or cuda:N
device: {device}
"""


def _choices(choices: Mapping[str, Choice]) -> str:
    return "\n".join(
        f"{_comment(choice.reason, 2)}\n  {field}: {_scalar(choice.value)}" for field, choice in choices.items()
    )


def _data(data: DataSpec, reports: dict[str, BoxReport], folder: Path) -> str:
    paths = {"images": data.images, "train": data.train, "val": data.val, "test": data.test}
    root = Path(os.path.commonpath([str(path) for path in paths.values() if path is not None]))
    lines = [
        "  # Relative to this file.",
        f"  root: {_scalar(_near(root, folder))}",
        "  # Relative to root.",
        *(f"  {key}: {_scalar(os.path.relpath(path, root))}" for key, path in paths.items() if path is not None),
    ]
    bad = [report for report in reports.values() if report.clipped or report.dropped]
    if bad:
        found = "; ".join(
            f"{report.split}: {report.outside} boxes outside their image, {report.without_area} without area"
            + (f", {report.doubled} there twice" if report.doubled else "")
            for report in bad
        )
        lines += [
            _comment(
                f"{found}. They are clipped at the edge, and those without area and copies left out; `refuse` stops at "
                "all but copies.",
                2,
            ),
            "  on_bad_boxes: repair",
        ]
    return "\n".join(lines)


def _near(path: Path, folder: Path) -> str:
    """The path from a folder, unless it is far away from it."""
    relative = os.path.relpath(path, folder)
    return str(path) if relative.startswith("../../..") else relative


def _comment(text: str, indent: int) -> str:
    mark = " " * indent + "# "
    return textwrap.fill(text, _WIDTH, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False)


def _scalar(value: object) -> str:
    return yaml_text(value) if isinstance(value, str) else str(value)


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{max(1, round(hours * 60))} minutes"
    return f"{hours:.1f} hours"

"""Real ground truth, where it is present."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.cases import make_split

BCCD = Path(__file__).parents[2].parent / "shared" / "data" / "bccd" / "annotations" / "val.json"


@pytest.fixture(scope="session")
def bccd_val():
    if not BCCD.exists():
        pytest.skip("the bccd data set is not beside the checkout")
    file = json.loads(BCCD.read_text())
    place = {image["id"]: i for i, image in enumerate(file["images"])}
    categories = sorted(c["id"] for c in file["categories"])
    boxes = sorted(file["annotations"], key=lambda a: place[a["image_id"]])
    return make_split(
        [place[a["image_id"]] for a in boxes],
        [categories.index(a["category_id"]) for a in boxes],
        [a["bbox"] for a in boxes],
        images=len(place),
        classes=len(categories),
        crowd=[a["iscrowd"] for a in boxes],
        areas=[a["area"] for a in boxes],
        image_ids=np.array(list(place)),
    )

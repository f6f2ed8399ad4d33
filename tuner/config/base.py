"""The base of every model at a joint between stages."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    model_validator,
)

from tuner.config.counts import MAX_COUNT
from tuner.config.problems import KeyProblem

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
"""So many of something, at least one."""
Value = StrictBool | StrictInt | StrictFloat | StrictStr
"""What a hyperparameter may be."""

_STORED = object()


class Frozen(BaseModel):
    """An immutable, hashable pydantic model that rejects unknown fields, NaN, infinity and truth values as numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, data: Any) -> Any:
        for name, field in cls.model_fields.items() if isinstance(data, dict) else ():
            if isinstance(data.get(name), bool) and not _takes_truth(field.annotation):
                raise KeyProblem((name,), f"cannot be a truth value, found {str(data[name]).lower()}")
        return data

    @classmethod
    def of_stored(cls, data: Any) -> Self:
        """The model of data that a study has stored, perhaps by an earlier version, which refused less.

        What makes no sense, but does no harm where results are read (see `is_stored`), is refused of new data alone.
        """
        return cls.model_validate(data, context=_STORED)

    def digest(self) -> str:
        """A stable SHA-256 (hex) of the model's values, equal for equal models on any machine."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def is_stored(info: ValidationInfo) -> bool:
    """Whether a validator sees what a study has stored (see `Frozen.of_stored`)."""
    return info.context is _STORED


def _takes_truth(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_truth, get_args(annotation)))

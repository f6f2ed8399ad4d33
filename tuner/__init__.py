"""Hyperparameter optimisation of object detectors, on the GPUs at hand: what a script needs.

From a study file to the config of production training:

```python
import tuner

study = tuner.create_or_open(tuner.load_study_spec("study.yaml"))
tuner.run_worker(study)
tuner.save_production(tuner.production_config(study), "best.yaml")
```

and with the model folder that `tuner train` makes of that:

```python
model = tuner.load_model("model")
for path, found in tuner.predict(model, ["photo.jpg"]).by_image():
    print(path, found.labels, found.scores, found.boxes)
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.config.errors import TunerError as TunerError
    from tuner.config.load import load_study_spec as load_study_spec
    from tuner.config.study import StudySpec as StudySpec
    from tuner.export.model import load_model as load_model
    from tuner.export.predicting import predict as predict
    from tuner.export.production import production_config as production_config
    from tuner.export.yaml_files import load_production as load_production
    from tuner.export.yaml_files import save_production as save_production
    from tuner.studies.opening import create_or_open as create_or_open
    from tuner.studies.opening import open_study as open_study
    from tuner.workers.worker import run_worker as run_worker

_HOMES = {
    "StudySpec": "tuner.config.study",
    "TunerError": "tuner.config.errors",
    "create_or_open": "tuner.studies.opening",
    "load_model": "tuner.export.model",
    "load_production": "tuner.export.yaml_files",
    "load_study_spec": "tuner.config.load",
    "open_study": "tuner.studies.opening",
    "predict": "tuner.export.predicting",
    "production_config": "tuner.export.production",
    "run_worker": "tuner.workers.worker",
    "save_production": "tuner.export.yaml_files",
}
__all__ = [*_HOMES]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when asked for: `tuner --help` needs neither Optuna nor a database.
    if name not in _HOMES:
        raise AttributeError(f"module 'tuner' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*_HOMES, *(name for name in globals() if name.startswith("__"))])

"""The database and the artifacts: Optuna's storage and our own tables on one URL."""

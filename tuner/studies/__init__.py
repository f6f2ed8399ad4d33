"""Creating and loading studies, samplers, pruners, objectives, budgets (see `tuner.studies.opening` and `study`)."""

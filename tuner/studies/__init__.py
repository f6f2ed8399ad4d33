"""Creating and loading studies, samplers, pruners, objectives and budgets (`tuner.studies.study`)."""

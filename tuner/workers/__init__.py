"""The worker loop (ask, run, tell) and the trial processes of its slots."""

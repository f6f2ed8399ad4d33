"""The life of a trial.

It is sampled (`sampling`, `asking`), held by a worker (`leases`), written down (`journal`), judged after each epoch
(`reporting`, `judging`), paused at a rung and promoted (`rungs`, `pausing`), taken over from a worker that is gone
(`taking_over`), ended (`ending`) and told to Optuna (`tell`), which sees `cached_storage`.
"""

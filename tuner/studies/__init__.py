"""Creating, searching, running and judging studies.

Whoever uses a study begins here: `opening` creates and opens, `study` hands out trials, `workable` is what a worker
needs of whatever has trials, `reading` answers commands that only look, `enqueue` brings points of a user's own, and
`deleting` takes studies away. Behind them are groups with one subject each; each imports only from those below it:

- `proposal`: the first study for a data set, as `tuner init` writes it.
- `replay`: samplers and pruners tried again on stored learning curves.
- `trust`: configs trained again with fresh seeds, and what that allows one to claim.
- the modules of this folder itself.
- `trials`: the life of a trial: asked for, held, judged epoch by epoch, paused, ended, told to Optuna.
- `state`: what the database says about studies, and orders to them: records, history, budgets, names.
- `search`: where to search next and what to stop, without a database: objective, samplers, pruners, promotion, plan.
"""

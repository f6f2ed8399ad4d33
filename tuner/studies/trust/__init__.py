"""How far results can be trusted: `repeats` trains configs again with fresh seeds, `confidence` says what that allows.

`confirm` does so for the best configs, `noise` for the default one, before or while a study runs; `warm_start` gives a
new study what an earlier one trusts.
"""

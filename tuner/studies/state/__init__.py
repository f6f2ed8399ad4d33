"""What the database says about studies, and what is ordered of them there; no trial begins or ends here.

`records` are the words for it, `history` and `results` read trials, `budgets` counts what they took, `current` and
`control` say whether more may begin, `presence` and `renamed` follow what is done to a study in Optuna's dashboard.
"""

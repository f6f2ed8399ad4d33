"""Samplers and pruners tried again on the learning curves that a study has stored; `replay` puts it together."""

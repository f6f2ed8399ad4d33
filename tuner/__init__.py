"""Hyperparameter optimisation of object detectors, on the GPUs at hand."""

__version__ = "0.1.0"

"""Detectors, heads, assigners, losses and anchors."""

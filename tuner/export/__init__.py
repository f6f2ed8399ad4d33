"""Production configs and trained models."""

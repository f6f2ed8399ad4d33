"""The built-in trainer: loop, optimiser, schedule, EMA, mixed precision, checkpoint."""

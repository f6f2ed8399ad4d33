"""The contract that a trainer fulfils, and the built-in trainer."""

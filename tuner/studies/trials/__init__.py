"""The life of a trial, from asking to its end."""

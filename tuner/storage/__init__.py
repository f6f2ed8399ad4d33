"""The database and the artifacts."""

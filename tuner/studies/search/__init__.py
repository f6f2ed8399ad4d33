"""What decides where to search next and what to stop, without a database."""

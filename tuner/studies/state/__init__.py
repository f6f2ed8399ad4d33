"""Studies as their database has them."""

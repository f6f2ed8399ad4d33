"""A first study for a data set, as `tuner init` proposes it."""

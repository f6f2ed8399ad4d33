"""Ready-made search spaces, each with the source of its ranges; installed as the package `tuner.search_spaces`."""

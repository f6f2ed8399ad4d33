"""Where to search next and what to stop: objective, samplers, pruners, promotion and plan, none with a database."""

"""How far results can be trusted: configs trained again with fresh seeds."""

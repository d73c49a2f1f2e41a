"""Watching the champion: drift of its inputs and of its predictions."""

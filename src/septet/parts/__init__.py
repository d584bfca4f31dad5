"""Shared mathematics: pure functions on arrays and strings, each with its source."""

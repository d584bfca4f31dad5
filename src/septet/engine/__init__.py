"""Runs methods on members: catalogue, configuration, fit check, two loops, one gate, and the store."""

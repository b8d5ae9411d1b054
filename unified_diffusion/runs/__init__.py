"""Runs: a config, what it builds, the folder that it fills, and the commands that fill it."""

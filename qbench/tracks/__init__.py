"""Kinds of task; one track, one file."""

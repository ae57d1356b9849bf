"""Quantizers: one method, one file."""

"""Measurements, and the records they leave: ``python -m benchmarks``."""

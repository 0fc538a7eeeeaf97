"""Measurements: accuracy on real data, and the records they leave."""

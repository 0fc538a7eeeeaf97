"""Trained PyTorch network in, verified model package out. Needs ``segreg[export]``."""

from segreg.export.exporter import export, load_network

__all__ = ["export", "load_network"]

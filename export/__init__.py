"""Trained PyTorch network in, verified model package out. Needs ``segreg[export]``."""

from segreg.export.exporter import export
from segreg.export.segmentation import add_segmentation
from segreg.export.weights import load_network

__all__ = ["add_segmentation", "export", "load_network"]

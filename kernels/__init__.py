"""Array maths of registration, for NumPy arrays on the CPU and CuPy arrays on the GPU.

Every operation takes arrays of one kind, runs where they are and returns the same kind; tables of
a few numbers may come from the host and, as results, stay there. The maths of each kernel is one
inline function under ``bodies/``, compiled into the extension by the C++ compiler and for the GPU
by NVRTC. Importing this package imports neither CuPy nor CUDA.

Volumes are C-contiguous (z, y, x), batches (B, C, D, H, W); vectors have their components in axis
order on axis 1. Voxel coordinates are indices, whole numbers the centres.
"""

from __future__ import annotations

from segreg.kernels._machines import get_threads, set_threads
from segreg.kernels.canvases import RegionShapes, gather_regions, region_shapes, soft_dice
from segreg.kernels.fields import compose, integrate, invert, jacobian_determinant
from segreg.kernels.fusion import distance_to_mask, fuse_fields
from segreg.kernels.jacobians import JacobianSums, count_folds, jacobian_sums
from segreg.kernels.labels import find_labels, relabel
from segreg.kernels.regions import RegionStats, region_stats
from segreg.kernels.resampling import resample_field
from segreg.kernels.sampling import overlap, warp, warp_labels
from segreg.kernels.splines import sum_distances
from segreg.kernels.surfaces import SurfaceDistances, outline, surface_distances

__all__ = [
    "JacobianSums",
    "RegionShapes",
    "RegionStats",
    "SurfaceDistances",
    "compose",
    "count_folds",
    "distance_to_mask",
    "find_labels",
    "fuse_fields",
    "gather_regions",
    "get_threads",
    "integrate",
    "invert",
    "jacobian_determinant",
    "jacobian_sums",
    "outline",
    "overlap",
    "region_shapes",
    "region_stats",
    "relabel",
    "resample_field",
    "set_threads",
    "soft_dice",
    "sum_distances",
    "surface_distances",
    "warp",
    "warp_labels",
]

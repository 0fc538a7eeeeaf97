"""Array maths of registration, for NumPy arrays on the CPU and CuPy arrays on the GPU.

Every operation takes arrays of one kind, runs where they are and returns the same kind; tables of
a few numbers may come from the host and, as results, stay there. The maths of each kernel is one
inline function under ``bodies/``, compiled into the extension by the C++ compiler and for the GPU
by NVRTC. Importing this package imports neither CuPy nor CUDA.

On the GPU an operation runs on ``stream``, or on CuPy's current one, and returns before it is
done; what returns to the host (``overlap``, ``region_stats``) waits. A call is ready for a CUDA
graph if it gets ``out``, ``scratch`` and ``residual`` where it has them, and its tables as CuPy
arrays of the dtype that the kernel reads (float32, int32): it then allocates, copies and waits for
nothing, and the values of the tables are not checked. A first call outside the graph compiles. The
``affine`` and the ``guess`` of a call become part of the graph.

Volumes are C-contiguous (z, y, x), batches (B, C, D, H, W); vectors have their components in axis
order on axis 1. Voxel coordinates are indices, whole numbers the centres.
"""

from __future__ import annotations

from segreg.kernels._machines import get_threads, set_threads
from segreg.kernels._memory import hold_memory, kept_memory
from segreg.kernels.blocks import BLOCK, mark_blocks
from segreg.kernels.canvases import RegionShapes, gather_regions, region_shapes, soft_dice
from segreg.kernels.cells import cell_normals, cell_windows
from segreg.kernels.fields import compose, integrate, invert, jacobian_determinant
from segreg.kernels.filters import smooth, spline_coefficients
from segreg.kernels.folds import repair_folds
from segreg.kernels.fusion import distance_to_mask, fuse_fields
from segreg.kernels.jacobians import JacobianSums, count_folds, jacobian_sums
from segreg.kernels.labels import find_labels, relabel
from segreg.kernels.matching import MatchingSide, add_change, match_sides, take_step
from segreg.kernels.outlines import follow_pulls, outline_pulls
from segreg.kernels.radial import sum_distances
from segreg.kernels.regions import RegionStats, region_stats
from segreg.kernels.resampling import resample_field
from segreg.kernels.sampling import overlap, warp, warp_labels
from segreg.kernels.surfaces import SurfaceDistances, outline, surface_distances
from segreg.kernels.within import couple, find_borders, smooth_within

__all__ = [
    "BLOCK",
    "JacobianSums",
    "MatchingSide",
    "RegionShapes",
    "RegionStats",
    "SurfaceDistances",
    "add_change",
    "cell_normals",
    "cell_windows",
    "compose",
    "count_folds",
    "couple",
    "distance_to_mask",
    "find_borders",
    "find_labels",
    "follow_pulls",
    "fuse_fields",
    "gather_regions",
    "get_threads",
    "hold_memory",
    "kept_memory",
    "integrate",
    "invert",
    "jacobian_determinant",
    "jacobian_sums",
    "mark_blocks",
    "match_sides",
    "outline",
    "outline_pulls",
    "overlap",
    "region_shapes",
    "region_stats",
    "relabel",
    "repair_folds",
    "resample_field",
    "set_threads",
    "smooth",
    "smooth_within",
    "soft_dice",
    "spline_coefficients",
    "sum_distances",
    "surface_distances",
    "take_step",
    "warp",
    "warp_labels",
]

"""The oracle of every operation: NumPy, float64, slow, obvious.

Each function takes what the operation of the same name takes and computes it voxel by voxel or
array by array, the way the definition reads. The tests hold both machines against it.
"""

from __future__ import annotations

from segreg.kernels.reference.fields import (
    compose,
    integrate,
    invert,
    jacobian_determinant,
    resample_field,
    sum_distances,
)
from segreg.kernels.reference.filters import smooth, spline_coefficients
from segreg.kernels.reference.folds import repair_folds
from segreg.kernels.reference.fusion import distance_to_mask, fuse_fields
from segreg.kernels.reference.refinement import (
    add_change,
    cell_normals,
    cell_windows,
    couple,
    find_borders,
    follow_pulls,
    form_normals,
    mark_blocks,
    match_sides,
    outline_pulls,
    smooth_within,
    take_step,
)
from segreg.kernels.reference.regions import (
    gather_regions,
    jacobian_sums,
    outline_indices,
    region_stats,
    relabel,
    surface_distances,
)
from segreg.kernels.reference.sampling import label_votes, overlap, warp, warp_labels

__all__ = [
    "add_change",
    "cell_normals",
    "cell_windows",
    "compose",
    "couple",
    "distance_to_mask",
    "find_borders",
    "follow_pulls",
    "form_normals",
    "fuse_fields",
    "gather_regions",
    "integrate",
    "invert",
    "jacobian_determinant",
    "jacobian_sums",
    "label_votes",
    "mark_blocks",
    "match_sides",
    "outline_indices",
    "outline_pulls",
    "overlap",
    "region_stats",
    "relabel",
    "repair_folds",
    "resample_field",
    "smooth",
    "smooth_within",
    "spline_coefficients",
    "sum_distances",
    "surface_distances",
    "take_step",
    "warp",
    "warp_labels",
]

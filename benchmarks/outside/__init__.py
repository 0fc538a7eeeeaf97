"""What people would call instead of a kernel: one small function per operation and library.

``prepare(arguments, threads)`` converts the arguments of the operation once and returns the call
that is timed; its result is laid out as ``values`` lays out ours. Libraries are imported inside, so
that one that is absent leaves out its comparisons only.
"""

from __future__ import annotations

from benchmarks.outside import arrays, networks
from benchmarks.outside.base import Outside, far_inside, inside, inside_labels

SCIPY_DISTANCE = (Outside("scipy distance_transform_edt", arrays.scipy_distance, single=True),)

# By the id of the operation. An operation without an entry is checked against the reference.
OUTSIDE: dict[str, tuple[Outside, ...]] = {
    "warp/linear": (
        Outside("torch grid_sample", networks.torch_warp, inside),
        Outside("onnxruntime GridSample", networks.onnxruntime_warp, inside),
        Outside("scipy map_coordinates", arrays.scipy_warp(1), inside, single=True),
    ),
    "warp/nearest": (Outside("scipy map_coordinates", arrays.scipy_warp(0), inside, single=True),),
    "warp/cubic": (Outside("scipy map_coordinates", arrays.scipy_warp(3), inside, single=True),),
    "warp_labels": (Outside("torch, a volume a label", networks.torch_vote, inside_labels),),
    "overlap": (Outside("torch and bincount", networks.torch_overlap),),
    "compose": (Outside("torch grid_sample", networks.torch_compose),),
    "integrate/7": (Outside("torch grid_sample", networks.torch_integrate),),
    "jacobian_determinant": (Outside("numpy gradient", arrays.numpy_jacobian, single=True),),
    "invert": (Outside("SimpleITK InvertDisplacementField", arrays.itk_invert, far_inside, 0.02),),
    "resample_field": (Outside("scipy zoom", arrays.scipy_zoom, single=True),),
    "region_stats": (Outside("numpy bincount", arrays.numpy_region_stats, single=True),),
    "relabel": (Outside("numpy indexing", arrays.numpy_relabel, single=True),),
    "jacobian_sums": (
        Outside("numpy bincount", arrays.numpy_jacobian_sums, tolerance=0.05, single=True),
    ),
    "gather_regions": (Outside("scipy map_coordinates", arrays.scipy_gather, single=True),),
    "smooth": (Outside("scipy gaussian_filter", arrays.scipy_smooth, single=True),),
    "spline_coefficients": (Outside("scipy spline_filter", arrays.scipy_spline, single=True),),
    "distance_to_mask": SCIPY_DISTANCE,
    "distance_to_mask/5": SCIPY_DISTANCE,
}

"""float32 -> int8 by NNCF's post-training quantisation, for processors that multiply bytes.

The result is ONNX with QuantizeLinear and DequantizeLinear around what is quantised: one file that
OpenVINO and onnxruntime take. Where the whole network in int8 lies too far from the trained one,
the layers that hurt most are left in floating point, as few as it takes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import onnx

from segreg.engine.backends.base import Batch
from segreg.engine.errors import BackendError
from segreg.engine.package import Package
from segreg.engine.phantom import make_phantom
from segreg.engine.probes import REGIONS, random_batch, structured_batch
from segreg.engine.runtime import Engine
from segreg.engine.verification import network_shapes
from segreg.export.adapter import Adapter
from segreg.export.torch_backend import TorchBackend

PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
SEEDS = (1, 2)  # of the phantoms whose regions calibrate; parity is measured on another
PHANTOM = ((48, 60, 54), (2.6, 2.1, 2.1))
MOST_CELLS = 4_000_000  # canvas cells to calibrate on: half a minute for the shipped network
CLOSE = 0.8  # of what is allowed: other processors round what stays in floating point differently

Distance = Callable[[Path], float]


def require_nncf() -> None:
    """Raises BackendError, which says how to install it, where NNCF is missing."""
    if find_spec("nncf") is None:
        raise BackendError(
            "a package in int8 is made by NNCF; pip install 'segreg[quantize]' brings it."
        )


def calibration_regions(adapter: Adapter, package: Package) -> list[Batch]:
    """Regions (1, C, D, H, W) as the engine gathers them, and generated ones; none of parity's.

    Ranges taken from ordinary regions alone would clip what is rare.
    """
    shape, channels = network_shapes(package.settings)[0], adapter.spec.channels
    made = [structured_batch(shape, channels, 2 * REGIONS)[REGIONS:]]
    made.append(random_batch(shape, channels, 4)[2:])
    if package.settings["placement"] == "region":
        for seed in SEEDS:
            phantom = make_phantom(*PHANTOM, seed=seed)
            backend = TorchBackend(adapter)
            with Engine(package.folder, backend=backend) as engine:
                engine.register(
                    phantom.moving, phantom.fixed, phantom.moving_labels, phantom.fixed_labels
                )
            made += [regions for regions, _ in backend.seen]
    singles = [batch[k : k + 1] for batch in made for k in range(len(batch))]
    kept, cells = [], 0
    for region in singles:
        cells += int(region[0, 0].size)
        if cells <= MOST_CELLS:
            kept.append(region)
    return kept


def quantise(
    source: Path, target: Path, regions: Sequence[Batch], distance: Distance, allowed: float
) -> list[str]:
    """Write the ONNX network ``source`` in int8 as ``target``; gives what was decided, in words.

    Parameters
    ----------
    regions : to calibrate on, (1, C, D, H, W) each.
    distance : how far a file's network lies from the trained one, voxels.
    allowed : how far it may; see ``CLOSE``.
    """
    names = [n.name for n in onnx.load(source, load_external_data=False).graph.node
             if n.op_type in PRODUCTS]

    def attempt(floating: Sequence[str]) -> float:
        _write(source, target, regions, floating)
        return distance(target)

    whole = attempt([])
    said = [f"all {len(names)} layers in int8: {whole:.2g} voxel apart"]
    if whole <= CLOSE * allowed:
        return said
    # One layer alone in int8: how much it hurts.
    alone = {name: attempt([other for other in names if other != name]) for name in names}
    worst_first = sorted(names, key=lambda name: -alone[name])
    low, high = 1, len(names)  # the fewest layers in floating point that pass; all of them: none
    while low < high:
        middle = (low + high) // 2
        if attempt(worst_first[:middle]) <= CLOSE * allowed:
            high = middle
        else:
            low = middle + 1
    if low == len(names):
        attempt([])
        return [*said, f"each layer alone is {min(alone.values()):.2g} voxel apart at the least"]
    floating = worst_first[:low]
    apart = attempt(floating)
    hurt = ", ".join(f"{name} ({alone[name]:.2g} voxel alone)" for name in floating)
    return [*said, f"{len(floating)} in floating point, {hurt}: {apart:.2g} voxel apart"]


def _write(source: Path, target: Path, regions: Sequence[Batch], floating: Sequence[str]) -> None:
    with _nncf() as nncf:
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        model = onnx.load(source)
        (shown,) = (value.name for value in model.graph.input)
        quantised = nncf.quantize(
            model,
            nncf.Dataset(list(regions), lambda region: {shown: region}),
            subset_size=len(regions),
            # Resizing needs no products; quantised alone it only rounds what follows in floats.
            ignored_scope=nncf.IgnoredScope(names=list(floating), types=["Resize"], validate=False),
            # The largest values are the largest motion: the default would clip them.
            advanced_parameters=AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )
    onnx.save(quantised, target)


@contextmanager
def _nncf() -> Iterator[Any]:
    """NNCF, quiet, and without what it would report to its makers."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"  # read when it is imported: nothing is sent
    try:
        import nncf
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # its progress bars
        yield nncf

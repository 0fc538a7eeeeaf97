"""``Engine``: a loaded package that registers pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from segreg.engine.backends import Backend, CudaOptions, open_backend
from segreg.engine.compatibility import check_placement, choose_backend
from segreg.engine.errors import InputError
from segreg.engine.field import Field
from segreg.engine.geometry import grid_map
from segreg.engine.labels import Groups, LabelScheme, make_scheme
from segreg.engine.package import open_package
from segreg.engine.pipeline import Pipeline, Progress
from segreg.engine.quality import Thresholds, judge
from segreg.engine.refinement import AUTO, Refine, check_refine, refine_displacement
from segreg.engine.regions import RegionPlan, Side, plan_regions
from segreg.engine.result import Provenance, Result
from segreg.engine.seams import (
    BACKGROUND,
    BLEND_MM,
    Blending,
    BlendPairs,
    plan_blending,
    repair_seams,
)
from segreg.engine.timing import Stopwatch
from segreg.engine.version import __version__
from segreg.engine.volume import (
    Volume,
    VolumeLike,
    as_volume,
    check_image,
    check_labels,
    check_same_grid,
    join_notes,
)
from segreg.kernels import get_threads, warp, warp_labels

INTERPOLATIONS = ("linear", "nearest", "cubic")


class Engine:
    """A model package, loaded in a backend and ready for any number of pairs.

    Thread-safe: threads may share one engine, and get what one thread alone would get.

    Parameters
    ----------
    package : name of a shipped package, or path of a package folder or zip.
    backend : name of a backend, or one that is open (and stays so); None takes the first that is
        installed and can run the package.
    passes : how often the network is asked per region; None takes the package's number.
    threads : CPU threads of the network; None leaves it to the backend.
    options : how a backend of the GPU loads the network; see ``open_backend``.
    keyring : file of public keys (PEM); refuses a package that none of them signed.

    Raises
    ------
    PackageError, BackendError
    """

    def __init__(
        self,
        package: str | Path = "shapes",
        *,
        backend: str | Backend | None = None,
        passes: int | None = None,
        threads: int | None = None,
        options: CudaOptions | None = None,
        keyring: str | Path | None = None,
    ) -> None:
        with ExitStack() as resources:
            self.package = resources.enter_context(open_package(package, keyring=keyring))
            settings = self.package.settings
            self.passes = _checked_passes(settings["passes"] if passes is None else passes)
            check_placement(self.package)
            if isinstance(backend, Backend):
                self.backend = backend
            else:
                self.backend = open_backend(
                    choose_backend(self.package, backend),
                    self.package.network,
                    channels=len(settings["channels"]),
                    threads=threads,
                    canvas=settings["canvas"],
                    options=options,
                )
                resources.callback(self.backend.close)
            self._pipeline = Pipeline(self.backend, settings)
            self._resources = resources.pop_all()  # what fails above leaves nothing open

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the network and unpacked files; the engine cannot be used afterwards."""
        self._resources.close()

    def register(
        self,
        moving: VolumeLike,
        fixed: VolumeLike,
        moving_labels: VolumeLike,
        fixed_labels: VolumeLike,
        *,
        groups: Groups | None = None,
        labels: Sequence[int] | None = None,
        geometry: str | None = None,
        interpolation: str = "linear",
        blend: BlendPairs | None = None,
        blend_mm: float = BLEND_MM,
        refine: Refine = AUTO,
        repair: bool = True,
        thresholds: Thresholds | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Register ``moving`` to ``fixed`` by their label maps.

        Parameters
        ----------
        moving, fixed, moving_labels, fixed_labels : path, nibabel image or Volume
            The sides may differ in grid, spacing and orientation; a label map lies on the grid of
            its image.
        groups : region name -> label numbers registered as one region; None makes each label one.
        labels : register only these label numbers.
        geometry : {None, "sform", "qform"}
            Which transform of a NIfTI header to believe; None reads headers as ITK does.
        interpolation : {"linear", "nearest", "cubic"} for the warped image.
            "cubic" is sharper, and overshoots beside edges.
        blend : pairs of regions, by name or label number, whose fields blend at their border:
            ``[("left lobe", "right lobe"), (3, "background")]``, or "all" for every two regions.
            None lets regions slide along each other. It costs overlap; see ``engine.seams``.
        blend_mm : how far from the border.
        refine : {"off", "auto"} or iterations
            Take the network's field to the images' own resolution, by their texture and the
            outlines; "auto" decides by what the texture says. See ``engine.refinement``.
        repair : open folds, by the least change in mm (``repair_folds``).
        progress : called with (regions done, regions in all).

        Raises
        ------
        InputError : something handed over cannot be used; the message says how to mend it.
        BackendError : the network failed.
        """
        if interpolation not in INTERPOLATIONS:
            raise InputError(
                f"interpolation: expected one of {', '.join(INTERPOLATIONS)}, "
                f"got {interpolation!r}."
            )
        refine = check_refine(refine)
        watch = Stopwatch()
        with watch.stage("read"):
            sides = {
                "moving": moving, "fixed": fixed,
                "moving labels": moving_labels, "fixed labels": fixed_labels,
            }
            volumes = _read(sides, geometry)
        with watch.stage("plan"):
            scheme = make_scheme(
                volumes["moving labels"].array, volumes["fixed labels"].array,
                groups=groups, select=labels,
            )
            blending = plan_blending(scheme, blend, blend_mm)
            plan = _plan(volumes, scheme, self._pipeline.settings["initial_map"])
        displacement = self._pipeline.displacement(plan, self.passes, watch, progress, blending)
        provenance = self._provenance(scheme, interpolation, blending, refine, repair)
        return self._finish(volumes, scheme, plan, displacement, provenance, thresholds, watch)

    def register_many(
        self, pairs: Iterable[Mapping[str, Any] | Sequence[VolumeLike]], **options: Any
    ) -> Iterator[Result]:
        """Register pair after pair, reading the next while the current one is computed.

        Parameters
        ----------
        pairs : (moving, fixed, moving_labels, fixed_labels) sequences, or mappings with the
            arguments of ``register``.
        options : arguments of ``register`` for all pairs.
        """
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead = None
            for pair in pairs:
                arguments = _arguments(pair, options)
                coming = reader.submit(_read_ahead, arguments)
                if ahead is not None:
                    yield self.register(**ahead.result())
                ahead = coming
            if ahead is not None:
                yield self.register(**ahead.result())

    def _finish(
        self,
        volumes: dict[str, Volume],
        scheme: LabelScheme,
        plan: RegionPlan,
        displacement: Any,
        provenance: Provenance,
        thresholds: Thresholds | None,
        watch: Stopwatch,
    ) -> Result:
        moving, fixed, moving_labels = (
            volumes["moving"], volumes["fixed"], volumes["moving labels"],
        )
        to_moving = grid_map(fixed.affine, moving.affine)
        spacing = np.array(fixed.spacing), np.array(moving.spacing)
        with watch.stage("refine"):
            refinement = refine_displacement(
                displacement, plan, to_moving, spacing, provenance.refine
            )
        folds_repaired = 0
        if provenance.repair:
            with watch.stage("repair"):
                folds_repaired = repair_seams(displacement, plan, to_moving, fixed.spacing)
        with watch.stage("warp"):
            image, mode = moving.array[None, None], provenance.interpolation
            warped = warp(image, displacement, affine=to_moving, mode=mode)[0, 0]
            warped_labels = warp_labels(moving_labels.array, displacement, affine=to_moving)
        with watch.stage("judge"):
            quality, jacobian = judge(
                scheme,
                plan.moving.region_map,
                plan.fixed.region_map,
                scheme.region_map(warped_labels),
                displacement,
                to_moving,
                np.array(fixed.spacing),
                (plan.moving.stats, plan.fixed.stats),
                float(np.prod(moving.spacing)) / 1000,
                thresholds,
            )
        return Result(
            moving=moving,
            fixed=fixed,
            fixed_labels=volumes["fixed labels"],
            warped=Volume(warped, fixed.affine, "warped"),
            warped_labels=Volume(warped_labels, fixed.affine, "warped labels"),
            displacement=Field(displacement[0], fixed.affine),
            jacobian=jacobian,
            quality=quality,
            provenance=provenance,
            notes=(
                *self.package.notes,
                *join_notes(volumes.values()),
                *scheme.notes,
                *self.backend.notes,
                *refinement.notes,
            ),
            watch=watch,
            refinement=refinement,
            folds_repaired=folds_repaired,
        )

    def _provenance(
        self,
        scheme: LabelScheme,
        interpolation: str,
        blending: Blending,
        refine: Refine,
        repair: bool,
    ) -> Provenance:
        names = (BACKGROUND, *scheme.names)
        return Provenance(
            segreg=__version__,
            package=self.package.name,
            package_version=self.package.version,
            package_digest=self.package.digest,
            backend=self.backend.name,
            backend_version=self.backend.library_version(),
            precision=self.backend.precision,
            threads=get_threads(),
            passes=self.passes,
            interpolation=interpolation,
            blend=tuple((names[j], names[k]) for j, k in blending.pairs),
            blend_mm=blending.length,
            refine=refine,
            repair=repair,
        )


def _checked_passes(passes: object) -> int:
    if not isinstance(passes, int) or isinstance(passes, bool) or not 0 <= passes <= 32:
        raise InputError(
            "passes: expected a whole number from 0 (moment matching alone) to 32, "
            f"got {passes!r}."
        )
    return passes


def _read(sides: dict[str, VolumeLike], geometry: str | None) -> dict[str, Volume]:
    """Read and check both sides."""

    def read(name: str) -> Volume:
        volume = as_volume(sides[name], geometry=geometry)
        return check_labels(volume) if name.endswith("labels") else check_image(volume)

    with ThreadPoolExecutor(max_workers=4) as pool:
        volumes = dict(zip(sides, pool.map(read, sides), strict=True))
    for side in ("moving", "fixed"):
        check_same_grid(volumes[f"{side} labels"], volumes[side])
    return volumes


def _plan(volumes: dict[str, Volume], scheme: LabelScheme, initial_map: str) -> RegionPlan:
    def measure(side: str) -> Side:
        region_map = scheme.region_map(volumes[f"{side} labels"].array)
        volume = volumes[side]
        return Side.measure(volume.array, region_map, len(scheme), volume.affine)

    return plan_regions(measure("moving"), measure("fixed"), initial_map)




SIDES = ("moving", "fixed", "moving_labels", "fixed_labels")


def _arguments(pair: Mapping[str, Any] | Sequence[VolumeLike], options: dict[str, Any]) -> Any:
    if not isinstance(pair, Mapping) and len(pair) == len(SIDES):
        pair = dict(zip(SIDES, pair, strict=True))
    if not isinstance(pair, Mapping) or not set(SIDES) <= set(pair):
        given = ", ".join(pair) if isinstance(pair, Mapping) else f"{len(pair)} entries"
        raise InputError(f"pairs: expected {', '.join(SIDES)}, got {given}.")
    return {**options, **pair}


def _read_ahead(arguments: dict[str, Any]) -> dict[str, Any]:
    geometry = arguments.get("geometry")
    read = {side: as_volume(arguments[side], geometry=geometry) for side in SIDES}
    return {**arguments, **read}

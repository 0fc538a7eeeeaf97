"""``Engine``: a loaded package that registers pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from segreg.engine.backends import Backend, CudaOptions
from segreg.engine.body import BODY, BodyFinder, body_notes
from segreg.engine.compatibility import check_registers, open_network
from segreg.engine.computation import Task, compute_pair
from segreg.engine.conveyor import Job, overlap, stages_of, whole
from segreg.engine.device import HOST, open_device, split_memory, use_gpu
from segreg.engine.errors import InputError
from segreg.engine.expectation import GIVEN, check_labels_dice, expect_accuracy
from segreg.engine.field import Field
from segreg.engine.label_names import LabelNames
from segreg.engine.labels import Groups, LabelScheme, make_scheme
from segreg.engine.package import open_package
from segreg.engine.pipeline import Pipeline, Progress
from segreg.engine.precision import AUTO, FULL
from segreg.engine.quality import Thresholds
from segreg.engine.refinement import OFF, Refine, check_refine
from segreg.engine.requests import pair_arguments, read_sides, source_notes
from segreg.engine.result import Provenance, Result
from segreg.engine.seams import (
    BACKGROUND,
    BLEND_MM,
    Blending,
    BlendPairs,
    plan_blending,
)
from segreg.engine.segmentation import Segmenter, complete_labels
from segreg.engine.surroundings import REGIONS, check_background, find_bodies
from segreg.engine.timing import Stopwatch
from segreg.engine.version import __version__
from segreg.engine.volume import Volume, VolumeLike, join_notes
from segreg.kernels import hold_memory

INTERPOLATIONS = ("linear", "nearest", "cubic")


class Engine:
    """A model package, loaded in a backend and ready for any number of pairs.

    Thread-safe: threads may share one engine, and get what one thread alone would get.

    Parameters
    ----------
    package : name of a shipped package, or path of a package folder or zip.
    backend : name of a backend, or one that is open (and stays so); None takes the first that is
        installed and can run the package.
    precision : "auto" takes the fastest that the exporter proved for the package and that the
        machine has, for the segmentation too, which only "float32" binds besides; or "bfloat16",
        "float16", "int8". See ``segreg.engine.precision``.
    passes : how often the network is asked per region; None takes the package's numbers, which
        may be fewer where refinement follows.
    threads : CPU threads of the network; None leaves it to the backend.
    options : how a backend of the GPU loads the network; see ``open_backend``.
    gpu_memory : what network and arrays may take of the GPU, in bytes or as ``"4GiB"``; None sets
        no bound. Less memory means smaller batches of regions, and the same result.
    keyring : file of public keys (PEM); refuses a package that none of them signed.
    segmenter : package that segments images which come without labels, or "body" for the one
        region that is found without any (``segreg.engine.body``); None takes ``package`` itself,
        if it can.

    Attributes
    ----------
    passes : how often the network is asked per region, at most, where no refinement follows.
    device : where pairs are computed: on the host, or on the GPU of the backend.

    Raises
    ------
    PackageError, BackendError, InputError
    """

    stopwatch: Callable[[], Stopwatch] = Stopwatch

    def __init__(
        self,
        package: str | Path = "shapes",
        *,
        backend: str | Backend | None = None,
        precision: str = AUTO,
        passes: int | None = None,
        threads: int | None = None,
        options: CudaOptions | None = None,
        keyring: str | Path | None = None,
        gpu_memory: int | str | None = None,
        segmenter: str | Path | None = None,
    ) -> None:
        budget, options = split_memory(gpu_memory, options)
        with ExitStack() as resources, use_gpu(options):
            self.package = resources.enter_context(open_package(package, keyring=keyring))
            settings = self.package.settings
            check_registers(self.package)
            self.passes = _checked_passes(settings["passes"] if passes is None else passes)
            self._passes_refined = (
                settings.get("passes_refined", self.passes) if passes is None else self.passes
            )
            if isinstance(backend, Backend):
                if precision != AUTO:
                    raise InputError(
                        f"precision: an open backend runs in {backend.precision}, as it was "
                        "opened; give the backend's name to choose."
                    )
                self.backend = backend
            else:
                self.backend = open_network(
                    self.package, backend, precision, threads=threads, options=options
                )
                resources.callback(self.backend.close)
            self.device = open_device(self.backend, budget)
            resources.callback(self.device.close)
            if self.device is HOST:
                resources.enter_context(hold_memory())
            self._pipeline = Pipeline(self.backend, settings, self.device)
            self.segmenter = self._open_segmenter(
                segmenter, resources, keyring,
                backend=backend if isinstance(backend, str) else None,
                precision=FULL if precision == FULL else AUTO, threads=threads, options=options,
            )  # fmt: skip
            self._resources = resources.pop_all()  # what fails above leaves nothing open

    def _open_segmenter(
        self,
        asked: str | Path | None,
        resources: ExitStack,
        keyring: str | Path | None,
        **loading: Any,
    ) -> Segmenter | BodyFinder | None:
        """The segmenter asked for, or the package's own if it has one."""
        if asked == BODY:
            return BodyFinder()
        if asked is None and not self.package.segments:
            return None
        source = self.package
        if asked is not None:
            source = resources.enter_context(open_package(asked, keyring=keyring))
        segmenter = Segmenter(source, **loading)
        resources.callback(segmenter.close)
        return segmenter

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

    @whole
    def register(
        self,
        moving: VolumeLike,
        fixed: VolumeLike,
        moving_labels: VolumeLike | None = None,
        fixed_labels: VolumeLike | None = None,
        *,
        groups: Groups | None = None,
        labels: Sequence[int | str] | None = None,
        label_names: LabelNames | None = None,
        labels_dice: float | None = None,
        geometry: str | None = None,
        interpolation: str = "linear",
        blend: BlendPairs | None = None,
        blend_mm: float = BLEND_MM,
        refine: Refine | None = None,
        background: str = BODY,
        repair: bool = True,
        thresholds: Thresholds | None = None,
        progress: Progress | None = None,
    ) -> Job[Result]:
        """Register ``moving`` to ``fixed`` by their label maps.

        Parameters
        ----------
        moving, fixed, moving_labels, fixed_labels : path, nibabel image or Volume
            The sides may differ in grid, spacing and orientation; a label map lies on the grid of
            its image. A side without one is segmented, if the package segments.
        groups : region name -> label numbers registered as one region; None makes each label one.
        labels : register only these labels.
        label_names : name -> label number, as ``read_label_names`` reads them: ``groups``,
            ``labels`` and ``blend`` may then use names. None takes those of the package that
            segmented.
        labels_dice : Dice that the given label maps are known to have against true ones; the
            result then says what accuracy to expect, if the package's curve covers it.
        geometry : {None, "sform", "qform"}
            Which transform of a NIfTI header to believe; None reads headers as ITK does.
        interpolation : {"linear", "nearest", "cubic"} for the warped image.
            "cubic" is sharper, and overshoots beside edges.
        blend : pairs of regions, by name or label number, whose fields blend at their border:
            ``[("left lobe", "right lobe"), (3, "background")]``, or "all" for every two regions.
            None lets regions slide along each other. It costs overlap; see ``engine.seams``.
        blend_mm : how far from the border.
        refine : {"off", "auto"} or iterations, optional
            Take the network's field to the images' own resolution, by their texture and the
            outlines; "auto" decides by what the texture says. What the package asks for if left
            out, and "off" if it does not say. See ``engine.refinement``.
        background : {"body", "regions"}
            What carries the background far from the labels: the body, found in the images and
            registered as one more region, or the labels alone, as always where a larger region
            costs more (``placement``) or the body is the label. See ``engine.surroundings``.
        repair : open folds, by the least change in mm (``repair_folds``).
        progress : called with (regions done, regions in all).

        Returns
        -------
        Result

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
        asked = self.package.settings.get("refine", OFF) if refine is None else refine
        refine, labels_dice = check_refine(asked), check_labels_dice(labels_dice)
        background = check_background(background)
        watch = self.stopwatch()
        with watch.stage("read"):
            sides = {
                "moving": moving, "fixed": fixed,
                "moving labels": moving_labels, "fixed labels": fixed_labels,
            }
            volumes = read_sides(sides, geometry)
        sources = complete_labels(volumes, self.segmenter, watch)
        expectation, expected = expect_accuracy(
            tuple(sources.values()), labels_dice,
            self.package.curve, self.segmenter.curve if self.segmenter else None,
        )  # fmt: skip
        if label_names is None and self.segmenter is not None and set(sources.values()) != {GIVEN}:
            label_names = self.segmenter.names
        bodies, unfound = dict[str, Any](), list[str]()
        if background == BODY and self._pipeline.placement.bounded:
            bodies, unfound = find_bodies(
                volumes, sources.values(), watch, some=labels is not None or groups is not None
            )
        with self._carrying("upload", watch):
            parcel = self.device.upload({s: v.array for s, v in volumes.items()} | bodies)
        yield
        with self.device.computing(parcel) as arrays:
            with watch.stage("plan"):
                scheme = make_scheme(
                    arrays["moving labels"], arrays["fixed labels"],
                    groups=groups, select=labels, label_names=label_names,
                )
                blending = plan_blending(scheme, blend, blend_mm)
            provenance = self._provenance(
                scheme, interpolation, blending, refine, repair, sources,
                BODY if bodies else REGIONS,
            )  # fmt: skip
            task = Task(volumes, scheme, blending, provenance, thresholds, watch, progress)
            found = compute_pair(self._pipeline, arrays, task)
            delivery = self.device.download(found.arrays)
            found.arrays.clear()
            arrays.clear()
        yield
        with self._carrying("download", watch):
            results = delivery.wait()
        grid = volumes["fixed"].affine
        return Result(
            moving=volumes["moving"],
            fixed=volumes["fixed"],
            moving_labels=volumes["moving labels"],
            fixed_labels=volumes["fixed labels"],
            warped=Volume(results["warped"], grid, "warped"),
            warped_labels=Volume(results["warped labels"], grid, "warped labels"),
            displacement=Field(results["displacement"], grid),
            jacobian=results["jacobian"],
            quality=found.quality,
            provenance=provenance,
            notes=(
                *self.package.notes,
                *join_notes(volumes.values()),
                *source_notes(provenance.label_sources),
                *body_notes(provenance.label_sources, refine),
                *expected,
                *unfound,
                *scheme.notes,
                *self.backend.notes,
                *found.notes,
                *found.refinement.notes,
            ),
            watch=watch,
            refinement=found.refinement,
            folds_repaired=found.folds_repaired,
            expectation=expectation,
        )

    def register_many(
        self, pairs: Iterable[Mapping[str, Any] | Sequence[VolumeLike]], **options: Any
    ) -> Iterator[Result]:
        """Register pair after pair: the next is read while one is computed.

        The last is handed over meanwhile, and the next is under way while the one before is looked
        at or saved. ``progress`` is called from another thread.

        Parameters
        ----------
        pairs : (moving, fixed) or (moving, fixed, moving_labels, fixed_labels) sequences, or
            mappings with the arguments of ``register``.
        options : arguments of ``register`` for all pairs.
        """
        return overlap(self._job(pair, options) for pair in pairs)

    def _job(
        self, pair: Mapping[str, Any] | Sequence[VolumeLike], options: dict[str, Any]
    ) -> Job[Result]:
        result: Result = yield from stages_of(self.register)(**pair_arguments(pair, options))
        return result

    def _carrying(self, stage: str, watch: Stopwatch) -> AbstractContextManager[None]:
        """The stage of what crosses the bus; on the host nothing does."""
        return nullcontext() if self.device is HOST else watch.stage(stage)

    def passes_before(self, refine: Refine) -> int:
        """How often the network is asked per region where that refinement follows."""
        return self.passes if refine == OFF else self._passes_refined

    def _provenance(
        self,
        scheme: LabelScheme,
        interpolation: str,
        blending: Blending,
        refine: Refine,
        repair: bool,
        sources: Mapping[str, str],
        background: str,
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
            device=self.device.name,
            threads=self.device.threads,
            passes=self.passes_before(refine),
            interpolation=interpolation,
            blend=tuple((names[j], names[k]) for j, k in blending.pairs),
            blend_mm=blending.length,
            refine=refine,
            repair=repair,
            label_sources=(sources["moving"], sources["fixed"]),
            background=background,
        )


def _checked_passes(passes: object) -> int:
    if not isinstance(passes, int) or isinstance(passes, bool) or not 0 <= passes <= 32:
        raise InputError(
            "passes: expected a whole number from 0 (moment matching alone) to 32, "
            f"got {passes!r}."
        )
    return passes

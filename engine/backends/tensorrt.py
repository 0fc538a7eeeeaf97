"""TensorRT and TensorRT for RTX: engines built on the machine they run on, and kept.

Neither library is imported before a backend is asked about or opened.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

from segreg.engine.backends.cuda import CudaBackend, DeviceArray, Gpu, current_gpu
from segreg.engine.backends.engine_build import (
    FULL,
    RTX,
    build_engine,
    library_log,
    parse_network,
    targets,
    version_of,
)
from segreg.engine.backends.engine_cache import EngineCache, EngineKey, cache_folder, file_part
from segreg.engine.backends.engine_run import EngineRunner
from segreg.engine.backends.onnx_file import OnnxFile, read_onnx
from segreg.engine.errors import BackendError

OLDEST = (10, 10)  # the first with strong typing and working memory that follows the shapes


class TensorRTBackend(CudaBackend):
    name = "tensorrt"
    library: ClassVar[str] = FULL

    @classmethod
    def library_version(cls) -> str:
        return str(importlib.import_module(cls.library).__version__)

    @classmethod
    def obstacles(cls) -> list[str]:
        library = importlib.import_module(cls.library)
        if cls.library == FULL and version_of(library) < OLDEST:
            return [f"TensorRT {library.__version__} is too old; pip install 'tensorrt>=11.2'"]
        if found := super().obstacles():
            return found
        gpu = current_gpu(importlib.import_module("cupy"))
        known = targets(library)
        if known and gpu.capability not in known:
            return [
                f"{cls.library} {library.__version__} does not build for the {gpu.name} (compute "
                f"capability {gpu.capability[0]}.{gpu.capability[1]}); tensorrt does"
            ]
        return []

    @classmethod
    def check(cls, network: Path, *, channels: int) -> None:
        parse_network(importlib.import_module(cls.library), network, cls.name)

    @property
    def precision(self) -> str:
        return self._file.precision

    def _load(self, network: Path, threads: int | None) -> None:
        gpu = self._open_device()
        library = importlib.import_module(self.library)
        self._file = read_onnx(network)
        self._cache = EngineCache(self.options.cache or cache_folder(), self.notes)
        self._own_files = f"{self.library}-{library.__version__}-{file_part(gpu.name)}"
        key = self._key(self._file, library, gpu)

        def build() -> bytes:
            parsed = parse_network(library, network, self.name)
            timings = f"{self._own_files}.timings"
            before = self._cache.read(timings)
            engine, after = build_engine(
                parsed, self.canvas, self.options, threads=threads, timing=before
            )
            if after not in (b"", before):
                self._cache.write(timings, after)
            return engine

        content, kept = self._cache.get_or_build(key, build)
        log = library_log(library)
        log.words.clear()
        self._runtime = library.Runtime(log)
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None and kept:  # such as one of another driver
            self.notes.append(f"{key.file_name} is not taken by {self.library}; built again.")
            content = build()
            self._cache.store(key, content)
            engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise BackendError(
                f"backend {self.name}: the engine built for {network.name} is not taken by the "
                f"{gpu.name}; its driver may be too old for {self.library} {library.__version__}. "
                f"{' '.join(log.words)}"
            )
        self._compiled = self._cache.read(f"{self._own_files}.kernels")
        self._runner = EngineRunner(
            self._cupy, library, engine, record=self.options.record, compiled=self._compiled
        )

    def _key(self, file: OnnxFile, library: Any, gpu: Gpu) -> EngineKey:
        options = self.options
        return EngineKey(
            network=file.digest,
            library=self.library,
            version=str(library.__version__),
            gpu=gpu.name,
            capability=f"{gpu.capability[0]}.{gpu.capability[1]}",
            build=f"batch {options.batch}, canvas {self.canvas}, tf32 {options.tf32}",
        )

    def _run_part(self, regions: DeviceArray) -> DeviceArray:
        return self._runner.run(regions)

    def _close(self) -> None:
        compiled = self._runner.close()
        if compiled not in (b"", self._compiled):
            self._cache.write(f"{self._own_files}.kernels", compiled)
        del self._runner, self._runtime


class TensorRTRTXBackend(TensorRTBackend):
    name = "tensorrt-rtx"
    library = RTX

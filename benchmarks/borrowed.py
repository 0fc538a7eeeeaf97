"""A network computed by the processor between kernels on a GPU.

It stands in where no library runs networks on the GPU: everything else is then still proven and
timed there, and the network's stage says that it was not.
"""

from __future__ import annotations

from pathlib import Path

from segreg.engine.backends.cuda import CudaBackend, DeviceArray
from segreg.engine.backends.onnxruntime import PROVIDER, open_session


class BorrowedNetwork(CudaBackend):
    name = "borrowed"

    @classmethod
    def library_version(cls) -> str:
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__} on the CPU"

    def _load(self, network: Path, threads: int | None) -> None:
        self._open_device()
        self._session = open_session(self.name, network, threads, PROVIDER)
        self._input = self._session.get_inputs()[0].name

    def _run_part(self, regions: DeviceArray) -> DeviceArray:
        host = self._cupy.asnumpy(regions)
        return self._cupy.asarray(self._session.run(None, {self._input: host})[0])

    def _close(self) -> None:
        del self._session

"""What every worker process needs, handed over once: its arrays lie in one file that all processes map.

Sent through a pipe, a data set would be copied for each worker, and each would start only after the one before it had
read its copy. The file has no name, so nothing of it stays behind, however a run ends.
"""

import io
import mmap
import os
import pickle
import tempfile
from multiprocessing import reduction
from typing import Any, Final

from cu_cert.errors import EnvironmentProblem

_ALIGNED: Final = 64


class Parcel:
    """An object for worker processes.

    Args:
        content: The object; the data of its arrays is not copied into each process.
    """

    def __init__(self, content: object) -> None:
        buffers: list[pickle.PickleBuffer] = []
        self._head = pickle.dumps(content, protocol=5, buffer_callback=buffers.append)
        self._spans: list[tuple[int, int]] = []
        self._file: Any = tempfile.TemporaryFile(prefix="cu-cert-")  # noqa: SIM115 - closed by close()
        try:
            for buffer in buffers:
                with buffer.raw() as data:
                    self._file.write(bytes(-self._file.tell() % _ALIGNED))
                    self._spans.append((self._file.tell(), data.nbytes))
                    self._file.write(data)
            self._file.flush()
        except OSError as error:
            self._file.close()
            raise EnvironmentProblem(
                f"folder {tempfile.gettempdir()!r}: a copy of the records for worker processes cannot be written "
                f"({error.strerror}); free some space, or let TMPDIR name another folder"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process is given: the file's descriptor where those can be inherited, else its bytes."""
        state = {"head": self._head, "spans": self._spans, "bytes": b"", "handle": None}
        if hasattr(reduction, "DupFd"):
            return state | {"handle": reduction.DupFd(self._file.fileno())}
        self._file.seek(0)
        return state | {"bytes": self._file.read()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        handle = state["handle"]
        self._head, self._spans = state["head"], state["spans"]
        self._file = io.BytesIO(state["bytes"]) if handle is None else os.fdopen(handle.detach(), "rb")

    def open(self) -> Any:
        """Return the object; its arrays may be changed here, and no other process sees it."""
        size = max((start + length for start, length in self._spans), default=0)
        if not size:
            return pickle.loads(self._head)
        if isinstance(self._file, io.BytesIO):
            data = memoryview(bytearray(self._file.getvalue()))
        else:
            data = memoryview(mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_COPY))
        buffers = [data[start : start + length] for start, length in self._spans]
        return pickle.loads(self._head, buffers=buffers)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

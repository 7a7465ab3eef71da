"""Read a checkpoint: the arguments from its JSON file, the weights from safetensors directly into GPU memory."""

import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 64 << 20
READERS = 4  # threads and staging buffers: enough to keep a local NVMe disk and the copy engine busy at once
ALIGNMENT_BYTES = 16  # tensor cores need operands aligned to this

# The format's dtype names that weights use: https://huggingface.co/docs/safetensors.
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}

_TORSO = re.compile(r"(blocks|middle_block)\..*\.(weight|bias)$")
_NORM = re.compile(r"\.norm\d*\.\w+$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published model. name: its class. args: its arguments. tensors: its weights by name."""

    name: str
    args: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Read `<path>.json` and `<path>.safetensors`.

    Raises:
        OSError: one of them cannot be read.
        ValueError: one of them has an invalid format.
    """
    config = json.loads(Path(f"{path}.json").read_text())
    return Checkpoint(config["name"], config["args"], read_tensors(Path(f"{path}.safetensors"), device))


def in_precision(tensors: Mapping[str, Tensor], torso: torch.dtype) -> dict[str, Tensor]:
    """Convert tensors to the dtypes that upstream's models compute in, whatever the file's are.

    The linear and convolution layers of the blocks are in the dtype of the torso; norms, gammas, modulations and the
    layers at both ends are in float32.
    """

    def dtype_of(name: str) -> torch.dtype:
        return torso if _TORSO.match(name) and not _NORM.search(name) else torch.float32

    return {
        name: tensor.to(dtype_of(name)) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }


def read_tensors(file: Path, device: torch.device) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file, as views of one allocation on the device.

    Raises:
        OSError, ValueError: see `read_checkpoint`.
    """
    with file.open("rb") as opened:
        header_bytes = int.from_bytes(opened.read(8), "little")
        total_bytes = os.fstat(opened.fileno()).st_size - 8 - header_bytes
        if total_bytes < 0:
            raise ValueError(f"{file} is not a safetensors file, or is cut off")
        header = json.loads(opened.read(header_bytes))
        header.pop("__metadata__", None)
        body = _read_body(opened.fileno(), 8 + header_bytes, total_bytes, device)
    return {name: _view(body, entry) for name, entry in header.items()}


def _view(body: Tensor, entry: Mapping[str, Any]) -> Tensor:
    start, end = entry["data_offsets"]
    if end > body.numel():
        raise ValueError("the safetensors file is cut off")
    part = body[start:end]
    if start % ALIGNMENT_BYTES:
        part = part.clone()
    return part.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _read_body(fd: int, offset: int, length: int, device: torch.device) -> Tensor:
    """Read `length` bytes from `offset`, as uint8 on the device."""
    with torch.inference_mode(False):  # the mode is per thread, and the threads below have another
        body = torch.empty(length, dtype=torch.uint8, device=device)
    buffers: SimpleQueue[_StagingBuffer] = SimpleQueue()
    for _ in range(READERS):
        buffers.put(_StagingBuffer(device))

    def copy_chunk(start: int) -> None:
        buffer = buffers.get()
        try:
            buffer.copy_chunk(fd, offset + start, body[start : start + CHUNK_BYTES])
        finally:
            buffers.put(buffer)

    with ThreadPoolExecutor(READERS) as readers:
        list(readers.map(copy_chunk, range(0, length, CHUNK_BYTES)))
    return body


class _StagingBuffer:
    """A pinned staging buffer with its own stream: copies one chunk at a time from the file to the device."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._staging = torch.empty(CHUNK_BYTES, dtype=torch.uint8, pin_memory=True) if self._stream else None

    def copy_chunk(self, fd: int, offset: int, target: Tensor) -> None:
        """Read `target`'s bytes from the file, and wait until they are on the device."""
        if self._stream is None or self._staging is None:
            _read(fd, offset, target)
            return
        staging = self._staging[: target.numel()]
        _read(fd, offset, staging)
        with torch.cuda.stream(self._stream):
            target.copy_(staging, non_blocking=True)
        self._stream.synchronize()


def _read(fd: int, offset: int, target: Tensor) -> None:
    """Fill `target`, uint8 in host memory, without the interpreter lock."""
    left = memoryview(target.numpy())
    while left:
        count = os.preadv(fd, [left], offset)
        if count == 0:
            raise ValueError("the safetensors file is cut off")
        left, offset = left[count:], offset + count

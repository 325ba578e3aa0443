"""A small encoder of lossless JPEG (ITU T.81, process 14, first-order prediction)."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray


def lossless_jpeg(image: NDArray[np.uint16]) -> bytes:
    """Return a 16-bit grey picture as a JPEG stream; every size class has a 5-bit code."""
    rows, columns = image.shape
    frame = struct.pack(">BHHBBBB", 16, rows, columns, 1, 1, 0x11, 0)
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))
    scan = bytes([1, 1, 0x00, 1, 0, 0])
    packed = _entropy(image)
    parts = [b"\xff\xd8"]
    for marker, content in ((0xC3, frame), (0xC4, table), (0xDA, scan)):
        parts.append(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content)
    return b"".join([*parts, packed, b"\xff\xd9"])


def _entropy(image: NDArray[np.uint16]) -> bytes:
    bits = []
    above = 1 << 15
    for row in image.astype(int).tolist():
        left = above
        above = row[0]
        for value in row:
            bits.append(_code(value - left))
            left = value
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big")
    return data.replace(b"\xff", b"\xff\x00")


def _code(difference: int) -> str:
    wrapped = (difference + 32767) % 65536 - 32767
    size = abs(wrapped).bit_length()
    code = f"{size:05b}"
    if size in (0, 16):
        return code
    return code + f"{wrapped if wrapped > 0 else wrapped + (1 << size) - 1:0{size}b}"

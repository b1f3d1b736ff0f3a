"""What is in an event file of TensorBoard? Records of TensorFlow's format, each an Event of a handful of fields.

A record is its length (u64, little-endian), the masked CRC-32C of that, its bytes, and the masked CRC-32C of those
(tensorflow/core/lib/io/record_writer.h). Of protocol buffers nothing is needed but four kinds of fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cache

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, reflected: that of CRC-32C"""
MASK = 0xA282EAD8
VERSION = "brain.Event:2"
DT_STRING, SESSION_START = 7, 1
_HEAD = struct.Struct("<QI")


@cache
def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


def masked_crc(data: bytes) -> int:
    """As records carry it: a CRC of bytes that hold CRCs is no good one, so it is rotated and moved."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return (crc >> 15 | crc << 17) + MASK & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """One record."""
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked_crc(size)) + data + struct.pack("<I", masked_crc(data))


def records(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset of its end, bytes) of each record from the beginning; the first that is not whole ends it.

    Only lengths are held against their CRC, as a tail that is torn shows there: the rest is `is_sound`'s.
    """
    offset = 0
    while offset + _HEAD.size <= len(raw):
        size, crc = _HEAD.unpack_from(raw, offset)
        end = offset + _HEAD.size + size + 4
        if end > len(raw) or masked_crc(raw[offset : offset + 8]) != crc:
            return
        yield end, raw[offset + _HEAD.size : end - 4]
        offset = end


def is_sound(raw: bytes, end: int, body: bytes) -> bool:
    """Whether the bytes of the record that ends at `end` are those that were written."""
    return masked_crc(body) == int.from_bytes(raw[end - 4 : end], "little")


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", _narrow(value))


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _narrow(value: float) -> float:
    """A 32-bit float has less room: what does not fit is infinite there."""
    return value if abs(value) < 3.4028235e38 else value * float("inf")


def first(at: float) -> bytes:
    """The event that a file begins with."""
    return _double(1, at) + _bytes(3, VERSION.encode())


def session(at: float, step: int) -> bytes:
    """What was told of `step` and later ones is void: TensorBoard leaves it out."""
    return _double(1, at) + _integer(2, step) + _bytes(7, _integer(1, SESSION_START))


def row(at: float, step: int, scalars: Mapping[str, float], texts: Mapping[str, str]) -> bytes:
    """Values of one step, texts for the page of that name."""
    values = [_bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in scalars.items()]
    values += [_bytes(1, _text(tag, text)) for tag, text in texts.items()]
    return _double(1, at) + _integer(2, step) + _bytes(5, b"".join(values))


def _text(tag: str, text: str) -> bytes:
    plugin = _bytes(1, _bytes(1, b"text"))
    tensor = _integer(1, DT_STRING) + _bytes(2, _bytes(2, _integer(1, 1))) + _bytes(8, text.encode())
    return _bytes(1, tag.encode()) + _bytes(8, tensor) + _bytes(9, plugin)

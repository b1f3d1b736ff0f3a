"""Can event files be read by others, and does a file go on after any end of its writer?"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from orchestrator import tracker_events as events
from orchestrator.tracker_board import Board
from orchestrator.tracker_lines import AXIS, Line


def step(number: int, **values: object) -> Line:
    return Line(at=1000.0 + number, kind="step", values={AXIS: number, **values})


def rewind(to: int) -> Line:
    return Line(at=1020.0, kind="rewind", values={AXIS: 10, "lastgood/rolled_back_to": to})


class Taken:
    """A protocol buffer taken apart, by what the bytes themselves say."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0
        self.fields: list[tuple[int, object]] = []
        while self._at < len(raw):
            key = self._varint()
            self.fields.append((key >> 3, self._value(key & 7)))

    def _value(self, kind: int) -> object:
        if kind == 0:
            return self._varint()
        size = {1: 8, 5: 4}.get(kind) or self._varint()
        body = self._raw[self._at : self._at + size]
        self._at += size
        return body if kind == 2 else struct.unpack("<d" if kind == 1 else "<f", body)[0]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._raw[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value


def fields(raw: object) -> dict[int, object]:
    assert isinstance(raw, bytes)
    return dict(Taken(raw).fields)


def read(folder: Path) -> list[dict[int, object]]:
    (file,) = folder.iterdir()
    raw = file.read_bytes()
    found = list(events.records(raw))
    assert found[-1][0] == len(raw)
    assert all(events.is_sound(raw, *one) for one in found)
    return [fields(body) for _, body in found]


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ],
)
def test_the_checksum_is_that_of_the_standard(data: bytes, crc: int) -> None:
    # RFC 3720, appendix B.4, and the usual check value.
    assert events.masked_crc(data) == (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF


def test_a_line_becomes_an_event_with_its_scalars_and_texts(tmp_path: Path) -> None:
    board = Board(tmp_path, "r", 1000.0)
    board.write([step(7, **{"train/loss": 0.25, "lastgood/event": "é"})])
    board.close()
    first, event = read(tmp_path)
    assert first[3] == b"brain.Event:2"
    assert (event[1], event[2]) == (1007.0, 7)
    assert isinstance(event[5], bytes)
    scalar, text = [fields(body) for _, body in Taken(event[5]).fields]
    assert (scalar[1], scalar[2]) == (b"train/loss", 0.25)
    assert text[1] == b"lastgood/event"
    assert fields(text[8])[8] == "é".encode()


def test_a_file_goes_on_wherever_its_writer_was_killed(tmp_path: Path) -> None:
    board = Board(tmp_path, "r", 1000.0)
    board.write([step(1), step(2), step(3)])
    board.close()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    counts = []
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        board = Board(tmp_path, "r", 1000.0)
        counts.append(board.count)
        board.write([step(n) for n in range(board.count + 1, 4)])
        board.close()
        assert file.read_bytes() == whole
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}


def test_tensorboard_itself_shows_the_line_of_training_that_counts(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = Board(tmp_path, "r", 1000.0)
    board.write([step(n, loss=1.0 / n) for n in range(1, 11)])
    board.write([rewind(5), *(step(n, loss=2.0) for n in range(6, 9))])
    board.close()
    shown = accumulator.EventAccumulator(str(tmp_path))
    shown.Reload()
    steps = [(one.step, one.value) for one in shown.Scalars("loss")]
    assert steps == [*((n, pytest.approx(1 / n)) for n in range(1, 6)), *((n, 2.0) for n in range(6, 9))]

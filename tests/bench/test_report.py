"""Is a report as cheap as is promised? The bench's own measure, so that nobody has to ask for it."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tests.bench.report import REPORT_US, reports_us, supervised


@pytest.mark.alone
def test_a_report_costs_microseconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    medians_us = []
    for turn in range(3):
        folder = tmp_path / str(turn)
        folder.mkdir()
        medians_us.append(statistics.median(reports_us(supervised(folder))))
    with capsys.disabled():
        print(f"\nreport(): {min(medians_us):.2f} µs in the median")
    assert min(medians_us) <= REPORT_US

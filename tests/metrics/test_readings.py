"""Is what agents said last kept, and cheap to ask for?"""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from monitors.hardware import GpuEvent
from monitors.signals import Blind
from orchestrator.readings import PLACE, VALUES
from tests.metrics.stage import looked, readings
from tests.story.scripted import T0


def test_the_newest_look_at_each_gpu_counts() -> None:
    known = readings(1, 2)
    known.see(replace(looked(0, 1), temperature_c=99.0))
    lines = [dict(zip((*PLACE, *VALUES), line, strict=True)) for line in known.table(8)["gpus"]]
    assert [(line["rank"], line["temperature_c"]) for line in lines] == [(0, 61.0), (1, 99.0)]
    assert known.table(8)["spread"]["temperature_c"] == (61.0, 80.0, 99.0)
    assert known.table(1)["gpus"] == [], "more than may be told one by one"
    known.forget()
    assert known.table(8)["gpus_seen"] == 0


def test_a_sense_is_blind_until_it_sees_again() -> None:
    known = readings(1, 1)
    known.see(Blind(at=T0, node=0, sense="nvml", why="no driver"))
    assert known.table(8)["blind"] == [[0, "nvml", "no driver", T0]]
    known.see(Blind(at=T0 + 1, node=0, sense="nvml", why=""))
    assert known.table(8)["blind"] == []


def test_xids_are_counted_by_number_and_outlive_the_attempt() -> None:
    known = readings(1, 1)
    for xid in (13, 79, 79):
        known.see(GpuEvent(at=T0, node=0, device="GPU-0000-0", event="xid", data=xid))
    known.see(GpuEvent(at=T0, node=0, device="GPU-0000-0", event="ecc_corrected", data=1))
    known.forget()
    assert known.table(8)["xids"] == [[0, "GPU-0000-0", 79, [(13, 1), (79, 2)]]]


@pytest.mark.alone
@pytest.mark.parametrize(("most", "limit_s"), [(256, 0.01), (2048, 0.05)])
def test_the_supervisor_pays_milliseconds_for_a_thousand_ranks(most: int, limit_s: float) -> None:
    known, spent = readings(128, 8), []
    for _ in range(5):
        began = time.process_time()
        json.dumps(known.table(most))
        spent.append(time.process_time() - began)
    assert min(spent) < limit_s

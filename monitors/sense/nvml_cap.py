"""How much may the GPUs of a node draw? Their power limits are set here, and put back when nobody wants them any more.

A process of its own, because a call to the driver may never return, and because it outlives its parent by the moment
that putting back takes. It reads orders from its standard input, `{"watts": of each or null, "gpus": [index or UUID]}`,
one a line, answers each with a line, and when the input ends (its parent did), or on SIGTERM, every limit is what it
was. What it was stands in a file until then: whoever is killed before has it put back by whoever comes next.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monitors.sense.nvml import Device, NvmlError, driver
from monitors.sense.nvml_child import Mouth

NO_RIGHT = "no right to set the power limits of GPUs: the agent of this node needs root"


class Refused(Exception):
    """The limits cannot be set; the text says why."""


class Limits:
    """The limits of some GPUs, and what they were."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self._before = _read(record)
        """watts by UUID, of GPUs that were limited"""

    def cap(self, watts: float | None, gpus: Sequence[str]) -> dict[str, Any]:
        """Limit each GPU, or put all back (None). All of them or none; the answer says how it stands then."""
        why = ""
        told: dict[str, float | None] = {"may_draw_w": None, "least_w": None}
        try:
            with driver() as count:
                devices = _chosen(gpus, count)
                if not devices:
                    raise Refused("this run has no GPU on this node")
                try:
                    self._set(devices, watts)
                except (Refused, NvmlError) as error:
                    why = _sentence(error)
                    self._put_back(devices)
                told = _standing(devices)
        except (Refused, NvmlError) as error:
            why = _sentence(error)
        return {"watts": watts, **told, "why": why}

    def put_back(self) -> None:
        """Every limit is what it was."""
        if self._before:
            with driver() as count:
                self._put_back(_chosen(tuple(self._before), count))

    def _set(self, devices: Sequence[Device], watts: float | None) -> None:
        if watts is None:
            self._put_back(devices)
            return
        for device in devices:
            uuid, bounds = device.identity().uuid, device.power_bounds_w()
            known_w = self._before.get(uuid) or device.requested_limit_w()
            if bounds is None or known_w is None:
                raise Refused(f"GPU {device.index} has no power limit that could be set")
            if watts < bounds[0]:
                raise Refused(f"GPU {device.index} cannot be limited to {watts:.0f} W: {bounds[0]:.0f} W is the least")
            self._before[uuid] = known_w
            self._keep()
            device.set_limit_w(min(watts, known_w))

    def _put_back(self, devices: Sequence[Device]) -> None:
        for device in devices:
            uuid = device.identity().uuid
            known_w = self._before.get(uuid)
            if known_w is None:
                continue
            if device.requested_limit_w() != known_w:  # it may never have been set, for want of the right to
                device.set_limit_w(known_w)
            del self._before[uuid]
            self._keep()

    def _keep(self) -> None:
        if not self._before:
            self._record.unlink(missing_ok=True)
            return
        draft = self._record.with_suffix(".writing")
        draft.write_text(json.dumps(self._before))
        os.replace(draft, self._record)


def _read(record: Path) -> dict[str, float]:
    try:
        return {str(uuid): float(watts) for uuid, watts in json.loads(record.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        print(f"{record} cannot be read, so nothing is put back by it: {error}", file=sys.stderr)
        return {}


def _chosen(gpus: Sequence[str], count: int) -> list[Device]:
    devices = [Device(index) for index in range(count)]
    by_name = {str(device.index): device for device in devices} | {d.identity().uuid: d for d in devices}
    return list(dict.fromkeys(by_name[gpu] for gpu in gpus if gpu in by_name))


def _standing(devices: Sequence[Device]) -> dict[str, float | None]:
    """What they may draw together now, and the least that each may be limited to."""
    limits = [device.limits_w()[0] for device in devices]
    bounds = [device.power_bounds_w() for device in devices]
    known = [limit for limit in limits if limit is not None]
    return {
        "may_draw_w": sum(known) if len(known) == len(limits) else None,
        "least_w": max((bound[0] for bound in bounds if bound is not None), default=None),
    }


def _sentence(error: Exception) -> str:
    return NO_RIGHT if isinstance(error, NvmlError) and error.error == "no_permission" else str(error)


def _terminated(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def main() -> None:
    """Obey until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m monitors.sense.nvml_cap")
    parser.add_argument("--record", type=Path, required=True, help="file in which what the limits were is kept")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    mouth, limits = Mouth(), Limits(asked.record)
    try:
        for line in sys.stdin:
            order = json.loads(line)
            mouth.say(limits.cap(order["watts"], tuple(order["gpus"])))
    except BrokenPipeError:
        pass  # the parent died before it could hear
    finally:
        try:
            limits.put_back()
        except NvmlError as error:  # the file remembers
            print(f"the power limits are not what they were: {_sentence(error)}", file=sys.stderr)


if __name__ == "__main__":
    main()

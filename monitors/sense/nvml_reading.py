"""What does one GPU say of itself now? All of it in one value, from one call for the fields and a few without one."""

from __future__ import annotations

from typing import Any

from monitors.hardware import GpuLooked
from monitors.sense.nvml import Device, Field

# Numbers of nvml.h's NVML_FI_DEV_*.
ECC_CORRECTED, ECC_UNCORRECTED = 3, 4
RETIRED = (29, 30)
"""pages retired because of single and double bit errors: GPUs before Ampere"""
MEMORY_TEMPERATURE, ENERGY_MJ = 82, 83
LINKS, PCIE_REPLAYS = 91, 94
REMAPPED_UNCORRECTED, REMAP_PENDING, REMAP_FAILED = 143, 144, 145
LINK_STATE = 165
POWER_MEAN_MW, POWER_MW, LIMIT_DEFAULT_MW, LIMIT_MW = 185, 186, 189, 190
RECOVERY_ACTION = 230
THROTTLED_NS = {
    "power_cap": 74,
    "thermal": 75,
    "sync_boost": 76,
    "sw_thermal": 269,
    "hw_thermal": 270,
    "power_brake": 271,
}
LINK_ERRORS = (161, 162, 163, 208, 211, 214, 219)
"""of one link: replays, recoveries and CRC errors up to Hopper; receive, integrity, failed recoveries and errors that
were left after correction from Blackwell on"""
LINK_ERRORS_OF_ALL = (38, 45, 52, 59)
"""of all links together: GPUs before Hopper"""
LINKS_EVERY = 5
"""looks: there are dozens of these values, and a link that fails is told as a Xid before"""
LINKS_MOST = 36
"""no GPU has as many NVLinks; one that is being reset may say anything"""

_OF_GPU: tuple[int, ...] = (
    *(RECOVERY_ACTION, POWER_MW, POWER_MEAN_MW, ENERGY_MJ, LIMIT_MW, LIMIT_DEFAULT_MW, MEMORY_TEMPERATURE),
    *(ECC_CORRECTED, ECC_UNCORRECTED, REMAPPED_UNCORRECTED, REMAP_PENDING, REMAP_FAILED, PCIE_REPLAYS),
    *RETIRED,
    *THROTTLED_NS.values(),
)

_FABRIC_STATES = ("not_supported", "not_started", "in_progress", "completed")
_SUMMARIES = {2: "unhealthy", 3: "limited_capacity"}
_MASK: tuple[tuple[int, str], ...] = (
    (0, "degraded_bandwidth"),
    (2, "route_recovery"),
    (4, "route_unhealthy"),
    (6, "access_timeout_recovery"),
)
"""two bits each from this one on; 1 means yes (NVML_GPU_FABRIC_HEALTH_MASK_*)"""


class Reading:
    """One GPU, looked at again and again. Raises NvmlError when the GPU fails."""

    def __init__(self, index: int, *, node: int) -> None:
        self.index = index
        self._node = node
        self._device = Device(index)
        self.identity = self._device.identity()
        self._clock_max_mhz = self._device.sm_clock_max_mhz()
        self._pcie_max = self._device.pcie_max()
        self._links, self._link_errors = self._probe_links()
        states = tuple((LINK_STATE, link) for link in range(self._links))
        self._of_links: tuple[Field, ...] = (*states, *self._link_errors)
        self._found: dict[Any, int | None] = {}
        self._looks = 0
        self._energy: tuple[float, float] | None = None

    def look(self, at: float) -> GpuLooked:
        """Everything that is to be had."""
        found = self._fields()
        power_w, energy_j = self._power(found)
        limit_w, default_w = self._limits(found)
        corrected, uncorrected = self._ecc(found)
        memory = self._device.memory_bytes() or (None, None)
        width, generation = self._device.pcie()
        replays = found[PCIE_REPLAYS]
        return GpuLooked(
            at=at,
            node=self._node,
            device=self.identity.uuid,
            index=self.index,
            name=self.identity.name,
            serial=self.identity.serial,
            pci=self.identity.pci,
            recovery_action=_whole(found[RECOVERY_ACTION]),
            power_w=power_w,
            power_mean_w=self._mean_w(at, energy_j, found),
            energy_j=energy_j,
            limit_w=limit_w,
            limit_default_w=default_w,
            utilisation=self._device.utilisation(),
            sm_clock_mhz=self._device.sm_clock_mhz(),
            sm_clock_max_mhz=self._clock_max_mhz,
            temperature_c=self._device.temperature_c(),
            memory_temperature_c=found[MEMORY_TEMPERATURE] or None,
            memory_used_bytes=memory[0],
            memory_bytes=memory[1],
            throttles=self._device.throttles(),
            throttled_s=_throttled(found),
            ecc_corrected=corrected,
            ecc_uncorrected=uncorrected,
            remap_pending=_flag(found[REMAP_PENDING]),
            remap_failed=_flag(found[REMAP_FAILED]),
            rows_remapped_uncorrected=_whole(found[REMAPPED_UNCORRECTED]),
            pages_retired=_sum(found[field] for field in RETIRED),
            nvlinks_up=self._links_up(found),
            nvlinks=self._links or None,
            nvlink_errors=_sum(found[field] for field in self._link_errors),
            pcie_width=width,
            pcie_width_max=self._pcie_max[0],
            pcie_generation=generation,
            pcie_generation_max=self._pcie_max[1],
            pcie_replays=self._device.pcie_replays() if replays is None else int(replays),
            fabric=fabric(self._device.fabric()),
        )

    def _fields(self) -> dict[Any, int | None]:
        """One call; what is not asked this time is as it was."""
        asked = _OF_GPU if self._looks % LINKS_EVERY else (*_OF_GPU, *self._of_links)
        self._found.update(zip(asked, self._device.fields(asked), strict=True))
        self._looks += 1
        return self._found

    def _probe_links(self) -> tuple[int, tuple[Field, ...]]:
        """How many NVLinks there are, and which fields count their errors on this generation."""
        (count,) = self._device.fields((LINKS,))
        links = min(int(count or 0), LINKS_MOST)
        if links == 0:
            return 0, ()
        asked: tuple[Field, ...] = (*((field, 0) for field in LINK_ERRORS), *LINK_ERRORS_OF_ALL)
        had = [field for field, value in zip(asked, self._device.fields(asked), strict=True) if value is not None]
        scoped = tuple((field[0], link) for field in had if isinstance(field, tuple) for link in range(links))
        return links, scoped or tuple(field for field in had if isinstance(field, int))

    def _links_up(self, found: dict[Any, int | None]) -> int | None:
        if not self._links:
            return None
        states = [found[LINK_STATE, link] for link in range(self._links)]
        if states[0] is None:  # a driver older than the field
            states = [self._device.link_is_up(link) for link in range(self._links)]
        known = [bool(state) for state in states if state is not None]
        return sum(known) if known else None

    def _power(self, found: dict[Any, int | None]) -> tuple[float | None, float | None]:
        power_mw, energy_mj = found[POWER_MW], found[ENERGY_MJ]
        power_mw = found[POWER_MEAN_MW] if power_mw is None else power_mw
        power_w = self._device.power_w() if power_mw is None else power_mw / 1000
        return power_w, self._device.energy_j() if energy_mj is None else energy_mj / 1000

    def _mean_w(self, at: float, energy_j: float | None, found: dict[Any, int | None]) -> float | None:
        """True mean power since the last look; the driver's mean of a second at the first."""
        before, self._energy = self._energy, None if energy_j is None else (at, energy_j)
        if before is not None and energy_j is not None and at > before[0] and energy_j >= before[1]:
            return (energy_j - before[1]) / (at - before[0])
        mean_mw = found[POWER_MEAN_MW]
        return None if mean_mw is None else mean_mw / 1000

    def _limits(self, found: dict[Any, int | None]) -> tuple[float | None, float | None]:
        limit_mw, default_mw = found[LIMIT_MW], found[LIMIT_DEFAULT_MW]
        if limit_mw is None or default_mw is None:
            return self._device.limits_w()
        return limit_mw / 1000, default_mw / 1000

    def _ecc(self, found: dict[Any, int | None]) -> tuple[int | None, int | None]:
        corrected, uncorrected = found[ECC_CORRECTED], found[ECC_UNCORRECTED]
        if corrected is None and uncorrected is None:
            return self._device.ecc()
        return _whole(corrected), _whole(uncorrected)


def fabric(found: Any) -> str | None:
    """State of the NVLink fabric, and its health after a colon when that is not fine."""
    if found is None:
        return None
    state = _FABRIC_STATES[found.state] if found.state < len(_FABRIC_STATES) else f"state_{found.state}"
    if state != "completed":
        return state
    ill = _SUMMARIES.get(getattr(found, "healthSummary", 0))
    ill = next((text for shift, text in _MASK if found.healthMask >> shift & 3 == 1), ill)
    return f"{state}:error_{found.status}" if found.status else f"{state}:{ill}" if ill else state


def _throttled(found: dict[Any, int | None]) -> tuple[tuple[str, float], ...]:
    values = ((reason, found[field]) for reason, field in THROTTLED_NS.items())
    return tuple((reason, value / 1e9) for reason, value in values if value is not None)


def _sum(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return int(sum(known)) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _flag(value: float | None) -> bool | None:
    return None if value is None else bool(value)

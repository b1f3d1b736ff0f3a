"""What does NVIDIA's management library answer? The one place that loads it.

Every call may block for ever (a driver that waits for a GPU's firmware): only a process that somebody watches should
make one (`nvml_child.py`).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pynvml

_NAMES = {
    code: name.removeprefix("NVML_ERROR_").lower()
    for name, code in vars(pynvml).items()
    if name.startswith("NVML_ERROR_")
}
_LOST, _RESET = pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED
_NOT_HAD = frozenset(
    (
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_INVALID_ARGUMENT,  # a field or link that this driver or GPU does not know
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_NO_DATA,
        pynvml.NVML_ERROR_NOT_READY,
        pynvml.NVML_ERROR_DEPRECATED,
    )
)
"""errors that only say that there is no such value"""
ADVICE: dict[int, str] = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not found: install the NVIDIA driver; in a container,"
    " start it with `--gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility`",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel module is not loaded: `sudo modprobe nvidia`, then"
    " `nvidia-smi`",
    pynvml.NVML_ERROR_NO_PERMISSION: "no right to open the GPUs' device files: `ls -l /dev/nvidia*`, and"
    " `sudo usermod -aG video $USER` where a group may",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was updated, and the old kernel module is still loaded:"
    " `sudo reboot`, or with no GPU in use `sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe"
    " nvidia`",
    pynvml.NVML_ERROR_IRQ_ISSUE: "the kernel has trouble with a GPU's interrupts: `sudo dmesg | grep -i nvrm`",
}
"""what a person can do where the library does not even start"""

_VALUE = struct.Struct("<IIqqIIQ")
"""nvmlFieldValue_t: field, scope, time, latency, type, error, and 8 bytes of value"""
_WIDTHS: dict[int, int] = {
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: 32,
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: 64,
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: 64,
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: 16,
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: 32,
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: 64,
}
"""bits of the value; no field that we ask for is negative or broken"""

_FABRICS: tuple[Callable[[], Any], ...] = tuple(
    getattr(pynvml, name)
    for name in ("c_nvmlGpuFabricInfo_v3_t", "c_nvmlGpuFabricInfo_v2_t", "c_nvmlGpuFabricInfoV_t")
    if hasattr(pynvml, name)
)
"""newest first; bindings of 2025 know only the last, which is the second version"""

Field = int | tuple[int, int]
"""number of a field of nvmlDeviceGetFieldValues (nvml.h), and its scope: the number of a link"""


class NvmlError(Exception):
    """The library, or one GPU, cannot be asked."""

    def __init__(self, error: str, why: str, *, is_of_library: bool) -> None:
        super().__init__(why)
        self.error = error
        """lost, reset_required, or NVML's name for it in small letters"""
        self.why = why
        self.is_of_library = is_of_library
        """no GPU's fault: nothing can be seen until somebody does what `why` says"""

    @classmethod
    def of(cls, code: int) -> NvmlError:
        """The error of a nvmlReturn_t."""
        error = {_LOST: "lost", _RESET: "reset_required"}.get(code) or _NAMES.get(code, f"error_{code}")
        why = ADVICE.get(code, f"NVML says {error}: `nvidia-smi`, `sudo dmesg | grep -i nvrm`")
        return cls(error, why, is_of_library=code in ADVICE or code == pynvml.NVML_ERROR_UNINITIALIZED)

    @classmethod
    def told(cls, why: str) -> NvmlError:
        """One that has no code."""
        return cls("blind", why, is_of_library=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which GPU it is, whatever its index today."""

    uuid: str
    name: str
    serial: str | None
    pci: str | None
    """as the kernel writes it: `0000:3b:00.0`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One event of the driver."""

    index: int
    """of the GPU; -1 when its handle is not one of ours"""
    event: str
    data: int


@contextmanager
def driver() -> Iterator[int]:
    """The library, started, with the number of its GPUs. Raises NvmlError."""
    with _named():
        pynvml.nvmlInit()
    try:
        with _named():
            count = int(pynvml.nvmlDeviceGetCount())
        yield count
    finally:
        pynvml.nvmlShutdown()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        raise NvmlError.of(error.value) from None


def inventory() -> tuple[tuple[str, ...], str]:
    """Model names of this host's GPUs, and why they cannot be seen: empty when they can."""
    try:
        with driver() as count:
            return tuple(Device(index).identity().name for index in range(count)), ""
    except NvmlError as error:
        return (), error.why


class Device:
    """One GPU. A value that it does not support is None; a GPU that fails raises NvmlError."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._worked: set[str] = set()
        with _named():
            self.handle = pynvml.nvmlDeviceGetHandleByIndex(index)

    def identity(self) -> Identity:
        """Name, UUID, serial number, PCI address."""
        with _named():
            uuid = str(pynvml.nvmlDeviceGetUUID(self.handle))
        pci = self._ask(pynvml.nvmlDeviceGetPciInfo_v3)
        return Identity(
            uuid=uuid,
            name=str(self._ask(pynvml.nvmlDeviceGetName) or ""),
            serial=self._ask(pynvml.nvmlDeviceGetSerial),
            pci=None if pci is None else kernel_address(_text(pci.busId)),
        )

    def fields(self, wanted: Sequence[Field]) -> list[int | None]:
        """Values of fields, in one call; each is checked for itself."""
        raw = self._ask(_field_values, _asked(tuple(wanted)))
        if raw is None:
            return [None] * len(wanted)
        values: list[int | None] = []
        for _field, _scope, _at, _took, kind, code, value in _VALUE.iter_unpack(raw):
            if code in (_LOST, _RESET):
                raise NvmlError.of(code)
            most = (1 << _WIDTHS.get(kind, 0)) - 1
            # All ones stands for a counter that is not kept.
            values.append(value & most if code == 0 and value & most != most else None)
        return values

    def utilisation(self) -> float | None:
        """Share of the time in which a kernel ran, 0 to 1."""
        rates = self._ask(pynvml.nvmlDeviceGetUtilizationRates)
        return None if rates is None else rates.gpu / 100

    def sm_clock_mhz(self) -> float | None:
        """Of the streaming multiprocessors, now."""
        return self._number(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM)

    def sm_clock_max_mhz(self) -> float | None:
        """What they can do."""
        return self._number(pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_SM)

    def temperature_c(self) -> float | None:
        """Of the chip."""
        now = self._number(pynvml.nvmlDeviceGetTemperatureV, pynvml.NVML_TEMPERATURE_GPU)
        return self._number(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU) if now is None else now

    def memory_bytes(self) -> tuple[int, int] | None:
        """Used and all."""
        found = self._ask(pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlMemory_v2)
        found = self._ask(pynvml.nvmlDeviceGetMemoryInfo) if found is None else found
        return None if found is None else (int(found.used), int(found.total))

    def throttles(self) -> int | None:
        """Bit mask of the reasons, now."""
        found = self._ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons)
        found = self._ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons) if found is None else found
        return None if found is None else int(found)

    def power_w(self) -> float | None:
        """The mean of a second on most GPUs, the instant on others."""
        return _thousandth(self._number(pynvml.nvmlDeviceGetPowerUsage))

    def energy_j(self) -> float | None:
        """Since the driver was loaded."""
        return _thousandth(self._number(pynvml.nvmlDeviceGetTotalEnergyConsumption))

    def limits_w(self) -> tuple[float | None, float | None]:
        """Enforced power limit, and the default one."""
        enforced = self._number(pynvml.nvmlDeviceGetEnforcedPowerLimit)
        return _thousandth(enforced), _thousandth(self._number(pynvml.nvmlDeviceGetPowerManagementDefaultLimit))

    def power_bounds_w(self) -> tuple[float, float] | None:
        """The least and the most that its power limit may be."""
        found = self._ask(pynvml.nvmlDeviceGetPowerManagementLimitConstraints)
        return None if found is None else (found[0] / 1000, found[1] / 1000)

    def requested_limit_w(self) -> float | None:
        """The power limit that somebody set, or the default one."""
        return _thousandth(self._number(pynvml.nvmlDeviceGetPowerManagementLimit))

    def set_limit_w(self, watts: float) -> None:
        """Its power limit from now on, until the driver is loaded anew. Raises NvmlError: it needs root."""
        with _named():
            pynvml.nvmlDeviceSetPowerManagementLimit(self.handle, round(watts * 1000))

    def ecc(self) -> tuple[int | None, int | None]:
        """Corrected and uncorrected errors since the driver was loaded."""
        volatile = pynvml.NVML_VOLATILE_ECC
        corrected = self._ask(pynvml.nvmlDeviceGetTotalEccErrors, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, volatile)
        return corrected, self._ask(
            pynvml.nvmlDeviceGetTotalEccErrors, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, volatile
        )

    def pcie(self) -> tuple[int | None, int | None]:
        """Width and generation of the link to the host, now."""
        return (self._ask(pynvml.nvmlDeviceGetCurrPcieLinkWidth), self._ask(pynvml.nvmlDeviceGetCurrPcieLinkGeneration))

    def pcie_max(self) -> tuple[int | None, int | None]:
        """What this GPU in this slot can do."""
        return (self._ask(pynvml.nvmlDeviceGetMaxPcieLinkWidth), self._ask(pynvml.nvmlDeviceGetMaxPcieLinkGeneration))

    def pcie_replays(self) -> int | None:
        """Since the driver was loaded."""
        found = self._ask(pynvml.nvmlDeviceGetPcieReplayCounter)
        return None if found is None else int(found)

    def link_is_up(self, link: int) -> bool | None:
        """Whether an NVLink works; None when there is no such link."""
        state = self._ask(pynvml.nvmlDeviceGetNvLinkState, link)
        return None if state is None else bool(state)

    def fabric(self) -> Any:
        """The binding's structure, of the newest version that the driver knows; None without a fabric."""
        for structure in _FABRICS:
            found = structure()
            if self._ask(pynvml.nvmlDeviceGetGpuFabricInfoV, ctypes.byref(found)) is not None:
                return found
        return None

    def event_types(self) -> int:
        """Bit mask of what the driver tells of this GPU; all bits when it does not say."""
        found = self._ask(pynvml.nvmlDeviceGetSupportedEventTypes)
        return -1 if found is None else int(found)

    def _number(self, call: Callable[..., Any], *arguments: Any) -> float | None:
        found = self._ask(call, *arguments)
        return None if found is None else float(found)

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            found = call(self.handle, *arguments)
        except pynvml.NVMLError as error:
            # What never worked is not supported, in whatever words; what did, and does not now, is a fault.
            if error.value in (_LOST, _RESET) or (error.value not in _NOT_HAD and call.__name__ in self._worked):
                raise NvmlError.of(error.value) from None
            return None
        self._worked.add(call.__name__)
        return found


@cache
def _asked(wanted: tuple[Field, ...]) -> bytes:
    """The structures that ask for these fields."""
    pairs = (field if isinstance(field, tuple) else (field, 0) for field in wanted)
    return b"".join(_VALUE.pack(field, scope, 0, 0, 0, 0, 0) for field, scope in pairs)


def _field_values(handle: Any, asked: bytes) -> bytes:
    """What `pynvml.nvmlDeviceGetFieldValues` does, on bytes: its structures cost a microsecond for each attribute."""
    values = ctypes.create_string_buffer(asked, len(asked))
    try:
        code = pynvml.nvmlLib.nvmlDeviceGetFieldValues(handle, len(asked) // _VALUE.size, values)
    except AttributeError:
        code = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    if code != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(code)
    return values.raw


_EVENTS: dict[int, str] = {
    0x1: "ecc_corrected",
    0x2: "ecc_uncorrected",
    0x8: "xid",
    0x400: "page_retired",
    0x800: "page_retirement_failed",
    0x1000: "poison_contained",
    0x2000: "poison",
    0x4000: "unavailable",
    0x8000: "recovery_action",
}
"""bits of nvmlEventType* (nvml.h): as numbers, because older bindings lack some of the names"""


class Events:
    """What the driver tells of its own accord, once each; only what comes after `register`."""

    def __init__(self) -> None:
        with _named():
            self._set = pynvml.nvmlEventSetCreate()
        self._indices: dict[int, int] = {}

    def register(self, device: Device) -> bool:
        """Whether this GPU tells anything. Raises NvmlError for one that fails."""
        self._indices[_address(device.handle)] = device.index
        wanted = sum(_EVENTS) & device.event_types()
        try:
            pynvml.nvmlDeviceRegisterEvents(device.handle, wanted, self._set)
        except pynvml.NVMLError as error:
            if error.value in (_LOST, _RESET):
                raise NvmlError.of(error.value) from None
            return False
        return bool(wanted)

    def wait(self, timeout_s: float) -> Happening | None:
        """The next one; None when there was none in time. Raises NvmlError."""
        try:
            data = pynvml.nvmlEventSetWait_v2(self._set, round(timeout_s * 1000))
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                return None
            raise NvmlError.of(error.value) from None
        index = self._indices.get(_address(data.device), -1)
        event = _EVENTS.get(data.eventType, f"event_{data.eventType:#x}")
        return Happening(index=index, event=event, data=int(data.eventData))

    def close(self) -> None:
        """Give the set back."""
        with _named():
            pynvml.nvmlEventSetFree(self._set)


def kernel_address(bus_id: str) -> str:
    """NVML's `00000000:3B:00.0` as the kernel writes it: four digits of domain (more where it has more), small."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[:-4].lstrip('0')}{domain[-4:]}:{rest}"


def _address(handle: Any) -> int:
    return int(ctypes.cast(handle, ctypes.c_void_p).value or 0)


def _text(found: str | bytes) -> str:
    return found.decode(errors="replace") if isinstance(found, bytes) else found


def _thousandth(value: float | None) -> float | None:
    return None if value is None else value / 1000

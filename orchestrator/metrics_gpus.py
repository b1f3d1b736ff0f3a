"""How are GPUs and senses told to Prometheus? Under dcgm-exporter's names and labels, so that its dashboards work here.

(Names: its etc/default-counters.csv; labels: gpu, UUID, pci_bus_id, device, modelName, Hostname, and of ours run, node
and rank. Units are its own: MiB, percent, millijoules.) Where a dcgm-exporter runs beside it, its series have another
`job`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from orchestrator import readings

Line = Mapping[str, Any]
"""of one GPU: fields of `monitors.hardware.GpuLooked`, its node, its rank and the name of its host"""
LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "run", "node", "rank")
MIB = 2**20


def _scaled(name: str, factor: float) -> Callable[[Line], float | None]:
    return lambda gpu: None if gpu[name] is None else gpu[name] * factor


def _free_mib(gpu: Line) -> float | None:
    used, whole = gpu["memory_used_bytes"], gpu["memory_bytes"]
    return None if used is None or whole is None else (whole - used) / MIB


def _power_w(gpu: Line) -> float | None:
    now_w: float | None = gpu["power_w"]
    mean_w: float | None = gpu["power_mean_w"]
    return mean_w if now_w is None else now_w


DCGM: tuple[tuple[str, str, Callable[[Line], float | None]], ...] = (
    ("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", _scaled("temperature_c", 1.0)),
    ("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", _scaled("memory_temperature_c", 1.0)),
    ("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", _power_w),
    ("DCGM_FI_DEV_POWER_MGMT_LIMIT", "Power limit in force (in W).", _scaled("limit_w", 1.0)),
    ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Energy since the driver was loaded (in mJ).", _scaled("energy_j", 1e3)),
    ("DCGM_FI_DEV_SM_CLOCK", "SM clock (in MHz).", _scaled("sm_clock_mhz", 1.0)),
    ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", _scaled("utilisation", 100.0)),
    ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", _scaled("memory_used_bytes", 1 / MIB)),
    ("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", _free_mib),
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "PCIe retries.", _scaled("pcie_replays", 1)),
    ("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "Bit mask of reasons for lower clocks.", _scaled("throttles", 1)),
    (
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
        "Corrected memory errors since the driver came.",
        _scaled("ecc_corrected", 1),
    ),
    ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "Uncorrected ones.", _scaled("ecc_uncorrected", 1)),
    ("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "Rows remapped for them.", _scaled("rows_remapped_uncorrected", 1)),
    ("DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed.", _scaled("remap_failed", 1)),
)
SPREAD = {
    "power_w": ("lastgood_run_gpu_power_watts", 1.0),
    "temperature_c": ("lastgood_run_gpu_temperature_celsius", 1.0),
    "utilisation": ("lastgood_run_gpu_utilization_ratio", 1.0),
    "memory_used_bytes": ("lastgood_run_gpu_memory_used_bytes", 1.0),
    "sm_clock_mhz": ("lastgood_run_gpu_sm_clock_hertz", 1e6),
}
"""name and factor, by what `readings.SPREAD` calls it"""
STATS = ("min", "median", "max")

Tables = Mapping[str, Mapping[str, Any]]
"""of each run that goes on: `orchestrator.readings.Readings.table`, with `hosts`: the names of its nodes' machines"""


def of_gpus(tables: Tables) -> Iterator[Metric]:
    """Every GPU by itself, unless its run has too many."""
    gpus = [(run, gpu) for run, table in tables.items() for gpu in _lines(table)]
    labelled = [(_labels(run, gpu), gpu) for run, gpu in gpus]
    last_xids = {(run, node, uuid): last for run, node, uuid, last, _ in _xids(tables)}
    for name, text, value in DCGM:
        # Untyped: dcgm's counters have no `_total` in their names, and a family of counters would put it there.
        family = Metric(name, text, "unknown")
        for labels, gpu in labelled:
            if (found := value(gpu)) is not None:
                family.add_sample(name, labels, float(found))
        yield family
    family = Metric("DCGM_FI_DEV_XID_ERRORS", "Last Xid that was heard; 0: none.", "gauge")
    for (run, gpu), (labels, _) in zip(gpus, labelled, strict=True):
        family.add_sample(family.name, labels, float(last_xids.get((run, gpu["node"], gpu["device"]), 0)))
    yield family


def _lines(table: Mapping[str, Any]) -> Iterator[Line]:
    hosts = table["hosts"]
    for line in table["gpus"]:
        gpu = dict(zip((*readings.PLACE, *readings.VALUES), line, strict=True))
        yield gpu | {"host": hosts.get(str(gpu["node"])) or ""}


def _labels(run: str, gpu: Line) -> dict[str, str]:
    index = str(gpu["index"])
    rank = "" if gpu["rank"] is None else str(gpu["rank"])
    place = (index, gpu["device"], gpu["pci"] or "", f"nvidia{index}", gpu["name"], gpu["host"], run, str(gpu["node"]))
    return dict(zip(LABELS, (*place, rank), strict=True))


def _xids(tables: Tables) -> Iterator[tuple[str, int, str, int, Iterable[tuple[int, int]]]]:
    for run, table in tables.items():
        for node, uuid, last, heard in table["xids"]:
            yield run, node, uuid, last, heard


def of_spread(tables: Tables) -> Iterator[Metric]:
    """Of all GPUs of a run together: least, median and greatest."""
    seen = GaugeMetricFamily("lastgood_run_gpus", "GPUs that were looked at.", labels=("run",))
    for run, table in tables.items():
        seen.add_metric((run,), table["gpus_seen"])
    yield seen
    for field, (name, factor) in SPREAD.items():
        family = GaugeMetricFamily(name, "Over the GPUs of a run.", labels=("run", "stat"))
        for run, table in tables.items():
            for stat, value in zip(STATS, table["spread"].get(field, ()), strict=False):
                family.add_metric((run, stat), value * factor)
        yield family


def of_senses(tables: Tables) -> Iterator[Metric]:
    """Xids by number, and who cannot see."""
    text = "Xids heard since the supervisor began."
    family = CounterMetricFamily("lastgood_gpu_xid_errors", text, labels=("run", "node", "UUID", "xid"))
    for run, node, uuid, _, heard in _xids(tables):
        for xid, count in heard:
            family.add_metric((run, str(node), uuid, str(xid)), count)
    yield family
    blind = GaugeMetricFamily(
        "lastgood_sense_blind",
        "1 for a sense that cannot see: unknown is not healthy.",
        labels=("run", "node", "sense"),
    )
    for run, table in tables.items():
        for node, sense, _, _ in table["blind"]:
            blind.add_metric((run, str(node), sense), 1.0)
    yield blind

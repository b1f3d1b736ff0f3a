"""How much memory is left, to a host and to a container?"""

from __future__ import annotations

from pathlib import Path

import pytest

from lastgood.room import free_bytes

MIB = 1 << 20
HOST = "MemTotal:  9000000 kB\nMemAvailable:   4096000 kB\n"
V1 = "sys/fs/cgroup/memory"


def machine(root: Path, **files: str) -> Path:
    """A made-up /, with `__` for the slashes."""
    for name, body in {"proc__meminfo": HOST, **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
    return root


def test_a_host_without_groups(tmp_path: Path) -> None:
    assert free_bytes(machine(tmp_path)) == 4_000 * MIB


@pytest.mark.parametrize("path", ["/", "/pod/container", "/../../elsewhere"])
def test_a_container_of_version_2(tmp_path: Path, path: str) -> None:
    root = machine(
        tmp_path,
        proc__self__cgroup=f"0::{path}\n",
        **{"sys__fs__cgroup__memory.max": f"{512 * MIB}\n", "sys__fs__cgroup__memory.current": f"{500 * MIB}\n"},
        **{"sys__fs__cgroup__memory.stat": f"anon 1\ninactive_file {100 * MIB}\n"},
    )
    assert free_bytes(root) == 112 * MIB


def test_the_narrowest_group_counts_and_one_without_a_limit_does_not(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        proc__self__cgroup="0::/a/b\n",
        **{"sys__fs__cgroup__a__b__memory.max": "max\n", "sys__fs__cgroup__a__b__memory.current": "1\n"},
        **{"sys__fs__cgroup__a__memory.max": f"{MIB}\n", "sys__fs__cgroup__a__memory.current": f"{3 * MIB}\n"},
    )
    assert free_bytes(root) == 0


def test_version_1(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        proc__self__cgroup="5:cpu:/x\n4:memory,hugetlb:/job\n",
        **{f"{V1}/job/memory.limit_in_bytes".replace("/", "__"): str(700 * MIB)},
        **{f"{V1}/job/memory.usage_in_bytes".replace("/", "__"): str(200 * MIB)},
        **{f"{V1}/memory.limit_in_bytes".replace("/", "__"): str(9223372036854771712)},
        **{f"{V1}/memory.usage_in_bytes".replace("/", "__"): str(900 * MIB)},
    )
    assert free_bytes(root) == 500 * MIB


def test_this_machine() -> None:
    assert free_bytes() > 0

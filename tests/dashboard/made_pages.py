"""What could the other pages be told? Live ranks, logs, a runbook, alerts and a report, made up as in `made.py`."""

from __future__ import annotations

from typing import Any

from tests.dashboard.made import DAY, NOW, RUN

NODES = [
    {"node": n, "host": f"node{n:03d}", "joined_at": NOW - 9000, "gone_at": None, "clock_offset_s": 0.0} for n in (0, 1)
]


def ranks(count: int = 16, per_node: int = 8) -> dict[str, Any]:
    """Live values of the newest world; rank 5 is late and hot."""
    every = list(range(count))
    return {
        "at": NOW,
        "attempt": 2,
        "world": 7,
        "nodes": [
            {"node": n, "host": f"node{n:03d}.cluster", "there": n != 1 or count == 16, "seen_at": NOW}
            for n in range(count // per_node)
        ],
        "ranks": {
            "rank": every,
            "node": [n // per_node for n in every],
            "started": [True] * count,
            "step": [48_210 - (2 if n == 5 else 0) for n in every],
            "lag": [2 if n == 5 else 0 for n in every],
            "phase": ["step"] * count,
            "moved_at": [NOW - (9 if n == 5 else 0.3) for n in every],
            "looked_at": [NOW] * count,
            "step_s": [0.41 + 0.001 * (n % 7) for n in every],
            "own_s": [0.36 + 0.002 * (n % 11) + (0.05 if n == 5 else 0) for n in every],
            "loss": [None] * count,
            "grad_norm": [None] * count,
            "gpu": [f"GPU-{n:04x}" for n in every],
            "power_w": [650.0 + n % 13 for n in every],
            "temperature_c": [68.0 + n % 5 + (14 if n == 5 else 0) for n in every],
            "utilisation": [0.98] * count,
            "memory_share": [0.87] * count,
            "collective": ["all_reduce" if n == 5 else None for n in every],
            "culprit": [n == 5 for n in every],
        },
    }


def sources() -> list[dict[str, Any]]:
    """Logs that there are, the culprit's first."""
    pairs = [
        (6, 9, "stderr", True),
        (6, 9, "stdout", True),
        *((7, n, stream, False) for n in range(4) for stream in ("stderr", "stdout")),
    ]
    return [
        {
            "id": f"2/{rank // 8}/{world}/{rank}/{stream}",
            "attempt": 2,
            "node": rank // 8,
            "world": world,
            "rank": rank,
            "stream": stream,
            "bytes": 4096 + rank,
            "written_at": NOW - 30,
            "culprit": culprit,
        }
        for world, rank, stream, culprit in pairs
    ]


def runbook() -> list[dict[str, Any]]:
    """A page as an inert tree."""

    def text(said: str) -> list[dict[str, Any]]:
        return [{"is": "text", "text": said}]

    return [
        {"is": "heading", "level": 1, "of": text("The run hangs, a rank has stopped moving")},
        {"is": "heading", "level": 2, "of": text("Meaning")},
        {
            "is": "paragraph",
            "of": text(
                "A rank has finished no step for far longer than this run ever needed. The other ranks wait for it."
            ),
        },
        {"is": "heading", "level": 2, "of": text("Diagnosis")},
        {
            "is": "list",
            "ordered": True,
            "items": [
                [
                    {"is": "code", "text": f"lastgood status {RUN}"},
                    {"is": "text", "text": ": does the step number grow? Then the run has recovered."},
                ],
                text("One rank elsewhere than all others: that is the culprit."),
            ],
        },
        {"is": "code", "text": "nvidia-smi\ndmesg -T | tail -50"},
        {
            "is": "paragraph",
            "of": [
                {"is": "strong", "text": "Mitigation: "},
                {"is": "link", "text": "the vendor's list", "href": "https://example.org/xid"},
                {"is": "link", "text": "a trap", "href": "javascript:alert(1)"},
            ],
        },
    ]


ALERTS = {
    "configured": True,
    "why": "",
    "rules": [{"name": "oncall", "severity": "critical", "text": "every run, every kind", "fires": 3}],
    "channels": [
        {
            "name": "oncall",
            "kind": "PagerDuty",
            "minimum": "critical",
            "last_at": NOW - 500,
            "last_ok": NOW - 500,
            "last_error": None,
            "failing_since": None,
            "waiting": 0,
        },
        {
            "name": "team",
            "kind": "Slack",
            "minimum": "warning",
            "last_at": NOW - 8,
            "last_ok": NOW - 800,
            "last_error": "503 from the service",
            "failing_since": NOW - 700,
            "waiting": 2,
        },
    ],
    "threads": [
        {
            "key": "vision-a2x7c/crash_loop",
            "run": "vision-a2x7c",
            "incident": "i3",
            "kind": "crash_loop",
            "severity": "critical",
            "title": "vision-a2x7c is held: crash_loop",
            "condition": "held",
            "since": NOW - 540,
            "acknowledged_by": None,
            "silenced": False,
            "channels": ["oncall"],
        }
    ],
    "silences": [
        {"id": "s1", "until": NOW + 3600, "by": "ada", "matches": "run sweep-*, kind *", "why": "maintenance"}
    ],
    "history": [
        {
            "at": NOW - 500,
            "run": "vision-a2x7c",
            "incident": "i3",
            "severity": "critical",
            "title": "vision-a2x7c is held: crash_loop",
            "state": "opened",
            "channels": ["oncall"],
        }
    ],
}


def report(days: int) -> dict[str, Any]:
    """Answer of /api/reports."""
    causes = [("hang", "unknown", 9), ("gpu_fault", "hardware", 5), ("worker_killed", "host", 3)]
    return {
        "days": days,
        "since": NOW - days * DAY,
        "until": NOW,
        "runs": 14,
        "interruptions": [
            {
                "kind": kind,
                "blame": blame,
                "count": count,
                "drills": 1,
                "share": count / 17,
                "lost_s": count * 41.0,
                "mttr_s": 33.0,
            }
            for kind, blame, count in causes
        ],
        "per_day": [{"day": NOW - (days - n) * DAY, "count": n % 5} for n in range(days)],
        "ettr": 0.941,
        "goodput": 0.951,
        "ettr_p50": 0.952,
        "ettr_p10": 0.871,
        "mttf_s": 15_400.0,
        "mttr_p50_s": 33.1,
        "mttr_p90_s": 61.0,
        "automatic": 16,
        "with_person": 1,
        "automatic_share": 0.94,
        "steps_lost": 1204,
        "gpu_hours": 912.0,
        "bills": [{"currency": "EUR", "runs": 9, "gpu_hours": 900.0, "money": 2250.0, "kwh": 612.0}],
        "judged": [{"kind": "hang", "right": 11, "wrong": 1}],
        "unjudged": 5,
    }

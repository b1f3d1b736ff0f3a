"""What could the server of the dashboard answer? Made up, of the shape that docs/dashboard.md says.

One run that had a fault of most kinds, others beside it, and whatever is said in them is hostile text where asked for.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

NOW = 1_796_000_000.0
RUN = "gpt-k3f9q"
HOSTILE = "<img src=x onerror=alert(1)><script>document.title='owned'</script>\u202e javascript:alert(2) " + "x" * 300
DAY = 86_400.0


def row(run: str = RUN, **more: Any) -> dict[str, Any]:
    """A row of home."""
    state = more.get("state", "RUNNING")
    made = {
        "run": run,
        "name": run.rpartition("-")[0],
        "state": state,
        "reason": "world 7 trains",
        "since": NOW - 1220,
        "waits_for": "more steps",
        "deadline": None,
        "cause": None,
        "exit_code": 101,
        "attempt": 2,
        "world": 7,
        "step": 48_210,
        "best_step": 48_210,
        "last_good_step": 48_000,
        "save_every_steps": 200,
        "save_every_why": "a save costs 1.2 s",
        "restarts": 6,
        "open_incidents": [],
        "loss": 2.3142,
        "step_s": 0.412,
        "tokens_per_s": 1_271_844.0,
        "ranks": 16,
        "submitted_at": NOW - 3 * 3600,
        "ended_at": None,
        "unsupervised": None,
        "sentence": "RUNNING since 20 min, attempt 2, world 7: world 7 trains",
        "attention": [],
        "step_at": NOW - 1,
        "steps": 100_000,
        "eta": NOW + 21_400,
        "goodput": 0.9432,
        "restarts_24h": 6,
        "last_good_at": NOW - 88,
        "hosts": 2,
        "nodes": 2,
        "tracker": None,
        "sparkline": [2.9 - 0.012 * n + 0.05 * math.sin(n) for n in range(48)],
    }
    return made | more


def held() -> dict[str, Any]:
    """A run that waits for a person."""
    return row(
        "vision-a2x7c",
        state="HELD",
        reason="crash_loop: the same exception at step 1204 three times",
        sentence="HELD since 9 min: crash_loop, the same exception at step 1204 three times",
        ended_at=NOW - 540,
        attention=[
            {
                "code": "held",
                "severity": "critical",
                "text": "Held: crash_loop, the same exception at step 1204 three times",
                "incident": "i3",
            }
        ],
        sparkline=[2.0, 1.9, "nan", 1.8, None, 1.8],
        loss="nan",
        goodput=0.41,
        eta=None,
        submitted_at=NOW - 7000,
    )


def late() -> dict[str, Any]:
    """A run that comes back by itself, and has an old checkpoint besides."""
    return row(
        "moe-8x7b-9m2d4",
        state="RECOVERING",
        reason="hang: rank 5 of node 0 stands in all_reduce; world 3 is ended",
        attention=[
            {"code": "incident", "severity": "warning", "text": "Recovers: rank 5 of node 0 hangs", "incident": "i2"},
            {
                "code": "checkpoint_age",
                "severity": "warning",
                "text": "No good checkpoint for 3 intervals",
                "incident": None,
            },
        ],
        submitted_at=NOW - 9000,
    )


def fleet(runs: int = 6) -> list[dict[str, Any]]:
    """Rows of home: held, recovering, running, and ended ones."""
    over = [
        row(
            "gpt-small-4cq2x",
            state="SUCCEEDED",
            reason="complete",
            ended_at=NOW - 4 * 3600,
            step=20_000,
            steps=20_000,
            exit_code=0,
            submitted_at=NOW - 9 * 3600,
        ),
        row(
            "sweep-lr3-77dkp",
            state="STOPPED",
            reason="stopped by ada",
            ended_at=NOW - 30 * 3600,
            steps=None,
            submitted_at=NOW - 40 * 3600,
            last_good_at=None,
            last_good_step=None,
        ),
    ]
    more = [
        row(f"job-{n:05d}", submitted_at=NOW - 20_000 - n, step=1000 * n, loss=3.0 - n / 100, restarts=n % 3)
        for n in range(max(0, runs - 5))
    ]
    return [held(), late(), row(), *more, *over]


def ledger() -> dict[str, Any]:
    """Where the time of the run went."""
    buckets = {
        "queued": 41.2,
        "preflight": 0.0,
        "startup": 61.0,
        "restore": 18.3,
        "productive": 10_187.0,
        "checkpoint_stall": 61.0,
        "data_stall": 12.0,
        "recomputed": 201.0,
        "hung": 97.0,
        "detecting": 41.0,
        "recovering": 80.5,
        "degraded": 0.0,
        "paused": 0.0,
        "held": 0.0,
    }
    return {
        "wall_s": sum(buckets.values()),
        "buckets": buckets,
        "ettr": 0.9433,
        "goodput": 0.947,
        "mttf_s": 1740.0,
        "mttr_s": 31.0,
        "steps_lost": 490,
        "gpu_hours": 47.8,
        "incidents": 6,
        "energy_j": 9.1e7,
        "energy_known_share": 1.0,
        "energy_per_step_j": 1900.0,
        "energy_per_token_j": 0.0036,
        "energy_lost_j": 2.1e6,
    }


KINDS = (
    ("worker_killed", 0.07, 0.9, {"node": 0, "rank": 3, "device": None}, "warning"),
    ("hang", 0.22, 0.9, {"node": 0, "rank": 5, "device": None}, "warning"),
    ("gpu_fault", 0.41, 1.0, {"node": 1, "rank": 12, "device": "GPU-3f1c"}, "error"),
    ("loss_spike", 0.6, 0.7, {"node": None, "rank": None, "device": None}, "warning"),
    ("worker_exception", 0.615, 1.0, {"node": 1, "rank": 9, "device": None}, "warning"),
    ("agent_lost", 0.78, 1.0, {"node": 1, "rank": None, "device": None}, "error"),
)
BEGAN = NOW - 3 * 3600


def incidents() -> list[dict[str, Any]]:
    """Those of the run, the last one open."""
    return [
        {
            "id": f"i{n}",
            "kind": kind,
            "blame": "hardware" if "gpu" in kind else "unknown",
            "subject": subject,
            "confidence": confidence,
            "onset": BEGAN + share * 10_800 - 14,
            "detected": BEGAN + share * 10_800,
            "resolved": None if n == len(KINDS) else BEGAN + share * 10_800 + 60,
            "response": "restart",
            "evidence": [
                "rank 5 finished no step for 14 s, six times its slowest",
                "its stack stands in all_reduce (train.py:211)",
                "no other rank is behind",
            ],
            "actions": ["end world 3", "start world 4 from step 24 010"],
            "world": n,
            "step": int(48_210 * share),
            "onset_step": int(48_210 * share) - 2,
            "checkpoint": None,
            "resumed_world": n + 1,
            "resumed_from_step": int(48_210 * share) - 40,
            "steps_lost": 40,
            "phases_s": {
                "detect": 14.0,
                "decide": 0.01,
                "stop": 1.2,
                "wait": 0.0,
                "start": 3.1,
                "restore": 2.2,
                "first_step": 0.8,
                "total": 21.31,
            },
            "drill": "kill" if n == 1 else None,
            "acknowledged": None,
        }
        for n, (kind, share, confidence, subject, _) in enumerate(KINDS, 1)
    ]


def lanes(attempts: int = 2) -> list[dict[str, Any]]:
    """Worlds of the run: each ends in the fault of its number."""
    cuts = [0.0, *(share for _, share, *_ in KINDS), 1.0]
    found = []
    for n, (first, last) in enumerate(itertools.pairwise(cuts), 1):
        begin, end = BEGAN + first * 10_800, BEGAN + last * 10_800
        head = [
            [begin, begin + 40, "queued" if n in (1, 4) else "recovering", False],
            [begin + 40, begin + 70, "startup", False],
            [begin + 70, begin + 90, "restore", False],
        ]
        tail = (
            [[end - 260, end - 60, "recomputed", False], [end - 60, end, "hung" if n == 2 else "detecting", False]]
            if n < len(cuts) - 1
            else []
        )
        body_end = tail[0][0] if tail else end
        middle = (begin + 90 + body_end) / 2
        body = [
            [begin + 90, middle, "productive", True],
            [middle, middle + 30, "checkpoint_stall", False],
            [middle + 30, body_end, "productive", True],
        ]
        found.append(
            {
                "attempt": 1 if n < 4 else attempts,
                "world": n,
                "from": begin,
                "to": end,
                "open": not tail,
                "from_step": int(48_210 * first),
                "to_step": int(48_210 * last),
                "checkpoint": None,
                "spans": [*head, *body, *tail],
            }
        )
    return found


def timeline() -> dict[str, Any]:
    """The hero."""
    markers = [
        {
            "at": one["detected"],
            "kind": "incident",
            "id": one["id"],
            "until": one["resolved"],
            "severity": level,
            "world": one["world"],
            "text": one["kind"].replace("_", " "),
        }
        for one, (*_, level) in zip(incidents(), KINDS, strict=True)
    ]
    markers.append(
        {
            "at": NOW - 88,
            "kind": "checkpoint",
            "id": None,
            "until": None,
            "severity": None,
            "world": 7,
            "text": "step 48 000 is good",
        }
    )
    return {"from": BEGAN, "to": NOW, "lanes": lanes(), "markers": sorted(markers, key=lambda one: one["at"])}


def series(names: list[str], points: int = 400) -> dict[str, Any]:
    """Curves over the worlds; what came in the last 200 s of each was trained again, one value is no number."""
    return {"from": BEGAN, "to": NOW, "series": [curve(name, points) for name in names]}


def curve(name: str, points: int) -> dict[str, Any]:
    """One of them."""
    segments = []
    for lane in lanes():
        count = max(4, int(points * (lane["to"] - lane["from"]) / 10_800))
        times = [lane["from"] + 90 + (lane["to"] - lane["from"] - 90) * n / count for n in range(count)]
        cut = lane["to"] - 260 if not lane["open"] else lane["to"] + 1
        parts = [(lost, [t for t in times if (t >= cut) is lost]) for lost in (False, True)]
        segments += [segment(name, lane, at, lost=lost) for lost, at in parts if at]
    usual = band(segments) if name == "loss" else None
    return {"name": name, "unit": "", "source": "rows", "segments": segments, "band": usual}


def segment(name: str, lane: dict[str, Any], at: list[float], *, lost: bool) -> dict[str, Any]:
    y: list[Any] = [value(name, (t - BEGAN) / 10_800, n) for n, t in enumerate(at)]
    if name == "loss" and lane["world"] == 4 and lost:
        y = [one + 0.1 * n for n, one in enumerate(y)]
        y[-1] = "nan"
    return {
        "attempt": lane["attempt"],
        "world": lane["world"],
        "rolled_back": lost,
        "at": at,
        "step": [int(48_210 * (t - BEGAN) / 10_800) for t in at],
        "y": y,
        "total": len(at),
    }


def value(name: str, share: float, n: int) -> float:
    wave = math.sin(n * 1.7) + 0.6 * math.sin(n * 0.37 + 1)
    return {
        "loss": 2.2 + 1.9 * math.exp(-6 * share) + 0.03 * wave,
        "grad_norm": 0.9 + 0.12 * wave,
        "tokens_per_s": 1_270_000 + 9000 * wave,
        "step_s": 0.412 + 0.004 * wave,
        "own_p50_s": 0.36 + 0.003 * wave,
        "own_max_s": 0.4 + 0.012 * wave,
        "power_w": 10_400 + 120 * wave,
        "temperature_c": 71 + wave,
        "save_s": 8.2 + wave,
        "stall_s": 0.3 + 0.02 * wave,
    }.get(name, 1.0)


def band(segments: list[dict[str, Any]]) -> dict[str, Any]:
    flat = [
        (t, s, y)
        for part in segments
        for t, s, y in zip(part["at"], part["step"], part["y"], strict=True)
        if not part["rolled_back"] and isinstance(y, float)
    ]
    return {
        "at": [t for t, _, _ in flat],
        "step": [s for _, s, _ in flat],
        "centre": [y for *_, y in flat],
        "low": None,
        "high": [y + 0.25 for *_, y in flat],
    }

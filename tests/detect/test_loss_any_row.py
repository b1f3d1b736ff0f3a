"""Whatever rows come, in whatever order: the loss detector never fails, and what it says is well-formed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.detect.loss import Loss, LossConfig
from monitors.signals import StepReported

VALUES = st.one_of(
    st.none(), st.floats(), st.floats(min_value=1.0, max_value=3.0), st.sampled_from([0.0, 1e308, -1e308, 5e-324])
)
ROWS = st.tuples(
    st.integers(0, 2),
    st.integers(-1, 3),
    st.integers(0, 30).map(lambda far: far == 0),
    VALUES,
    VALUES,
    VALUES,
    st.one_of(st.none(), st.integers(0, 500)),
)
"""rank, steps onward, a new world, loss, gradient norm, learning rate, data index"""


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=40), st.integers(1, 12))
def test_any_rows(
    rows: list[tuple[int, int, bool, float | None, float | None, float | None, int | None]], n: int
) -> None:
    loss = Loss(LossConfig(persist_rows=4 + 8 * (n % 2)))
    step, world, at = 1, 1, 0.0
    for rank, onward, restarts, value, norm, lr, index in rows * n:
        step, at = max(1, step + onward), at + 1
        if restarts:
            world += 1
            loss.world_began(world)
            loss.rewound(max(0, step - 20))
        row = StepReported(
            at=at, node=0, world=world, rank=rank, step=step, loss=value, grad_norm=norm, lr=lr, data_index=index
        )
        for incident in loss.see(row):
            assert incident.onset <= incident.at
            assert incident.onset_step is not None
            assert incident.evidence
        since = loss.suspicious_since_step
        assert since is None or since <= step

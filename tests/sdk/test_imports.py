"""Is what makes a fork unsound seen?"""

from __future__ import annotations

from pathlib import Path

from lastgood import imports


def test_a_file_held_open_is_seen_by_the_beginning_of_its_path(tmp_path: Path) -> None:
    device = tmp_path / "nvidia0"
    beginning = str(tmp_path / "nvidia")
    device.touch()
    assert imports._opened(beginning) == ""
    with device.open():
        assert imports._opened(beginning) == str(device)
    assert imports._opened(beginning) == ""

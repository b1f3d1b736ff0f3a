"""Is the environment read as torchrun and the agent mean it?"""

from __future__ import annotations

import pytest

from lastgood.place import Place, from_environment


def test_plain_python_is_one_rank_with_a_folder_of_its_own() -> None:
    assert from_environment({}) == Place()
    assert not Place().supervised
    assert not Place().launched


def test_torchrun_says_where_a_rank_is() -> None:
    here = from_environment({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"})
    assert (here.rank, here.local_rank, here.world_size, here.launched, here.supervised) == (3, 1, 4, True, False)
    assert here.resume is None


def test_a_supervised_rank_is_told_everything() -> None:
    here = from_environment(
        {
            "RANK": "0",
            "WORLD_SIZE": "2",
            "LASTGOOD_RUN": "gpt-abcde",
            "LASTGOOD_ATTEMPT": "2",
            "LASTGOOD_WORLD": "7",
            "LASTGOOD_PROGRESS": "/dev/shm/p",
            "LASTGOOD_RANK_DIR": "/r",
            "LASTGOOD_CHECKPOINTS": "/c",
            "LASTGOOD_RESUME": '[["step-00000040.a1w3", 40]]',
            "LASTGOOD_SKIPS": "[[10, 20]]",
            "LASTGOOD_SAVE_EVERY": "25",
        }
    )
    assert here == Place(
        world_size=2,
        launched=True,
        run="gpt-abcde",
        attempt=2,
        world=7,
        progress="/dev/shm/p",
        rank_dir="/r",
        checkpoints="/c",
        resume=(("step-00000040.a1w3", 40),),
        skips=((10, 20),),
        save_every=25,
    )
    assert here.supervised


def test_an_empty_list_means_start_afresh_not_look_for_yourself() -> None:
    assert from_environment({"LASTGOOD_RESUME": "[]"}).resume == ()


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK 2 is not one of the 2 ranks"),
        ({"LASTGOOD_SAVE_EVERY": "0"}, "must be at least 1"),
    ],
)
def test_nonsense_is_refused(env: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        from_environment(env)

"""Python's search for garbage, put off."""

import gc
from collections.abc import Iterator

import pytest

from ppo2.system.garbage import MANY, collection_put_off


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    was = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if was else gc.disable)()


def test_nothing_is_searched_inside_and_the_search_goes_on_afterwards() -> None:
    gc.enable()
    with collection_put_off():
        assert not gc.isenabled()
        with collection_put_off():
            pass
        assert not gc.isenabled()  # the outer one goes on
    assert gc.isenabled()


def test_it_goes_on_after_an_error_too() -> None:
    gc.enable()
    with pytest.raises(ValueError, match="inside"), collection_put_off():
        raise ValueError("inside")
    assert gc.isenabled()


def test_a_user_who_has_switched_the_search_off_finds_it_off() -> None:
    gc.disable()
    with collection_put_off():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_many_new_objects_count_as_old_and_can_still_be_collected() -> None:
    gc.enable()
    gc.collect()
    with collection_put_off():
        kept = [[] for _ in range(2 * MANY)]
    assert gc.get_count()[0] < MANY  # else the next allocation would look through all of them
    assert gc.get_freeze_count() == 0
    loop: list[object] = kept
    loop.append(loop)
    del kept, loop
    assert gc.collect() > MANY


def test_objects_that_a_user_has_frozen_stay_so() -> None:
    gc.enable()
    gc.freeze()
    frozen = gc.get_freeze_count()
    with collection_put_off():
        kept = [[] for _ in range(2 * MANY)]
    assert gc.get_freeze_count() == frozen
    assert len(kept) == 2 * MANY

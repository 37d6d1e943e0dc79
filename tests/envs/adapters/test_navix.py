"""Environments of NAVIX."""

from support.adapters import check_room, needs


@needs("navix")
def test_rooms_truncate_at_the_limit_and_terminate_at_the_goal() -> None:
    check_room("navix", forward=2, right=1)

"""How much fits: each bound at the last amount that is within it and the first that is not."""

from __future__ import annotations

import pytest

from oda.outbox.limits import PAGE_BYTES, Limits, row_cost, wal_allowance
from oda.settings import OutboxSettings

MIB = 1024 * 1024


def limits_for(max_bytes: int = 16 * MIB, max_rows: int = 1000) -> Limits:
    return Limits(OutboxSettings(max_bytes=max_bytes, max_rows=max_rows))


@pytest.mark.parametrize(("rows", "length"), [(8, 97), (4, 224), (2, 478), (1, 959)])
def test_rows_that_fill_a_page_share_it(rows: int, length: int) -> None:
    """A leaf of SQLite's table B-tree has a header of 8 bytes, so 1016 bytes of 1024 hold rows; a
    row has 30 bytes besides its payload, and more than 989 never stay in a leaf."""
    assert row_cost(length) == PAGE_BYTES // rows
    assert row_cost(length + 1) > PAGE_BYTES // rows


@pytest.mark.parametrize("length", [100, 8 * PAGE_BYTES - 1, 8 * PAGE_BYTES, 100_000])
def test_a_longer_row_costs_no_less(length: int) -> None:
    """The cost grows with the payload, also where the table of short lengths ends."""
    assert length <= row_cost(length) <= row_cost(length + 1) <= row_cost(length) + 2 * PAGE_BYTES


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [(MIB // 2, 64 * 1024), (2 * MIB, 128 * 1024), (64 * MIB, 4 * MIB), (512 * MIB, 4 * MIB)],
)
def test_the_log_gets_a_sixteenth_within_its_bounds(max_bytes: int, expected: int) -> None:
    """64 KiB at least, 4 MiB at most; half of it goes into one transaction."""
    settings = OutboxSettings(max_bytes=max_bytes)
    assert wal_allowance(settings) == expected
    assert Limits(settings).transaction_bytes == expected // 2


def test_the_room_is_shared_out() -> None:
    """What the log and 16 pages leave is the room: three quarters for telemetry, a sixteenth each
    for dead letters, journal and memory."""
    limits = limits_for()
    room = 15 * MIB - 16 * PAGE_BYTES
    assert limits.total == room
    assert limits.telemetry == room * 3 // 4
    assert limits.side_bytes == limits.memory_bytes == room // 16
    assert limits_for(MIB // 2).memory_bytes == 64 * 1024


def test_a_row_fits_up_to_the_last_byte() -> None:
    """Nothing is missing for a row that takes all that is left, in the class and together."""
    limits = limits_for()
    limits.side_cost = 500
    for is_answer, others in ((True, 7000), (False, 7000), (False, 0)):
        bound = limits.total - others - limits.side_cost
        if not is_answer:
            bound = min(bound, limits.telemetry)
        assert limits.missing(bound - 100, 10, others, 100, is_answer)[0] == 0
        assert limits.missing(bound - 99, 10, others, 100, is_answer)[0] == 1
    assert limits.missing(0, 999, 0, 100, True)[1] == 0
    assert limits.missing(0, 1000, 0, 100, True)[1] == 1


def test_a_row_larger_than_a_transaction_has_to_fit_twice() -> None:
    """What exceeds a transaction counts again: it is in the log and in the file."""
    limits = limits_for()
    cost = limits.transaction_bytes + 1000
    assert limits.missing(0, 0, 0, cost, True)[0] == cost + 1000 - limits.total


def test_more_is_freed_than_is_missing() -> None:
    """A 128th of the room more, so that the next rows fit as well; nothing where nothing is
    missing."""
    limits = limits_for()
    assert limits.chunk(0, 0) == (0, 0)
    assert limits.chunk(1, 0) == (1 + limits.total // 128, 0)
    assert limits.chunk(0, 1) == (0, 1 + 1000 // 128)


def test_what_can_never_fit() -> None:
    """A row is measured against the bound of its class."""
    limits = limits_for()
    for is_answer, bound in ((True, limits.total), (False, limits.telemetry)):
        assert limits.can_ever_hold(bound, is_answer)
        assert not limits.can_ever_hold(bound + 1, is_answer)


def test_the_model_is_corrected_by_what_is_measured() -> None:
    """A file that uses more than modelled lowers the bounds, to half at the most; one that uses
    less does not raise them."""
    limits = limits_for()
    room = limits.total
    modelled = MIB + 16 * PAGE_BYTES
    for factor, expected in ((0.5, room), (1.0, room), (1.5, int(room / 1.5)), (5.0, room // 2)):
        limits.measured(int(modelled * factor), MIB)
        assert limits.total == expected
        assert limits.telemetry == expected * 3 // 4


@pytest.mark.parametrize("length", [0, 1, 959, 960, 1500, 1972, 1973, 2983, 5000, 9000, 33_333])
def test_the_cost_of_a_row_follows_the_file_format(length: int) -> None:
    """A record longer than 989 bytes keeps 103 bytes in the leaf, and what does not fill its
    overflow pages of 1020 bytes each, where all that fits into 989."""
    size = length + 30
    local, pages = size, 0
    if size > 1024 - 35:
        local = 103 + (size - 103) % 1020
        if local > 989:
            local = 103
        pages = -(-(size - local) // 1020)
    assert row_cost(length) == 1024 // max(1, 1016 // local) + pages * 1024

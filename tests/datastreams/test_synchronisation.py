"""Whether the system's clock is kept right."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.datastreams.synchronisation import ask_kernel, is_synchronised


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [(0, 0x2001, True), (5, 0x2041, False), (0, 0x0040, False), (5, 0x0001, False), (1, 0, True)],
)
def test_the_kernel_says_it(tmp_path: Path, state: int, status: int, expected: bool) -> None:
    """Both what adjtimex returns and STA_UNSYNC say that nobody keeps the clock right; a leap
    second to come (1) does not."""
    assert is_synchronised(lambda: (state, status), tmp_path / "no timesyncd") is expected


def test_systemd_timesyncd_says_it(tmp_path: Path) -> None:
    """timesyncd has synchronised the clock since the start of the machine, whatever the kernel says
    now."""
    file = tmp_path / "synchronized"
    file.touch()
    assert is_synchronised(lambda: (5, 0x40), file) is True


def test_where_nobody_can_tell(tmp_path: Path) -> None:
    """A filter of system calls refuses adjtimex: that is no answer."""

    def refused() -> tuple[int, int]:
        raise PermissionError(1, "Operation not permitted")

    assert is_synchronised(refused, tmp_path / "no timesyncd") is None


def test_the_kernel_is_asked() -> None:
    """Asking this machine's kernel needs no privilege and changes nothing: it answers twice the
    same."""
    state, status = ask_kernel()
    assert state in range(6)
    assert ask_kernel()[1] == status

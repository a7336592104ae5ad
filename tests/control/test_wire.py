"""The lines on the local socket."""

from __future__ import annotations

import pytest

from oda.control.wire import ControlError, decode_answer, decode_request


@pytest.mark.parametrize("line", [b'{"publish":["\xff"]}\n', b'{"command":"\xff"}\n'])
def test_a_line_that_is_not_utf8_is_refused(line: bytes) -> None:
    """The JSON library raises another error for it than for what is not JSON."""
    with pytest.raises(ControlError, match="not understood"):
        decode_request(line)
    with pytest.raises(ControlError, match="not understood"):
        decode_answer(line)

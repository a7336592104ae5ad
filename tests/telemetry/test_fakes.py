"""The fakes of this directory are what they claim to be."""

from __future__ import annotations

from tests.telemetry.fakes import test_the_fakes_keep_the_contracts

__all__ = ["test_the_fakes_keep_the_contracts"]

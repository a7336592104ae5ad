"""Tests of the dispatcher and the operations."""

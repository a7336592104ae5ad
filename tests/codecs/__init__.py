"""Tests of ``oda.codecs``."""

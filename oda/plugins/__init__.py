"""Third-party getters, setters, sources, operations and codecs.

A directory named ``oda/plugins`` anywhere on ``sys.path`` (without an ``__init__.py``) adds its
modules here; see docs/extending.md.
"""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []

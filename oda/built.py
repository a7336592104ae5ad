"""The build time of this version. ``setup.py`` writes it into the package that it builds; the
source tree has the day of the first version."""

from typing import Final

#: Milliseconds since 1970.
BUILT_MS: Final = 1_793_491_200_000

"""When this version was made. ``setup.py`` writes the time of the build into the package that it
builds; in the source it is the day of the first version."""

from typing import Final

#: Milliseconds since 1970.
BUILT_MS: Final = 1_793_491_200_000

"""The machinery of the tables: keys, files and their free lines.

``components`` holds the tables. They do not state a key's default, or whether it is required: the
field of its settings class does, so that the two can't disagree.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from oda.config.parsers import Parser


@dataclass(frozen=True)
class Key:
    """One key of a file and the settings field it fills.

    ``aliases`` are other spellings in use. ``alternative`` names a key that may replace this
    required one. ``environment`` False means that no variable can override it.
    ``empty_is_absent``: a line without a value counts as absent, as in existing deployments.
    ``off`` is the value used for ``0``, which existing deployments write to turn the feature off.
    ``content`` is the field that takes the content of the named file, a secret, and ``holds`` says
    what that secret is.
    """

    name: str
    field: str
    parser: Parser
    meaning: str
    aliases: tuple[str, ...] = ()
    alternative: str = ""
    environment: bool = True
    empty_is_absent: bool = False
    off: Any = None
    content: str = ""
    holds: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that overrides this key: ``apiKey`` -> ``ODA_API_KEY``."""
        return "ODA_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.name).upper()


@dataclass(frozen=True)
class Section:
    """Keys of a file that fill one settings class."""

    settings: type[msgspec.Struct]
    keys: tuple[Key, ...]

    def requires(self, key: Key) -> bool:
        """Whether the key's field has no default."""
        return self._default(key) is msgspec.NODEFAULT

    def default(self, key: Key) -> Any:
        """The default of the key's field; None if there is none."""
        default = self._default(key)
        return None if default is msgspec.NODEFAULT else default

    def _default(self, key: Key) -> Any:
        # Not msgspec.structs.fields: it compiles the annotations of all fields, at each call.
        names, defaults = self.settings.__struct_fields__, self.settings.__struct_defaults__
        if key.field not in names:
            raise LookupError(f"{self.settings.__name__} has no field {key.field}")
        place = names.index(key.field) - len(names) + len(defaults)
        return msgspec.NODEFAULT if place < 0 else defaults[place]


@dataclass(frozen=True)
class Lines:
    """Lines with a free name. ``read(key, value)`` makes the settings of one line or raises
    ``ValueError``; ``identity`` is what must be unique. ``unmistakable(key, value)`` is True if the
    line can't be a misspelt key. ``renamed`` maps an old key to its line's name.
    ``empty_is_absent``: a line without a value counts as absent, with a warning.
    """

    form: str
    allowed: str
    meaning: str
    field: str
    read: Callable[[str, str], Any]
    identity: Callable[[Any], Hashable]
    unmistakable: Callable[[str, str], bool]
    free: bool = False
    empty_is_absent: bool = False
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """One file. ``ignored`` are keys of existing deployments that mean nothing here, with the
    reason; ``variants`` are other names of the file, of which a directory may hold one instead."""

    file: str
    about: str
    sections: tuple[Section, ...]
    lines: Lines | None = None
    ignored: Mapping[str, str] = dataclasses.field(default_factory=dict)
    environment: bool = False
    variants: tuple[str, ...] = ()

    def all_keys(self) -> Iterable[Key]:
        return (key for section in self.sections for key in section.keys)

    def key(self, name: str) -> Key | None:
        """The key of that name or alias; None if there is none."""
        for key in self.all_keys():
            if name == key.name or name in key.aliases:
                return key
        return None

    def overridable(self) -> Iterable[Key]:
        """The keys that an environment variable may override."""
        return (key for key in self.all_keys() if self.environment and key.environment)


def suggest(name: str, known: Iterable[str], cutoff: float = 0.8) -> str:
    """The known name that ``name`` probably means; "" if none is close (difflib's ratio at least
    ``cutoff``, case ignored)."""
    import difflib  # only needed if there is something to correct

    by_folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=cutoff)
    return by_folded[near[0]] if near else ""

"""A plugin of pytest: Hypothesis makes the same examples each time, and does not simplify those
that fail. One failure is enough to kill a mutant."""

from __future__ import annotations

from hypothesis import Phase, settings

settings.register_profile(
    "mutation",
    database=None,
    derandomize=True,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
)
settings.load_profile("mutation")

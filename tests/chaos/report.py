"""What a run has seen, and what was wrong with it."""

from __future__ import annotations

from typing import Any


class Report:
    """``problems`` is empty when the run proves what it should."""

    def __init__(self, name: str, seed: int, count: int) -> None:
        self.name = name
        self.seed = seed
        self.count = count
        self.figures: dict[str, Any] = {}
        self.problems: list[str] = []

    def require(self, holds: bool, problem: str) -> None:
        """Note ``problem`` unless ``holds``."""
        if not holds:
            self.problems.append(problem)

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value}" for name, value in self.figures.items())
        lines = [f"{self.name}: seed {self.seed}, count {self.count}: {figures}"]
        lines += [f"  PROBLEM: {problem}" for problem in self.problems[:20]]
        if len(self.problems) > 20:
            lines.append(f"  ... and {len(self.problems) - 20} more")
        return "\n".join(lines)

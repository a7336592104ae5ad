"""Serves the console: one page under ``/`` (and ``/console``), its scripts and styles beside it.

Everything comes from this package, and the page may load nothing else: its Content-Security-Policy
allows only this origin, no inline script and no markup made from text.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from oda.platform.console.messages import ConsoleParts, MessageIndex
from oda.platform.web import Call, HttpError, Reply, Route

_CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}

_HEADERS: Final = {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Console:
    """The page's files, read once, and what the page needs besides the REST API."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._files = _load_files()
        self._messages = MessageIndex(parts)

    def routes(self) -> list[Route]:
        """The console's paths, to be served beside those of the API."""
        return [
            Route("GET", "/", self.page, "The console"),
            Route("GET", "/console", self.page, "The console"),
            *self._messages.routes(),
            Route("GET", "/console/{file}", self.file, "A script or style of the console"),
        ]

    def page(self, call: Call) -> Reply:
        return self._serve(call, "index.html")

    def file(self, call: Call) -> Reply:
        return self._serve(call, call.path["file"])

    def _serve(self, call: Call, name: str) -> Reply:
        reply = self._files.get(name)
        if reply is None:
            raise HttpError(404, f"the console has no file {name!r}")
        for header, value in _HEADERS.items():
            call.request.setHeader(header, value)
        return reply


def _load_files() -> dict[str, Reply]:
    files: dict[str, Reply] = {}
    for file in resources.files(__package__).joinpath("page").iterdir():
        content_type = _CONTENT_TYPES.get("." + file.name.rpartition(".")[2])
        if content_type is not None:
            files[file.name] = Reply(body=file.read_bytes(), content_type=content_type)
    return files

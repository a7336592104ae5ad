"""The console's files: what is served, and under which rules."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from importlib import resources

import pytest

from oda.platform.testing import RunningPlatform

PAGE = resources.files("oda.platform.console").joinpath("page")
SCRIPTS = sorted(file.name for file in PAGE.iterdir() if file.name.endswith(".js"))


def fetch(url: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers={} if host is None else {"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, dict(reply.headers), reply.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


@pytest.mark.parametrize("path", ["/", "/console"])
def test_the_page_may_load_nothing_from_elsewhere(platform: RunningPlatform, path: str) -> None:
    """The page comes with a policy that allows its own origin alone, and no inline script."""
    status, headers, body = fetch(platform.url + path)
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"<!doctype html>" in body
    policy = dict(
        part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_every_file_that_is_named_is_served(platform: RunningPlatform) -> None:
    """What the page and its scripts name exists, with the type a browser insists on."""
    wanted = set(re.findall(r'"/(console/[\w.]+)"', PAGE.joinpath("index.html").read_text("utf-8")))
    for script in SCRIPTS:
        text = PAGE.joinpath(script).read_text("utf-8")
        wanted |= {f"console/{name}" for name in re.findall(r'from "\./([\w.]+)"', text)}
    assert {f"console/{script}" for script in SCRIPTS} <= wanted
    for path in wanted:
        status, headers, _ = fetch(f"{platform.url}/{path}")
        assert status == 200, path
        kind = "text/javascript" if path.endswith(".js") else "text/css"
        assert headers["Content-Type"].startswith(kind), path
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fsite.py", "%2e%2e", "__init__.py"])
def test_nothing_else_is_served(platform: RunningPlatform, name: str) -> None:
    """Only the console's own files have a path; no name leads out of their folder."""
    status, _, _ = fetch(f"{platform.url}/console/{name}")
    assert status == 404


def test_another_host_name_gets_no_console(platform: RunningPlatform) -> None:
    """A foreign name that resolves to this computer does not lead to the console."""
    status, _, body = fetch(platform.url + "/", host="evil.example")
    assert status == 403
    assert b"<!doctype" not in body


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_of_text(name: str) -> None:
    """Values become text nodes: none of the ways to parse text as markup or code is used."""
    text = PAGE.joinpath(name).read_text("utf-8")
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    assert not re.search(ways, text)


def test_the_page_has_no_inline_script_or_style() -> None:
    """All that the policy would forbid is absent: inline scripts, handlers and styles."""
    text = PAGE.joinpath("index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", text)

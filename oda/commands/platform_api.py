"""What commands that talk to a running platform share: ``--api``, and error handling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from urllib.parse import urlsplit

import click

from oda.errors import OdaError
from oda.platform.client import PlatformClient

DEFAULT_API = "http://127.0.0.1:9956"


def check_url(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A callback for an option that takes the API's address."""
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise click.BadParameter(f"{value!r} is not an address like {DEFAULT_API}")
    return value


api_option = click.option(
    "--api",
    default=DEFAULT_API,
    show_default=True,
    envvar="ODA_PLATFORM_API",
    callback=check_url,
    metavar="URL",
    help="The platform's REST API.",
)


@contextmanager
def reach(url: str) -> Iterator[PlatformClient]:
    """A client of the API at ``url``; an error ends the command with its reason."""
    try:
        yield PlatformClient(url)
    except OdaError as error:
        raise click.ClickException(str(error)) from None
    except BrokenPipeError:
        raise  # from standard output: click ends quietly
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise click.ClickException(f"no platform answers at {url}: {reason}") from None


def echo(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        click.echo(line)

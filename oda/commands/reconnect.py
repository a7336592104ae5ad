"""``oda reconnect``: ends the running agent's wait before its next connection attempt."""

from __future__ import annotations

from typing import Any

import click

from oda.commands.running_agent import connect_to_agent
from oda.commands.status import NOT_RUNNING
from oda.commands.text import echo
from oda.config.loader import find_directory
from oda.errors import OdaError

_TIMEOUT_S = 10.0
#: The message when there is no wait to end, by the state of the connection.
_NO_PAUSE = {
    "stopped": "the agent is stopping",
    "identifying": "the agent is finding out the device's id",
    "connecting": "an attempt is under way to {url}",
    "open": "connected to {url}: nothing to do",
    "closing": "the connection to {url} is being closed",
    "waiting": "the next attempt begins at this moment",
}


@click.command("reconnect", short_help="Let the running agent connect now.")
@click.option("--conf", "-c", default=None, help="The agent's configuration directory.")
@click.pass_context
def command(ctx: click.Context, conf: str | None) -> None:
    """If the agent that runs with the same configuration directory is waiting before its next
    connection attempt, let it connect now. An open connection is not affected.

    The exit status is 0, or 3 when no agent answers. "oda status" shows the result of the attempt.
    """
    try:
        with connect_to_agent(find_directory(conf), _TIMEOUT_S) as client:
            answer: dict[str, Any] = client.call("reconnect")
    except OdaError as error:
        echo(f"Error: {error}", err=True)
        ctx.exit(NOT_RUNNING)
    except OSError as error:
        echo(f"Error: the agent does not answer: {error}", err=True)
        ctx.exit(NOT_RUNNING)
    if not answer["ended_pause"]:
        echo(_NO_PAUSE.get(answer["state"], "{state}").format_map(answer))
    elif answer["state"] == "identifying":
        echo("the agent asks for the device's id and key at once")
    else:
        echo(
            f"connecting to {answer['url']} now, instead of in {answer['retry_in_s']:.0f} s"
            f" (the last end: {answer['last_end']})"
        )

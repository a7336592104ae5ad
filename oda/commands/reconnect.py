"""``oda reconnect``: end the running agent's pause before its next attempt to connect."""

from __future__ import annotations

from typing import Any

import click

from oda.commands.running_agent import connect_to_agent
from oda.commands.status import NOT_RUNNING
from oda.commands.text import echo
from oda.config.loader import find_directory
from oda.errors import OdaError

_TIMEOUT_S = 10.0
#: What is said where there is no pause to end, by the state of the connection.
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
    """Let the agent that runs with the same configuration directory connect now, where it waits
    before its next attempt. A connection that is open stays as it is.

    Ends with status 0, or with 3 when no agent answers. What came of the attempt is in "oda
    status".
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

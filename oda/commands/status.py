"""``oda status``: the state of the running agent, through its local socket."""

from __future__ import annotations

import click

from oda.commands.running_agent import connect_to_agent
from oda.commands.text import echo, json_text
from oda.config.loader import find_directory
from oda.errors import OdaError
from oda.monitor.status import render_status

#: Exit statuses besides 0, "ready". 3 means "not running", as in an init script's "status"; 2 is
#: that of a wrong option.
NOT_READY = 1
NOT_RUNNING = 3
TROUBLED = 4
_STATUSES = {"ready": 0, "troubled": TROUBLED, "not_ready": NOT_READY}


@click.command("status", short_help="Show the state of the running agent.")
@click.option("--conf", "-c", default=None, help="The agent's configuration directory.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.pass_context
def command(ctx: click.Context, conf: str | None, as_json: bool) -> None:
    """Show the state of the agent that runs with the same configuration directory.

    The exit status is 0 when the agent is connected, the platform acknowledges, and nothing is
    wrong; 4 when something is wrong besides (see "trouble"); 1 when the agent runs but is not
    ready; 3 when no agent answers.
    """
    try:
        with connect_to_agent(find_directory(conf), timeout_s=10.0) as client:
            status = client.call("status")
    except OdaError as error:
        echo(f"Error: {error}", err=True)
        ctx.exit(NOT_RUNNING)
    except OSError as error:
        echo(f"Error: the agent does not answer: {error}", err=True)
        ctx.exit(NOT_RUNNING)
    if as_json:
        click.echo(json_text(status))
    else:
        echo(render_status(status), nl=False)
    ctx.exit(_STATUSES[status["state"]])

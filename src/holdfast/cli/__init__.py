"""The command `holdfast`. Each command lives in its own file and is loaded when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

from holdfast import __version__
from holdfast.base.errors import HoldfastError

COMMANDS: Final[dict[str, str]] = {
    "up": "Start everything on this machine and print the page to open.",
    "serve": "Run the server alone: the API and the pages.",
    "worker": "Run a worker alone: what is in doubt, what is owed, what is due.",
    "migrate": "Bring the database's schema up to this version.",
    "sandbox": "Run the sandbox providers alone.",
    "demo": "Load demo payers, merchants and instruments.",
    "merchant": "Make merchants and their API keys, and set their rules.",
    "settle": "Compare providers' own files with what is known here.",
    "ledger": "Verify the ledger and look into it.",
    "backup": "Back up a running Holdfast, prove a backup, restore it.",
    "transfers": "Import transfers from a file.",
    "receipt": "Prove a transfer to somebody, who checks it offline.",
    "drill": "Run an outage on purpose and judge how the wallet did.",
    "status": "Tell people how the wallet stands, also while it is down.",
    "config": "Show the configuration as it is understood here.",
}
"""Every command with the line that `--help` shows, in the order of first need.

None is imported to print it.
"""


class _Lazy(click.Group):
    """A group that imports a command's module when the command is named."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = importlib.import_module(f"holdfast.cli.{name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"holdfast.cli.{name}.command is not a click command")
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="holdfast")
def root() -> None:
    """Holdfast: a digital wallet that goes on paying when things break.

    `holdfast up` starts all of it here. Settings come from HOLDFAST_… variables and an optional TOML file;
    docs/reference/configuration.md lists them.
    """


def main() -> None:
    """Run the command line.

    An error that has a remedy is shown as its message, without a traceback; exit code 1.
    """
    try:
        root(prog_name="holdfast")
    except HoldfastError as error:
        click.secho(f"holdfast: {error.message}", fg="red", err=True)
        sys.exit(1)

"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click

from holdfast.cli import COMMANDS, root

_WIDTH = 100
HEAD = """# Commands

Written by `scripts/cli-reference` from the commands themselves.
"""


def render() -> str:
    """Return the reference as Markdown."""
    parts = [HEAD]
    for path, command in _walk():
        settings = {**root.context_settings, "max_content_width": _WIDTH, "terminal_width": _WIDTH}
        with click.Context(command, info_name=" ".join(path), **settings) as context:
            text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"## {' '.join(path)}\n\n```\n{text}\n```\n")
    return "\n".join(parts)


def _walk() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield ("holdfast",), root
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name) if isinstance(root, click.Group) else None
        if command is None:
            continue
        yield ("holdfast", name), command
        if isinstance(command, click.Group):
            for sub in command.list_commands(context):
                inner = command.get_command(context, sub)
                if inner is not None:
                    yield ("holdfast", name, sub), inner

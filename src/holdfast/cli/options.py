"""Options that several commands share: where the configuration comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="TOML file with settings; HOLDFAST_CONFIG names it too.",
)  # fmt: skip
data_option = click.option(
    "--data", "data_dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Folder of the embedded database.",
)  # fmt: skip

archive_option = click.option(
    "--archive", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIR",
    help="Folder with the files of archived segments.",
)  # fmt: skip


def configuration(command: F) -> F:
    """Add `--config` and `--data` to a command; it receives them as `config_file` and `data_dir`."""
    return config_option(data_option(command))

"""The server as it runs in production, made from the environment."""

from __future__ import annotations

from holdfast.api.app import create_app
from holdfast.api.gate import Gate
from holdfast.platform import config, log, processes


def create() -> Gate:
    processes.work_in_long_turns()
    read = config.load()
    log.configure(read.log_level, read.log_format, mode=read.mode, process="server")
    return create_app(read)

"""`holdfast drill`: run an outage on purpose and judge how the wallet did."""

from __future__ import annotations

import gc
import math
import threading
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import click

SCALE_MIN: Final = 0.001
SCALE_MAX: Final = 10
SILENT_S_MAX: Final = 10.0
"""Where no bar can be drawn, a line is said at least this often."""

if TYPE_CHECKING:
    from rich.console import Console

    from holdfast.drills.scenario import Scenario


@click.group()
def command() -> None:
    """Run an outage on purpose and judge how the wallet did.

    A drill re-enacts an outage from a scenario file and compares what was completed with what an all-knowing
    payer could have completed. docs/reference/drills.md explains scenario files and every figure.
    """


@command.command("list")
def list_() -> None:
    """List the scenarios that come with Holdfast."""
    from rich.console import Console  # noqa: PLC0415 - loaded when asked for
    from rich.text import Text  # noqa: PLC0415

    from holdfast.drills import reading  # noqa: PLC0415

    console = Console(highlight=False)
    for name in reading.built_in():
        scenario = reading.load(name)
        size = f"{scenario.expected_payments():,} payments in {scenario.duration_s} s"
        console.print(f"[bold]{name:<22}[/bold] {size:>28}")
        title = Text(f"  {scenario.title}")
        if console.is_terminal:
            title.truncate(console.width, overflow="ellipsis")
        console.print(title, soft_wrap=True)
    console.print("\nRun one with [bold]holdfast drill run NAME[/bold].")


class _Scale(click.FloatRange):
    """A part of the traffic. `nan` passes every comparison that a range makes, so it is asked for by name."""

    def convert(self, value: object, param: click.Parameter | None, context: click.Context | None) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not SCALE_MIN <= number <= SCALE_MAX:
            self.fail(
                f"{value} is not a number from {SCALE_MIN} to {SCALE_MAX}; give for example 0.1 for a tenth.",
                param,
                context,
            )
        return number


@command.command()
@click.argument("name_or_file", metavar="NAME_OR_FILE")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**53),
    help="Draw another world; without it the scenario's own seed holds.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the figures as JSON.",
)
@click.option(
    "--report",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write a page with pictures (and the JSON) into a folder.",
)
@click.option(
    "--scale",
    type=_Scale(SCALE_MIN, SCALE_MAX),
    default=1.0,
    show_default=True,
    help="Part of the traffic, with as much less capacity.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Against the running platform: real processes and sockets, kill -9 of the server.",
)
def run(
    name_or_file: str, seed: int | None, json_file: Path | None, folder: Path | None, scale: float, live: bool
) -> None:
    """Run a drill. Exit code 0: it held; 1: it could not run; 3: it ran and did not hold."""
    import sys  # noqa: PLC0415 - loaded when asked for

    from rich.console import Console  # noqa: PLC0415

    from holdfast.drills import reading, report  # noqa: PLC0415

    if live and _given("scale"):
        raise click.UsageError(
            "--scale is for simulated drills: a live drill always plays the same few payments. "
            "Leave out --scale or --live."
        )
    scenario = reading.load(name_or_file)
    wanted = [] if json_file is None else [json_file]
    wanted += [] if folder is None else report.files_in(folder, scenario.name)
    for file in wanted:
        report.refuse_unwritable(file)
    console = Console()
    began = time.monotonic()
    console.print(f"[bold]{scenario.title}[/bold]\n{LIVE if live else ' '.join(scenario.story.split())}\n")
    figures = _live(console, scenario, seed) if live else _simulate(console, scenario.scaled(scale), seed)
    summary(console, figures, time.monotonic() - began)
    if json_file is not None:
        report.write_json(figures, json_file)
        console.print(f"Figures: {json_file}", soft_wrap=True)
    if folder is not None:
        console.print(f"Report: {report.write_html(figures, folder)}", soft_wrap=True)
    sys.exit(0 if figures["passed"] else 3)


LIVE: Final = (
    "Live: a whole platform starts on this machine. While payments come in over its HTTP API, its providers "
    "fail as the scenario's rails do, squeezed into a few seconds, and the server is killed amid them. "
    "The scenario's own traffic and duration are not played. This takes one to three minutes."
)


def _given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is not click.core.ParameterSource.DEFAULT


class _Lines:
    """Says how far a drill is, in plain lines on stderr, where no bar can be drawn.

    A line every tenth of a part, and one after `SILENT_S_MAX` seconds without any.
    """

    def __init__(self) -> None:
        self._began = self._said_at = time.monotonic()
        self._latest = ""
        self._tenths: dict[str, int] = {}
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._remind, daemon=True)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._watch.join()

    def part(self, what: str, share: float) -> None:
        """Note that `share` of `what` is over."""
        tenth = int(share * 10 + 1e-9)
        self._latest = f"{what}: {share * 100:.0f} %"
        if tenth > self._tenths.get(what, -1):
            self._tenths[what] = tenth
            self.say(self._latest)

    def say(self, words: str) -> None:
        """Say a line."""
        self._latest, self._said_at = words, time.monotonic()
        click.echo(words, err=True)

    def _remind(self) -> None:
        while not self._over.wait(1.0):
            if time.monotonic() - self._said_at >= SILENT_S_MAX:
                words = self._latest
                self.say(f"{words} ({time.monotonic() - self._began:.0f} s so far)")
                self._latest = words


def _simulate(console: Console, scenario: Scenario, seed: int | None) -> dict[str, object]:
    from holdfast.drills.world import not_collecting  # noqa: PLC0415 - loaded when asked for

    with not_collecting():
        figures = _shown(console, scenario, seed)
        gc.freeze()  # else the millions of objects of the drill would be looked through as the command ends
    return figures


def _shown(console: Console, scenario: Scenario, seed: int | None) -> dict[str, object]:
    """Run the drill and show how far it is."""
    from holdfast.drills.run import drill  # noqa: PLC0415

    words = {
        "holdfast": f"Holdfast: {scenario.expected_payments():,} payments",
        "baselines": "The same through three ordinary systems",
    }
    if not console.is_terminal:
        with _Lines() as lines:
            return drill(scenario, seed=seed, progress=lambda what, share: lines.part(words[what], share))
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        shown = {
            "holdfast": bars.add_task(words["holdfast"], total=1.0),
            "baselines": bars.add_task(words["baselines"], total=None),
        }

        def tell(what: str, share: float) -> None:
            bars.update(shown[what], completed=share, total=1.0)

        return drill(scenario, seed=seed, progress=tell)


def _live(console: Console, scenario: Scenario, seed: int | None) -> dict[str, object]:
    from holdfast.drills.live import live_drill  # noqa: PLC0415

    start = "Starting the platform…"
    if not console.is_terminal:
        with _Lines() as lines:
            lines.say(start)
            return live_drill(scenario, seed=seed, tell=lines.say)
    with console.status(start) as status:
        return live_drill(scenario, seed=seed, tell=status.update)


def summary(console: Console, figures: dict[str, object], took_s: float) -> None:
    """Print what came of it, for people."""
    from holdfast.drills import report  # noqa: PLC0415 - loaded when asked for

    if figures["mode"] == "live":
        console.print(f"What was done: {report.done_live(figures).en}\n", highlight=False)
    _compared(console, figures)
    console.print(
        f"\n{figures['attempted']:,} payments, {figures['oracle_completable']:,} of them possible, "
        f"{figures['completed_in_deadline']:,} completed in time; {figures['in_doubt']} still in doubt."
    )
    balanced = "balanced" if figures["books_balanced"] else "[red]not balanced[/]"
    console.print(f"Money lost: {report.money_lost_text(figures)}. Books {balanced}.")
    measured = report.moments(figures)
    wide = max((len(moment.value.en) for moment in measured), default=0)
    for since, ones in groupby(measured, key=lambda moment: moment.since.en):
        console.print(f"{since[0].upper()}{since[1:]}:")
        for one in ones:
            console.print(f"  {one.name.en:<10} {one.value.en:<{wide}}  {one.about.en}", soft_wrap=True)
    if not measured:
        console.print("Nothing failed on purpose, so there was nothing to detect.")
    findings = figures["findings"]
    for finding in findings[:5] if isinstance(findings, list) else ():
        console.print(f"[red]·[/] {finding}", highlight=False)
    held = "[bold green]held[/]" if figures["passed"] else "[bold red]did not hold[/]"
    console.print(f"It {held}. ({took_s:.0f} s)\n")


def _compared(console: Console, figures: dict[str, object]) -> None:
    """Print continuity and double charges, beside the baselines where there are any."""
    from rich.table import Table  # noqa: PLC0415 - loaded when asked for

    from holdfast.drills.report import share_text  # noqa: PLC0415

    table = Table("", "continuity", "charged twice", box=None, header_style="bold", pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    share, twice = share_text(figures["continuity"]), figures["double_charges_kept"]
    table.add_row("[bold]Holdfast[/]", f"[bold]{share}[/]", f"[bold]{twice}[/]")
    baselines = figures["baselines"]
    names = {"single": "one rail", "retry": "retry on the same rail", "blind": "blind cascade"}
    for name, one in baselines.items() if isinstance(baselines, dict) else ():
        table.add_row(names[name], share_text(one["continuity"]), f"{one['double_charges_kept']:,}")
    console.print(table)

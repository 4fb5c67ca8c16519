"""`holdfast drill`: run an outage on purpose and judge how the wallet did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

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
    from rich.table import Table  # noqa: PLC0415

    from holdfast.drills import reading  # noqa: PLC0415

    table = Table("name", "what", "payments", "lasts", box=None, header_style="bold", pad_edge=False)
    for name in reading.built_in():
        scenario = reading.load(name)
        table.add_row(name, scenario.title, f"{scenario.expected_payments():,}", f"{scenario.duration_s} s")
    console = Console()
    console.print(table)
    console.print("\nRun one with [bold]holdfast drill run NAME[/bold].")


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
    type=click.FloatRange(0.001, 10),
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
    """Run a drill. Exit code 0: it held; 3: it ran and did not hold."""
    import sys  # noqa: PLC0415 - loaded when asked for
    import time  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415

    from holdfast.drills import reading, report  # noqa: PLC0415

    console = Console()
    scenario = reading.load(name_or_file)
    began = time.monotonic()
    story = " ".join(scenario.story.split())
    console.print(f"[bold]{scenario.title}[/bold]\n{story}\n")
    figures = _live(console, scenario, seed) if live else _simulate(console, scenario.scaled(scale), seed)
    summary(console, figures, time.monotonic() - began)
    if json_file is not None:
        report.write_json(figures, json_file)
        console.print(f"Figures: {json_file}")
    if folder is not None:
        console.print(f"Report: {report.write_html(figures, folder)}")
    sys.exit(0 if figures["passed"] else 3)


def _simulate(console: Console, scenario: Scenario, seed: int | None) -> dict[str, object]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    from holdfast.drills.run import drill  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        shown = {
            "holdfast": bars.add_task(f"Holdfast: {scenario.expected_payments():,} payments", total=1.0),
            "baselines": bars.add_task("The same through three ordinary systems", total=None),
        }

        def tell(what: str, share: float) -> None:
            bars.update(shown[what], completed=share, total=1.0)

        return drill(scenario, seed=seed, progress=tell)


def _live(console: Console, scenario: Scenario, seed: int | None) -> dict[str, object]:
    from holdfast.drills.live import live_drill  # noqa: PLC0415

    with console.status("Starting the platform…") as status:
        return live_drill(scenario, seed=seed, tell=status.update)


def summary(console: Console, figures: dict[str, object], took_s: float) -> None:
    """Print what came of it, for people."""
    from rich.table import Table  # noqa: PLC0415

    table = Table("", "continuity", "charged twice", box=None, header_style="bold", pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    held = "[bold green]held[/]" if figures["passed"] else "[bold red]did not hold[/]"
    table.add_row(
        "[bold]Holdfast[/]",
        f"[bold]{_share(figures['continuity'])}[/]",
        f"[bold]{figures['double_charges_kept']}[/]",
    )
    baselines = figures["baselines"]
    names = {"single": "one rail", "retry": "retry on the same rail", "blind": "blind cascade"}
    for name, one in baselines.items() if isinstance(baselines, dict) else ():
        table.add_row(names[name], _share(one["continuity"]), f"{one['double_charges_kept']:,}")
    console.print(table)
    console.print(
        f"\n{figures['attempted']:,} payments, {figures['oracle_completable']:,} of them possible, "
        f"{figures['completed_in_deadline']:,} completed in time; {figures['in_doubt']} still in doubt."
    )
    balanced = "balanced" if figures["books_balanced"] else "[red]not balanced[/]"
    console.print(
        f"Money lost: {figures['money_lost_minor']} {figures['asset']} minor units. Books {balanced}."
    )
    console.print(
        f"From the first fault: traffic moved at {_seconds(figures['moved_s'])} (every outcome shifts it), "
        f"past doubt at {_seconds(figures['detect_s'])}, as usual again at {_seconds(figures['recover_s'])}. "
        f"Backlog settled {_seconds(figures['backlog_s'])} after the last fault."
    )
    findings = figures["findings"]
    for finding in findings[:5] if isinstance(findings, list) else ():
        console.print(f"[red]·[/] {finding}", highlight=False)
    console.print(f"It {held}. ({took_s:.0f} s)\n")


def _share(value: object) -> str:
    from holdfast.drills.report import share_text  # noqa: PLC0415

    return share_text(value)


def _seconds(value: object) -> str:
    from holdfast.drills.report import seconds_text  # noqa: PLC0415

    return seconds_text(value)

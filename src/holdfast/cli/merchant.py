"""`holdfast merchant`: merchants, their API keys and their rules.

A key is told once, on standard output; everything said about it goes to standard error, so that a script
that keeps the output keeps the key alone. Nothing here takes a key as an argument: shells remember those.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from uuid import UUID

import click

from holdfast.base.ids import IdInvalid, MerchantId, parse, public
from holdfast.base.limits import API_KEY_KEEP_S, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX
from holdfast.cli.options import configuration

if TYPE_CHECKING:
    from holdfast.domains.merchants import KeyFacts, Merchant, Merchants
    from holdfast.platform.config import Config

T = TypeVar("T")

ROLES: Final = {
    "full": "It moves money, manages payers, methods and webhooks, and reads everything of this merchant.",
    "read_only": "It reads everything of this merchant and changes nothing.",
    "publishable": "It only asks how rails are doing, and may be shown to the world.",
}
"""Every role of a key, with what it may do in words."""

_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for scripts.")


@click.group()
def command() -> None:
    """Make merchants and their API keys, and set their rules.

    MERCHANT is a merchant's id, mer_…; docs/howto/add-a-merchant.md walks through it.
    """


@command.command("add")
@click.argument("name")
@click.option("--live", is_flag=True, help="Make it in live mode; without this it is in test mode.")
@click.option(
    "--business", "business_text", metavar="ID",
    help="Make it the other half of this business (biz_…), which has one merchant in the other mode.",
)  # fmt: skip
@_json
@configuration
def add_command(
    name: str,
    live: bool,
    business_text: str | None,
    as_json: bool,
    config_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Make a merchant called NAME, in test mode unless told otherwise.

    A merchant stays in its mode for ever. A business has at most one in each; no key of one sees anything of
    the other.
    """
    from holdfast.base.clock import SystemClock  # noqa: PLC0415 - loaded when asked for
    from holdfast.base.ids import IdSource  # noqa: PLC0415

    business = None if business_text is None else _business_id(business_text)
    clock = SystemClock()
    ids = IdSource(clock.now_ms)

    async def question(merchants: Merchants) -> Merchant:
        if business is not None:
            await _require_business(merchants, business)
        return await merchants.enrol(
            MerchantId(ids.new()), business or ids.new(), name.strip(), clock.now(), live=live
        )

    read = _read(config_file, data_dir)
    made = _ask(read, question)
    if as_json:
        _tell(_merchant_shown(made))
    else:
        _show_made(made, alone=business is None)
    if len(_rails_for(read, made)) == 1:
        _aside(
            f"No provider in this configuration serves {_mode(made)} merchants: until one does, it takes "
            "payments from balance only. A rail serves test merchants when its secret_key begins with "
            "sk_test_, else live ones."
        )


def _show_made(made: Merchant, *, alone: bool) -> None:
    mer, biz = public("mer", made.id), public("biz", made.business)
    click.echo(f"Made {made.name}, in {_mode(made)} mode.\n  merchant  {mer}\n  business  {biz}")
    click.echo(f"{'Its key:':<15} holdfast merchant key {mer}")
    if alone:
        other, option = ("test", "") if made.live else ("live", " --live")
        half = f"holdfast merchant add {shlex.quote(made.name)}{option} --business {biz}"
        click.echo(f"{f'Its {other} half:':<15} {half}")


@command.command("list")
@click.option("--limit", type=click.IntRange(1, PAGE_ROWS_MAX), default=PAGE_ROWS_DEFAULT, show_default=True)
@click.option("--after", "after_text", metavar="MERCHANT", help="Go on behind this merchant.")
@_json
@configuration
def list_command(
    limit: int, after_text: str | None, as_json: bool, config_file: Path | None, data_dir: Path | None
) -> None:
    """List merchants, newest first."""

    async def question(merchants: Merchants) -> list[Merchant]:
        after = None if after_text is None else (await _merchant(merchants, after_text)).id
        return await merchants.merchants(after=after, limit=limit + 1)

    rows = _ask(_read(config_file, data_dir), question)
    shown, more = rows[:limit], len(rows) > limit
    if as_json:
        _tell({"data": [_merchant_shown(one) for one in shown], "has_more": more})
        return
    for one in shown:
        mer, biz = public("mer", one.id), public("biz", one.business)
        click.echo(f"{mer}  {_mode(one):<4}  {_day(one.created_at)}  {biz}  {one.name}")
    if more:
        click.echo(f"More: --after {public('mer', shown[-1].id)}")
    if not rows:
        _aside(
            "There is no merchant" + (" behind that one." if after_text else ": holdfast merchant add NAME")
        )


@command.command("key")
@click.argument("merchant")
@click.option(
    "--role", type=click.Choice(list(ROLES)), default="full", show_default=True,
    help="What the key may do: everything, read, or only ask how rails are doing.",
)  # fmt: skip
@_json
@configuration
def key_command(
    merchant: str, role: str, as_json: bool, config_file: Path | None, data_dir: Path | None
) -> None:
    """Make an API key for MERCHANT and print it, this once.

    The key goes to standard output and nowhere else; only its digest is kept.
    """
    from holdfast.base.clock import SystemClock  # noqa: PLC0415 - loaded when asked for
    from holdfast.base.secret import Secret  # noqa: PLC0415
    from holdfast.domains.merchants import Role, digest, key_id  # noqa: PLC0415

    async def question(merchants: Merchants) -> tuple[Merchant, Secret, KeyFacts]:
        whose = await _merchant(merchants, merchant)
        key = await merchants.issue_key(whose, Role(role), SystemClock().now())
        return whose, key, await merchants.key(key_id(digest(key.reveal())))

    whose, key, facts = _ask(_read(config_file, data_dir), question)
    if as_json:
        _tell({"key": key.reveal()} | _key_shown(facts))
        return
    id_ = public("key", facts.id)
    click.echo(key.reveal())
    _aside(
        f"\n{id_}, a {_words(role)} key of {whose.name} in {_mode(whose)} mode. {ROLES[role]}\n"
        "It is shown this once: here only its digest is kept, and nobody can bring it back.\n"
        "It goes where that merchant's server keeps its secrets, and is sent as\n"
        f"  Authorization: Bearer {facts.hint}\n"
        f"Lost, or seen by others: make another, then holdfast merchant revoke {id_}"
    )


@command.command("keys")
@click.argument("merchant")
@_json
@configuration
def keys_command(merchant: str, as_json: bool, config_file: Path | None, data_dir: Path | None) -> None:
    """List what is known of MERCHANT's keys, oldest first. The keys themselves are not kept."""

    async def question(merchants: Merchants) -> list[KeyFacts]:
        return await merchants.keys((await _merchant(merchants, merchant)).id)

    rows = _ask(_read(config_file, data_dir), question)
    if as_json:
        _tell({"data": [_key_shown(one) for one in rows]})
        return
    for one in rows:
        state = "in force" if one.revoked_at is None else f"revoked {_minute(one.revoked_at)}"
        made = f"made {_minute(one.created_at)}"
        click.echo(f"{public('key', one.id)}  {one.hint}  {_words(one.role):<11}  {made}  {state}")
    if not rows:
        _aside(f"It has no key: holdfast merchant key {merchant}")


@command.command("revoke")
@click.argument("key_id")
@_json
@configuration
def revoke_command(key_id: str, as_json: bool, config_file: Path | None, data_dir: Path | None) -> None:
    """Revoke the key KEY_ID (key_…, as `holdfast merchant keys` lists it) for ever.

    Running servers stop taking it within 5 seconds. One that was revoked already stays as it is.
    """
    from holdfast.base.clock import SystemClock  # noqa: PLC0415 - loaded when asked for

    async def question(merchants: Merchants) -> tuple[KeyFacts, bool]:
        facts = await _key(merchants, key_id)
        done = await merchants.revoke_key(facts.merchant, facts.digest, SystemClock().now())
        return await merchants.key(facts.id), done

    facts, done = _ask(_read(config_file, data_dir), question)
    if as_json:
        _tell(_key_shown(facts) | {"revoked_now": done})
        return
    id_, mer = public("key", facts.id), public("mer", facts.merchant)
    at = "" if facts.revoked_at is None else _minute(facts.revoked_at)
    if done:
        click.echo(f"Revoked {id_} ({facts.hint}) of {mer}. It opens nothing after {API_KEY_KEEP_S:g} s.")
    else:
        click.echo(f"{id_} ({facts.hint}) of {mer} was revoked already, {at}.")


@command.command("rules")
@click.argument("merchant")
@click.option(
    "--rails", "rails_text", metavar="A,B",
    help="Rails to try first, in this order; '' takes the preference away.",
)  # fmt: skip
@click.option(
    "--kinds", "kinds_text", metavar="A,B", help="Kinds of method to take: balance, card, bank; '' takes all."
)
@click.option(
    "--capture", type=click.Choice(["automatic", "manual"]),
    help="How a payment is captured when the request does not say.",
)  # fmt: skip
@_json
@configuration
def rules_command(
    merchant: str,
    rails_text: str | None,
    kinds_text: str | None,
    capture: Literal["automatic", "manual"] | None,
    as_json: bool,
    config_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Show MERCHANT's rules, or change those that are given and leave the others.

    Running servers follow within 5 seconds; payments that are under way keep the rules that they began with.
    """
    from dataclasses import replace  # noqa: PLC0415 - loaded when asked for

    given: dict[str, Any] = {
        "rail_order": _names(rails_text),
        "allowed_kinds": _names(kinds_text),
        "capture": capture,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    read = _read(config_file, data_dir)

    async def question(merchants: Merchants) -> Merchant:
        found = await _merchant(merchants, merchant)
        _require_rails(read, found, changed.get("rail_order", ()))
        return await merchants.set_rules(found.id, replace(found.rules, **changed)) if changed else found

    ruled = _ask(read, question)
    if as_json:
        _tell(_merchant_shown(ruled))
        return
    _show_rules(ruled, _rails_for(read, ruled))
    if changed:
        _aside(f"Running servers follow within {API_KEY_KEEP_S:g} s.")


def _show_rules(ruled: Merchant, serving: list[str]) -> None:
    from holdfast.domains.merchants import METHOD_KINDS  # noqa: PLC0415 - loaded when asked for

    rules = ruled.rules
    order = [rail if rail in serving else f"{rail} (does not serve it here)" for rail in rules.rail_order]
    rails = f"{', '.join(order)}, then as routing ranks them" if order else "as routing ranks them"
    kinds = ", ".join(rules.allowed_kinds) or f"all ({', '.join(METHOD_KINDS)})"
    click.echo(f"{ruled.name}, {public('mer', ruled.id)}, in {_mode(ruled)} mode")
    click.echo(f"  rails    {rails}\n  kinds    {kinds}\n  capture  {rules.capture}")


def _read(config_file: Path | None, data_dir: Path | None) -> Config:
    from holdfast.platform import config  # noqa: PLC0415 - loaded when asked for

    return config.load(file=config_file, data_dir=data_dir)


def _ask(read: Config, question: Callable[[Merchants], Awaitable[T]]) -> T:
    """Return what `question` answers over the database of this configuration.

    Raises: `NoDatabase`, `DatabaseUnavailable`, `SchemaTooOld`, `OutcomeUnknown`, and what `question` raises.
    """
    import os  # noqa: PLC0415 - loaded when asked for
    import time  # noqa: PLC0415

    from holdfast.base.errors import OutcomeUnknown  # noqa: PLC0415
    from holdfast.domains.merchants import Merchants  # noqa: PLC0415
    from holdfast.platform import migrate  # noqa: PLC0415
    from holdfast.platform.db import Database, DatabaseError  # noqa: PLC0415
    from holdfast.platform.postgres import database_dsn  # noqa: PLC0415

    dsn = database_dsn(read.dsn.reveal() if read.dsn else None, read.data_dir)

    async def asked() -> T:
        database = Database(dsn, connections_min=1, connections_max=1)
        await database.open()
        try:
            await asyncio.to_thread(migrate.require, dsn, migrate.shipped())
            return await question(Merchants(database, time.monotonic, os.urandom))
        except DatabaseError as error:
            said = " ".join(str(error).split())
            raise OutcomeUnknown(
                f"The database broke off: {said}. Look with `holdfast merchant list` or `keys` whether it "
                "was done before you repeat it."
            ) from error
        finally:
            await database.close()

    return asyncio.run(asked())


async def _merchant(merchants: Merchants, text: str) -> Merchant:
    """Return the merchant that is meant by `text`. Raises: `IdInvalid`, `MerchantNotFound`."""
    from holdfast.domains.merchants import MerchantNotFound  # noqa: PLC0415 - loaded when asked for

    try:
        return await merchants.merchant(MerchantId(parse("mer", text)))
    except IdInvalid:
        raise IdInvalid(
            "A merchant's id begins with mer_ and has 26 characters more; `holdfast merchant list` shows it."
        ) from None
    except MerchantNotFound:
        raise MerchantNotFound(
            f"There is no merchant {text} here; `holdfast merchant list` shows those that there are."
        ) from None


async def _key(merchants: Merchants, text: str) -> KeyFacts:
    """Return the key that is meant by `text`, which is never told back: it may be a key by mistake."""
    from holdfast.domains.merchants import KeyId, KeyInvalid  # noqa: PLC0415 - loaded when asked for

    try:
        return await merchants.key(KeyId(parse("key", text)))
    except IdInvalid:
        raise IdInvalid(
            "A key's id begins with key_ and has 26 characters more; `holdfast merchant keys MERCHANT` shows "
            "it. Never write a key itself on a command line."
        ) from None
    except KeyInvalid:
        raise KeyInvalid(
            "There is no key with that id here; `holdfast merchant keys MERCHANT` shows those that there are."
        ) from None


def _business_id(text: str) -> UUID:
    try:
        return parse("biz", text)
    except IdInvalid:
        raise IdInvalid(
            "A business's id begins with biz_ and has 26 characters more; `holdfast merchant list` shows it."
        ) from None


async def _require_business(merchants: Merchants, business: UUID) -> None:
    """Refuse a business that nobody belongs to: it would be a slip of the pen, and stay for ever."""
    from holdfast.domains.merchants import MerchantNotFound  # noqa: PLC0415 - loaded when asked for

    if not await merchants.of_business(business):
        raise MerchantNotFound(
            f"No merchant here belongs to {public('biz', business)}; `holdfast merchant list` shows "
            "businesses. Leave --business out to make a new one."
        )


def _rails_for(read: Config, merchant: Merchant) -> list[str]:
    """Return the rails that may serve a merchant: those of its mode, and the wallet's own, the last."""
    from holdfast.domains.payments.rules.cascade import BALANCE_RAIL  # noqa: PLC0415 - loaded when asked for

    return [*(rail.name for rail in read.rail_list() if rail.live is merchant.live), BALANCE_RAIL]


def _require_rails(read: Config, merchant: Merchant, named: tuple[str, ...]) -> None:
    """Refuse rails that never serve this merchant: the preference would do nothing, and nobody would see."""
    from holdfast.domains.merchants import MerchantInvalid  # noqa: PLC0415 - loaded when asked for

    serving = _rails_for(read, merchant)
    for rail in named:
        if rail not in serving:
            there = any(rail == one.name for one in read.rail_list())
            what = f"Rail {rail} does not serve" if there else f"There is no rail {rail!r} for"
            raise MerchantInvalid(
                f"{what} {_mode(merchant)} merchants in this configuration; these do: {', '.join(serving)}."
            )


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name for one in text.split(",") if (name := one.strip()))


def _merchant_shown(it: Merchant) -> dict[str, Any]:
    return {
        "id": public("mer", it.id),
        "business": public("biz", it.business),
        "live": it.live,
        "name": it.name,
        "rules": {
            "rails": it.rules.rail_order,
            "kinds": it.rules.allowed_kinds,
            "capture": it.rules.capture,
        },
        "created_at": _moment(it.created_at),
    }


def _key_shown(it: KeyFacts) -> dict[str, Any]:
    return {
        "id": public("key", it.id),
        "merchant": public("mer", it.merchant),
        "role": it.role.value,
        "hint": it.hint,
        "created_at": _moment(it.created_at),
        "revoked_at": None if it.revoked_at is None else _moment(it.revoked_at),
    }


def _tell(shown: dict[str, Any]) -> None:
    click.echo(json.dumps(shown, ensure_ascii=False))


def _aside(words: str) -> None:
    """Say something to people; what was asked for goes to standard output alone."""
    click.echo(words, err=True)


def _mode(it: Merchant) -> str:
    return "live" if it.live else "test"


def _words(role: str) -> str:
    return role.replace("_", " ")


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}"

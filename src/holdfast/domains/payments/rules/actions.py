"""What can be done next about a payment: the vocabulary of decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from holdfast.base.values import quick
from holdfast.domains.payments.model import Attempt, Op, Refund, Step


@quick
@dataclass(frozen=True, slots=True)
class Send:
    """Send a request.

    `attempt` None opens a new attempt for `step`. `repeat`: with the key of the first time.
    """

    op: Op
    why: str
    attempt: Attempt | None = None
    step: Step | None = None
    repeat: bool = False
    take_token: bool = False
    use_backup: bool = False
    refund: Refund | None = None
    """The refund that it carries out or asks about; else it concerns the attempt itself."""


@quick
@dataclass(frozen=True, slots=True)
class PayFromBalance:
    """Move the money from the payer's balance to the merchant, now and for good."""

    step: Step


@quick
@dataclass(frozen=True, slots=True)
class Keep:
    """Keep this attempt's charge: the merchant is paid."""

    attempt: Attempt


@quick
@dataclass(frozen=True, slots=True)
class Held:
    """The money is held and the merchant is to capture it."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class StandIn:
    """The wallet pays ahead of any certain funding, if the payer's limit allows."""


@dataclass(frozen=True, slots=True)
class Owe:
    """The wallet paid, and no funding came: the payer owes it."""


@quick
@dataclass(frozen=True, slots=True)
class End:
    """It is over and nothing is kept. `event` is the life cycle's word."""

    event: str
    code: str
    message: str


@quick
@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`. `doubt`: it waits for something that is in doubt."""

    until: datetime
    why: str
    doubt: bool = True


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is left to do."""


Action = Send | PayFromBalance | Keep | Held | StandIn | Owe | End | Wait | Rest

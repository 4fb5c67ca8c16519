"""The sandbox itself, without any network.

Instances, the faults set on them, and how a request meets them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

from holdfast.base.errors import Refused
from holdfast.sandbox import faults
from holdfast.sandbox.faults import Fault, FaultInvalid, Kind, Verdict
from holdfast.sandbox.harbour.api import HarbourProvider
from holdfast.sandbox.model import Call, Instance, Outgoing, Provider, Response
from holdfast.sandbox.store import Doc, Store
from holdfast.sandbox.stripe.api import StripeProvider

IDENTITIES_MAX: Final = 100_000
"""Requests whose repetitions are counted; the oldest are forgotten."""

KEY_KEEP_MS: Final = 25 * 3600 * 1000
"""How long answers are kept for their keys: Stripe promises at least 24 hours."""

FAULTS_MAX: Final = 200
_FIELDS: Final = frozenset(
    ("instance", "fault", "share", "latency_ms", "status", "operations", "seconds", "until", "note")
)


class InstanceUnknown(Refused):
    """There is no such instance."""

    code = "instance_unknown"


@dataclass(slots=True)
class Counts:
    """What an instance has seen since it was started."""

    requests: int = 0
    hit: int = 0
    webhooks: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What the first line and the headers tell of a request.

    `identity` None: it makes something new and carries no key, so that only its body tells what it is, and
    the verdict holds only what hits every request. `nth`: how often the identity was seen before.
    """

    operation: str
    identity: str | None
    nth: int
    verdict: Verdict


class Engine:
    """Owns the store, the providers and the faults. One thread. `now_ms` is Unix milliseconds."""

    def __init__(
        self, store: Store, instances: Sequence[Instance], *, seed: int, now_ms: Callable[[], int]
    ) -> None:
        self.store = store
        self.instances = {instance.name: instance for instance in instances}
        self.now_ms = now_ms
        self.counts = {name: Counts() for name in self.instances}
        self._default_seed = seed
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._pending: dict[str, list[Outgoing]] = {name: [] for name in self.instances}
        self._providers: dict[str, Provider] = {}
        for instance in instances:
            kind = StripeProvider if instance.protocol == "stripe" else HarbourProvider
            self._providers[instance.name] = kind(instance, store, self._pending[instance.name].append)
        self._load()

    def _load(self) -> None:
        kept = self.store.setting("seed")
        self.seed: int = self._default_seed if kept is None else kept
        self._number: int = self.store.setting("fault_number") or 0
        self.faults: dict[str, Fault] = {doc["id"]: _fault(doc) for doc in self.store.setting("faults") or []}
        self.hooks: dict[str, list[str]] = self.store.setting("hooks") or {}

    def provider(self, instance: str) -> Provider:
        """Return the provider that serves `instance`. Raises: `InstanceUnknown`."""
        try:
            return self._providers[instance]
        except KeyError:
            raise InstanceUnknown(
                f"There is no instance {instance!r}; there are {', '.join(self.instances)}."
            ) from None

    # requests

    def judge(self, instance: str, method: str, path: str, key: str | None) -> Heard:
        """Decide from the first line and the headers what happens to a request."""
        provider = self.provider(instance)
        operation = provider.operation(method, path)
        self.counts[instance].requests += 1
        identity, nth, in_force = key or f"{method} {path}", 0, self.in_force()
        if not key and provider.makes(method, path):
            verdict = self._judge(
                [fault for fault in in_force if fault.share >= 1], instance, operation, identity, nth
            )
            heard = Heard(operation, None, nth, verdict)
        else:
            nth = self._nth(instance, identity)
            verdict = self._judge(in_force, instance, operation, identity, nth)
            heard = Heard(operation, identity, nth, verdict)
        if verdict.refuse or verdict.dark:
            self.counts[instance].hit += 1
        return heard

    def _nth(self, instance: str, identity: str) -> int:
        seen = self._seen.pop((instance, identity), 0)
        self._seen[(instance, identity)] = seen + 1
        if len(self._seen) > IDENTITIES_MAX:
            self._seen.popitem(last=False)
        return seen

    def _judge(
        self, them: Sequence[Fault], instance: str, operation: str, identity: str, nth: int
    ) -> Verdict:
        return faults.judge(
            them,
            seed=self.seed,
            instance=instance,
            operation=operation,
            identity=identity,
            nth=nth,
            now_ms=self.now_ms(),
        )

    def sharpen(self, instance: str, call: Call, heard: Heard) -> Verdict:
        """Decide with the body at hand: a create that confirms, a magic card, a magic amount.

        Without a key, a request that makes something is known by its body, and each is a new one: also one
        with the same body, which is drawn afresh.
        """
        provider = self.provider(instance)
        identity, nth = heard.identity, heard.nth
        if identity is None:
            digest = blake2b(call.body, digest_size=16).hexdigest()
            identity = f"{call.method} {call.path} {digest}"
            nth = self._nth(instance, identity)
        first = heard.identity is None or nth == 0
        operation = provider.refined(call, heard.operation)
        outages = [one for one in provider.magic(call, operation) if first or one.repeats]
        them = [*self.in_force(), *(outage.fault(instance) for outage in outages)]
        verdict = self._judge(them, instance, operation, identity, nth)
        if verdict != Verdict():
            self.counts[instance].hit += 1
        return verdict

    def perform(self, instance: str, call: Call, verdict: Verdict) -> Response:
        """Carry a request out: its whole effect is durable when this returns."""
        try:
            with self.store.transaction():
                response = self.provider(instance).perform(call, verdict)
                self._owe(instance)
        finally:
            self._pending[instance].clear()
        return response

    def _owe(self, instance: str) -> None:
        """Owe the webhooks that a provider has just emitted, as the faults would have it."""
        now_ms, pending = self.now_ms(), self._pending[instance]
        in_force = self.in_force()
        for outgoing in pending:
            self.counts[instance].webhooks += 1
            mischief = faults.judge_webhook(
                [*in_force, *(outage.fault(instance) for outage in outgoing.outages)],
                seed=self.seed,
                instance=instance,
                event_id=outgoing.event_id,
                now_ms=now_ms,
            )
            for url in self.hooks.get(instance, ()):
                for _ in range(mischief.copies):
                    self.store.owe(
                        instance,
                        outgoing.event_id,
                        url,
                        outgoing.body,
                        bad_signature=mischief.bad_signature,
                        due_ms=now_ms + mischief.delay_ms,
                    )
        pending.clear()

    def fire_due(self, limit: int = 200) -> int:
        """Do what providers had put off until now; return how many things were done."""
        due = self.store.timers(self.now_ms(), limit)
        if not due:
            return 0
        with self.store.transaction():
            for timer in due:
                self.store.fired(timer.seq)
                self.provider(timer.instance).fire(timer, self.now_ms())
                self._owe(timer.instance)
        return len(due)

    def dark(self, instance: str) -> bool:
        """Tell whether everything about an instance is dark, its webhooks too."""
        now_ms = self.now_ms()
        return any(
            fault.kind is Kind.DARK and fault.share >= 1 and not fault.operations
            and fault.concerns(instance, "", now_ms)
            for fault in self.in_force()
        )  # fmt: skip

    # control

    def in_force(self) -> list[Fault]:
        """Return the faults that have not run out, and drop the others."""
        now_ms = self.now_ms()
        over = [f.id for f in self.faults.values() if f.until_ms is not None and f.until_ms <= now_ms]
        for fault_id in over:
            del self.faults[fault_id]
        return list(self.faults.values())

    def set_fault(self, asked: Mapping[str, Any]) -> Fault:
        """Set a fault from what a caller wrote. Raises: `FaultInvalid`, `InstanceUnknown`."""
        fault = read_fault(asked, number=self._number + 1, now_ms=self.now_ms())
        if fault.instance != "*":
            self.provider(fault.instance)
        if len(self.in_force()) >= FAULTS_MAX:
            raise FaultInvalid(f"At most {FAULTS_MAX} faults can be set at once; take some away.")
        self._number += 1
        self.faults[fault.id] = fault
        self._keep_faults()
        return fault

    def mend(self, fault_id: str) -> bool:
        """Take a fault away; False when there is none."""
        found = self.faults.pop(fault_id, None) is not None
        self._keep_faults()
        return found

    def mend_instance(self, instance: str) -> int:
        """Take all faults of an instance away, `*` for all there are; return how many."""
        gone = [f.id for f in self.faults.values() if instance in ("*", f.instance)]
        for fault_id in gone:
            del self.faults[fault_id]
        self._keep_faults()
        return len(gone)

    def _keep_faults(self) -> None:
        with self.store.transaction():
            self.store.keep("fault_number", self._number)
            self.store.keep("faults", [fault_doc(fault) for fault in self.faults.values()])

    def set_hooks(self, instance: str, urls: list[str]) -> None:
        """Deliver the webhooks of `instance` to `urls` from now on. Raises: `InstanceUnknown`."""
        self.provider(instance)
        self.hooks[instance] = urls
        with self.store.transaction():
            self.store.keep("hooks", self.hooks)

    def reset(self, seed: int | None = None) -> None:
        """Forget everything but where webhooks go. With `seed`, use it from now on."""
        hooks = self.hooks
        with self.store.transaction():
            self.store.clear()
            self.store.keep("hooks", hooks)
            if seed is not None:
                self.store.keep("seed", seed)
        self._seen.clear()
        self.counts = {name: Counts() for name in self.instances}
        self._load()

    def ledger(self, instance: str, reference: str | None = None) -> Doc:
        """Return the provider's own book.

        What it believes it holds, took and gave back, by object and in total.
        """
        self.provider(instance)
        charges = self.store.book(instance, reference=reference)
        taken: dict[str, int] = {}
        totals: dict[str, dict[str, int]] = {}
        for row in charges:
            total = totals.setdefault(row["currency"], dict.fromkeys(_SUMS, 0))
            for name in _SUMS:
                total[name] += row[name]
            if row["kept_minor"] > 0:
                taken[row["reference"]] = taken.get(row["reference"], 0) + 1
        twice = sorted(name for name, times in taken.items() if name and times > 1)
        return {"instance": instance, "charges": charges, "totals": totals, "charged_twice": twice}

    def prune(self) -> None:
        """Forget keys that are older than promised."""
        with self.store.transaction():
            self.store.prune_keys(before_ms=self.now_ms() - KEY_KEEP_MS)


_SUMS: Final = ("held_minor", "captured_minor", "refunded_minor", "kept_minor")


def fault_doc(fault: Fault) -> Doc:
    """Return a fault as JSON."""
    return {
        "id": fault.id,
        "number": fault.number,
        "instance": fault.instance,
        "fault": fault.kind.value,
        "share": fault.share,
        "latency_ms": fault.latency_ms,
        "status": fault.status,
        "operations": sorted(fault.operations),
        "from_ms": fault.from_ms,
        "until_ms": fault.until_ms,
        "note": fault.note,
    }


def _fault(doc: Doc) -> Fault:
    return Fault(
        doc["id"],
        doc["number"],
        doc["instance"],
        Kind(doc["fault"]),
        doc["share"],
        doc["latency_ms"],
        doc["status"],
        frozenset(doc["operations"]),
        doc["from_ms"],
        doc["until_ms"],
        doc["note"],
    )


def read_fault(asked: Mapping[str, Any], *, number: int, now_ms: int) -> Fault:
    """Read a fault as a caller writes it; see the reference page. Raises: `FaultInvalid`."""
    extra = sorted(set(asked) - _FIELDS)
    if extra:
        raise FaultInvalid(f"Unknown field {extra[0]!r}; there are {', '.join(sorted(_FIELDS))}.")
    try:
        kind = Kind(asked.get("fault", ""))
    except ValueError:
        raise FaultInvalid(
            f"There is no fault {asked.get('fault')!r}; there are {', '.join(Kind)}."
        ) from None
    fault = Fault(
        id=f"fault_{number}",
        number=number,
        instance=str(asked.get("instance", "*")),
        kind=kind,
        share=_number(asked, "share", 1.0, 0.0, 1.0),
        latency_ms=round(_number(asked, "latency_ms", faults.LATENCY_MS_DEFAULT, 0, faults.LATENCY_MS_MAX)),
        status=round(_number(asked, "status", 503 if kind is Kind.ERROR_BEFORE else 500, 500, 599)),
        operations=_operations(asked.get("operations", [])),
        from_ms=now_ms,
        note=str(asked.get("note", ""))[:200],
    )
    return replace(fault, until_ms=_until(asked, now_ms))


def _number(asked: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = asked.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise FaultInvalid(f"{name} must be a number from {low:g} to {high:g}.")
    return value


def _operations(given: object) -> frozenset[str]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise FaultInvalid("operations must be a list of names.")
    found: set[str] = set()
    for name in given:
        if name not in faults.OPERATIONS and name not in faults.OWN_OPERATIONS:
            known = ", ".join([*faults.OPERATIONS, *sorted(faults.OWN_OPERATIONS)])
            raise FaultInvalid(f"There is no operation {name!r}; there are {known}.")
        found.update(faults.OPERATIONS.get(name, (name,)))
    return frozenset(found)


def _until(asked: Mapping[str, Any], now_ms: int) -> int | None:
    if asked.get("seconds") is not None:
        return now_ms + round(_number(asked, "seconds", 0, 0, faults.DURATION_S_MAX) * 1000)
    until = asked.get("until")
    if until is None:
        return None
    try:
        moment = datetime.fromisoformat(str(until))
    except ValueError:
        raise FaultInvalid("until must be a moment such as 2026-01-31T12:00:00+00:00.") from None
    if moment.tzinfo is None:
        raise FaultInvalid("until must name its offset from UTC, such as +00:00.")
    return round(moment.timestamp() * 1000)


def state_doc(engine: Engine) -> Doc:
    """Return everything that the control page and other programs show."""
    in_force = engine.in_force()
    return {
        "seed": engine.seed,
        "now_ms": engine.now_ms(),
        "instances": [
            {
                "name": instance.name,
                "protocol": instance.protocol,
                "path": f"/{instance.name}/v1",
                "requests": engine.counts[instance.name].requests,
                "hit": engine.counts[instance.name].hit,
                "webhooks": engine.counts[instance.name].webhooks,
                "webhooks_owed": engine.store.owed(instance.name),
                "webhook_urls": engine.hooks.get(instance.name, []),
                "faults": [fault_doc(f) for f in in_force if f.instance in ("*", instance.name)],
            }
            for instance in engine.instances.values()
        ],
        "faults": [fault_doc(fault) for fault in in_force],
        "kinds": [kind.value for kind in Kind],
    }

create schema payments;

create table payments.payments (
    id uuid primary key,
    merchant_id uuid not null,
    payer_id uuid,
    asset text not null,
    amount_minor bigint not null check (amount_minor > 0),
    capture text not null check (capture in ('automatic', 'manual')),
    funding text not null check (funding in ('direct', 'absorb')),
    reference text not null,
    description text not null,
    metadata jsonb not null,
    merchant_rules jsonb not null,
    purpose text not null check (purpose in ('purchase', 'top_up')),
    live boolean,
    created_at timestamptz not null,
    deadline_at timestamptz,
    methods jsonb not null,
    plan jsonb not null,
    state text not null check (state in ('requires_confirmation', 'processing', 'pending', 'authorized', 'succeeded', 'failed', 'canceled')),
    captured_minor bigint not null check (captured_minor between 0 and amount_minor),
    refunded_minor bigint not null check (refunded_minor between 0 and captured_minor),
    version bigint not null,
    driver integer not null,
    updated_at timestamptz not null,
    next_step_at timestamptz,
    lease_until timestamptz,
    cancel_asked boolean not null,
    kept uuid,
    stood_in_minor bigint not null check (stood_in_minor between 0 and amount_minor),
    promise_at timestamptz,
    lines integer not null,
    failure_code text not null,
    failure_message text not null,
    constraint nothing_is_captured_unless_it_succeeded check (captured_minor = 0 or state = 'succeeded')
) with (fillfactor = 80);

comment on table payments.payments is 'What merchants asked to be paid, and how it stands.';
comment on column payments.payments.payer_id is 'Null: the payer is known to the merchant only.';
comment on column payments.payments.amount_minor is 'Minor units of the asset.';
comment on column payments.payments.funding is 'absorb: rails only fund the balance of the payer, and the merchant is paid from that.';
comment on column payments.payments.merchant_rules is 'Two lists: the kinds of method that the merchant takes (none: all), and the rails that it prefers.';
comment on column payments.payments.purpose is 'top_up: the money goes to the balance of the payer, and the merchant is only told.';
comment on column payments.payments.live is 'Real money, or the test mode of the merchant: only rails of that mode are used. Null: any.';
comment on column payments.payments.deadline_at is 'Past it the payer has walked away: nothing new is started.';
comment on column payments.payments.methods is 'In the order of the payer: [instrument id, kind, label, token] each.';
comment on column payments.payments.plan is 'In the order in which they are tried: [position of the method, rail, reason] each.';
comment on column payments.payments.captured_minor is 'What was charged and kept, minor units.';
comment on column payments.payments.refunded_minor is 'What was given back or is on its way back, minor units.';
comment on column payments.payments.version is 'Rises by one with each change; a change names the version that it is made on, or does not happen.';
comment on column payments.payments.driver is 'Rises each time that somebody takes the payment over; holders of an older number stop.';
comment on column payments.payments.next_step_at is 'When a worker looks at it again; null when nothing is due.';
comment on column payments.payments.lease_until is 'Until then somebody is at work on it and no worker takes it over.';
comment on column payments.payments.kept is 'The attempt whose charge is kept; null where the balance of the payer paid.';
comment on column payments.payments.stood_in_minor is 'What the wallet paid ahead of any certain funding and has not got back yet, minor units.';
comment on column payments.payments.promise_at is 'By when whatever is in doubt should be settled; past it a person is told.';
comment on column payments.payments.lines is 'How many journal entries there are.';

create index payments_due on payments.payments (greatest(next_step_at, lease_until)) where next_step_at is not null;
comment on index payments.payments_due is 'Claiming payments that are due (PostgresBook.claim_due).';
create index payments_of_merchant on payments.payments (merchant_id, id desc);
comment on index payments.payments_of_merchant is 'Listing the payments of a merchant, newest first (PostgresBook.listing).';

create table payments.attempts (
    id uuid primary key,
    payment_id uuid not null references payments.payments,
    seq integer not null,
    rail text not null,
    method jsonb not null,
    asset text not null,
    amount_minor bigint not null,
    state text not null check (state in ('sending', 'unknown', 'pending', 'authorized', 'capturing', 'captured', 'canceling',
                                         'canceled', 'declined', 'not_sent', 'returning', 'returned')),
    evidence smallint not null check (evidence between 0 and 4),
    reference text not null unique,
    remote_id text,
    code text not null,
    message text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deadline_at timestamptz not null,
    captured_minor bigint not null,
    tries integer not null,
    requests integer not null,
    next_at timestamptz,
    sent_at timestamptz,
    expires_at timestamptz,
    last_op text,
    payer_fault boolean not null,
    verified boolean not null,
    undoing boolean not null,
    to_capture_minor bigint not null,
    conflict boolean not null,
    epoch bigint,
    booked boolean not null,
    unique (payment_id, seq)
) with (fillfactor = 80);

comment on table payments.attempts is 'One try of one payment on one rail with one instrument, and what is known of it.';
comment on column payments.attempts.method is '[instrument id, kind, label, token]; the token names the instrument to the rail and is never a card number.';
comment on column payments.attempts.evidence is 'How strong the knowledge is: 0 none, 1 time-out, 2 the answer of the rail, 3 a signed message, 4 the settlement file.';
comment on column payments.attempts.reference is 'What the rail knows the attempt by; the same in all its requests.';
comment on column payments.attempts.remote_id is 'What the rail calls it, once we know.';
comment on column payments.attempts.captured_minor is 'What the rail says that it took, kept or not, minor units.';
comment on column payments.attempts.tries is 'Steps taken so far to find out, or to undo; the pause grows with it.';
comment on column payments.attempts.requests is 'Requests journaled so far.';
comment on column payments.attempts.sent_at is 'When the first request was journaled; the age of the key counts from here.';
comment on column payments.attempts.expires_at is 'From here the rail itself refuses to charge; null where it enforces no expiry.';
comment on column payments.attempts.verified is 'Its charge is beyond doubt.';
comment on column payments.attempts.undoing is 'A cancel was sent at least once; whatever it charges is not kept.';
comment on column payments.attempts.to_capture_minor is 'What was asked to be captured; 0: all of it.';
comment on column payments.attempts.conflict is 'The rail named another amount than was asked for.';
comment on column payments.attempts.epoch is 'The epoch of the capture token that it last took.';
comment on column payments.attempts.booked is 'Its charge is not kept and stands in the ledger as owed to the payer.';
create index attempts_by_remote_id on payments.attempts (rail, remote_id) where remote_id is not null;
comment on index payments.attempts_by_remote_id is 'Finding the attempt that a message from a rail speaks of (PostgresBook.find_attempt).';

create table payments.capture_tokens (
    payment_id uuid primary key references payments.payments,
    epoch bigint not null check (epoch > 0),
    holder uuid references payments.attempts
) with (fillfactor = 80);
comment on table payments.capture_tokens is 'Which attempt may make money leave the payer for good: one per payment.';
comment on column payments.capture_tokens.epoch is 'Rises each time that the token is taken.';
comment on column payments.capture_tokens.holder is 'Null: it is free.';

create table payments.sends (
    attempt_id uuid not null references payments.attempts,
    number integer not null,
    op text not null,
    key text not null,
    payload_hash bytea not null,
    at timestamptz not null,
    deadline_at timestamptz not null,
    repeat boolean not null,
    epoch bigint,
    primary key (attempt_id, number)
);
comment on table payments.sends is 'Every request to a rail, written before a byte of it leaves.';
comment on column payments.sends.key is 'The idempotency key under which it goes; one for each attempt, operation and payload.';
comment on column payments.sends.repeat is 'Sent before under this key.';
comment on column payments.sends.epoch is 'The epoch of the capture token, where the request may make money leave for good.';
create unique index sends_key on payments.sends (key) where not repeat;
comment on index payments.sends_key is 'No query: it keeps a key from being used for two things.';

create table payments.journal (
    payment_id uuid not null references payments.payments,
    position integer not null,
    at timestamptz not null,
    attempt_id uuid,
    op text,
    event text not null,
    words text not null,
    facts jsonb not null,
    primary key (payment_id, position)
);
comment on table payments.journal is 'Each decision and each request of a payment, in order and in words. Rows are only ever added.';
comment on column payments.journal.event is 'A stable word for what happened; `words` says it to people.';

create table payments.refunds (
    id uuid primary key,
    payment_id uuid not null references payments.payments,
    attempt_id uuid,
    asset text not null,
    amount_minor bigint not null check (amount_minor > 0),
    state text not null check (state in ('sending', 'pending', 'succeeded', 'failed')),
    reason text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    tries integer not null,
    next_at timestamptz,
    code text not null,
    message text not null
) with (fillfactor = 80);
comment on table payments.refunds is 'Money on its way back to payers.';
comment on column payments.refunds.attempt_id is 'The charge that it is taken back from; null: it goes to the balance of the payer.';
create index refunds_of_payment on payments.refunds (payment_id, id);
comment on index payments.refunds_of_payment is 'The refunds of a payment (PostgresBook.refunds).';

create table payments.evidence (
    rail text not null,
    event_id text not null,
    attempt_id uuid,
    strength smallint not null,
    said text not null,
    amount_minor bigint,
    at timestamptz not null,
    heard_at timestamptz not null,
    primary key (rail, event_id)
);
comment on table payments.evidence is 'What rails said unasked: signed messages, and lines of settlement files.';
comment on column payments.evidence.event_id is 'As the rail numbers it; a message that is repeated is kept once.';
comment on column payments.evidence.attempt_id is 'Null: nothing here knows the reference.';
comment on column payments.evidence.at is 'The time that the rail gives.';

create table payments.stand_ins (
    payer_id uuid not null,
    asset text not null,
    advanced_minor bigint not null check (advanced_minor >= 0),
    primary key (payer_id, asset)
) with (fillfactor = 80);
comment on table payments.stand_ins is 'What the wallet has paid for each payer ahead of any certain funding, minor units.';

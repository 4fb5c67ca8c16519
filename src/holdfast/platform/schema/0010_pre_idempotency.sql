create schema idempotency;
comment on schema idempotency is 'Which request a key was first used for, and the answer that repeats of it get.';

create table idempotency.claims (
    caller text not null,
    key text not null,
    fingerprint bytea not null,
    subject text not null,
    claimed_at timestamptz not null,
    primary key (caller, key)
);
comment on table idempotency.claims is
    'One row per idempotency key that was used; it commits together with the first effect of its request.';
comment on column idempotency.claims.caller is 'Whose key: keys of different callers never meet.';
comment on column idempotency.claims.fingerprint is 'Digest of the operation and its payload: the same key with another one is refused.';
comment on column idempotency.claims.subject is 'Public id of what the request made or changed, so that its state can be told when no answer was stored.';

create table idempotency.answers (
    caller text not null,
    key text not null,
    status smallint not null,
    body bytea not null,
    answered_at timestamptz not null default now(),
    primary key (caller, key)
);
comment on table idempotency.answers is 'The first answer of each request, success or error. Rows are added and never changed.';
comment on column idempotency.answers.status is 'HTTP status of the answer.';
comment on column idempotency.answers.body is 'Body of the answer, byte for byte.';

create index claims_by_age on idempotency.claims using brin (claimed_at);
comment on index idempotency.claims_by_age is 'For forget_before: the oldest claims, in batches.';

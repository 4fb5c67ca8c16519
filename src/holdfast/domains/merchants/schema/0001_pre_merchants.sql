create schema merchants;
comment on schema merchants is 'Who takes payments, with which keys, and by which rules.';

create table merchants.merchants (
    id uuid primary key,
    business uuid not null,
    live boolean not null,
    name text not null,
    allowed_kinds text[] not null default '{}',
    rail_order text[] not null default '{}',
    capture text not null default 'automatic' check (capture in ('automatic', 'manual')),
    created_at timestamptz not null,
    unique (business, live)
);
comment on table merchants.merchants is
    'A business as it stands in one mode. Its test half and its live half are two merchants, so nothing of one is ever seen with a key of the other.';
comment on column merchants.merchants.business is 'What the test half and the live half have in common.';
comment on column merchants.merchants.live is 'True: real money. False: test.';
comment on column merchants.merchants.allowed_kinds is 'Kinds of method that this merchant takes; empty: all.';
comment on column merchants.merchants.rail_order is 'Rails in the order that this merchant prefers; empty: no preference.';
comment on column merchants.merchants.capture is 'How a payment is captured when the request does not say.';

create table merchants.keys (
    digest bytea primary key check (length(digest) = 32),
    merchant uuid not null references merchants.merchants (id),
    role text not null check (role in ('full', 'read_only', 'publishable')),
    hint text not null,
    created_at timestamptz not null,
    revoked_at timestamptz
);
comment on table merchants.keys is 'API keys. The key itself is shown once and never stored.';
comment on column merchants.keys.digest is
    'SHA-256 of the key. The key carries 256 random bits, so a slow hash would add cost and no safety.';
comment on column merchants.keys.hint is 'The beginning and the last four characters, by which people tell keys apart.';
comment on column merchants.keys.revoked_at is 'From then on the key opens nothing.';

create index keys_by_merchant on merchants.keys (merchant, created_at);
comment on index merchants.keys_by_merchant is 'For keys_of: the keys of one merchant.';

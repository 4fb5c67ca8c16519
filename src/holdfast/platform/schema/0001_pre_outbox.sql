-- What happened, for whoever must be told: written in the transaction of the fact itself, relayed afterwards.
create schema outbox;
comment on schema outbox is 'Events: kept for listing, relayed once to each follower.';

create table outbox.events (
    id uuid not null,
    type text not null,
    owner uuid,
    subject text not null,
    facts jsonb not null,
    at timestamptz not null,
    transaction_id xid8 not null default pg_current_xact_id(),
    primary key (id)
);
comment on table outbox.events is 'Append-only. One row per event; removed by age after everyone has read it.';
comment on column outbox.events.id is 'UUID version 7 chosen by the announcer: orders the public list, stable across deliveries.';
comment on column outbox.events.owner is 'The merchant whose event it is; null for the platform''s own.';
comment on column outbox.events.subject is 'Public id of what it is about (pay_…, ref_…).';
comment on column outbox.events.transaction_id is
    'The transaction that wrote it. Readers pass only transactions below the oldest still running, so that a row which commits late is never skipped.';

create index events_relay on outbox.events (transaction_id, id);
comment on index outbox.events_relay is 'relay: what is new after the follower''s cursor, in order of transaction.';
create index events_listing on outbox.events (owner, id desc);
comment on index outbox.events_listing is 'listing: a merchant''s events, newest first.';

create table outbox.followers (
    name text not null primary key,
    transaction_id xid8 not null,
    event_id uuid not null,
    cluster bigint not null,
    relayed bigint not null default 0,
    moved_at timestamptz not null
);
comment on table outbox.followers is 'How far each follower has read. Its row is locked while a batch is handed over, in the same transaction as what follows from it.';
comment on column outbox.followers.transaction_id is 'With event_id: the last event handed over, in order (transaction_id, id).';
comment on column outbox.followers.cluster is 'System identifier of the PostgreSQL cluster whose transaction ids these are.';
comment on column outbox.followers.relayed is 'Events handed over since the beginning.';

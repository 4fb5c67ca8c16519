-- A large snapshot is written in parts, so that nobody's commit waits while one of a million accounts is handed over.

create table ledger.snapshot_parts (
    seq bigint not null references ledger.snapshots on delete cascade,
    part integer not null check (part > 0),
    payload bytea not null,
    primary key (seq, part)
);
alter table ledger.snapshot_parts alter column payload set storage external;
comment on table ledger.snapshot_parts is 'What follows on the payload of a large snapshot.';
comment on column ledger.snapshot_parts.seq is 'Which snapshot.';
comment on column ledger.snapshot_parts.part is '1, 2, 3 …: joined in this order.';
comment on index ledger.snapshot_parts_pkey is 'A snapshot in order.';
comment on column ledger.snapshots.payload is 'Or the beginning of it: `snapshot_parts` has the rest.';

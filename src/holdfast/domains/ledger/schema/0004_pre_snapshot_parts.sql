-- A snapshot is written in parts, so that nobody's commit waits while one of a million accounts is handed over.

alter table ledger.snapshots add column part integer not null default 0 check (part >= 0);
alter table ledger.snapshots drop constraint snapshots_pkey;
alter table ledger.snapshots add primary key (seq, part);
comment on column ledger.snapshots.part is '0, 1, 2 …: their payloads joined are the snapshot.';
comment on index ledger.snapshots_pkey is 'The newest snapshot.';

-- Whole segments of transfers may be moved to files. What stays: the batches, their refusals and hashes, every mark, and of each
-- transfer that was moved its id, its number, its amount and a digest of what was asked.

create table ledger.archives (
    segment integer primary key check (segment >= 0),
    file text not null,
    sha256 bytea not null check (octet_length(sha256) = 32),
    bytes bigint not null check (bytes > 0),
    transfers integer not null check (transfers >= 0),
    opened_at timestamptz not null,
    last_at timestamptz not null,
    last_seq bigint not null,
    archived_at timestamptz not null
);
comment on table ledger.archives is 'The segments whose transfers were moved to files: from the oldest on, without gaps.';
comment on column ledger.archives.file is 'Its name; docs/reference/ledger.md has the format.';
comment on column ledger.archives.sha256 is 'SHA-256 of the file as it was written.';
comment on column ledger.archives.opened_at is 'No transfer in it is older.';
comment on column ledger.archives.last_at is 'Time of its newest transfer.';
comment on column ledger.archives.last_seq is 'Number of its newest transfer.';
comment on index ledger.archives_pkey is 'Archived segments in order.';

create table ledger.archived (
    segment integer not null,
    first_id uuid not null,
    ids bytea not null,
    details bytea not null,
    holds bytea,
    primary key (segment, first_id),
    check (octet_length(ids) % 16 = 0 and octet_length(details) % 28 = 0
           and octet_length(ids) / 16 = octet_length(details) / 28 and octet_length(holds) % 38 = 0)
);
alter table ledger.archived
    alter column ids set storage main, alter column details set storage main, alter column holds set storage external;
comment on table ledger.archived is 'What is still known of archived transfers: some in a row, by id.';
comment on column ledger.archived.first_id is 'The lowest id in the row.';
comment on column ledger.archived.ids is 'Their ids, 16 bytes each, ascending.';
comment on column ledger.archived.details is 'Of each, in the same order: its number less the first of the segment (4 bytes), amount (8), the first 16 bytes of the digest of what was asked.';
comment on column ledger.archived.holds is 'Of those that were pending: which of the row (2), debit, credit (8 each), asset, kind of the transfer that settled it (2 each), the number of that, when it would have lapsed (8 each).';
comment on index ledger.archived_pkey is 'Whether an id was archived.';

-- Drops the table of a segment that is in ledger.archives. Raises when anybody may still need its rows.
create function ledger.drop_segment_v1(p_number integer) returns void language plpgsql
as $$
declare
    v_last_seq bigint;
begin
    select a.last_seq into v_last_seq from ledger.archives a where a.segment = p_number;
    if v_last_seq is null
        or exists (select from ledger.segments where number < p_number)
        or (select count(*) from ledger.segments where number > p_number) < 2
        or not exists (select from ledger.segments where number = p_number and indexed and marked and last_seq = v_last_seq)
        or coalesce((select min(seq) from ledger.snapshots), -1) < v_last_seq then
        raise exception 'segment % is still needed', p_number;
    end if;
    execute format('drop table ledger.%I', format('transfers_%s', lpad(p_number::text, 6, '0')));
    delete from ledger.segments where number = p_number;
end $$;
comment on function ledger.drop_segment_v1 is 'Drops the table of a segment that was archived.';

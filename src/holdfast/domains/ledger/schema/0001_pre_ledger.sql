-- The ledger. One process at a time writes it: it keeps every balance in memory, decides there, and appends what it
-- decided. Nothing here is updated while it does so but the one row of `head`. Balances are not stored row by row:
-- `marks` and `snapshots` are written behind, and what they say follows from the transfers.

create schema ledger;
comment on schema ledger is 'Double-entry ledger: accounts, transfers between them, and the proof that nothing was altered.';

create table ledger.accounts (
    number bigint primary key check (number > 0),
    code text not null unique,
    asset smallint not null,
    rule smallint not null check (rule between 0 and 2),
    place integer not null unique check (place >= 0),
    limit_minor bigint not null default 0 check (limit_minor >= 0),
    closed boolean not null default false,
    opened_at timestamptz not null
);
comment on table ledger.accounts is 'What an account is; only its limit and whether it is closed ever change.';
comment on column ledger.accounts.number is 'Chosen by whoever opens the account.';
comment on column ledger.accounts.code is 'Readable name, for example payer:pyr_01JD:CNY.';
comment on column ledger.accounts.asset is 'ISO 4217 number, or a number of ours above 1000.';
comment on column ledger.accounts.rule is '0 free, 1 debits must not exceed credits, 2 credits must not exceed debits.';
comment on column ledger.accounts.place is 'Where the writer keeps it: 0, 1, 2 … in the order of opening.';
comment on column ledger.accounts.limit_minor is 'By how much the rule may be exceeded now, minor units: a credit limit. `limits` has its history.';
comment on column ledger.accounts.closed is 'A closed account takes part in nothing but the end of holds: their release, and the settlement of those that settle themselves.';
comment on index ledger.accounts_pkey is 'Opening and describing accounts by number.';
comment on index ledger.accounts_code_key is 'Finding an account by its name.';
comment on index ledger.accounts_place_key is 'Accounts opened since a snapshot.';

create table ledger.limits (
    account bigint not null,
    seq bigint not null,
    at timestamptz not null,
    limit_minor bigint not null check (limit_minor >= 0),
    primary key (account, seq)
);
comment on table ledger.limits is 'Every change of an account''s credit limit.';
comment on column ledger.limits.seq is 'It holds from the transfer with this number on.';
comment on index ledger.limits_pkey is 'The limit of an account at a transfer.';

create table ledger.transfers (
    seq bigint not null,
    at timestamptz not null,
    debit bigint not null,
    credit bigint not null,
    amount bigint not null,
    id uuid not null,
    code integer not null,
    asset smallint not null,
    kind smallint not null,
    balancing smallint,
    asked bigint,
    held bigint,
    pending_id uuid,
    expires_at timestamptz,
    metadata jsonb,
    over bigint,
    settles boolean,
    check (amount > 0 and debit <> credit)
) partition by range (seq);
comment on table ledger.transfers is 'Every transfer that was made, in segments of 2^20 numbers. Never updated, never deleted; a correction is a new transfer.';
comment on column ledger.transfers.seq is 'Rises by one within a batch, and from batch to batch; where a segment ends early, numbers are left out.';
comment on column ledger.transfers.at is 'Time of its batch.';
comment on column ledger.transfers.id is 'Chosen by whoever asks, time-ordered, so that new ones go to the right edge of the index.';
comment on column ledger.transfers.amount is 'What it moved, reserved or released, minor units.';
comment on column ledger.transfers.code is 'The caller''s own reason code.';
comment on column ledger.transfers.kind is '0 posted, 1 pending, 2 settles a pending one, 3 voids one, 4 one lapsed, 5 one settled itself.';
comment on column ledger.transfers.balancing is '1 as much as the debit account allows, 2 as the credit account allows; null: exactly the amount.';
comment on column ledger.transfers.asked is 'Amount asked for where it differs from the amount; -1 when all was asked for.';
comment on column ledger.transfers.held is 'What the pending transfer that this one settles or releases had reserved.';
comment on column ledger.transfers.pending_id is 'The pending transfer that this one settles or releases.';
comment on column ledger.transfers.expires_at is 'When the time of a pending transfer is over: it lapses, or settles itself.';
comment on column ledger.transfers.over is 'By how much more than its amount a pending transfer may be settled; null: not for more.';
comment on column ledger.transfers.settles is 'True: a pending transfer that is settled in full when its time is over. Else null.';

create table ledger.segments (
    number integer primary key,
    opened_at timestamptz not null,
    last_at timestamptz,
    last_seq bigint,
    indexed boolean not null,
    marked boolean not null default false
);
comment on table ledger.segments is 'Partitions of transfers: segment n holds the numbers from n * 2^20 and is the table transfers_<n>.';
comment on column ledger.segments.opened_at is 'No transfer in it is older.';
comment on column ledger.segments.last_at is 'Time of its newest transfer; null while it is being written.';
comment on column ledger.segments.last_seq is 'Number of its newest transfer; null while it is being written.';
comment on column ledger.segments.indexed is 'Whether an account''s history is found by index: at once where little is written, else built behind.';
comment on column ledger.segments.marked is 'Whether each account that it touches has a mark in it, at or after its last transfer there. Then so have all segments before it.';
comment on index ledger.segments_pkey is 'Segments in order.';
create index segments_unmarked on ledger.segments (number) where not marked;
comment on index ledger.segments_unmarked is 'The segments that a balance of now adds up.';

create table ledger.refusals (
    id uuid primary key,
    batch bigint not null,
    position integer not null,
    at timestamptz not null,
    outcome smallint not null check (outcome > 1)
);
comment on table ledger.refusals is 'Ids whose transfer was refused because of the state of the ledger: they stay refused.';
comment on column ledger.refusals.position is 'Place among the refusals of the batch, from 0.';
comment on column ledger.refusals.outcome is 'Number of the refusal, as in the table of outcomes.';
comment on index ledger.refusals_pkey is 'The same answer for an id that was refused before.';
create index refusals_batch on ledger.refusals using brin (batch) with (pages_per_range = 32, autosummarize = on);
comment on index ledger.refusals_batch is 'Refusals of a batch.';

create table ledger.batches (
    number bigint primary key,
    first_seq bigint not null,
    at timestamptz not null,
    transfers integer not null,
    refusals integer not null,
    root bytea not null,
    hash bytea not null,
    early uuid[]
);
comment on table ledger.batches is 'One row for each committed batch of transfers, linked by hash to the one before.';
comment on column ledger.batches.number is '1, 2, 3 … without gaps.';
comment on column ledger.batches.first_seq is 'Number of its first transfer, or, without transfers, of the next that will be made.';
comment on column ledger.batches.at is 'Never earlier than any batch before.';
comment on column ledger.batches.root is 'Merkle root of its transfers; see docs/reference/ledger.md.';
comment on column ledger.batches.hash is 'SHA-256 over the hash before it, this row and its refusals; see docs/reference/ledger.md.';
comment on column ledger.batches.early is 'Ids whose own time lay ahead of the writer''s clock: they are looked up always.';
comment on index ledger.batches_pkey is 'Verification in order.';
create index batches_first_seq on ledger.batches (first_seq);
comment on index ledger.batches_first_seq is 'The batch of a transfer.';
create index batches_at on ledger.batches (at, number);
comment on index ledger.batches_at is 'The newest batch at a moment.';
create index batches_early on ledger.batches (number) where early is not null;
comment on index ledger.batches_early is 'Ids that a new writer must know of.';

create table ledger.marks (
    account bigint not null,
    seq bigint not null,
    entries bigint not null,
    debits_posted bigint not null,
    credits_posted bigint not null,
    debits_pending bigint not null,
    credits_pending bigint not null,
    primary key (account, seq)
);
comment on table ledger.marks is 'Sparse balances, about every 64 entries of an account, written behind: a balance is a mark and the few transfers after it. One that is missing in a segment that is not `marked` only makes the way longer.';
comment on column ledger.marks.seq is 'The balance after all transfers up to this number.';
comment on column ledger.marks.entries is 'How many transfers had touched the account by then.';
comment on index ledger.marks_pkey is 'The newest mark of an account at a moment.';

create table ledger.snapshots (
    seq bigint primary key,
    batch bigint not null,
    at timestamptz not null,
    payload bytea not null
);
alter table ledger.snapshots alter column payload set storage external;
comment on table ledger.snapshots is 'Every balance and open hold at once, written behind: a new writer starts from the newest and reads what came after. The last two are kept.';
comment on column ledger.snapshots.seq is 'After all transfers up to this number.';
comment on index ledger.snapshots_pkey is 'The newest snapshot.';

create table ledger.head (
    one boolean primary key default true check (one),
    epoch bigint not null,
    commits bigint not null,
    batch bigint not null,
    seq bigint not null,
    at timestamptz not null,
    hash bytea not null
) with (fillfactor = 10);
insert into ledger.head (epoch, commits, batch, seq, at, hash) values (0, 0, 0, -1, '1970-01-01 00:00:00+00', '');
comment on table ledger.head is 'Where the ledger stands: one row, moved on by every commit. It fences: a commit must name the epoch and the commit before it.';
comment on column ledger.head.epoch is 'Of the writer that may commit.';
comment on column ledger.head.commits is 'Commits so far, those without transfers too.';
comment on column ledger.head.batch is 'Number of the newest batch.';
comment on column ledger.head.seq is 'Number of the newest transfer.';
comment on column ledger.head.hash is 'Hash of the newest batch.';
comment on index ledger.head_pkey is 'The one row.';

create table ledger.writer (
    one boolean primary key default true check (one),
    epoch bigint not null,
    holder text not null,
    address text not null,
    token bytea not null,
    alive_until timestamptz not null
) with (fillfactor = 10);
insert into ledger.writer values (true, 0, '', '', '', '-infinity');
comment on table ledger.writer is 'Who writes, where others reach it, and until when it counts as alive; the database''s own clock decides.';
comment on column ledger.writer.token is 'What others show when they call: whoever can read this may.';
comment on index ledger.writer_pkey is 'The one row.';

-- Moves the head on by one commit. Raises HF002 when another has been elected or another commit came in between.
create function ledger.commit_v1(
    p_epoch bigint, p_commits bigint, p_batch bigint, p_first_seq bigint, p_at timestamptz,
    p_transfers integer, p_refusals integer, p_root bytea, p_hash bytea, p_early uuid[]
) returns void language plpgsql
as $$
begin
    if p_hash is null then
        update ledger.head set commits = p_commits where epoch = p_epoch and commits = p_commits - 1;
    else
        update ledger.head
        set commits = p_commits, batch = p_batch, seq = p_first_seq + p_transfers - 1, at = p_at, hash = p_hash
        where epoch = p_epoch and commits = p_commits - 1;
    end if;
    if not found then
        raise exception 'not the writer of this ledger any more' using errcode = 'HF002';
    end if;
    if p_hash is not null then
        insert into ledger.batches (number, first_seq, at, transfers, refusals, root, hash, early)
        values (p_batch, p_first_seq, p_at, p_transfers, p_refusals, p_root, p_hash, p_early);
    end if;
end $$;
comment on function ledger.commit_v1 is 'Moves the head on by one commit, or raises.';

-- Adds a partition of transfers. With `p_history`, an account's transfers are found by index from the beginning.
create function ledger.open_segment_v1(p_number integer, p_at timestamptz, p_history boolean) returns void language plpgsql
as $$
declare
    v_name text := format('transfers_%s', lpad(p_number::text, 6, '0'));
begin
    execute format('create table ledger.%I (like ledger.transfers including defaults including constraints) '
        'with (fillfactor = 100, autovacuum_analyze_scale_factor = 0.2)', v_name);
    execute format('create unique index on ledger.%I (id)', v_name);
    execute format('create index %I on ledger.%I using brin (seq) with (pages_per_range = 32, autosummarize = on)', v_name || '_seq', v_name);
    execute format('create unique index on ledger.%I (pending_id) where pending_id is not null', v_name);
    insert into ledger.segments (number, opened_at, indexed) values (p_number, p_at, p_history);
    if p_history then
        perform ledger.index_segment_v1(p_number);
    end if;
    execute format('alter table ledger.transfers attach partition ledger.%I for values from (%s) to (%s)',
        v_name, p_number::bigint << 20, (p_number + 1)::bigint << 20);
end $$;
comment on function ledger.open_segment_v1 is 'Adds a partition of transfers.';

-- Builds what finds an account's history in a segment. Nobody can write that segment meanwhile.
create function ledger.index_segment_v1(p_number integer) returns void language plpgsql
as $$
declare
    v_name text := format('transfers_%s', lpad(p_number::text, 6, '0'));
begin
    execute format('create index on ledger.%I (debit, seq)', v_name);
    execute format('create index on ledger.%I (credit, seq)', v_name);
    update ledger.segments set indexed = true where number = p_number;
end $$;
comment on function ledger.index_segment_v1 is 'Builds the indexes of the history of a segment.';

-- Notes where a segment ended that is written no more.
create function ledger.seal_segment_v1(p_number integer) returns void language plpgsql
as $$
begin
    update ledger.segments s set last_seq = b.last_seq, last_at = b.at
    from (select first_seq + transfers - 1 as last_seq, at from ledger.batches
          where first_seq < (p_number + 1)::bigint << 20 and transfers > 0 order by first_seq desc limit 1) b
    where s.number = p_number and s.last_seq is null;
    perform brin_summarize_new_values(format('ledger.transfers_%s_seq', lpad(p_number::text, 6, '0'))::regclass);
end $$;
comment on function ledger.seal_segment_v1 is 'Notes where a segment ended.';

-- Writes the marks that a segment lacks: where each of its accounts was touched last. For a segment that is written no
-- more, once all before it are marked. Takes seconds; what is there already is kept.
create function ledger.mark_segment_v1(p_number integer) returns void language plpgsql
as $$
declare
    v_table text := format('transfers_%s', lpad(p_number::text, 6, '0'));
    v_low bigint := p_number::bigint << 20;
begin
    if exists (select from ledger.segments where number <= p_number and (last_seq is null or (number < p_number and not marked))) then
        raise exception 'segment % is still written, or one before it lacks its marks', p_number;
    end if;
    execute format($q$
        with touched as materialized (
            select v.account, max(t.seq) as seq, count(*) as entries,
                   coalesce(sum(t.amount) filter (where v.debit and t.kind in (0, 2, 5)), 0)::bigint as debits_posted,
                   coalesce(sum(t.amount) filter (where not v.debit and t.kind in (0, 2, 5)), 0)::bigint as credits_posted,
                   coalesce(sum(case when t.kind = 1 then t.amount else -t.held end) filter (where v.debit and t.kind <> 0), 0)::bigint as debits_pending,
                   coalesce(sum(case when t.kind = 1 then t.amount else -t.held end) filter (where not v.debit and t.kind <> 0), 0)::bigint as credits_pending
            from ledger.%1$I t cross join lateral (values (t.debit, true), (t.credit, false)) as v (account, debit)
            group by v.account
        )
        insert into ledger.marks (account, seq, entries, debits_posted, credits_posted, debits_pending, credits_pending)
        select t.account, t.seq, coalesce(m.entries, 0) + t.entries,
               coalesce(m.debits_posted, 0) + t.debits_posted, coalesce(m.credits_posted, 0) + t.credits_posted,
               coalesce(m.debits_pending, 0) + t.debits_pending, coalesce(m.credits_pending, 0) + t.credits_pending
        from touched t
        left join lateral (
            select * from ledger.marks m where m.account = t.account and m.seq < %2$s order by m.seq desc limit 1
        ) m on true
        where not exists (select from ledger.marks l where l.account = t.account and l.seq >= t.seq and l.seq < %3$s)
        on conflict do nothing$q$, v_table, v_low, v_low + (1 << 20));
    update ledger.segments set marked = true where number = p_number;
end $$;
comment on function ledger.mark_segment_v1 is 'Writes the marks that a segment lacks.';

create table ledger.tree_nodes (
    level smallint not null check (level in (10, 20, 30, 40)),
    number bigint not null check (number >= 0),
    hash bytea not null check (octet_length(hash) = 32),
    primary key (level, number)
);
comment on table ledger.tree_nodes is 'Complete subtrees of the Merkle tree over all batches, kept by whoever first needs them for a receipt. One that is missing is computed again.';
comment on column ledger.tree_nodes.level is 'It stands over 2^level batches.';
comment on column ledger.tree_nodes.number is 'Place among those of its level: the first batch under it is number * 2^level + 1.';
comment on column ledger.tree_nodes.hash is 'As in RFC 6962; the leaves are the hashes of batches.';
comment on index ledger.tree_nodes_pkey is 'Subtrees of a proof.';

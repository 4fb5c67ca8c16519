-- The schema that the migrations make, written by `make schema`. A test compares; do not edit.

CREATE SCHEMA idempotency;

COMMENT ON SCHEMA idempotency IS 'Which request a key was first used for, and the answer that repeats of it get.';

CREATE SCHEMA instruments;

COMMENT ON SCHEMA instruments IS 'Payers, and by what they can pay. Nothing here can charge a card: tokens mean something to one provider only.';

CREATE SCHEMA jobs;

COMMENT ON SCHEMA jobs IS 'Background jobs and schedules, worked off by pgqueuer.';

CREATE SCHEMA ledger;

COMMENT ON SCHEMA ledger IS 'Double-entry ledger: accounts, transfers between them, and the proof that nothing was altered.';

CREATE SCHEMA merchants;

COMMENT ON SCHEMA merchants IS 'Who takes payments, with which keys, and by which rules.';

CREATE SCHEMA migrations;

COMMENT ON SCHEMA migrations IS 'Which migrations were applied here.';

CREATE SCHEMA outbox;

COMMENT ON SCHEMA outbox IS 'Events: kept for listing, relayed once to each follower.';

CREATE SCHEMA payments;

CREATE SCHEMA processes;

COMMENT ON SCHEMA processes IS 'Running processes of Holdfast.';

CREATE SCHEMA seals;

COMMENT ON SCHEMA seals IS 'Keys under which personal texts are sealed. To destroy a key is to erase what was sealed under it, everywhere.';

CREATE SCHEMA webhooks;

COMMENT ON SCHEMA webhooks IS 'Webhook endpoints, deliveries owed to them, and every try.';

CREATE TYPE jobs.pgqueuer_status AS ENUM (
    'queued',
    'picked',
    'successful',
    'exception',
    'canceled',
    'deleted',
    'failed'
);

COMMENT ON TYPE jobs.pgqueuer_status IS 'Where a job stands.';

CREATE FUNCTION jobs.fn_pgqueuer_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    to_emit BOOLEAN := false;  -- Flag to decide whether to emit a notification
BEGIN
    -- Check operation type and set the emit flag accordingly
    IF TG_OP = 'UPDATE' AND OLD IS DISTINCT FROM NEW THEN
        to_emit := true;
    ELSIF TG_OP = 'DELETE' THEN
        to_emit := true;
    ELSIF TG_OP = 'INSERT' THEN
        to_emit := true;
    ELSIF TG_OP = 'TRUNCATE' THEN
        to_emit := true;
    END IF;

    -- Perform notification if the emit flag is set
    IF to_emit THEN
        PERFORM pg_notify(
            'ch_pgqueuer',
            json_build_object(
                'channel', 'ch_pgqueuer',
                'operation', lower(TG_OP),
                'sent_at', NOW(),
                'table', TG_TABLE_NAME,
                'type', 'table_changed_event'
            )::text
        );
    END IF;

    -- Return appropriate value based on the operation
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSE
        RETURN NULL; -- For TRUNCATE and other non-row-specific contexts
    END IF;

END;
$$;

CREATE FUNCTION ledger.commit_v1(p_epoch bigint, p_commits bigint, p_batch bigint, p_first_seq bigint, p_at timestamp with time zone, p_transfers integer, p_refusals integer, p_root bytea, p_hash bytea, p_early uuid[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

COMMENT ON FUNCTION ledger.commit_v1(p_epoch bigint, p_commits bigint, p_batch bigint, p_first_seq bigint, p_at timestamp with time zone, p_transfers integer, p_refusals integer, p_root bytea, p_hash bytea, p_early uuid[]) IS 'Moves the head on by one commit, or raises.';

CREATE FUNCTION ledger.drop_segment_v1(p_number integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_last_seq bigint;
begin
    select a.last_seq into v_last_seq from ledger.archives a where a.segment = p_number;
    if v_last_seq is null
        or exists (select from ledger.segments where number < p_number)
        or (select count(*) from ledger.segments where number > p_number) < 2
        or not exists (select from ledger.segments where number = p_number and indexed and marked and last_seq = v_last_seq)
        or exists (select from ledger.segments where number > p_number and span = p_number)
        or coalesce((select min(seq) from ledger.snapshots), -1) < v_last_seq then
        raise exception 'segment % is still needed', p_number;
    end if;
    execute format('drop table ledger.%I', format('transfers_%s', lpad(p_number::text, 6, '0')));
    delete from ledger.segments where number = p_number;
end $$;

COMMENT ON FUNCTION ledger.drop_segment_v1(p_number integer) IS 'Drops the table of a segment that was archived.';

CREATE FUNCTION ledger.index_segment_v1(p_number integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_name text := format('transfers_%s', lpad(p_number::text, 6, '0'));
begin
    execute format('create index on ledger.%I (debit, seq)', v_name);
    execute format('create index on ledger.%I (credit, seq)', v_name);
    update ledger.segments set indexed = true where number = p_number;
end $$;

COMMENT ON FUNCTION ledger.index_segment_v1(p_number integer) IS 'Builds the indexes of the history of a segment.';

CREATE FUNCTION ledger.mark_segment_v1(p_number integer) RETURNS void
    LANGUAGE plpgsql
    AS $_$
declare
    v_table text := format('transfers_%s', lpad(p_number::text, 6, '0'));
    v_low bigint := p_number::bigint << 20;
begin
    if exists (select from ledger.segments where number <= p_number and (last_seq is null or (number < p_number and not marked)))
        or exists (select from ledger.segments where number = p_number and span < number) then
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
    update ledger.segments set span = p_number + 1 where span = p_number and number > p_number;
    update ledger.segments set marked = true, span = p_number where number = p_number;
end $_$;

COMMENT ON FUNCTION ledger.mark_segment_v1(p_number integer) IS 'Gives a segment marks of its own.';

CREATE FUNCTION ledger.open_segment_v1(p_number integer, p_at timestamp with time zone, p_history boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

COMMENT ON FUNCTION ledger.open_segment_v1(p_number integer, p_at timestamp with time zone, p_history boolean) IS 'Adds a partition of transfers.';

CREATE FUNCTION ledger.seal_segment_v1(p_number integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    update ledger.segments s set last_seq = b.last_seq, last_at = b.at
    from (select first_seq + transfers - 1 as last_seq, at from ledger.batches
          where first_seq < (p_number + 1)::bigint << 20 and transfers > 0 order by first_seq desc limit 1) b
    where s.number = p_number and s.last_seq is null;
    perform brin_summarize_new_values(format('ledger.transfers_%s_seq', lpad(p_number::text, 6, '0'))::regclass);
end $$;

COMMENT ON FUNCTION ledger.seal_segment_v1(p_number integer) IS 'Notes where a segment ended.';

CREATE TABLE idempotency.answers (
    caller text NOT NULL,
    key text NOT NULL,
    status smallint NOT NULL,
    body bytea NOT NULL,
    answered_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE idempotency.answers IS 'The first answer of each request, success or error. Rows are added and never changed.';

COMMENT ON COLUMN idempotency.answers.status IS 'HTTP status of the answer.';

COMMENT ON COLUMN idempotency.answers.body IS 'Body of the answer, byte for byte.';

CREATE TABLE idempotency.claims (
    caller text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    subject text NOT NULL,
    claimed_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE idempotency.claims IS 'One row per idempotency key that was used; it commits together with the first effect of its request.';

COMMENT ON COLUMN idempotency.claims.caller IS 'Whose key: keys of different callers never meet.';

COMMENT ON COLUMN idempotency.claims.fingerprint IS 'Digest of the operation and its payload: the same key with another one is refused.';

COMMENT ON COLUMN idempotency.claims.subject IS 'Public id of what the request made or changed, so that its state can be told when no answer was stored.';

CREATE TABLE instruments.instruments (
    id uuid NOT NULL,
    payer uuid NOT NULL,
    kind text NOT NULL,
    label text NOT NULL,
    token text NOT NULL,
    "position" smallint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    removed_at timestamp with time zone,
    CONSTRAINT instruments_check CHECK (((kind = 'bank'::text) OR (token !~ '^[0-9]([ -]?[0-9]){11,}$'::text))),
    CONSTRAINT instruments_kind_check CHECK ((kind = ANY (ARRAY['balance'::text, 'card'::text, 'bank'::text]))),
    CONSTRAINT instruments_label_check CHECK ((label !~ '[0-9]([ -]?[0-9]){11,}'::text))
);

COMMENT ON TABLE instruments.instruments IS 'Ways of paying, in the payer''s own order.';

COMMENT ON COLUMN instruments.instruments.kind IS 'balance: the wallet; card: a token of a card provider; bank: an account to be debited by transfer.';

COMMENT ON COLUMN instruments.instruments.label IS 'What the payer sees. It never holds a card number.';

COMMENT ON COLUMN instruments.instruments.token IS 'What the provider knows it by. Never a card number; empty for a balance.';

COMMENT ON COLUMN instruments.instruments."position" IS 'Place in the payer''s own order, lowest first.';

COMMENT ON COLUMN instruments.instruments.removed_at IS 'From then on it is not offered; the row stays for the payments that used it.';

CREATE TABLE instruments.payers (
    id uuid NOT NULL,
    merchant uuid,
    name text NOT NULL,
    reference text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE instruments.payers IS 'People who pay.';

COMMENT ON COLUMN instruments.payers.merchant IS 'The merchant that enrolled this payer and alone may charge it; null: a payer of the wallet itself. Merchants belong to one mode, so payers do.';

COMMENT ON COLUMN instruments.payers.reference IS 'The merchant''s own name for the payer.';

CREATE TABLE jobs.pgqueuer (
    id bigint NOT NULL,
    priority integer NOT NULL,
    queue_manager_id uuid,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    heartbeat timestamp with time zone DEFAULT now() NOT NULL,
    execute_after timestamp with time zone DEFAULT now() NOT NULL,
    status jobs.pgqueuer_status NOT NULL,
    entrypoint text NOT NULL,
    dedupe_key text,
    payload bytea,
    headers jsonb,
    attempts integer DEFAULT 0 NOT NULL,
    slot bigint
);

COMMENT ON TABLE jobs.pgqueuer IS 'Jobs that wait or run; finished ones leave for the log.';

COMMENT ON COLUMN jobs.pgqueuer.heartbeat IS 'Refreshed while a worker runs the job; silent for 30 s, another takes it.';

COMMENT ON COLUMN jobs.pgqueuer.execute_after IS 'Not before then.';

COMMENT ON COLUMN jobs.pgqueuer.dedupe_key IS 'At most one waiting or running job per key.';

COMMENT ON COLUMN jobs.pgqueuer.slot IS 'Place taken under a concurrency limit.';

CREATE SEQUENCE jobs.pgqueuer_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE jobs.pgqueuer_id_seq OWNED BY jobs.pgqueuer.id;

CREATE TABLE jobs.pgqueuer_log (
    id bigint NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    job_id bigint NOT NULL,
    status jobs.pgqueuer_status NOT NULL,
    priority integer NOT NULL,
    entrypoint text NOT NULL,
    traceback jsonb,
    aggregated boolean DEFAULT false
);

COMMENT ON TABLE jobs.pgqueuer_log IS 'What became of jobs; removed by age.';

ALTER TABLE jobs.pgqueuer_log ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME jobs.pgqueuer_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE jobs.pgqueuer_schedules (
    id bigint NOT NULL,
    expression text NOT NULL,
    entrypoint text NOT NULL,
    heartbeat timestamp with time zone DEFAULT now() NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    next_run timestamp with time zone DEFAULT now() NOT NULL,
    last_run timestamp with time zone,
    status jobs.pgqueuer_status DEFAULT 'queued'::jobs.pgqueuer_status
);

COMMENT ON TABLE jobs.pgqueuer_schedules IS 'Recurring jobs and when each runs next.';

CREATE SEQUENCE jobs.pgqueuer_schedules_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE jobs.pgqueuer_schedules_id_seq OWNED BY jobs.pgqueuer_schedules.id;

CREATE TABLE jobs.pgqueuer_statistics (
    id bigint NOT NULL,
    created timestamp with time zone DEFAULT date_trunc('sec'::text, now()) NOT NULL,
    count bigint NOT NULL,
    priority integer NOT NULL,
    status jobs.pgqueuer_status NOT NULL,
    entrypoint text NOT NULL
);

COMMENT ON TABLE jobs.pgqueuer_statistics IS 'Counts of finished jobs per second.';

CREATE SEQUENCE jobs.pgqueuer_statistics_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE jobs.pgqueuer_statistics_id_seq OWNED BY jobs.pgqueuer_statistics.id;

CREATE TABLE ledger.accounts (
    number bigint NOT NULL,
    code text NOT NULL,
    asset smallint NOT NULL,
    rule smallint NOT NULL,
    place integer NOT NULL,
    limit_minor bigint DEFAULT 0 NOT NULL,
    closed boolean DEFAULT false NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    CONSTRAINT accounts_limit_minor_check CHECK ((limit_minor >= 0)),
    CONSTRAINT accounts_number_check CHECK ((number > 0)),
    CONSTRAINT accounts_place_check CHECK ((place >= 0)),
    CONSTRAINT accounts_rule_check CHECK (((rule >= 0) AND (rule <= 2)))
);

COMMENT ON TABLE ledger.accounts IS 'What an account is; only its limit and whether it is closed ever change.';

COMMENT ON COLUMN ledger.accounts.number IS 'Chosen by whoever opens the account.';

COMMENT ON COLUMN ledger.accounts.code IS 'Readable name, for example payer:pyr_01JD:CNY.';

COMMENT ON COLUMN ledger.accounts.asset IS 'ISO 4217 number, or a number of ours above 1000.';

COMMENT ON COLUMN ledger.accounts.rule IS '0 free, 1 debits must not exceed credits, 2 credits must not exceed debits.';

COMMENT ON COLUMN ledger.accounts.place IS 'Where the writer keeps it: 0, 1, 2 … in the order of opening.';

COMMENT ON COLUMN ledger.accounts.limit_minor IS 'By how much the rule may be exceeded now, minor units: a credit limit. `limits` has its history.';

COMMENT ON COLUMN ledger.accounts.closed IS 'A closed account takes part in nothing but the end of holds: their release, and the settlement of those that settle themselves.';

CREATE TABLE ledger.archived (
    segment integer NOT NULL,
    first_id uuid NOT NULL,
    ids bytea NOT NULL,
    details bytea NOT NULL,
    holds bytea,
    CONSTRAINT archived_check CHECK ((((octet_length(ids) % 16) = 0) AND ((octet_length(details) % 28) = 0) AND ((octet_length(ids) / 16) = (octet_length(details) / 28)) AND ((octet_length(holds) % 38) = 0)))
);
ALTER TABLE ONLY ledger.archived ALTER COLUMN ids SET STORAGE MAIN;
ALTER TABLE ONLY ledger.archived ALTER COLUMN details SET STORAGE MAIN;
ALTER TABLE ONLY ledger.archived ALTER COLUMN holds SET STORAGE EXTERNAL;

COMMENT ON TABLE ledger.archived IS 'What is still known of archived transfers: some in a row, by id.';

COMMENT ON COLUMN ledger.archived.first_id IS 'The lowest id in the row.';

COMMENT ON COLUMN ledger.archived.ids IS 'Their ids, 16 bytes each, ascending.';

COMMENT ON COLUMN ledger.archived.details IS 'Of each, in the same order: its number less the first of the segment (4 bytes), amount (8), the first 16 bytes of the digest of what was asked.';

COMMENT ON COLUMN ledger.archived.holds IS 'Of those that were pending: which of the row (2), debit, credit (8 each), asset, kind of the transfer that settled it (2 each), the number of that, when it would have lapsed (8 each).';

CREATE TABLE ledger.archives (
    segment integer NOT NULL,
    file text NOT NULL,
    sha256 bytea NOT NULL,
    bytes bigint NOT NULL,
    transfers integer NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    last_seq bigint NOT NULL,
    archived_at timestamp with time zone NOT NULL,
    CONSTRAINT archives_bytes_check CHECK ((bytes > 0)),
    CONSTRAINT archives_segment_check CHECK ((segment >= 0)),
    CONSTRAINT archives_sha256_check CHECK ((octet_length(sha256) = 32)),
    CONSTRAINT archives_transfers_check CHECK ((transfers >= 0))
);

COMMENT ON TABLE ledger.archives IS 'The segments whose transfers were moved to files: from the oldest on, without gaps.';

COMMENT ON COLUMN ledger.archives.file IS 'Its name; docs/reference/ledger.md has the format.';

COMMENT ON COLUMN ledger.archives.sha256 IS 'SHA-256 of the file as it was written.';

COMMENT ON COLUMN ledger.archives.opened_at IS 'No transfer in it is older.';

COMMENT ON COLUMN ledger.archives.last_at IS 'Time of its newest transfer.';

COMMENT ON COLUMN ledger.archives.last_seq IS 'Number of its newest transfer.';

CREATE TABLE ledger.batches (
    number bigint NOT NULL,
    first_seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    transfers integer NOT NULL,
    refusals integer NOT NULL,
    root bytea NOT NULL,
    hash bytea NOT NULL,
    early uuid[]
);

COMMENT ON TABLE ledger.batches IS 'One row for each committed batch of transfers, linked by hash to the one before.';

COMMENT ON COLUMN ledger.batches.number IS '1, 2, 3 … without gaps.';

COMMENT ON COLUMN ledger.batches.first_seq IS 'Number of its first transfer, or, without transfers, of the next that will be made.';

COMMENT ON COLUMN ledger.batches.at IS 'Never earlier than any batch before.';

COMMENT ON COLUMN ledger.batches.root IS 'Merkle root of its transfers; see docs/reference/ledger.md.';

COMMENT ON COLUMN ledger.batches.hash IS 'SHA-256 over the hash before it, this row and its refusals; see docs/reference/ledger.md.';

COMMENT ON COLUMN ledger.batches.early IS 'Ids whose own time lay ahead of the writer''s clock: they are looked up always.';

CREATE TABLE ledger.head (
    one boolean DEFAULT true NOT NULL,
    epoch bigint NOT NULL,
    commits bigint NOT NULL,
    batch bigint NOT NULL,
    seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT head_one_check CHECK (one)
)
WITH (fillfactor='10');

COMMENT ON TABLE ledger.head IS 'Where the ledger stands: one row, moved on by every commit. It fences: a commit must name the epoch and the commit before it.';

COMMENT ON COLUMN ledger.head.epoch IS 'Of the writer that may commit.';

COMMENT ON COLUMN ledger.head.commits IS 'Commits so far, those without transfers too.';

COMMENT ON COLUMN ledger.head.batch IS 'Number of the newest batch.';

COMMENT ON COLUMN ledger.head.seq IS 'Number of the newest transfer.';

COMMENT ON COLUMN ledger.head.hash IS 'Hash of the newest batch.';

CREATE TABLE ledger.limits (
    account bigint NOT NULL,
    seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    limit_minor bigint NOT NULL,
    CONSTRAINT limits_limit_minor_check CHECK ((limit_minor >= 0))
);

COMMENT ON TABLE ledger.limits IS 'Every change of an account''s credit limit.';

COMMENT ON COLUMN ledger.limits.seq IS 'It holds from the transfer with this number on.';

CREATE TABLE ledger.marks (
    account bigint NOT NULL,
    seq bigint NOT NULL,
    entries bigint NOT NULL,
    debits_posted bigint NOT NULL,
    credits_posted bigint NOT NULL,
    debits_pending bigint NOT NULL,
    credits_pending bigint NOT NULL
);

COMMENT ON TABLE ledger.marks IS 'Sparse balances, about every 64 entries of an account, written behind: a balance is a mark and the few transfers after it. One that is missing in a segment that is not `marked` only makes the way longer.';

COMMENT ON COLUMN ledger.marks.seq IS 'The balance after all transfers up to this number.';

COMMENT ON COLUMN ledger.marks.entries IS 'How many transfers had touched the account by then.';

CREATE TABLE ledger.refusals (
    id uuid NOT NULL,
    batch bigint NOT NULL,
    "position" integer NOT NULL,
    at timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    CONSTRAINT refusals_outcome_check CHECK ((outcome > 1))
);

COMMENT ON TABLE ledger.refusals IS 'Ids whose transfer was refused because of the state of the ledger: they stay refused.';

COMMENT ON COLUMN ledger.refusals."position" IS 'Place among the refusals of the batch, from 0.';

COMMENT ON COLUMN ledger.refusals.outcome IS 'Number of the refusal, as in the table of outcomes.';

CREATE TABLE ledger.segments (
    number integer NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone,
    last_seq bigint,
    indexed boolean NOT NULL,
    marked boolean DEFAULT false NOT NULL,
    span integer,
    CONSTRAINT segments_span CHECK (((marked = (span IS NOT NULL)) AND (span <= number)))
);

COMMENT ON TABLE ledger.segments IS 'Partitions of transfers: segment n holds the numbers from n * 2^20 and is the table transfers_<n>.';

COMMENT ON COLUMN ledger.segments.opened_at IS 'No transfer in it is older.';

COMMENT ON COLUMN ledger.segments.last_at IS 'Time of its newest transfer; null while it is being written.';

COMMENT ON COLUMN ledger.segments.last_seq IS 'Number of its newest transfer; null while it is being written.';

COMMENT ON COLUMN ledger.segments.indexed IS 'Whether an account''s history is found by index: at once where little is written, else built behind.';

COMMENT ON COLUMN ledger.segments.marked IS 'Whether each account that it touches has a mark at or after its last transfer there, and not behind its span. Then so have all segments before it.';

COMMENT ON COLUMN ledger.segments.span IS 'First of the segments that were marked together with it, which may be itself; null while it is not marked.';

CREATE TABLE ledger.snapshot_parts (
    seq bigint NOT NULL,
    part integer NOT NULL,
    payload bytea NOT NULL,
    CONSTRAINT snapshot_parts_part_check CHECK ((part > 0))
);
ALTER TABLE ONLY ledger.snapshot_parts ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE ledger.snapshot_parts IS 'What follows on the payload of a large snapshot.';

COMMENT ON COLUMN ledger.snapshot_parts.seq IS 'Which snapshot.';

COMMENT ON COLUMN ledger.snapshot_parts.part IS '1, 2, 3 …: joined in this order.';

CREATE TABLE ledger.snapshots (
    seq bigint NOT NULL,
    batch bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    payload bytea NOT NULL
);
ALTER TABLE ONLY ledger.snapshots ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE ledger.snapshots IS 'Every balance and open hold at once, written behind: a new writer starts from the newest and reads what came after. The last two are kept.';

COMMENT ON COLUMN ledger.snapshots.seq IS 'After all transfers up to this number.';

COMMENT ON COLUMN ledger.snapshots.payload IS 'Or the beginning of it: `snapshot_parts` has the rest.';

CREATE TABLE ledger.transfers (
    seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    debit bigint NOT NULL,
    credit bigint NOT NULL,
    amount bigint NOT NULL,
    id uuid NOT NULL,
    code integer NOT NULL,
    asset smallint NOT NULL,
    kind smallint NOT NULL,
    balancing smallint,
    asked bigint,
    held bigint,
    pending_id uuid,
    expires_at timestamp with time zone,
    metadata jsonb,
    over bigint,
    settles boolean,
    CONSTRAINT transfers_check CHECK (((amount > 0) AND (debit <> credit)))
)
PARTITION BY RANGE (seq);

COMMENT ON TABLE ledger.transfers IS 'Every transfer that was made, in segments of 2^20 numbers. Never updated, never deleted; a correction is a new transfer.';

COMMENT ON COLUMN ledger.transfers.seq IS 'Rises by one within a batch, and from batch to batch; where a segment ends early, numbers are left out.';

COMMENT ON COLUMN ledger.transfers.at IS 'Time of its batch.';

COMMENT ON COLUMN ledger.transfers.amount IS 'What it moved, reserved or released, minor units.';

COMMENT ON COLUMN ledger.transfers.id IS 'Chosen by whoever asks, time-ordered, so that new ones go to the right edge of the index.';

COMMENT ON COLUMN ledger.transfers.code IS 'The caller''s own reason code.';

COMMENT ON COLUMN ledger.transfers.kind IS '0 posted, 1 pending, 2 settles a pending one, 3 voids one, 4 one lapsed, 5 one settled itself.';

COMMENT ON COLUMN ledger.transfers.balancing IS '1 as much as the debit account allows, 2 as the credit account allows; null: exactly the amount.';

COMMENT ON COLUMN ledger.transfers.asked IS 'Amount asked for where it differs from the amount; -1 when all was asked for.';

COMMENT ON COLUMN ledger.transfers.held IS 'What the pending transfer that this one settles or releases had reserved.';

COMMENT ON COLUMN ledger.transfers.pending_id IS 'The pending transfer that this one settles or releases.';

COMMENT ON COLUMN ledger.transfers.expires_at IS 'When the time of a pending transfer is over: it lapses, or settles itself.';

COMMENT ON COLUMN ledger.transfers.over IS 'By how much more than its amount a pending transfer may be settled; null: not for more.';

COMMENT ON COLUMN ledger.transfers.settles IS 'True: a pending transfer that is settled in full when its time is over. Else null.';

CREATE TABLE ledger.tree_nodes (
    level smallint NOT NULL,
    number bigint NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT tree_nodes_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT tree_nodes_level_check CHECK ((level = ANY (ARRAY[10, 20, 30, 40]))),
    CONSTRAINT tree_nodes_number_check CHECK ((number >= 0))
);

COMMENT ON TABLE ledger.tree_nodes IS 'Complete subtrees of the Merkle tree over all batches, kept by whoever first needs them for a receipt. One that is missing is computed again.';

COMMENT ON COLUMN ledger.tree_nodes.level IS 'It stands over 2^level batches.';

COMMENT ON COLUMN ledger.tree_nodes.number IS 'Place among those of its level: the first batch under it is number * 2^level + 1.';

COMMENT ON COLUMN ledger.tree_nodes.hash IS 'As in RFC 6962; the leaves are the hashes of batches.';

CREATE TABLE ledger.writer (
    one boolean DEFAULT true NOT NULL,
    epoch bigint NOT NULL,
    holder text NOT NULL,
    address text NOT NULL,
    token bytea NOT NULL,
    alive_until timestamp with time zone NOT NULL,
    CONSTRAINT writer_one_check CHECK (one)
)
WITH (fillfactor='10');

COMMENT ON TABLE ledger.writer IS 'Who writes, where others reach it, and until when it counts as alive; the database''s own clock decides.';

COMMENT ON COLUMN ledger.writer.token IS 'What others show when they call: whoever can read this may.';

CREATE TABLE merchants.keys (
    digest bytea NOT NULL,
    merchant uuid NOT NULL,
    role text NOT NULL,
    hint text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    CONSTRAINT keys_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT keys_role_check CHECK ((role = ANY (ARRAY['full'::text, 'read_only'::text, 'publishable'::text])))
);

COMMENT ON TABLE merchants.keys IS 'API keys. The key itself is shown once and never stored.';

COMMENT ON COLUMN merchants.keys.digest IS 'SHA-256 of the key. The key carries 256 random bits, so a slow hash would add cost and no safety.';

COMMENT ON COLUMN merchants.keys.hint IS 'The beginning and the last four characters, by which people tell keys apart.';

COMMENT ON COLUMN merchants.keys.revoked_at IS 'From then on the key opens nothing.';

CREATE TABLE merchants.merchants (
    id uuid NOT NULL,
    business uuid NOT NULL,
    live boolean NOT NULL,
    name text NOT NULL,
    allowed_kinds text[] DEFAULT '{}'::text[] NOT NULL,
    rail_order text[] DEFAULT '{}'::text[] NOT NULL,
    capture text DEFAULT 'automatic'::text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT merchants_capture_check CHECK ((capture = ANY (ARRAY['automatic'::text, 'manual'::text])))
);

COMMENT ON TABLE merchants.merchants IS 'A business as it stands in one mode. Its test half and its live half are two merchants, so nothing of one is ever seen with a key of the other.';

COMMENT ON COLUMN merchants.merchants.business IS 'What the test half and the live half have in common.';

COMMENT ON COLUMN merchants.merchants.live IS 'True: real money. False: test.';

COMMENT ON COLUMN merchants.merchants.allowed_kinds IS 'Kinds of method that this merchant takes; empty: all.';

COMMENT ON COLUMN merchants.merchants.rail_order IS 'Rails in the order that this merchant prefers; empty: no preference.';

COMMENT ON COLUMN merchants.merchants.capture IS 'How a payment is captured when the request does not say.';

CREATE TABLE migrations.applied (
    domain text NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE migrations.applied IS 'One row per file; its checksum proves that it has not changed since.';

CREATE TABLE outbox.events (
    id uuid NOT NULL,
    type text NOT NULL,
    owner uuid,
    subject text NOT NULL,
    facts jsonb NOT NULL,
    at timestamp with time zone NOT NULL,
    transaction_id xid8 DEFAULT pg_current_xact_id() NOT NULL
);

COMMENT ON TABLE outbox.events IS 'Append-only. One row per event; removed by age after everyone has read it.';

COMMENT ON COLUMN outbox.events.id IS 'UUID version 7 chosen by the announcer: orders the public list, stable across deliveries.';

COMMENT ON COLUMN outbox.events.owner IS 'The merchant whose event it is; null for the platform''s own.';

COMMENT ON COLUMN outbox.events.subject IS 'Public id of what it is about (pay_…, ref_…).';

COMMENT ON COLUMN outbox.events.transaction_id IS 'The transaction that wrote it. Readers pass only transactions below the oldest still running, so that a row which commits late is never skipped.';

CREATE TABLE outbox.followers (
    name text NOT NULL,
    transaction_id xid8 NOT NULL,
    event_id uuid NOT NULL,
    cluster bigint NOT NULL,
    relayed bigint DEFAULT 0 NOT NULL,
    moved_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE outbox.followers IS 'How far each follower has read. Its row is locked while a batch is handed over, in the same transaction as what follows from it.';

COMMENT ON COLUMN outbox.followers.transaction_id IS 'With event_id: the last event handed over, in order (transaction_id, id).';

COMMENT ON COLUMN outbox.followers.cluster IS 'System identifier of the PostgreSQL cluster whose transaction ids these are.';

COMMENT ON COLUMN outbox.followers.relayed IS 'Events handed over since the beginning.';

CREATE TABLE payments.attempts (
    id uuid NOT NULL,
    payment_id uuid NOT NULL,
    seq integer NOT NULL,
    rail text NOT NULL,
    method jsonb NOT NULL,
    asset text NOT NULL,
    amount_minor bigint NOT NULL,
    state text NOT NULL,
    evidence smallint NOT NULL,
    reference text NOT NULL,
    remote_id text,
    code text NOT NULL,
    message text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deadline_at timestamp with time zone NOT NULL,
    captured_minor bigint NOT NULL,
    tries integer NOT NULL,
    requests integer NOT NULL,
    next_at timestamp with time zone,
    sent_at timestamp with time zone,
    expires_at timestamp with time zone,
    last_op text,
    payer_fault boolean NOT NULL,
    verified boolean NOT NULL,
    undoing boolean NOT NULL,
    to_capture_minor bigint NOT NULL,
    conflict boolean NOT NULL,
    epoch bigint,
    booked boolean NOT NULL,
    CONSTRAINT attempts_evidence_check CHECK (((evidence >= 0) AND (evidence <= 4))),
    CONSTRAINT attempts_state_check CHECK ((state = ANY (ARRAY['sending'::text, 'unknown'::text, 'pending'::text, 'authorized'::text, 'capturing'::text, 'captured'::text, 'canceling'::text, 'canceled'::text, 'declined'::text, 'not_sent'::text, 'returning'::text, 'returned'::text])))
)
WITH (fillfactor='80');

COMMENT ON TABLE payments.attempts IS 'One try of one payment on one rail with one instrument, and what is known of it.';

COMMENT ON COLUMN payments.attempts.method IS '[instrument id, kind, label, token]; the token names the instrument to the rail and is never a card number.';

COMMENT ON COLUMN payments.attempts.evidence IS 'How strong the knowledge is: 0 none, 1 time-out, 2 the answer of the rail, 3 a signed message, 4 the settlement file.';

COMMENT ON COLUMN payments.attempts.reference IS 'What the rail knows the attempt by; the same in all its requests.';

COMMENT ON COLUMN payments.attempts.remote_id IS 'What the rail calls it, once we know.';

COMMENT ON COLUMN payments.attempts.captured_minor IS 'What the rail says that it took, kept or not, minor units.';

COMMENT ON COLUMN payments.attempts.tries IS 'Steps taken so far to find out, or to undo; the pause grows with it.';

COMMENT ON COLUMN payments.attempts.requests IS 'Requests journaled so far.';

COMMENT ON COLUMN payments.attempts.sent_at IS 'When the first request was journaled; the age of the key counts from here.';

COMMENT ON COLUMN payments.attempts.expires_at IS 'From here the rail itself refuses to charge; null where it enforces no expiry.';

COMMENT ON COLUMN payments.attempts.verified IS 'Its charge is beyond doubt.';

COMMENT ON COLUMN payments.attempts.undoing IS 'A cancel was sent at least once; whatever it charges is not kept.';

COMMENT ON COLUMN payments.attempts.to_capture_minor IS 'What was asked to be captured; 0: all of it.';

COMMENT ON COLUMN payments.attempts.conflict IS 'The rail named another amount than was asked for.';

COMMENT ON COLUMN payments.attempts.epoch IS 'The epoch of the capture token that it last took.';

COMMENT ON COLUMN payments.attempts.booked IS 'Its charge is not kept and stands in the ledger as owed to the payer.';

CREATE TABLE payments.capture_tokens (
    payment_id uuid NOT NULL,
    epoch bigint NOT NULL,
    holder uuid,
    CONSTRAINT capture_tokens_epoch_check CHECK ((epoch > 0))
)
WITH (fillfactor='80');

COMMENT ON TABLE payments.capture_tokens IS 'Which attempt may make money leave the payer for good: one per payment.';

COMMENT ON COLUMN payments.capture_tokens.epoch IS 'Rises each time that the token is taken.';

COMMENT ON COLUMN payments.capture_tokens.holder IS 'Null: it is free.';

CREATE TABLE payments.evidence (
    rail text NOT NULL,
    event_id text NOT NULL,
    attempt_id uuid,
    strength smallint NOT NULL,
    said text NOT NULL,
    amount_minor bigint,
    at timestamp with time zone NOT NULL,
    heard_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE payments.evidence IS 'What rails said unasked: signed messages, and lines of settlement files.';

COMMENT ON COLUMN payments.evidence.event_id IS 'As the rail numbers it; a message that is repeated is kept once.';

COMMENT ON COLUMN payments.evidence.attempt_id IS 'Null: nothing here knows the reference.';

COMMENT ON COLUMN payments.evidence.at IS 'The time that the rail gives.';

CREATE TABLE payments.journal (
    payment_id uuid NOT NULL,
    "position" integer NOT NULL,
    at timestamp with time zone NOT NULL,
    attempt_id uuid,
    op text,
    event text NOT NULL,
    words text NOT NULL,
    facts jsonb NOT NULL
);

COMMENT ON TABLE payments.journal IS 'Each decision and each request of a payment, in order and in words. Rows are only ever added.';

COMMENT ON COLUMN payments.journal.event IS 'A stable word for what happened; `words` says it to people.';

CREATE TABLE payments.payments (
    id uuid NOT NULL,
    merchant_id uuid NOT NULL,
    payer_id uuid,
    asset text NOT NULL,
    amount_minor bigint NOT NULL,
    capture text NOT NULL,
    funding text NOT NULL,
    reference text NOT NULL,
    description text NOT NULL,
    metadata jsonb NOT NULL,
    merchant_rules jsonb NOT NULL,
    purpose text NOT NULL,
    live boolean,
    created_at timestamp with time zone NOT NULL,
    deadline_at timestamp with time zone,
    methods jsonb NOT NULL,
    plan jsonb NOT NULL,
    state text NOT NULL,
    captured_minor bigint NOT NULL,
    refunded_minor bigint NOT NULL,
    version bigint NOT NULL,
    driver integer NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    next_step_at timestamp with time zone,
    lease_until timestamp with time zone,
    cancel_asked boolean NOT NULL,
    kept uuid,
    stood_in_minor bigint NOT NULL,
    promise_at timestamp with time zone,
    lines integer NOT NULL,
    failure_code text NOT NULL,
    failure_message text NOT NULL,
    CONSTRAINT nothing_is_captured_unless_it_succeeded CHECK (((captured_minor = 0) OR (state = 'succeeded'::text))),
    CONSTRAINT payments_amount_minor_check CHECK ((amount_minor > 0)),
    CONSTRAINT payments_capture_check CHECK ((capture = ANY (ARRAY['automatic'::text, 'manual'::text]))),
    CONSTRAINT payments_check CHECK (((captured_minor >= 0) AND (captured_minor <= amount_minor))),
    CONSTRAINT payments_check1 CHECK (((refunded_minor >= 0) AND (refunded_minor <= captured_minor))),
    CONSTRAINT payments_check2 CHECK (((stood_in_minor >= 0) AND (stood_in_minor <= amount_minor))),
    CONSTRAINT payments_funding_check CHECK ((funding = ANY (ARRAY['direct'::text, 'absorb'::text]))),
    CONSTRAINT payments_purpose_check CHECK ((purpose = ANY (ARRAY['purchase'::text, 'top_up'::text]))),
    CONSTRAINT payments_state_check CHECK ((state = ANY (ARRAY['requires_confirmation'::text, 'processing'::text, 'pending'::text, 'authorized'::text, 'succeeded'::text, 'failed'::text, 'canceled'::text])))
)
WITH (fillfactor='80');

COMMENT ON TABLE payments.payments IS 'What merchants asked to be paid, and how it stands.';

COMMENT ON COLUMN payments.payments.payer_id IS 'Null: the payer is known to the merchant only.';

COMMENT ON COLUMN payments.payments.amount_minor IS 'Minor units of the asset.';

COMMENT ON COLUMN payments.payments.funding IS 'absorb: rails only fund the balance of the payer, and the merchant is paid from that.';

COMMENT ON COLUMN payments.payments.merchant_rules IS 'Two lists: the kinds of method that the merchant takes (none: all), and the rails that it prefers.';

COMMENT ON COLUMN payments.payments.purpose IS 'top_up: the money goes to the balance of the payer, and the merchant is only told.';

COMMENT ON COLUMN payments.payments.live IS 'Real money, or the test mode of the merchant: only rails of that mode are used. Null: any.';

COMMENT ON COLUMN payments.payments.deadline_at IS 'Past it the payer has walked away: nothing new is started.';

COMMENT ON COLUMN payments.payments.methods IS 'In the order of the payer: [instrument id, kind, label, token] each.';

COMMENT ON COLUMN payments.payments.plan IS 'In the order in which they are tried: [position of the method, rail, reason] each.';

COMMENT ON COLUMN payments.payments.captured_minor IS 'What was charged and kept, minor units.';

COMMENT ON COLUMN payments.payments.refunded_minor IS 'What was given back or is on its way back, minor units.';

COMMENT ON COLUMN payments.payments.version IS 'Rises by one with each change; a change names the version that it is made on, or does not happen.';

COMMENT ON COLUMN payments.payments.driver IS 'Rises each time that somebody takes the payment over; holders of an older number stop.';

COMMENT ON COLUMN payments.payments.next_step_at IS 'When a worker looks at it again; null when nothing is due.';

COMMENT ON COLUMN payments.payments.lease_until IS 'Until then somebody is at work on it and no worker takes it over.';

COMMENT ON COLUMN payments.payments.kept IS 'The attempt whose charge is kept; null where the balance of the payer paid.';

COMMENT ON COLUMN payments.payments.stood_in_minor IS 'What the wallet paid ahead of any certain funding and has not got back yet, minor units.';

COMMENT ON COLUMN payments.payments.promise_at IS 'By when whatever is in doubt should be settled; past it a person is told.';

COMMENT ON COLUMN payments.payments.lines IS 'How many journal entries there are.';

CREATE TABLE payments.refunds (
    id uuid NOT NULL,
    payment_id uuid NOT NULL,
    attempt_id uuid,
    asset text NOT NULL,
    amount_minor bigint NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    tries integer NOT NULL,
    next_at timestamp with time zone,
    code text NOT NULL,
    message text NOT NULL,
    CONSTRAINT refunds_amount_minor_check CHECK ((amount_minor > 0)),
    CONSTRAINT refunds_state_check CHECK ((state = ANY (ARRAY['sending'::text, 'pending'::text, 'succeeded'::text, 'failed'::text])))
)
WITH (fillfactor='80');

COMMENT ON TABLE payments.refunds IS 'Money on its way back to payers.';

COMMENT ON COLUMN payments.refunds.attempt_id IS 'The charge that it is taken back from; null: it goes to the balance of the payer.';

CREATE TABLE payments.sends (
    attempt_id uuid NOT NULL,
    number integer NOT NULL,
    op text NOT NULL,
    key text NOT NULL,
    payload_hash bytea NOT NULL,
    at timestamp with time zone NOT NULL,
    deadline_at timestamp with time zone NOT NULL,
    repeat boolean NOT NULL,
    epoch bigint
);

COMMENT ON TABLE payments.sends IS 'Every request to a rail, written before a byte of it leaves.';

COMMENT ON COLUMN payments.sends.key IS 'The idempotency key under which it goes; one for each attempt, operation and payload.';

COMMENT ON COLUMN payments.sends.repeat IS 'Sent before under this key.';

COMMENT ON COLUMN payments.sends.epoch IS 'The epoch of the capture token, where the request may make money leave for good.';

CREATE TABLE payments.stand_ins (
    payer_id uuid NOT NULL,
    asset text NOT NULL,
    advanced_minor bigint NOT NULL,
    CONSTRAINT stand_ins_advanced_minor_check CHECK ((advanced_minor >= 0))
)
WITH (fillfactor='80');

COMMENT ON TABLE payments.stand_ins IS 'What the wallet has paid for each payer ahead of any certain funding, minor units.';

CREATE TABLE processes.heartbeats (
    id uuid NOT NULL,
    kind text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    needs integer NOT NULL,
    started_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    facts jsonb DEFAULT '{}'::jsonb NOT NULL
);

COMMENT ON TABLE processes.heartbeats IS 'One row per process, refreshed every few seconds; rows that fell silent are removed.';

COMMENT ON COLUMN processes.heartbeats.kind IS 'server or worker.';

COMMENT ON COLUMN processes.heartbeats.needs IS 'Migrations that this process knew when it started: fewer than now means old code.';

COMMENT ON COLUMN processes.heartbeats.facts IS 'What the process says of itself, for operators.';

CREATE TABLE seals.keys (
    id text NOT NULL,
    subject text,
    key bytea,
    made_at timestamp with time zone NOT NULL,
    erased_at timestamp with time zone,
    CONSTRAINT keys_check CHECK ((((key IS NULL) = (erased_at IS NOT NULL)) AND ((subject IS NULL) = (key IS NULL)))),
    CONSTRAINT keys_id_check CHECK ((id ~ '^[A-Za-z0-9_-]{16}$'::text)),
    CONSTRAINT keys_key_check CHECK ((octet_length(key) = 32)),
    CONSTRAINT keys_subject_check CHECK ((subject <> ''::text))
);

COMMENT ON TABLE seals.keys IS 'One key for each person; of one that was destroyed only its id is left.';

COMMENT ON COLUMN seals.keys.id IS 'Stands in every text that was sealed under it.';

COMMENT ON COLUMN seals.keys.subject IS 'Whose texts these are: the public id of a payer, or whatever the caller has. Gone with the key.';

COMMENT ON COLUMN seals.keys.key IS '32 random bytes. Never written to a log, never leaves the database but to seal and to open.';

CREATE TABLE webhooks.deliveries (
    id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    message_id text NOT NULL,
    event_type text NOT NULL,
    body text NOT NULL,
    state text DEFAULT 'owed'::text NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    ladder_from integer DEFAULT 0 NOT NULL,
    next_at timestamp with time zone NOT NULL,
    leased_until timestamp with time zone,
    fence bigint DEFAULT 0 NOT NULL,
    last_status integer,
    last_error text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT deliveries_check CHECK (((ladder_from >= 0) AND (ladder_from <= tries))),
    CONSTRAINT deliveries_check1 CHECK (((state = 'owed'::text) = (finished_at IS NULL))),
    CONSTRAINT deliveries_state_check CHECK ((state = ANY (ARRAY['owed'::text, 'delivered'::text, 'given_up'::text]))),
    CONSTRAINT deliveries_tries_check CHECK ((tries >= 0))
);

COMMENT ON TABLE webhooks.deliveries IS 'One message owed to one endpoint, until it was taken or given up.';

COMMENT ON COLUMN webhooks.deliveries.message_id IS 'The webhook-id header: the event''s public id, the same in every try.';

COMMENT ON COLUMN webhooks.deliveries.body IS 'The exact text that is signed and sent.';

COMMENT ON COLUMN webhooks.deliveries.ladder_from IS 'Tries made before it was last asked to be sent again: the pauses count from there.';

COMMENT ON COLUMN webhooks.deliveries.next_at IS 'When the next try is due.';

COMMENT ON COLUMN webhooks.deliveries.leased_until IS 'A worker is at it until then; afterwards anyone may take it.';

COMMENT ON COLUMN webhooks.deliveries.fence IS 'Rises with each lease: a worker whose lease was taken over records nothing.';

CREATE TABLE webhooks.endpoints (
    id uuid NOT NULL,
    owner uuid NOT NULL,
    url text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    event_types text[] DEFAULT '{}'::text[] NOT NULL,
    secret text NOT NULL,
    previous_secret text,
    previous_secret_until timestamp with time zone,
    state text DEFAULT 'enabled'::text NOT NULL,
    disabled_reason text DEFAULT ''::text NOT NULL,
    failing_since timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT endpoints_check CHECK (((previous_secret IS NULL) = (previous_secret_until IS NULL))),
    CONSTRAINT endpoints_state_check CHECK ((state = ANY (ARRAY['enabled'::text, 'disabled'::text, 'deleted'::text]))),
    CONSTRAINT endpoints_url_check CHECK ((length(url) <= 2048))
);

COMMENT ON TABLE webhooks.endpoints IS 'Where a merchant wants to be told.';

COMMENT ON COLUMN webhooks.endpoints.owner IS 'The merchant.';

COMMENT ON COLUMN webhooks.endpoints.event_types IS 'Types to send; empty: all.';

COMMENT ON COLUMN webhooks.endpoints.secret IS 'whsec_ and base64, per Standard Webhooks: signs every message.';

COMMENT ON COLUMN webhooks.endpoints.previous_secret IS 'After a rotation: signs as well until previous_secret_until.';

COMMENT ON COLUMN webhooks.endpoints.state IS 'deleted rows stay until their deliveries are forgotten.';

COMMENT ON COLUMN webhooks.endpoints.failing_since IS 'First failure since the last success; null while it works.';

CREATE TABLE webhooks.tries (
    delivery_id uuid NOT NULL,
    number integer NOT NULL,
    at timestamp with time zone NOT NULL,
    status integer,
    error text DEFAULT ''::text NOT NULL,
    duration_ms integer NOT NULL,
    response text DEFAULT ''::text NOT NULL,
    CONSTRAINT tries_duration_ms_check CHECK ((duration_ms >= 0)),
    CONSTRAINT tries_number_check CHECK ((number > 0))
);

COMMENT ON TABLE webhooks.tries IS 'Each request that was made for a delivery, and what came back.';

COMMENT ON COLUMN webhooks.tries.status IS 'HTTP status; null when there was no answer.';

COMMENT ON COLUMN webhooks.tries.response IS 'The beginning of the answer''s body.';

ALTER TABLE ONLY jobs.pgqueuer ALTER COLUMN id SET DEFAULT nextval('jobs.pgqueuer_id_seq'::regclass);

ALTER TABLE ONLY jobs.pgqueuer_schedules ALTER COLUMN id SET DEFAULT nextval('jobs.pgqueuer_schedules_id_seq'::regclass);

ALTER TABLE ONLY jobs.pgqueuer_statistics ALTER COLUMN id SET DEFAULT nextval('jobs.pgqueuer_statistics_id_seq'::regclass);

ALTER TABLE ONLY idempotency.answers
    ADD CONSTRAINT answers_pkey PRIMARY KEY (caller, key);

ALTER TABLE ONLY idempotency.claims
    ADD CONSTRAINT claims_pkey PRIMARY KEY (caller, key);

ALTER TABLE ONLY instruments.instruments
    ADD CONSTRAINT instruments_pkey PRIMARY KEY (id);

ALTER TABLE ONLY instruments.payers
    ADD CONSTRAINT payers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jobs.pgqueuer_log
    ADD CONSTRAINT pgqueuer_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jobs.pgqueuer
    ADD CONSTRAINT pgqueuer_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jobs.pgqueuer_schedules
    ADD CONSTRAINT pgqueuer_schedules_expression_entrypoint_key UNIQUE (expression, entrypoint);

ALTER TABLE ONLY jobs.pgqueuer_schedules
    ADD CONSTRAINT pgqueuer_schedules_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jobs.pgqueuer_statistics
    ADD CONSTRAINT pgqueuer_statistics_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.accounts
    ADD CONSTRAINT accounts_code_key UNIQUE (code);

ALTER TABLE ONLY ledger.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (number);

ALTER TABLE ONLY ledger.accounts
    ADD CONSTRAINT accounts_place_key UNIQUE (place);

ALTER TABLE ONLY ledger.archived
    ADD CONSTRAINT archived_pkey PRIMARY KEY (segment, first_id);

ALTER TABLE ONLY ledger.archives
    ADD CONSTRAINT archives_pkey PRIMARY KEY (segment);

ALTER TABLE ONLY ledger.batches
    ADD CONSTRAINT batches_pkey PRIMARY KEY (number);

ALTER TABLE ONLY ledger.head
    ADD CONSTRAINT head_pkey PRIMARY KEY (one);

ALTER TABLE ONLY ledger.limits
    ADD CONSTRAINT limits_pkey PRIMARY KEY (account, seq);

ALTER TABLE ONLY ledger.marks
    ADD CONSTRAINT marks_pkey PRIMARY KEY (account, seq);

ALTER TABLE ONLY ledger.refusals
    ADD CONSTRAINT refusals_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.segments
    ADD CONSTRAINT segments_pkey PRIMARY KEY (number);

ALTER TABLE ONLY ledger.snapshot_parts
    ADD CONSTRAINT snapshot_parts_pkey PRIMARY KEY (seq, part);

ALTER TABLE ONLY ledger.snapshots
    ADD CONSTRAINT snapshots_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY ledger.tree_nodes
    ADD CONSTRAINT tree_nodes_pkey PRIMARY KEY (level, number);

ALTER TABLE ONLY ledger.writer
    ADD CONSTRAINT writer_pkey PRIMARY KEY (one);

ALTER TABLE ONLY merchants.keys
    ADD CONSTRAINT keys_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY merchants.merchants
    ADD CONSTRAINT merchants_business_live_key UNIQUE (business, live);

ALTER TABLE ONLY merchants.merchants
    ADD CONSTRAINT merchants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY migrations.applied
    ADD CONSTRAINT applied_pkey PRIMARY KEY (domain, name);

ALTER TABLE ONLY outbox.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY outbox.followers
    ADD CONSTRAINT followers_pkey PRIMARY KEY (name);

ALTER TABLE ONLY payments.attempts
    ADD CONSTRAINT attempts_payment_id_seq_key UNIQUE (payment_id, seq);

ALTER TABLE ONLY payments.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY payments.attempts
    ADD CONSTRAINT attempts_reference_key UNIQUE (reference);

ALTER TABLE ONLY payments.capture_tokens
    ADD CONSTRAINT capture_tokens_pkey PRIMARY KEY (payment_id);

ALTER TABLE ONLY payments.evidence
    ADD CONSTRAINT evidence_pkey PRIMARY KEY (rail, event_id);

ALTER TABLE ONLY payments.journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (payment_id, "position");

ALTER TABLE ONLY payments.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (id);

ALTER TABLE ONLY payments.refunds
    ADD CONSTRAINT refunds_pkey PRIMARY KEY (id);

ALTER TABLE ONLY payments.sends
    ADD CONSTRAINT sends_pkey PRIMARY KEY (attempt_id, number);

ALTER TABLE ONLY payments.stand_ins
    ADD CONSTRAINT stand_ins_pkey PRIMARY KEY (payer_id, asset);

ALTER TABLE ONLY processes.heartbeats
    ADD CONSTRAINT heartbeats_pkey PRIMARY KEY (id);

ALTER TABLE ONLY seals.keys
    ADD CONSTRAINT keys_pkey PRIMARY KEY (id);

ALTER TABLE ONLY webhooks.deliveries
    ADD CONSTRAINT deliveries_endpoint_id_message_id_key UNIQUE (endpoint_id, message_id);

ALTER TABLE ONLY webhooks.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY webhooks.endpoints
    ADD CONSTRAINT endpoints_pkey PRIMARY KEY (id);

ALTER TABLE ONLY webhooks.tries
    ADD CONSTRAINT tries_pkey PRIMARY KEY (delivery_id, number);

CREATE INDEX claims_by_age ON idempotency.claims USING brin (claimed_at);

COMMENT ON INDEX idempotency.claims_by_age IS 'For forget_before: the oldest claims, in batches.';

CREATE INDEX instruments_by_payer ON instruments.instruments USING btree (payer, "position", id) WHERE (removed_at IS NULL);

COMMENT ON INDEX instruments.instruments_by_payer IS 'For wallets: a payer''s methods in order.';

CREATE INDEX payers_by_merchant ON instruments.payers USING btree (merchant, id);

COMMENT ON INDEX instruments.payers_by_merchant IS 'For payers_of: a merchant''s payers by cursor.';

CREATE INDEX pgqueuer_ep_ea_idx ON jobs.pgqueuer USING btree (entrypoint, execute_after) WHERE (status = 'queued'::jobs.pgqueuer_status);

COMMENT ON INDEX jobs.pgqueuer_ep_ea_idx IS 'dequeue: what is due of a kind.';

CREATE INDEX pgqueuer_ep_prio_id_idx ON jobs.pgqueuer USING btree (entrypoint, priority DESC, id) WHERE (status = 'queued'::jobs.pgqueuer_status);

COMMENT ON INDEX jobs.pgqueuer_ep_prio_id_idx IS 'dequeue: in order of priority.';

CREATE INDEX pgqueuer_log_created ON jobs.pgqueuer_log USING btree (created);

COMMENT ON INDEX jobs.pgqueuer_log_created IS 'forget: by age.';

CREATE INDEX pgqueuer_log_job_id_status ON jobs.pgqueuer_log USING btree (job_id, created DESC);

COMMENT ON INDEX jobs.pgqueuer_log_job_id_status IS 'What became of a job.';

CREATE INDEX pgqueuer_log_not_aggregated ON jobs.pgqueuer_log USING btree ((1)) WHERE (NOT aggregated);

COMMENT ON INDEX jobs.pgqueuer_log_not_aggregated IS 'Folding the log into statistics.';

CREATE INDEX pgqueuer_log_status ON jobs.pgqueuer_log USING btree (status);

COMMENT ON INDEX jobs.pgqueuer_log_status IS 'Jobs that ended in a given way.';

CREATE INDEX pgqueuer_picked_heartbeat_idx ON jobs.pgqueuer USING btree (heartbeat) WHERE (status = 'picked'::jobs.pgqueuer_status);

COMMENT ON INDEX jobs.pgqueuer_picked_heartbeat_idx IS 'dequeue: jobs whose worker fell silent.';

CREATE UNIQUE INDEX pgqueuer_picked_slot_idx ON jobs.pgqueuer USING btree (entrypoint, slot) WHERE ((status = 'picked'::jobs.pgqueuer_status) AND (slot IS NOT NULL));

COMMENT ON INDEX jobs.pgqueuer_picked_slot_idx IS 'Concurrency limits: one job per slot.';

CREATE INDEX pgqueuer_priority_id_id1_idx ON jobs.pgqueuer USING btree (priority, id DESC) INCLUDE (id) WHERE (status = 'queued'::jobs.pgqueuer_status);

COMMENT ON INDEX jobs.pgqueuer_priority_id_id1_idx IS 'dequeue: in order of priority over all kinds.';

CREATE INDEX pgqueuer_queue_manager_id_idx ON jobs.pgqueuer USING btree (queue_manager_id) WHERE (queue_manager_id IS NOT NULL);

COMMENT ON INDEX jobs.pgqueuer_queue_manager_id_idx IS 'Jobs of one worker.';

CREATE UNIQUE INDEX pgqueuer_statistics_unique_count ON jobs.pgqueuer_statistics USING btree (priority, date_trunc('sec'::text, timezone('UTC'::text, created)), status, entrypoint);

COMMENT ON INDEX jobs.pgqueuer_statistics_unique_count IS 'Adding to a second''s count.';

CREATE UNIQUE INDEX pgqueuer_unique_dedupe_key ON jobs.pgqueuer USING btree (dedupe_key) WHERE ((status = ANY (ARRAY['queued'::jobs.pgqueuer_status, 'picked'::jobs.pgqueuer_status])) AND (dedupe_key IS NOT NULL));

COMMENT ON INDEX jobs.pgqueuer_unique_dedupe_key IS 'One job per key.';

CREATE INDEX pgqueuer_updated_id_id1_idx ON jobs.pgqueuer USING btree (updated, id DESC) INCLUDE (id) WHERE (status = 'picked'::jobs.pgqueuer_status);

COMMENT ON INDEX jobs.pgqueuer_updated_id_id1_idx IS 'dequeue: jobs picked long ago.';

COMMENT ON INDEX ledger.accounts_code_key IS 'Finding an account by its name.';

COMMENT ON INDEX ledger.accounts_pkey IS 'Opening and describing accounts by number.';

COMMENT ON INDEX ledger.accounts_place_key IS 'Accounts opened since a snapshot.';

COMMENT ON INDEX ledger.archived_pkey IS 'Whether an id was archived.';

COMMENT ON INDEX ledger.archives_pkey IS 'Archived segments in order.';

CREATE INDEX batches_at ON ledger.batches USING btree (at, number);

COMMENT ON INDEX ledger.batches_at IS 'The newest batch at a moment.';

CREATE INDEX batches_early ON ledger.batches USING btree (number) WHERE (early IS NOT NULL);

COMMENT ON INDEX ledger.batches_early IS 'Ids that a new writer must know of.';

CREATE INDEX batches_first_seq ON ledger.batches USING btree (first_seq);

COMMENT ON INDEX ledger.batches_first_seq IS 'The batch of a transfer.';

COMMENT ON INDEX ledger.batches_pkey IS 'Verification in order.';

COMMENT ON INDEX ledger.head_pkey IS 'The one row.';

COMMENT ON INDEX ledger.limits_pkey IS 'The limit of an account at a transfer.';

COMMENT ON INDEX ledger.marks_pkey IS 'The newest mark of an account at a moment.';

CREATE INDEX refusals_batch ON ledger.refusals USING brin (batch) WITH (pages_per_range='32', autosummarize='on');

COMMENT ON INDEX ledger.refusals_batch IS 'Refusals of a batch.';

COMMENT ON INDEX ledger.refusals_pkey IS 'The same answer for an id that was refused before.';

COMMENT ON INDEX ledger.segments_pkey IS 'Segments in order.';

CREATE INDEX segments_unmarked ON ledger.segments USING btree (number) WHERE (NOT marked);

COMMENT ON INDEX ledger.segments_unmarked IS 'The segments that a balance of now adds up.';

COMMENT ON INDEX ledger.snapshot_parts_pkey IS 'A snapshot in order.';

COMMENT ON INDEX ledger.snapshots_pkey IS 'The newest snapshot.';

COMMENT ON INDEX ledger.tree_nodes_pkey IS 'Subtrees of a proof.';

COMMENT ON INDEX ledger.writer_pkey IS 'The one row.';

CREATE INDEX keys_by_merchant ON merchants.keys USING btree (merchant, created_at);

COMMENT ON INDEX merchants.keys_by_merchant IS 'For keys_of: the keys of one merchant.';

CREATE INDEX events_listing ON outbox.events USING btree (owner, id DESC);

COMMENT ON INDEX outbox.events_listing IS 'listing: a merchant''s events, newest first.';

CREATE INDEX events_relay ON outbox.events USING btree (transaction_id, id);

COMMENT ON INDEX outbox.events_relay IS 'relay: what is new after the follower''s cursor, in order of transaction.';

CREATE INDEX attempts_by_remote_id ON payments.attempts USING btree (rail, remote_id) WHERE (remote_id IS NOT NULL);

COMMENT ON INDEX payments.attempts_by_remote_id IS 'Finding the attempt that a message from a rail speaks of (PostgresBook.find_attempt).';

CREATE INDEX payments_due ON payments.payments USING btree (GREATEST(next_step_at, lease_until)) WHERE (next_step_at IS NOT NULL);

COMMENT ON INDEX payments.payments_due IS 'Claiming payments that are due (PostgresBook.claim_due).';

CREATE INDEX payments_of_merchant ON payments.payments USING btree (merchant_id, id DESC);

COMMENT ON INDEX payments.payments_of_merchant IS 'Listing the payments of a merchant, newest first (PostgresBook.listing).';

CREATE INDEX refunds_of_payment ON payments.refunds USING btree (payment_id, id);

COMMENT ON INDEX payments.refunds_of_payment IS 'The refunds of a payment (PostgresBook.refunds).';

CREATE UNIQUE INDEX sends_key ON payments.sends USING btree (key) WHERE (NOT repeat);

COMMENT ON INDEX payments.sends_key IS 'No query: it keeps a key from being used for two things.';

COMMENT ON INDEX seals.keys_pkey IS 'The keys of the sealed texts on a page.';

CREATE UNIQUE INDEX keys_subject ON seals.keys USING btree (subject);

COMMENT ON INDEX seals.keys_subject IS 'The key of a person.';

CREATE INDEX deliveries_by_endpoint ON webhooks.deliveries USING btree (endpoint_id, created_at DESC, id DESC);

COMMENT ON INDEX webhooks.deliveries_by_endpoint IS 'deliveries: an endpoint''s list, newest first.';

CREATE INDEX deliveries_due ON webhooks.deliveries USING btree (endpoint_id, next_at) WHERE (state = 'owed'::text);

COMMENT ON INDEX webhooks.deliveries_due IS 'claim: what is due at each endpoint.';

CREATE INDEX deliveries_finished ON webhooks.deliveries USING btree (finished_at) WHERE (state <> 'owed'::text);

COMMENT ON INDEX webhooks.deliveries_finished IS 'forget: by age.';

CREATE INDEX deliveries_leased ON webhooks.deliveries USING btree (endpoint_id, leased_until) WHERE (leased_until IS NOT NULL);

COMMENT ON INDEX webhooks.deliveries_leased IS 'claim: how many tries are in flight at an endpoint.';

CREATE INDEX endpoints_by_owner ON webhooks.endpoints USING btree (owner, id DESC) WHERE (state <> 'deleted'::text);

COMMENT ON INDEX webhooks.endpoints_by_owner IS 'endpoints: a merchant''s list; owe: who is to be told.';

CREATE TRIGGER tg_pgqueuer_changed AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON jobs.pgqueuer FOR EACH STATEMENT EXECUTE FUNCTION jobs.fn_pgqueuer_changed();

ALTER TABLE ONLY instruments.instruments
    ADD CONSTRAINT instruments_payer_fkey FOREIGN KEY (payer) REFERENCES instruments.payers(id);

ALTER TABLE ONLY ledger.snapshot_parts
    ADD CONSTRAINT snapshot_parts_seq_fkey FOREIGN KEY (seq) REFERENCES ledger.snapshots(seq) ON DELETE CASCADE;

ALTER TABLE ONLY merchants.keys
    ADD CONSTRAINT keys_merchant_fkey FOREIGN KEY (merchant) REFERENCES merchants.merchants(id);

ALTER TABLE ONLY payments.attempts
    ADD CONSTRAINT attempts_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES payments.payments(id);

ALTER TABLE ONLY payments.capture_tokens
    ADD CONSTRAINT capture_tokens_holder_fkey FOREIGN KEY (holder) REFERENCES payments.attempts(id);

ALTER TABLE ONLY payments.capture_tokens
    ADD CONSTRAINT capture_tokens_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES payments.payments(id);

ALTER TABLE ONLY payments.journal
    ADD CONSTRAINT journal_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES payments.payments(id);

ALTER TABLE ONLY payments.refunds
    ADD CONSTRAINT refunds_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES payments.payments(id);

ALTER TABLE ONLY payments.sends
    ADD CONSTRAINT sends_attempt_id_fkey FOREIGN KEY (attempt_id) REFERENCES payments.attempts(id);

ALTER TABLE ONLY webhooks.tries
    ADD CONSTRAINT tries_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES webhooks.deliveries(id) ON DELETE CASCADE;

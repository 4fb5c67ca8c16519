-- The ledger. Rows are only ever added, except `balances` (the sums so far) and `open_holds` (what is reserved now).
--
-- How an account's history is found: every transfer names the transfer before it on each of its two accounts, and
-- `balances.last_transfer` names the newest, so a statement is a walk backwards by primary key. Every 64th entry or so of
-- an account leaves a row in `marks` with the balance at that point, so that a past moment is found by one index
-- look-up and a short walk. Ordinary (account, sequence) indexes would take two insertions at random places for each
-- transfer, and slow down as they outgrow memory; this way everything but the balances is appended.

create schema ledger;
comment on schema ledger is 'Double-entry ledger: accounts, transfers between them, balances, and the proof that nothing was altered.';

create table ledger.accounts (
    number bigint primary key check (number > 0),
    code text not null unique,
    asset smallint not null,
    rule smallint not null check (rule between 0 and 2),
    opened_at timestamptz not null
);
comment on table ledger.accounts is 'What an account is; one row for each, never changed.';
comment on column ledger.accounts.number is 'Chosen by whoever opens the account.';
comment on column ledger.accounts.code is 'Readable name, for example payer:pyr_01JD:CNY.';
comment on column ledger.accounts.asset is 'ISO 4217 number, or a number of ours above 1000.';
comment on column ledger.accounts.rule is '0 free, 1 debits must not exceed credits, 2 credits must not exceed debits.';
comment on index ledger.accounts_pkey is 'Opening and describing accounts by number.';
comment on index ledger.accounts_code_key is 'Finding an account by its name.';

create table ledger.balances (
    number bigint primary key,
    debits_posted bigint not null default 0,
    credits_posted bigint not null default 0,
    debits_pending bigint not null default 0,
    credits_pending bigint not null default 0,
    entries bigint not null default 0,
    last_transfer uuid not null default '00000000-0000-0000-0000-000000000000',
    prior_transfer uuid not null default '00000000-0000-0000-0000-000000000000',
    asset smallint not null,
    rule smallint not null,
    closed boolean not null default false,
    check (least(debits_posted, credits_posted, debits_pending, credits_pending) >= 0)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
comment on table ledger.balances is 'The sums of each account so far, minor units. Half of each page is kept free so that updates stay on it; no changing column is indexed. Rules and upper bounds are checked by the functions below, when a whole batch has been added.';
comment on column ledger.balances.entries is 'How many transfers have touched the account.';
comment on column ledger.balances.last_transfer is 'Newest transfer that touched the account; nil when there is none.';
comment on column ledger.balances.prior_transfer is 'Newest transfer before the batch that last touched the account.';
comment on column ledger.balances.asset is 'Copied from accounts, so that posting reads one row.';
comment on column ledger.balances.rule is 'Copied from accounts, so that posting reads one row.';
comment on column ledger.balances.closed is 'A closed account takes part in nothing but the release of holds.';
comment on index ledger.balances_pkey is 'Locking and updating the accounts of a batch; balances by number.';

create table ledger.transfers (
    id uuid primary key,
    seq bigint not null,
    at timestamptz not null,
    debit bigint not null,
    credit bigint not null,
    amount bigint not null,
    debit_prev uuid not null,
    credit_prev uuid not null,
    code integer not null,
    asset smallint not null,
    kind smallint not null,
    balancing smallint,
    asked bigint,
    pending_id uuid,
    expires_at timestamptz,
    metadata jsonb,
    check (amount > 0 and debit <> credit)
) with (fillfactor = 100, autovacuum_analyze_scale_factor = 0.2);
comment on table ledger.transfers is 'Every transfer that was made. Never updated, never deleted; a correction is a new transfer.';
comment on column ledger.transfers.id is 'Chosen by whoever asks, time-ordered, so that new ones go to the right edge of the index.';
comment on column ledger.transfers.seq is 'batches.number * 8192 + position in the batch: rises along every account.';
comment on column ledger.transfers.amount is 'What it moved, reserved or released, minor units.';
comment on column ledger.transfers.debit_prev is 'The transfer before this one on the debit account; nil when it is the first.';
comment on column ledger.transfers.credit_prev is 'The transfer before this one on the credit account; nil when it is the first.';
comment on column ledger.transfers.code is 'The caller''s own reason code.';
comment on column ledger.transfers.kind is '0 posted, 1 pending, 2 settles a pending one, 3 voids one, 4 one lapsed.';
comment on column ledger.transfers.balancing is '1 as much as the debit account allows, 2 as the credit account allows; null: exactly the amount.';
comment on column ledger.transfers.asked is 'Amount asked for where it differs from the amount; -1 when all was asked for.';
comment on column ledger.transfers.pending_id is 'The pending transfer that this one settles or releases.';
comment on index ledger.transfers_pkey is 'Duplicates; find by id; the walk of a statement.';

create index transfers_seq on ledger.transfers using brin (seq) with (pages_per_range = 32, autosummarize = on);
comment on index ledger.transfers_seq is 'Transfers of a batch, and transfers in order; small, since rows are appended in about this order.';

create unique index transfers_pending on ledger.transfers (pending_id) where pending_id is not null;
comment on index ledger.transfers_pending is 'A pending transfer is settled or released at most once; find what became of it.';

create table ledger.open_holds (
    id uuid primary key,
    debit bigint not null,
    credit bigint not null,
    asset smallint not null,
    amount bigint not null check (amount > 0),
    expires_at timestamptz
);
comment on table ledger.open_holds is 'Pending transfers that are neither settled nor released yet; follows from transfers.';
comment on index ledger.open_holds_pkey is 'Settling and releasing by id.';
create index open_holds_expiry on ledger.open_holds (expires_at) where expires_at is not null;
comment on index ledger.open_holds_expiry is 'Holds that have lapsed, oldest first.';

create table ledger.refusals (
    id uuid primary key,
    seq bigint not null,
    at timestamptz not null,
    outcome smallint not null check (outcome > 1)
);
comment on table ledger.refusals is 'Ids whose transfer was refused because of the state of the ledger: they stay refused.';
comment on column ledger.refusals.seq is 'batches.number * 8192 + position among the refusals of the batch.';
comment on column ledger.refusals.outcome is 'Number of the refusal, as in the table of outcomes.';
comment on index ledger.refusals_pkey is 'The same answer for an id that was refused before.';
create index refusals_seq on ledger.refusals using brin (seq) with (pages_per_range = 32, autosummarize = on);
comment on index ledger.refusals_seq is 'Refusals of a batch.';

create sequence ledger.batch_number;
comment on sequence ledger.batch_number is 'Numbers batches; drawn after the accounts are locked, so it rises along every account.';

create table ledger.batches (
    number bigint primary key,
    chain smallint not null,
    position bigint not null,
    at timestamptz not null,
    transfers integer not null,
    refusals integer not null,
    hash bytea not null,
    unique (chain, position)
);
comment on table ledger.batches is 'One row for each committed batch, linked by hash to the one before it on its chain.';
comment on column ledger.batches.chain is 'Batches that are under way at the same time are on different chains, so that none waits for another''s commit.';
comment on column ledger.batches.at is 'Never earlier than any batch committed before: along each account time never goes back.';
comment on column ledger.batches.hash is 'SHA-256 over the hash before it on the chain and the rows of the batch; see docs/reference/ledger.md.';
comment on index ledger.batches_pkey is 'Verification in order.';
comment on index ledger.batches_chain_position_key is 'The head of a chain.';
create index batches_at on ledger.batches (at);
comment on index ledger.batches_at is 'The newest time so far.';

create table ledger.marks (
    account bigint not null,
    entries bigint not null,
    at timestamptz not null,
    last_transfer uuid not null,
    debits_posted bigint not null,
    credits_posted bigint not null,
    debits_pending bigint not null,
    credits_pending bigint not null,
    primary key (account, entries)
);
comment on table ledger.marks is 'Sparse index of each account''s history: the balance after a batch, about every 64 entries.';
comment on column ledger.marks.entries is 'How many transfers had touched the account by then.';
comment on index ledger.marks_pkey is 'Marks of an account in order; at rises with entries, so a past moment is found by it too.';
create index marks_at on ledger.marks (account, at);
comment on index ledger.marks_at is 'The first mark after a moment.';

-- Appends what was decided and links it into a chain. Called by the two functions below, inside their transaction, with
-- the accounts locked. `p_prior[i]` is what account i named as its newest transfer before this batch.
create function ledger.record_v1(
    p_now timestamptz, p_prior uuid[], p_id uuid[], p_debit bigint[], p_credit bigint[], p_asset smallint[], p_amount bigint[],
    p_kind smallint[], p_code integer[], p_debit_index integer[], p_credit_index integer[],
    p_debit_prev integer[], p_credit_prev integer[], p_expires timestamptz[], p_metadata jsonb[],
    p_balancing smallint[], p_asked bigint[], p_pending uuid[], p_refused uuid[], p_refusal smallint[], p_marked bigint[],
    out batch bigint, out at timestamptz
) language plpgsql
as $$
declare
    v_chain integer := 0;
    v_position bigint;
    v_hash bytea;
begin
    while not pg_try_advisory_xact_lock(1279608914, v_chain) loop
        v_chain := v_chain + 1;
    end loop;
    batch := nextval('ledger.batch_number');
    select greatest(p_now, b.at) into at from ledger.batches b order by b.at desc limit 1;
    at := coalesce(at, p_now);
    select b.position, b.hash into v_position, v_hash from ledger.batches b where b.chain = v_chain order by b.position desc limit 1;
    v_position := coalesce(v_position, 0) + 1;
    v_hash := sha256(coalesce(v_hash, ''::bytea) || int8send(batch) || int2send(v_chain::smallint) || int8send(v_position)
        || timestamptz_send(at) || array_send(p_id) || array_send(p_debit) || array_send(p_credit) || array_send(p_asset)
        || array_send(p_amount) || array_send(p_kind) || array_send(p_code)
        || coalesce(array_send(p_expires), ''::bytea) || coalesce(array_send(p_metadata), ''::bytea)
        || coalesce(array_send(p_balancing), ''::bytea) || coalesce(array_send(p_asked), ''::bytea)
        || coalesce(array_send(p_pending), ''::bytea) || coalesce(array_send(p_refused), ''::bytea)
        || coalesce(array_send(p_refusal), ''::bytea));
    insert into ledger.transfers (id, seq, at, debit, credit, amount, debit_prev, credit_prev, code, asset, kind,
                                  balancing, asked, pending_id, expires_at, metadata)
    select p_id[i], batch * 8192 + i - 1, at, p_debit[i], p_credit[i], p_amount[i],
           case when p_debit_prev[i] = 0 then p_prior[p_debit_index[i]] else p_id[p_debit_prev[i]] end,
           case when p_credit_prev[i] = 0 then p_prior[p_credit_index[i]] else p_id[p_credit_prev[i]] end,
           p_code[i], p_asset[i], p_kind[i], p_balancing[i], p_asked[i], p_pending[i], p_expires[i], p_metadata[i]
    from generate_series(1, cardinality(p_id)) as i;
    if 1 = any (p_kind) then
        insert into ledger.open_holds (id, debit, credit, asset, amount, expires_at)
        select p_id[i], p_debit[i], p_credit[i], p_asset[i], p_amount[i], p_expires[i]
        from generate_series(1, cardinality(p_id)) as i where p_kind[i] = 1;
    end if;
    if p_pending is not null then
        delete from ledger.open_holds h using unnest(p_pending) as u (id) where h.id = u.id;
    end if;
    if p_refused is not null then
        insert into ledger.refusals (id, seq, at, outcome)
        select u.id, batch * 8192 + u.position - 1, at, u.outcome
        from unnest(p_refused, p_refusal) with ordinality as u (id, outcome, position);
    end if;
    if p_marked is not null then
        insert into ledger.marks (account, entries, at, last_transfer, debits_posted, credits_posted, debits_pending, credits_pending)
        select b.number, b.entries, at, b.last_transfer, b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending
        from ledger.balances b where b.number = any (p_marked);
    end if;
    insert into ledger.batches (number, chain, position, at, transfers, refusals, hash)
    values (batch, v_chain, v_position, at, cardinality(p_id), coalesce(cardinality(p_refused), 0), v_hash);
end $$;
comment on function ledger.record_v1 is 'Appends decided transfers, holds, refusals, marks and the batch with its hash.';

-- The one round trip of a batch in which nothing can fail. Takes the accounts in ascending order with the sums that the
-- batch would add to each, adds them, and only then looks: an account whose credits before the batch cover all its debits
-- with the batch cannot fail in any order. When that holds everywhere and no id was seen before, everything is recorded.
-- Otherwise nothing but the sums was written, the accounts that need a closer look are returned as they were before the
-- batch, and the caller decides in order and calls `finish_v1` in the same transaction. With `p_strict` it raises HF001
-- instead, for a caller who has sent the commit along.
create function ledger.post_v1(
    p_now timestamptz, p_plain boolean, p_strict boolean, p_number bigint[], p_account_asset smallint[], p_debits bigint[], p_credits bigint[],
    p_debit_holds bigint[], p_credit_holds bigint[], p_entries integer[], p_last uuid[], p_wanted boolean[],
    p_first_id uuid, p_last_id uuid,
    p_id uuid[], p_debit bigint[], p_credit bigint[], p_asset smallint[], p_amount bigint[],
    p_kind smallint[], p_code integer[], p_debit_index integer[], p_credit_index integer[],
    p_debit_prev integer[], p_credit_prev integer[], p_expires timestamptz[], p_metadata jsonb[],
    out batch bigint, out at timestamptz, out present bigint[], out number bigint[], out asset smallint[], out rule smallint[],
    out closed boolean[], out debits_posted bigint[], out credits_posted bigint[], out debits_pending bigint[], out credits_pending bigint[]
) language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_prior uuid[];
    v_marked bigint[];
    v_unsure bigint[];
    v_clean boolean;
begin
    with changed as (
        update ledger.balances b
        set debits_posted = b.debits_posted + p_debits[i],
            credits_posted = b.credits_posted + p_credits[i],
            debits_pending = b.debits_pending + coalesce(p_debit_holds[i], 0),
            credits_pending = b.credits_pending + coalesce(p_credit_holds[i], 0),
            entries = b.entries + p_entries[i],
            prior_transfer = b.last_transfer,
            last_transfer = case when p_entries[i] = 0 then b.last_transfer else p_last[i] end
        from generate_series(1, cardinality(p_number)) as i
        where b.number = p_number[i]
        returning b.number, b.prior_transfer, b.entries >> 6 <> (b.entries - p_entries[i]) >> 6 as marked,
            b.closed or b.asset <> p_account_asset[i] or coalesce(p_wanted[i], false)
            or (b.rule = 1 and b.credits_posted - p_credits[i] < b.debits_posted + b.debits_pending)
            or (b.rule = 2 and b.debits_posted - p_debits[i] < b.credits_posted + b.credits_pending)
            or b.debits_posted + b.debits_pending - (b.credits_posted - p_credits[i]) > 9007199254740991
            or b.credits_posted + b.credits_pending - (b.debits_posted - p_debits[i]) > 9007199254740991
            or b.debits_posted + b.debits_pending > 2305843009213693952
            or b.credits_posted + b.credits_pending > 2305843009213693952 as unsure
    )
    select array_agg(c.number), array_agg(c.prior_transfer), array_agg(c.number) filter (where c.marked),
           array_agg(c.number) filter (where c.unsure)
    into present, v_prior, v_marked, v_unsure
    from changed c;
    if v_unsure is not null then
        select array_agg(b.number), array_agg(b.asset), array_agg(b.rule), array_agg(b.closed),
               array_agg(b.debits_posted - p_debits[i]), array_agg(b.credits_posted - p_credits[i]),
               array_agg(b.debits_pending - coalesce(p_debit_holds[i], 0)),
               array_agg(b.credits_pending - coalesce(p_credit_holds[i], 0))
        into number, asset, rule, closed, debits_posted, credits_posted, debits_pending, credits_pending
        from generate_series(1, cardinality(p_number)) as i join ledger.balances b on b.number = p_number[i]
        where b.number = any (v_unsure);
    end if;
    v_clean := p_plain and number is null and present = p_number
        and not (exists (select from ledger.transfers t where t.id between p_first_id and p_last_id)
                 and exists (select from unnest(p_id) as u (id) join ledger.transfers t on t.id = u.id))
        and not (exists (select from ledger.refusals t where t.id between p_first_id and p_last_id)
                 and exists (select from unnest(p_id) as u (id) join ledger.refusals t on t.id = u.id));
    if v_clean is not true then
        if p_strict then
            raise exception 'the batch needs a closer look' using errcode = 'HF001';
        end if;
        return;
    end if;
    present := null;
    select r.batch, r.at into batch, at from ledger.record_v1(
        p_now, v_prior, p_id, p_debit, p_credit, p_asset, p_amount, p_kind, p_code, p_debit_index, p_credit_index,
        p_debit_prev, p_credit_prev, p_expires, p_metadata, null, null, null, null, null, v_marked) r;
end $$;
comment on function ledger.post_v1 is 'Posts a batch in one round trip, or says which accounts the caller must look at.';

-- Second half of a batch that needed a closer look: corrects the sums that `post_v1` added in advance and records what
-- was decided. `p_changed` names accounts whose sums or newest transfer differ from what was added. Raises when an
-- account's rule does not hold afterwards: that would be a fault of ours, and nothing is kept then.
create function ledger.finish_v1(
    p_now timestamptz, p_number bigint[], p_entries integer[],
    p_changed bigint[], p_debits bigint[], p_credits bigint[], p_debit_holds bigint[], p_credit_holds bigint[],
    p_entries_less integer[], p_last uuid[],
    p_id uuid[], p_debit bigint[], p_credit bigint[], p_asset smallint[], p_amount bigint[],
    p_kind smallint[], p_code integer[], p_debit_index integer[], p_credit_index integer[],
    p_debit_prev integer[], p_credit_prev integer[], p_expires timestamptz[], p_metadata jsonb[],
    p_balancing smallint[], p_asked bigint[], p_pending uuid[], p_refused uuid[], p_refusal smallint[],
    out batch bigint, out at timestamptz
) language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_prior uuid[];
    v_marked bigint[];
    v_broken bigint;
begin
    update ledger.balances b
    set debits_posted = b.debits_posted + p_debits[i],
        credits_posted = b.credits_posted + p_credits[i],
        debits_pending = b.debits_pending + p_debit_holds[i],
        credits_pending = b.credits_pending + p_credit_holds[i],
        entries = b.entries - p_entries_less[i],
        last_transfer = case when p_last[i] = '00000000-0000-0000-0000-000000000000' then b.prior_transfer else p_last[i] end
    from generate_series(1, cardinality(p_changed)) as i
    where b.number = p_changed[i];
    select array_agg(b.prior_transfer order by u.position),
           array_agg(b.number) filter (where b.entries >> 6 <> (b.entries - u.added) >> 6),
           min(b.number) filter (where
               (b.rule = 1 and b.debits_posted + b.debits_pending > b.credits_posted and u.added > 0)
               or (b.rule = 2 and b.credits_posted + b.credits_pending > b.debits_posted and u.added > 0)
               or b.debits_posted + b.debits_pending - b.credits_posted > 9007199254740991
               or b.credits_posted + b.credits_pending - b.debits_posted > 9007199254740991
               or b.debits_posted + b.debits_pending > 2305843009213693952
               or b.credits_posted + b.credits_pending > 2305843009213693952)
    into v_prior, v_marked, v_broken
    from unnest(p_number, p_entries) with ordinality as u (number, added, position)
    left join ledger.balances b on b.number = u.number;
    if v_broken is not null then
        raise exception 'the rule of account % does not hold after the batch', v_broken using errcode = 'check_violation';
    end if;
    select r.batch, r.at into batch, at from ledger.record_v1(
        p_now, v_prior, p_id, p_debit, p_credit, p_asset, p_amount, p_kind, p_code, p_debit_index, p_credit_index,
        p_debit_prev, p_credit_prev, p_expires, p_metadata, p_balancing, p_asked, p_pending, p_refused, p_refusal, v_marked) r;
end $$;
comment on function ledger.finish_v1 is 'Corrects what post_v1 added in advance and records what was decided.';

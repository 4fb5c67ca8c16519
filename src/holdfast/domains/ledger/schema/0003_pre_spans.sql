-- Several segments in a row may be marked together, at the end of the last: where a ledger has very many accounts, a mark for each
-- account of each segment would be as many rows as there are transfers.

alter table ledger.segments add column span integer;
update ledger.segments set span = number where marked;
alter table ledger.segments add constraint segments_span check (marked = (span is not null) and span <= number) not valid;
comment on column ledger.segments.marked is 'Whether each account that it touches has a mark at or after its last transfer there, and not behind its span. Then so have all segments before it.';
comment on column ledger.segments.span is 'First of the segments that were marked together with it, which may be itself; null while it is not marked.';

-- Gives the first segment of a span, or the first that is not marked, marks of its own: where each of its accounts was touched
-- last. Takes seconds; what is there already is kept.
create or replace function ledger.mark_segment_v1(p_number integer) returns void language plpgsql
as $$
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
end $$;
comment on function ledger.mark_segment_v1 is 'Gives a segment marks of its own.';

-- Drops the table of a segment that is in ledger.archives. Raises when anybody may still need its rows.
create or replace function ledger.drop_segment_v1(p_number integer) returns void language plpgsql
as $$
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
comment on function ledger.drop_segment_v1 is 'Drops the table of a segment that was archived.';

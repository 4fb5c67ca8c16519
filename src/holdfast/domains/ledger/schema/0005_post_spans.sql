alter table ledger.segments validate constraint segments_span;

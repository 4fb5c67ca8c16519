create schema instruments;
comment on schema instruments is 'Payers, and by what they can pay. Nothing here can charge a card: tokens mean something to one provider only.';

create table instruments.payers (
    id uuid primary key,
    merchant uuid,
    name text not null,
    reference text not null default '',
    created_at timestamptz not null
);
comment on table instruments.payers is 'People who pay.';
comment on column instruments.payers.merchant is
    'The merchant that enrolled this payer and alone may charge it; null: a payer of the wallet itself. Merchants belong to one mode, so payers do.';
comment on column instruments.payers.reference is 'The merchant''s own name for the payer.';

create index payers_by_merchant on instruments.payers (merchant, id);
comment on index instruments.payers_by_merchant is 'For payers_of: a merchant''s payers by cursor.';

create table instruments.instruments (
    id uuid primary key,
    payer uuid not null references instruments.payers (id),
    kind text not null check (kind in ('balance', 'card', 'bank')),
    label text not null check (label !~ '[0-9]([ -]?[0-9]){11,}'),
    token text not null check (kind = 'bank' or token !~ '^[0-9]([ -]?[0-9]){11,}$'),
    position smallint not null,
    created_at timestamptz not null,
    removed_at timestamptz
);
comment on table instruments.instruments is 'Ways of paying, in the payer''s own order.';
comment on column instruments.instruments.kind is 'balance: the wallet; card: a token of a card provider; bank: an account to be debited by transfer.';
comment on column instruments.instruments.label is 'What the payer sees. It never holds a card number.';
comment on column instruments.instruments.token is 'What the provider knows it by. Never a card number; empty for a balance.';
comment on column instruments.instruments.position is 'Place in the payer''s own order, lowest first.';
comment on column instruments.instruments.removed_at is 'From then on it is not offered; the row stays for the payments that used it.';

create index instruments_by_payer on instruments.instruments (payer, position, id) where removed_at is null;
comment on index instruments.instruments_by_payer is 'For wallets: a payer''s methods in order.';

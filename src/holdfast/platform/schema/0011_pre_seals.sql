create schema seals;
comment on schema seals is 'Keys under which personal texts are sealed. To destroy a key is to erase what was sealed under it, everywhere.';
revoke all on schema seals from public;

create table seals.keys (
    id text primary key check (id ~ '^[A-Za-z0-9_-]{16}$'),
    subject text check (subject <> ''),
    key bytea check (octet_length(key) = 32),
    made_at timestamptz not null,
    erased_at timestamptz,
    check ((key is null) = (erased_at is not null) and (subject is null) = (key is null))
);
comment on table seals.keys is 'One key for each person; of one that was destroyed only its id is left.';
comment on column seals.keys.id is 'Stands in every text that was sealed under it.';
comment on column seals.keys.subject is 'Whose texts these are: the public id of a payer, or whatever the caller has. Gone with the key.';
comment on column seals.keys.key is '32 random bytes. Never written to a log, never leaves the database but to seal and to open.';
comment on index seals.keys_pkey is 'The keys of the sealed texts on a page.';
create unique index keys_subject on seals.keys (subject);
comment on index seals.keys_subject is 'The key of a person.';

-- Telling merchants what happened: where to, what is still owed, how each try went.
create schema webhooks;
comment on schema webhooks is 'Webhook endpoints, deliveries owed to them, and every try.';

create table webhooks.endpoints (
    id uuid not null primary key,
    owner uuid not null,
    url text not null check (length(url) <= 2048),
    description text not null default '',
    event_types text[] not null default '{}',
    secret text not null,
    previous_secret text,
    previous_secret_until timestamptz,
    state text not null default 'enabled' check (state in ('enabled', 'disabled', 'deleted')),
    disabled_reason text not null default '',
    failing_since timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    check ((previous_secret is null) = (previous_secret_until is null))
);
comment on table webhooks.endpoints is 'Where a merchant wants to be told.';
comment on column webhooks.endpoints.owner is 'The merchant.';
comment on column webhooks.endpoints.event_types is 'Types to send; empty: all.';
comment on column webhooks.endpoints.secret is 'whsec_ and base64, per Standard Webhooks: signs every message.';
comment on column webhooks.endpoints.previous_secret is 'After a rotation: signs as well until previous_secret_until.';
comment on column webhooks.endpoints.state is 'deleted rows stay until their deliveries are forgotten.';
comment on column webhooks.endpoints.failing_since is 'First failure since the last success; null while it works.';
create index endpoints_by_owner on webhooks.endpoints (owner, id desc) where state <> 'deleted';
comment on index webhooks.endpoints_by_owner is 'endpoints: a merchant''s list; owe: who is to be told.';

create table webhooks.deliveries (
    id uuid not null primary key,
    endpoint_id uuid not null,
    message_id text not null,
    event_type text not null,
    body text not null,
    state text not null default 'owed' check (state in ('owed', 'delivered', 'given_up')),
    tries integer not null default 0 check (tries >= 0),
    ladder_from integer not null default 0 check (ladder_from between 0 and tries),
    next_at timestamptz not null,
    leased_until timestamptz,
    fence bigint not null default 0,
    last_status integer,
    last_error text not null default '',
    created_at timestamptz not null,
    finished_at timestamptz,
    unique (endpoint_id, message_id),
    check ((state = 'owed') = (finished_at is null))
);
comment on table webhooks.deliveries is 'One message owed to one endpoint, until it was taken or given up.';
comment on column webhooks.deliveries.message_id is 'The webhook-id header: the event''s public id, the same in every try.';
comment on column webhooks.deliveries.body is 'The exact text that is signed and sent.';
comment on column webhooks.deliveries.ladder_from is 'Tries made before it was last asked to be sent again: the pauses count from there.';
comment on column webhooks.deliveries.next_at is 'When the next try is due.';
comment on column webhooks.deliveries.leased_until is 'A worker is at it until then; afterwards anyone may take it.';
comment on column webhooks.deliveries.fence is 'Rises with each lease: a worker whose lease was taken over records nothing.';
create index deliveries_due on webhooks.deliveries (endpoint_id, next_at) where state = 'owed';
comment on index webhooks.deliveries_due is 'claim: what is due at each endpoint.';
create index deliveries_finished on webhooks.deliveries (finished_at) where state <> 'owed';
comment on index webhooks.deliveries_finished is 'forget: by age.';
create index deliveries_leased on webhooks.deliveries (endpoint_id, leased_until) where leased_until is not null;
comment on index webhooks.deliveries_leased is 'claim: how many tries are in flight at an endpoint.';
create index deliveries_by_endpoint on webhooks.deliveries (endpoint_id, created_at desc, id desc);
comment on index webhooks.deliveries_by_endpoint is 'deliveries: an endpoint''s list, newest first.';

create table webhooks.tries (
    delivery_id uuid not null references webhooks.deliveries (id) on delete cascade,
    number integer not null check (number > 0),
    at timestamptz not null,
    status integer,
    error text not null default '',
    duration_ms integer not null check (duration_ms >= 0),
    response text not null default '',
    primary key (delivery_id, number)
);
comment on table webhooks.tries is 'Each request that was made for a delivery, and what came back.';
comment on column webhooks.tries.status is 'HTTP status; null when there was no answer.';
comment on column webhooks.tries.response is 'The beginning of the answer''s body.';

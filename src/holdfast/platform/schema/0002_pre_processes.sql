-- Which processes are alive: for operators, for readiness, and so that `post` migrations wait until old code is gone.
create schema processes;
comment on schema processes is 'Running processes of Holdfast.';

create table processes.heartbeats (
    id uuid not null primary key,
    kind text not null,
    host text not null,
    pid integer not null,
    version text not null,
    needs integer not null,
    started_at timestamptz not null,
    seen_at timestamptz not null,
    facts jsonb not null default '{}'
);
comment on table processes.heartbeats is 'One row per process, refreshed every few seconds; rows that fell silent are removed.';
comment on column processes.heartbeats.kind is 'server or worker.';
comment on column processes.heartbeats.needs is 'Migrations that this process knew when it started: fewer than now means old code.';
comment on column processes.heartbeats.facts is 'What the process says of itself, for operators.';

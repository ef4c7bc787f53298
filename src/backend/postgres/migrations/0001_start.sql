-- Everything lives in one schema, named {s} here. Times are UTC.

-- The last migration done.
create table {s}.version (version int not null);

-- Counters that grow in the order of commits.
create table {s}.meta (name text primary key, n bigint not null);
insert into {s}.meta values ('change', 0);

create sequence {s}.origin_seq;
create sequence {s}.lister_seq;
create sequence {s}.owner_seq;
create sequence {s}.part_seq;
create sequence {s}.gap_seq;
create sequence {s}.run_seq;
create sequence {s}.visit_seq;

-- The first of the next n numbers of a sequence. The lock is held for this call, not for the
-- transaction, so that nobody waits for a commit.
create function {s}.reserve(seq regclass, n bigint) returns bigint language plpgsql as $$
declare first bigint;
begin
  perform pg_advisory_lock(1818324336, seq::oid::int);
  first := nextval(seq);
  if n > 1 then perform setval(seq, first + n - 1); end if;
  perform pg_advisory_unlock(1818324336, seq::oid::int);
  return first;
end $$;

-- Gives back the numbers after `used`, where `reserved` is still the last one.
create function {s}.give_back(seq regclass, reserved bigint, used bigint) returns void language plpgsql as $$
begin
  perform pg_advisory_lock(1818324336, seq::oid::int);
  if pg_sequence_last_value(seq) = reserved then perform setval(seq, greatest(used, 1), used > 0); end if;
  perform pg_advisory_unlock(1818324336, seq::oid::int);
end $$;

create table {s}.lister (
  id int primary key,
  uuid uuid not null unique,
  name text not null,
  instance text not null,
  state json,
  state_form int not null,
  created timestamptz not null,
  updated timestamptz not null,
  last_finished timestamptz,
  evidence_at timestamptz,
  evidence_run bigint,
  suspects_since timestamptz,
  revision bigint not null
) with (fillfactor = 50);

-- One row for each visit type: what its policy keeps, and what each lane is owed.
create table {s}.visit_type (
  id smallint primary key,
  name text not null unique,
  policy text not null,
  -- The options of the policy that matter for a place.
  form text not null,
  -- Origins from this number on are still placed by another policy.
  replace_from bigint,
  shared json,
  credit float8[] not null,
  -- Visits that the guard is owed.
  guarded float8 not null,
  -- How many origins wait, or are being visited.
  waiting bigint not null
) with (fillfactor = 50);

-- One (url, visit type): the unit of scheduling. What the first lister says of it is here too.
create table {s}.origin (
  -- What every origin has comes first: it is found fastest, and nothing of it is padding.
  id bigint primary key,
  -- Its place in the index of claims: microseconds, or whatever the policy ranks by.
  rank bigint not null,
  first_seen timestamptz not null,
  -- Zero for one that was put together with another.
  lister int not null,
  -- Visit type * 256 + lane; -1 where it waits for no visit.
  slot int not null,
  visit_type smallint not null,
  flags smallint not null,
  twin smallint not null,
  -- How many further listers list it.
  others smallint not null,
  -- The first half of a SHA-256 of type and URL; null for one whose URL is another's by now. Of two
  -- with the same number each is a twin of the other, told apart by the URL.
  key bigint,
  -- Where it waits until `rank`, what its rank is then; null where it waits for nothing.
  next_rank bigint,
  -- Its rank in a second lane, where it waits in two.
  also_rank bigint,
  -- Null where it was not seen, with news, after the first time.
  last_seen timestamptz,
  last_update timestamptz,
  last_visit timestamptz,
  last_successful timestamptz,
  requested_at timestamptz,
  hinted_at timestamptz,
  hold_until timestamptz,
  -- What is believed of how often it changes: so many changes in so many days, as of `folded`.
  folded timestamptz,
  listed timestamptz,
  last_change timestamptz,
  first_signal timestamptz,
  gone_at timestamptz,
  -- Where its forge's id is looked up: the id, if it is a number, else half a digest of it.
  forge_place bigint,
  -- The token of the last outcome taken; null before the first one.
  token bigint,
  -- Null where there were none, as are failures.
  visits bigint,
  -- What a policy keeps for itself, and which policy that is.
  memo_at bigint,
  belief_a real,
  belief_b real,
  memo_policy int,
  memo_step int,
  memo_count int,
  hinted_by int,
  -- Visit type * 256 + the second lane.
  also_slot int,
  failures int,
  next_lane smallint,
  last_status smallint,
  gone_reason smallint,
  url text not null,
  last_snapshot text,
  requested_by text,
  forge_id text,
  forked_from text,
  arguments json,
  -- {"by_hand": {"at", "reason"}, "by_failures": {…}}
  disabled json
);
-- Nearly no origin has a twin: so the index of all others is narrow.
create unique index origin_key on {s}.origin (key) where twin = 0;
create unique index origin_twin on {s}.origin (key, twin) where twin > 0;
create index origin_shared on {s}.origin (key) where others > 0;
create index origin_forge on {s}.origin (lister, forge_place) where forge_place is not null;
create index origin_place on {s}.origin (slot, rank, id) where slot >= 0;
create index origin_also on {s}.origin (also_slot, also_rank, id) where also_slot >= 0 and next_lane is null;

-- What second and further listers say of an origin.
create table {s}.listing (
  origin bigint not null,
  place smallint not null,
  lister int not null,
  flags smallint not null,
  gone_reason smallint,
  first_seen timestamptz not null,
  last_seen timestamptz not null,
  last_update timestamptz,
  gone_at timestamptz,
  forge_place bigint,
  forge_id text,
  forked_from text,
  arguments json,
  primary key (origin, place)
);
create index listing_forge on {s}.listing (lister, forge_place);
-- Few are gone, and people ask for the newest of them.
create index origin_gone on {s}.origin (gone_at) where gone_at is not null;
create index listing_gone on {s}.listing (gone_at) where gone_at is not null;

-- Visits under way.
create table {s}.lease (
  id bigint primary key,
  token bigint not null,
  owner int not null,
  since timestamptz not null,
  until timestamptz not null
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000);
create index lease_until on {s}.lease (until);

-- How far the claims of a slot have come: what is before it is under way.
create table {s}.position (
  slot int primary key,
  rank bigint not null,
  id bigint not null,
  head_at timestamptz not null,
  head_micros bigint not null
) with (fillfactor = 50);

create table {s}.run (
  id bigint primary key,
  lister int not null,
  mode text not null,
  coverage text not null,
  parameters json not null,
  digest bytea not null,
  outcome text not null,
  started timestamptz not null,
  finished timestamptz,
  pages bigint not null,
  requests bigint not null,
  new bigint not null,
  changed bigint not null,
  unchanged bigint not null,
  gone bigint not null,
  renamed bigint not null,
  gaps bigint not null,
  followed bigint not null,
  skipped bigint not null,
  -- Left out by filters: {"forks", "archived", "mirrors", "empty"}
  filtered json not null,
  error text,
  fence bigint not null,
  cursor_form int not null,
  ignore_fingerprints bool not null,
  next_cursor bigint not null,
  details bigint not null,
  absent bigint not null,
  withheld bigint not null,
  -- It is the one that its lister, mode and parameters continue.
  current bool not null
) with (fillfactor = 50);
create unique index run_current on {s}.run (lister, mode, digest) where current;
create index run_lister on {s}.run (lister);

create table {s}.gap (
  lister int not null,
  parameters bytea not null,
  digest bytea not null,
  number bigint not null,
  run bigint not null,
  cursor json not null,
  part text,
  fingerprint text,
  begins_part bool not null,
  kind text not null,
  reason text not null,
  since timestamptz not null,
  attempts int not null,
  retry_at timestamptz not null,
  primary key (lister, parameters, digest)
);

-- Changes in the order of commits, up to a thousand a row: the first one's token is the key.
create table {s}.change (
  first bigint primary key,
  at timestamptz not null,
  lister int not null,
  kinds bytea not null,
  origins bigint[] not null
);

-- Who was seen by a run since its sets were last put together.
create table {s}.seen_log (
  lister int not null,
  run bigint not null,
  n int not null,
  ids bigint[] not null,
  primary key (lister, run, n)
);

-- What runs need to know and nobody else: cursors, parts, fingerprints, validators, readings, sets,
-- in the form that all stores of this crate share.
create table {s}.entry (
  kind smallint not null,
  key bytea not null,
  value bytea not null,
  primary key (kind, key)
) with (fillfactor = 80);

-- What people may read, and what stays as it is when tables change.

create function {s}.maybe(flags int, shift int) returns bool language sql immutable as
  $$ select case (flags >> shift) & 3 when 1 then false when 2 then true end $$;

-- What each lister says of an origin. A listing without news does not write `last_seen`.
create view {s}.lamplighter_origins as
  select o.id as visit, l.name as lister, l.instance, o.url, t.name as visit_type, said.first_seen, said.last_seen,
    said.last_update, said.flags & 1 = 1 as enabled,
    {s}.maybe(said.flags, 1) as is_fork, {s}.maybe(said.flags, 3) as archived,
    {s}.maybe(said.flags, 6) as mirror, {s}.maybe(said.flags, 8) as empty,
    said.forked_from, said.forge_id, said.arguments, said.gone_at,
    (array['deleted', 'not_listed', 'private', 'blocked', 'name_reused'])[said.gone_reason + 1] as gone_reason
  from (
    select id as origin, lister, first_seen, coalesce(last_seen, first_seen) as last_seen, last_update, flags, forked_from, forge_id, arguments,
      gone_at, gone_reason from {s}.origin
    union all
    select origin, lister, first_seen, last_seen, last_update, flags, forked_from, forge_id, arguments,
      gone_at, gone_reason from {s}.listing) said
  join {s}.origin o on o.id = said.origin
  join {s}.lister l on l.id = said.lister
  join {s}.visit_type t on t.id = o.visit_type;

-- An origin's visits so far, where it waits for the next one, and the one that is under way.
create view {s}.lamplighter_visits as
  select o.id as visit, o.url, t.name as visit_type, coalesce(o.visits, 0) as visits, o.last_visit, o.last_successful,
    (array['successful', 'partial', 'failed', 'not_found'])[o.last_status + 1] as last_status,
    o.last_snapshot, coalesce(o.failures, 0) as failures_in_a_row, o.requested_at, o.requested_by, o.hold_until, o.disabled,
    case when o.slot >= 0 then coalesce(o.next_lane, o.slot & 255) end as lane,
    case when o.slot >= 0 then coalesce(o.next_rank, o.rank) end as rank,
    case when o.next_lane is not null then timestamptz 'epoch' + o.rank * interval '1 microsecond' end as not_before,
    v.token, convert_from(w.value, 'UTF8') as owner, v.since, v.until
  from {s}.origin o
  join {s}.visit_type t on t.id = o.visit_type
  left join {s}.lease v on v.id = o.id
  left join {s}.entry w on w.kind = 4 and w.key = int4send(v.owner);

create view {s}.lamplighter_runs as
  select r.id as run, l.name as lister, l.instance, r.mode, r.coverage, r.parameters, r.outcome, r.started,
    r.finished, r.pages, r.requests, r.new, r.changed, r.unchanged, r.gone, r.withheld, r.renamed, r.gaps,
    r.followed, r.skipped, r.error
  from {s}.run r join {s}.lister l on l.id = r.lister;

create view {s}.lamplighter_gaps as
  select l.name as lister, l.instance, g.cursor, g.part, g.kind, g.reason, g.since, g.attempts, g.retry_at, g.run
  from {s}.gap g join {s}.lister l on l.id = g.lister;

//! A database as swh-scheduler has one, made by SQL of our own: listers, listed origins and statistics of
//! visits, with every status, null and tie. What the incumbent would claim of it is asked in SQL too,
//! written from what its policies are said to do.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use deadpool_postgres::Client;
use lamplighter::model::Timestamp;

/// The time of all that is asked: days are counted from here.
pub(crate) fn now() -> Timestamp {
    Timestamp::parse("2026-06-01T00:00:00Z").unwrap()
}

const NOW: &str = "timestamptz '2026-06-01 00:00:00+00'";

const TABLES: &str = "
create type last_visit_status as enum ('successful', 'failed', 'not_found');
create table listers (id uuid primary key, name text not null, instance_name text not null,
  created timestamptz not null default now(), current_state jsonb not null, updated timestamptz not null,
  last_listing_finished_at timestamptz);
create table listed_origins (lister_id uuid not null, url text not null, visit_type text not null,
  extra_loader_arguments jsonb not null, enabled boolean not null, first_seen timestamptz not null,
  last_seen timestamptz not null, last_update timestamptz, is_fork boolean, forked_from_url text,
  primary key (lister_id, url, visit_type));
create table origin_visit_stats (url text not null, visit_type text not null, last_successful timestamptz,
  last_visit timestamptz, last_visit_status last_visit_status, last_scheduled timestamptz,
  last_snapshot bytea, next_visit_queue_position bigint, next_position_offset int not null default 4,
  successive_visits int not null default 1, primary key (url, visit_type));
create table visit_scheduler_queue_position (visit_type text primary key, position bigint not null);";

/// Every fiftieth origin has the date of its neighbours, and is listed by a second lister.
const ROWS: &str = "
insert into listers (id, name, instance_name, current_state, updated, last_listing_finished_at) values
  ('00000000-0000-0000-0000-000000000000', 'github', 'github.com', '{\"last_seen_id\": 77}', {now}, {now} - interval '5 days'),
  ('00000000-0000-0000-0000-000000000001', 'gitlab', 'gitlab.example', '{}', {now}, null),
  ('00000000-0000-0000-0000-000000000002', 'cgit', 'git.example', '{}', {now}, {now} - interval '1 day');
create table numbered as
  select n, 'https://forge' || n % 3 || '.example/' || md5(n::text) as url,
    case when n % 9 = 8 then 'hg' else 'git' end as visit_type from generate_series(0, {count} - 1) n;
insert into listed_origins
  select ('00000000-0000-0000-0000-00000000000' || (n + second) % 3)::uuid, url, visit_type,
    case when n % 7 = 0 then '{\"branch\": \"main\"}' else '{}' end::jsonb, n % 20 <> 3,
    {now} - (n + 1) * interval '1 minute', {now} - interval '1 hour',
    case when n % 5 > 0 then {now} - interval '2 hours'
      - case when n % 50 = 1 then 4711 else n * 7919 % 20000003 end * interval '1 second' end,
    (array[null, true, false])[n % 3 + 1], case when n % 3 = 1 then 'https://forge.example/parent' end
  from numbered cross join generate_series(0, 1) second where second = 0 or n % 50 = 1;
insert into origin_visit_stats
  select url, visit_type,
    case when kind < 6 then visited when kind = 7 and n % 2 = 0 then visited - interval '100 days' end,
    case when kind < 9 then visited end,
    case when kind < 7 then 'successful' when kind = 7 then 'failed' when kind = 8 then 'not_found' end::last_visit_status,
    case when kind in (6, 9) and n % 97 > 0 then {now} - (n / 11 % 14) * interval '1 day' - interval '1 hour'
      when kind < 9 then visited - interval '10 minutes' end,
    case when kind < 6 or kind = 7 and n % 2 = 0 then decode(md5(n::text) || '00000000', 'hex') end,
    case when n % 4 > 0 then n * 31 + 1000 end, n % 11, 1 + n % 2
  from (select *, n / 5 % 11 as kind,
      {now} - case when n % 97 = 0 then 3600 else 100000 + n * 104729::bigint % 25000000 end * interval '1 second' as visited
    from numbered where n % 5 <> 2) s;
update origin_visit_stats set last_successful = last_visit, last_snapshot = decode(md5(url) || '11111111', 'hex')
  where last_visit_status = 'successful';
insert into visit_scheduler_queue_position values ('git', 123456), ('hg', 77);
drop table numbered;";

/// Makes it in a schema.
pub(crate) async fn make(client: &Client, schema: &str, count: usize) {
    let rows = ROWS.replace("{now}", NOW).replace("{count}", &count.to_string());
    let sql = format!(
        "create schema \"{schema}\"; set search_path = \"{schema}\"; {TABLES} {rows} set search_path = default"
    );
    client.batch_execute(&sql).await.unwrap();
}

/// What the incumbent would claim of a visit type under one of its policies, all of it, in order; and of
/// each, whether its place in the order is its own.
pub(crate) async fn claims(
    client: &tokio_postgres::Client,
    schema: &str,
    visit_type: &str,
    (wanted, order): (&str, &str),
) -> Vec<(String, bool)> {
    // Not scheduled in half a day, nor in a week without an outcome; rested after a failure.
    let sql = format!(
        "with free as (
           select distinct on (o.url) o.url, {order} as place
           from \"{schema}\".listed_origins o
           left join \"{schema}\".origin_visit_stats s on s.url = o.url and s.visit_type = o.visit_type
           where o.enabled and o.visit_type = $1
             and (s.last_scheduled is null or s.last_scheduled < {NOW} - interval '12 hours')
             and (s.last_scheduled is null or s.last_scheduled < greatest({NOW} - interval '7 days', s.last_visit))
             and not coalesce(s.last_visit_status = 'failed' and s.last_visit >= {NOW} - interval '14 days', false)
             and not coalesce(s.last_visit_status = 'not_found' and s.last_visit >= {NOW} - interval '31 days', false)
             and {wanted})
         select url, count(*) over (partition by place) = 1 from free order by place, url"
    );
    client.query(&sql, &[&visit_type]).await.unwrap().iter().map(|r| (r.get(0), r.get(1))).collect()
}

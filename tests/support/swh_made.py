"""Makes a database of swh-scheduler by the incumbent's own calls, and tells what it would claim of it.

    swh_made.py DSN COUNT

DSN names an empty database. Run by an interpreter that has swh-scheduler 3.6.0. Prints one line of JSON: for
each policy and visit type the (URL, visit type) pairs that `grab_next_visits` gives, in its order.
"""
import datetime as dt
import importlib.resources
import json
import sys

import psycopg
from swh.scheduler import get_scheduler
from swh.scheduler.model import ListedOrigin, OriginVisitStats

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.timezone.utc)
DAY, HOUR, MINUTE = dt.timedelta(days=1), dt.timedelta(hours=1), dt.timedelta(minutes=1)
POLICIES = ["oldest_scheduled_first", "never_visited_oldest_update_first", "already_visited_order_by_lag",
            "origins_without_last_update", "first_visits_after_listing", "stop_after_success"]


def url(n):
    return f"https://forge{n % 3}.example/{n * 2654435761 % 2**32:08x}/{n}"


def kind(n):
    return "hg" if n % 9 == 8 else "git"


def updated(n):
    """None for a fifth; now and then the same as a neighbour's."""
    if n % 5 == 0:
        return None
    seconds = 4711 if n % 50 == 1 else n * 7919 % 20_000_003
    return NOW - 2 * HOUR - dt.timedelta(seconds=seconds)


def listed(n, lister):
    return ListedOrigin(
        lister_id=lister.id, url=url(n), visit_type=kind(n),
        extra_loader_arguments={"branch": "main"} if n % 7 == 0 else {}, last_update=updated(n), enabled=n % 20 != 3,
        is_fork=[None, True, False][n % 3], forked_from_url="https://forge.example/parent" if n % 3 == 1 else None)


def stats(n):
    """Every status, and none: never visited, sent and never visited, failed with and without a good visit before."""
    if n % 5 == 2:
        return None
    case = n // 5 % 11
    ago = 3600 if n % 97 == 0 else 100_000 + n * 104_729 % 25_000_000
    visited = NOW - dt.timedelta(seconds=ago)
    snapshot = (n * 2654435761 % 2**64).to_bytes(20, "big")
    facts = dict(url=url(n), visit_type=kind(n), next_position_offset=n % 11, successive_visits=1 + n % 2,
                 next_visit_queue_position=n * 31 + 1000 if n % 4 else None)
    if case < 9:
        facts.update(last_visit=visited, last_scheduled=visited - 10 * MINUTE,
                     last_visit_status="successful" if case < 7 else "failed" if case == 7 else "not_found")
    if case < 7:
        facts.update(last_successful=visited, last_snapshot=snapshot)
    elif case == 7 and n % 2 == 0:
        facts.update(last_successful=visited - 100 * DAY, last_snapshot=snapshot)
    if case in (6, 9) and n % 97:
        facts.update(last_scheduled=NOW - (n // 11 % 14) * DAY - HOUR)
    return OriginVisitStats(**facts)


def main():
    dsn, count = sys.argv[1], int(sys.argv[2])
    files = importlib.resources.files("swh.scheduler") / "sql"
    with psycopg.connect(dsn, autocommit=True) as c:
        for part in ("10-superuser-init", "30-schema", "40-func", "60-indexes"):
            c.execute((files / f"{part}.sql").read_text())
    s = get_scheduler("postgresql", db=dsn, min_pool_conns=1, max_pool_conns=2)
    names = [("github", "github.com"), ("gitlab", "gitlab.example"), ("cgit", "git.example")]
    listers = [s.get_or_create_lister(*name) for name in names]
    for lister, days in zip(listers, (5, None, 1)):
        if days:
            s.update_lister(lister.evolve(last_listing_finished_at=NOW - days * DAY, current_state={"days": days}))
    for first in range(0, count, 1000):
        some = range(first, min(first + 1000, count))
        # Every fiftieth is listed by a second lister too.
        s.record_listed_origins([listed(n, listers[n % 3]) for n in some])
        s.record_listed_origins([listed(n, listers[(n + 1) % 3]) for n in some if n % 50 == 1])
        s.origin_visit_stats_upsert([known for n in some if (known := stats(n))])
    # Recorded at the time of this machine; the rest of the data is of another time.
    with psycopg.connect(dsn, autocommit=True) as c:
        c.execute("update listed_origins set last_seen = %s, first_seen = %s - substring(url from '[0-9]+$')::int"
                  " * interval '1 minute'", (NOW - HOUR, NOW))
    for name, position in (("git", 5000), ("hg", 700)):
        s.visit_scheduler_queue_position_set(name, position)
    told = {}
    for policy in POLICIES:
        for visit_type in ("git", "hg"):
            kw = {"lister_uuid": str(listers[0].id)} if policy == "first_visits_after_listing" else {}
            got = s.grab_next_visits(visit_type, count * 2, policy=policy, timestamp=NOW, dry_run=True, **kw)
            told[f"{policy} {visit_type}"] = [o.url for o in got]
    print(json.dumps(told))


main()

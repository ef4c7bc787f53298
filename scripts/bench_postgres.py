"""Measures the store in PostgreSQL and the incumbent, in turn, on one server. Called by scripts/bench, with
the incumbent's interpreter.

    bench_postgres.py OURS --peer FOLDER --dsn DSN --url URL --work FOLDER --origins N [--large N] [--only STEPS]
      [--command LAMPLIGHTER --forge URL --repos N --pairs N]

OURS is the binary of benches/postgres.rs; the peer's FOLDER has the incumbent's tools. One line is printed, each figure
with its bar; the exit status is 1 where a bar is missed. What each step took goes to standard error.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

LISTING = 5_000  # rows of a turn of recording
POLICIES = ["oldest_scheduled_first", "never_visited_oldest_update_first", "already_visited_order_by_lag",
            "origins_without_last_update", "first_visits_after_listing", "stop_after_success"]


class Ours:
    """The bench's process, which does one step for each line."""

    def __init__(self, binary, url):
        env = dict(os.environ, BENCH_PG=url)
        self.child = subprocess.Popen([binary, "--bench"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def __call__(self, *words):
        self.child.stdin.write(" ".join(map(str, words)) + "\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            sys.exit(f"the bench ended at: {words}")
        return json.loads(line)


class Verdict:
    def __init__(self):
        self.said, self.missed = [], []

    def note(self, text):
        print(text, file=sys.stderr, flush=True)
        self.said.append(text)

    def bar(self, text, holds):
        self.note(text if holds else f"**{text}: missed**")
        self.missed.extend([] if holds else [text])

    def times(self, name, mine, theirs, at_least, unit):
        """Two rates; the more the better."""
        ratio = mine / theirs
        self.bar(f"{name} {mine:,.0f} {unit} against {theirs:,.0f}: {ratio:.1f} times (at least {at_least})", ratio >= at_least)


def timed(call):
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result


def record(ours, peer, verdict, origins):
    """New, and again without news, in turn; then the rest of ours alone."""
    peer.create()
    s = peer.backend()
    listers = peer.listers(s)
    monitor = peer.psycopg.connect(peer.dsn(peer.DB), autocommit=True)
    measured = min(origins, 100_000)
    for name, at_least in (("new", 4), ("unchanged", 6)):
        mine, theirs, wal = [0, 0.0], [0, 0.0], [0, 0]
        for first in range(0, measured, LISTING):
            told = ours("list", first, first + LISTING)
            if told[name] != LISTING:
                sys.exit(f"{told} of {LISTING} {name}")
            mine = [mine[0] + LISTING, mine[1] + told["ms"] / 1e3]
            wal[0] += told["wal"]
            batches = [[peer.mk(i, listers) for i in range(b, b + 1000)] for b in range(first, first + LISTING, 1000)]
            before = peer.wal(monitor)
            seconds, _ = timed(lambda: [s.record_listed_origins(batch) for batch in batches])
            wal[1] += peer.wal(monitor) - before
            theirs = [theirs[0] + LISTING, theirs[1] + seconds]
        verdict.times(f"record, {name}", mine[0] / mine[1], theirs[0] / theirs[1], at_least, "rows/s")
        if name == "unchanged":
            verdict.bar(f"WAL {wal[0] / mine[0]:.1f} bytes an unchanged row (at most 20; the incumbent "
                        f"{wal[1] / theirs[0]:.0f})", wal[0] <= 20 * mine[0])
    for first in range(measured, origins, 25_000):
        ours("list", first, min(first + 25_000, origins))
    size = ours("size")
    return size


def claims(ours, peer, verdict, grabbing):
    """Each of the incumbent's policies, over the same origins."""
    s = peer.backend()
    listers = peer.listers(s)
    for policy in POLICIES:
        placed = ours("use", "claims", f"classic,{policy}=1")
        one = (listers[0].name, listers[0].instance_name) if policy == "first_visits_after_listing" else ()
        kw = {"lister_uuid": str(listers[0].id)} if one else {}
        kw.update(policy=policy, timestamp=peer.NOW)
        ours("claim", 1000, *one)
        mine, whole, sampled = [], [], []
        for _ in range(grabbing):
            mine.append(ours("claim", 1000, *one))
            seconds, got = timed(lambda: s.grab_next_visits("git", 1000, tablesample=None, **kw))
            whole.append((seconds, len(got)))
            for _ in range(3):
                seconds, got = timed(lambda: s.grab_next_visits("git", 1000, tablesample=0.1, **kw))
                sampled.append((seconds, len(got)))
        ms = statistics.median(m["ms"] for m in mine)
        full = statistics.median(w[0] for w in whole) * 1e3
        rate = sum(m["got"] for m in mine) / sum(m["ms"] for m in mine) * 1e3
        if min(m["got"] for m in mine) < 1000 and max(w[1] for w in whole) >= 1000:
            sys.exit(f"{policy}: {mine} against {whole}")
        buffers = statistics.median(m["buffers"] for m in mine)
        verdict.bar(f"{policy}: claim {mine[-1]['got']} in {ms:.1f} ms against {full:.0f} ms: {full / ms:.0f} times (at least 30)",
                    full >= 30 * ms)
        taken, spent = sum(w[1] for w in sampled), sum(w[0] for w in sampled)
        verdict.bar(f"{rate:,.0f} visits/s against its 0.1 % sample's {taken / spent:,.0f} ({taken / len(sampled):.0f} a grab): "
                    f"{rate * spent / max(taken, 1):.1f} times (at least 4)", rate * spent >= 4 * taken)
        verdict.note(f"{buffers:,.0f} buffers, placed in {placed['placed_ms'] / 1e3:.0f} s")


def under_way(ours, verdict, origins):
    ours("use", "claims", "classic,oldest_scheduled_first=1")
    ours("claim", 1000)
    none = [ours("claim", 1000)["ms"] for _ in range(15)]
    held = min(origins * 3 // 10, 300_000)
    ours("hold", held)
    ours("claim", 1000)
    many = [ours("claim", 1000)["ms"] for _ in range(15)]
    none, many = statistics.median(none), statistics.median(many)
    verdict.bar(f"claim 1000 with {held:,} under way in {many:.1f} ms, with none {none:.1f}: {many / none:.1f} times that (at most 2.5)",
                many <= 2.5 * none)


def outcomes(ours, peer, verdict, origins):
    import hashlib
    from swh.scheduler.journal_client import process_journal_objects
    s = peer.backend()
    mine, theirs = [], []
    ours("free")
    for turn in range(20):
        ours("claim", 1000)
        told = ours("outcomes")
        mine.append(told["rows"] / told["ms"] * 1e3)
        messages = []
        for k in range(turn * 1000, (turn + 1) * 1000):
            i = peer.mix(k, 10) % origins
            messages.append(dict(origin=peer.url(i), type=peer.vtype(i), date=peer.NOW + peer.dt.timedelta(seconds=k),
                                 status="full", visit=1, snapshot=hashlib.sha1(b"x%d" % k).digest()))
        seconds, _ = timed(lambda: process_journal_objects({"origin_visit_status": messages}, scheduler=s))
        theirs.append(1000 / seconds)
    verdict.times("outcomes", statistics.median(mine), statistics.median(theirs), 3, "rows/s")


def runners(ours, peer, verdict):
    ones, eights = [], []
    for _ in range(3):
        ours("free")
        one = ours("runners", 1, 16)
        ones.append(one["visits"] / one["ms"] * 1e3)
        ours("free")
        eight = ours("runners", 8, 2)
        eights.append(eight["visits"] / eight["ms"] * 1e3)
    one, eight = statistics.median(ones), statistics.median(eights)
    verdict.bar(f"8 runners {eight:,.0f} distinct visits/s, one {one:,.0f}", eight >= one)


def stats(ours, peer, verdict, origins, work):
    s = peer.backend()
    pairs = []
    for k in range(20_000):
        i = peer.mix(k, 12) % origins
        if peer.stats(i) and (peer.url(i), peer.vtype(i)) not in pairs[-100:]:
            pairs.append((peer.url(i), peer.vtype(i)))
    pairs = list(dict.fromkeys(pairs))[:10_000]
    names = os.path.join(work, "keys")
    with open(names, "w") as f:
        f.writelines(f"{url} {kind}\n" for url, kind in pairs)
    mine, theirs, buffers = [], [], 0
    for _ in range(5):
        told = ours("stats", names)
        mine.append(told["ms"])
        buffers = told["buffers"] / told["rows"]
        seconds, got = timed(lambda: s.origin_visit_stats_get(pairs))
        theirs.append(seconds * 1e3)
        if len(got) != len(pairs):
            sys.exit(f"the incumbent knows {len(got)} of {len(pairs)}")
    mine, theirs = statistics.median(mine), statistics.median(theirs)
    verdict.bar(f"status of {len(pairs):,} in {mine:.0f} ms, {buffers:.1f} buffers each (at most 8); origin_visit_stats_get {theirs:.0f} ms",
                buffers <= 8)


def paging(ours, peer, verdict, most):
    """Page by page, in turn, whole objects."""
    s = peer.backend()
    with peer.psycopg.connect(peer.dsn(peer.DB), autocommit=True) as c:
        there = c.execute("select count(*) from listed_origins").fetchone()[0]
    mine, theirs, token, last = [0, 0.0], [0, 0.0], None, False
    while not last or theirs[0] < min(most, there) and token:
        if not last:
            told = ours("page")
            mine = [mine[0] + told["rows"], mine[1] + told["ms"] / 1e3]
            last = told["last"]
        if theirs[0] == 0 or token and theirs[0] < most:
            seconds, page = timed(lambda: s.get_listed_origins(enabled=None, limit=1000, page_token=token))
            theirs = [theirs[0] + len(page.results), theirs[1] + seconds]
            token = page.next_page_token
    verdict.times(f"paging through {mine[0]:,}", mine[0] / mine[1], theirs[0] / theirs[1], 8, "rows/s")
    verdict.bar(f"{mine[0]:,} of {there:,} paged", mine[0] == there)
    verdict.note(f"the incumbent {theirs[0]:,}")


def metrics(ours, peer, verdict):
    s = peer.backend()
    mine, theirs = [], []
    ours("free")
    for _ in range(5):
        mine.append(ours("metrics")["ms"])
        theirs.append(timed(s.update_metrics)[0] * 1e3)
    mine, theirs = statistics.median(mine), statistics.median(theirs)
    verdict.bar(f"metrics in {mine:.0f} ms against {theirs:.0f}: {theirs / mine:.1f} times (at least 4)", theirs >= 4 * mine)


def large(ours, verdict, small, many):
    """Claims of rows that SQL put in: of so many, and of ten times as many."""
    ours("prepare", "small", small)
    ours("prepare", "large", many)
    of = {"small": [], "large": []}
    for _ in range(3):
        for schema in of:
            ours("use", schema, "oldest")
            ours("claim", 1000)
            of[schema] += [ours("claim", 1000) for _ in range(7)]
    ms = {name: statistics.median(c["ms"] for c in told) for name, told in of.items()}
    buffers = {name: statistics.median(c["buffers"] for c in told) for name, told in of.items()}
    verdict.bar(f"claim 1000 of {many:,} (put in by SQL) in {ms['large']:.1f} ms, of {small:,} in {ms['small']:.1f}: "
                f"{ms['large'] / ms['small']:.1f} times (at most 2.5)", ms["large"] <= 2.5 * ms["small"])
    verdict.bar(f"{buffers['small']:,.0f} and {buffers['large']:,.0f} buffers (at most 20,000)", max(buffers.values()) <= 20_000)


def listing(o, peer, verdict):
    """A forge's repositories into each store, in turn: by the command, and by the incumbent's lister."""
    mine, theirs = [], []
    for pair in range(o.pairs):
        schema = f"listing_{pair}"
        with peer.psycopg.connect(o.dsn, autocommit=True) as c:
            c.execute(f"drop schema if exists {schema} cascade")
        argv = [o.command, "list", "pagure", f"url={o.forge}/", "instance=loopback", "--store", f"{o.url}?schema={schema}",
                "--concurrency", "64", "--json"]
        seconds, done = timed(lambda: subprocess.run(argv, capture_output=True, text=True))
        if done.returncode != 0 or json.loads(done.stdout)["new"] != o.repos:
            sys.exit(f"{argv[0]} ended with {done.returncode}: {done.stderr[-2000:]}{done.stdout[-2000:]}")
        mine.append(o.repos / seconds)
        with peer.psycopg.connect(o.dsn, autocommit=True) as c:
            found = c.execute(f"select count(*) from {schema}.origin").fetchone()[0]
            c.execute(f"drop schema {schema} cascade")
        if found != o.repos:
            sys.exit(f"{found} of {o.repos} are in the store")
        peer.create()
        argv = [sys.executable, os.path.join(o.peer, "peer_lister.py"), o.forge, peer.dsn(peer.DB)]
        seconds, done = timed(lambda: subprocess.run(argv, capture_output=True, text=True))
        if done.returncode != 0 or json.loads(done.stdout.splitlines()[-1])["origins"] != o.repos:
            sys.exit(f"the incumbent's lister ended with {done.returncode}: {done.stderr[-2000:]}{done.stdout[-2000:]}")
        theirs.append(o.repos / seconds)
    verdict.times(f"{o.repos:,} repositories over HTTP", statistics.median(mine), statistics.median(theirs), 8, "a second, whole process,")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ours")
    for name in ("peer", "dsn", "url", "work"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--origins", type=int, required=True)
    parser.add_argument("--large", type=int, default=0)
    parser.add_argument("--only", default="record,claims,more,large,listing")
    parser.add_argument("--command", default="")
    parser.add_argument("--forge", default="")
    parser.add_argument("--repos", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=3)
    o = parser.parse_args()
    os.environ["BENCH_ADMIN_DSN"] = o.dsn
    sys.path.insert(0, o.peer)
    # What the incumbent's tools tell goes beside what is told here.
    told, sys.stdout = sys.stdout, sys.stderr
    import peer_swh_scheduler as peer
    ours, verdict = Ours(o.ours, o.url), Verdict()
    steps = o.only.split(",")
    sizes = record(ours, peer, verdict, o.origins) if "record" in steps else None
    if "claims" in steps or "more" in steps:
        peer.load(o.origins)
        with peer.psycopg.connect(peer.dsn(peer.DB), autocommit=True) as c:
            rows = c.execute("select count(*) from listed_origins").fetchone()[0]
            z = peer.sizes(c, ["listed_origins", "origin_visit_stats"])
        theirs = sum(v["heap"] + v["indexes"] for v in z.values()) / rows
        ours("use", "claims", "classic,oldest_scheduled_first=1")
        took = ours("import", f"postgres://postgres@{o.url.split('@')[1].rsplit('/', 1)[0]}/{peer.DB}")
        verdict.note(f"its {took['rows']:,} origins imported at {took['rows'] / took['ms'] * 1e3:,.0f} rows/s")
        with_visits = ours("size")
        if sizes:
            verdict.bar(f"{sizes['bytes']:.0f} bytes an origin, {sizes['heap_and_indexes']} (at most 420)", sizes["bytes"] <= 420)
        verdict.note(f"the incumbent's data imported {with_visits['bytes']:.0f}, there {theirs:.0f}, of which 80 % are visited")
    if "claims" in steps:
        claims(ours, peer, verdict, 5)
    if "more" in steps:
        under_way(ours, verdict, o.origins)
        runners(ours, peer, verdict)
        outcomes(ours, peer, verdict, o.origins)
        stats(ours, peer, verdict, o.origins, o.work)
        metrics(ours, peer, verdict)
        paging(ours, peer, verdict, 250_000)
    if o.large and "large" in steps:
        large(ours, verdict, o.large // 10, o.large)
    if o.command and o.repos and "listing" in steps:
        listing(o, peer, verdict)
    ours.child.stdin.close()
    print(f"{o.origins:,} origins: " + "; ".join(verdict.said), file=told)
    return 1 if verdict.missed else 0


if __name__ == "__main__":
    sys.exit(main())

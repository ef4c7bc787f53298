"""Lists one loopback forge with lamplighter and with swh-lister in turn. Called by scripts/bench.

Prints one line for docs/measured.md; what each run did goes to standard error. Exits with 1 where the
runs are good but a bar is missed, and with a message where a run is not good.
"""
import argparse, importlib.resources, json, os, random, statistics, subprocess, sys, tempfile, time
from pathlib import Path

BAR = 10  # times the incumbent's pages a second, both storing durably
MORE_MEMORY = 10  # MB, for ten times the pages
# Pages in flight, of which the forge is asked for four at a time; the others wait to be committed.
CONCURRENCY = 64


def run(argv):
    """Runs a command. Its output, the seconds of the whole process, its peak resident size in MB and its CPU's seconds."""
    # By time(1), which is small: a process inherits the peak of the one that starts it.
    with tempfile.NamedTemporaryFile("r") as told:
        begun = time.perf_counter()
        done = subprocess.run(["time", "-q", "-o", told.name, "-f", "%M %U %S", *argv], capture_output=True)
        seconds = time.perf_counter() - begun
        if done.returncode != 0:
            sys.exit(f"{argv[0]} ended with {done.returncode}: {done.stderr.decode()[-2000:]}{done.stdout.decode()[-2000:]}")
        peak, user, system = map(float, told.read().split())
    return done.stdout, seconds, peak * 1024 / 1e6, user + system


def remove(store):
    for path in store.parent.glob(store.name + "*"):
        path.unlink()


def distinct(command, store, instance):
    """The distinct URLs in a store, counted from outside."""
    listing = [command, "origins", "--instance", instance, "--store", f"file:{store}", "--json"]
    with subprocess.Popen(listing, stdout=subprocess.PIPE) as child:
        urls = {json.loads(line)["url"] for line in child.stdout}
    if child.returncode != 0:
        sys.exit(f"origins ended with {child.returncode}")
    return len(urls)


def ours(o, url, store, repos, instance="loopback"):
    out, whole, peak, cpu = run([o.command, "list", "pagure", f"url={url}/", f"instance={instance}",
                                 "--store", f"file:{store}", "--concurrency", str(CONCURRENCY), "--json"])
    said = json.loads(out)
    pages = (repos + 99) // 100
    good = (said["outcome"], said["pages"], said["requests"], said["new"]) == ("complete", pages, pages, repos)
    found = distinct(o.command, store, instance)
    if not good or found != repos:
        sys.exit(f"{found} of {repos} URLs are in the store after {said}")
    note("lamplighter", pages, said["seconds"], whole, peak, cpu)
    return pages / said["seconds"], pages / whole, peak, said["seconds"]


def theirs(o, repos, dsn):
    if dsn:
        fresh_database(dsn)
    out, whole, peak, cpu = run([sys.executable, o.peer, o.forge] + ([dsn] if dsn else []))
    said = json.loads(out)
    pages = (repos + 99) // 100
    found = in_database(dsn) if dsn else said["origins"]
    if (said["pages"], found) != (pages, repos):
        sys.exit(f"the incumbent found {found} of {repos}: {said}")
    note("swh-lister into PostgreSQL" if dsn else "swh-lister, only counting", pages, said["seconds"], whole, peak, cpu)
    return pages / said["seconds"], pages / whole, peak, said["seconds"]


def note(who, pages, seconds, whole, peak, cpu):
    print(f"{who}: {pages} pages in {seconds:.2f} s ({pages / seconds:.0f}/s), the whole process {whole:.2f} s, "
          f"CPU {cpu:.2f} s, peak {peak:.0f} MB", file=sys.stderr, flush=True)


def fresh_database(dsn):
    """The incumbent's own schema, as its package holds it, in an empty database."""
    import psycopg
    name = "swh_peer"
    with psycopg.connect(dsn.replace(f"dbname={name}", "dbname=postgres"), autocommit=True) as c:
        c.execute(f"drop database if exists {name} with (force)")
        c.execute(f"create database {name}")
    files = importlib.resources.files("swh.scheduler") / "sql"
    with psycopg.connect(dsn, autocommit=True) as c:
        for part in ("10-superuser-init", "30-schema", "40-func", "60-indexes"):
            c.execute((files / f"{part}.sql").read_text())


def in_database(dsn):
    import psycopg
    with psycopg.connect(dsn) as c:
        return c.execute("select count(distinct url) from listed_origins").fetchone()[0]


def disk_ms(folder, pages=110, size=20 << 20):
    """What a commit costs on the disk of the stores at least: as many scattered blocks as a page of a
    hundred new origins changes (seen with strace), and one fdatasync."""
    path = folder / "disk"
    chosen = random.Random(1)
    times = []
    with open(path, "wb", buffering=0) as f:
        f.write(bytes(size))
        os.fsync(f.fileno())
        for _ in range(50):
            begun = time.perf_counter()
            for _ in range(pages):
                os.pwrite(f.fileno(), b"x" * 4096, chosen.randrange(size // 4096) * 4096)
            os.fdatasync(f.fileno())
            times.append((time.perf_counter() - begun) * 1000)
    path.unlink()
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser()
    for name in ("command", "peer", "forge", "large", "dsn"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--repos", type=int, required=True)
    parser.add_argument("--pairs", type=int, required=True)
    o = parser.parse_args()
    store = o.work / "listing.db"

    # Alternated, so that whatever else the machine does meets them all.
    runs = {"ours": [], "count": [], "store": []}
    disk = []
    for _ in range(o.pairs):
        disk.append(disk_ms(o.work))
        runs["count"].append(theirs(o, o.repos, None))
        remove(store)
        runs["ours"].append(ours(o, o.forge, store, o.repos))
        if o.dsn:
            runs["store"].append(theirs(o, o.repos, o.dsn))
    remove(store)

    def median(of, what):
        return statistics.median(r[what] for r in runs[of])

    # The store keeps a bounded cache: it is full in both runs of a pair, as the smaller listing goes
    # into the store that the larger one filled.
    large = ours(o, o.large, store, o.repos * 10)
    small = ours(o, o.forge, store, o.repos, instance="another")
    remove(store)
    more = large[2] - small[2]

    pages, whole, peak, seconds = (median("ours", i) for i in range(4))
    load = os.getloadavg()[0]
    line = (f"{o.repos} repositories, {o.pairs} alternated runs, medians: with --concurrency {CONCURRENCY}, "
            f"{pages:.0f} pages/s by its own clock, "
            f"{whole:.0f} whole process, {seconds * 1e5 / o.repos:.2f} ms a page, peak {peak:.0f} MB, "
            f"{o.repos} distinct URLs in the file")
    ratios = {}
    for name, of in (("storing nothing", "count"), ("into PostgreSQL", "store")):
        if runs[of]:
            ratios[of] = pages / median(of, 0)
            line += (f"; swh-lister {name}: {median(of, 0):.0f} pages/s, {median(of, 1):.0f} whole process, "
                     f"peak {median(of, 2):.0f} MB: **{ratios[of]:.1f} times** ({whole / median(of, 1):.1f} whole process)")
    line += (f"; peak of {o.repos // 10} pages {large[2]:.0f} MB, of {o.repos // 100} pages in the same store "
             f"{small[2]:.0f} MB: {more:+.1f} MB; a commit's writes and fdatasync alone {statistics.median(disk):.1f} ms, load {load:.1f}")
    print(line)
    missed = []
    if ratios.get("store", ratios["count"]) < BAR:
        missed.append(f"under {BAR} times the incumbent's pages a second, both storing")
    if more >= MORE_MEMORY:
        missed.append(f"{more:.0f} MB more for ten times the pages")
    for what in missed:
        print(f"MISSED: {what}", file=sys.stderr)
    sys.exit(1 if missed else 0)


main()

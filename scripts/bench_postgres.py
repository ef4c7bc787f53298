"""Sets what benches/postgres.rs measured beside what the incumbent's own calls took on the same server.

    bench_postgres.py OURS.json PEER.jsonl ORIGINS

Prints one line; the exit status is 1 where a bar is missed.
"""
import json
import sys


def main():
    ours = json.load(open(sys.argv[1]))
    peer = [json.loads(line) for line in open(sys.argv[2])]
    origins = int(sys.argv[3])

    def of(op, **which):
        found = [p for p in peer if p["op"] == op and all(p.get(k) == v for k, v in which.items())]
        if not found:
            sys.exit(f"the incumbent told nothing of {op} {which}")
        return found[-1]

    said, missed = [], []

    def bar(text, holds):
        said.append(text if holds else f"**{text}: missed**")
        missed.extend([] if holds else [text])

    def times(name, mine, theirs, at_least, unit):
        ratio = mine / theirs
        bar(f"{name} {mine:.0f} {unit} against {theirs:.0f}: {ratio:.1f} times (at least {at_least})", ratio >= at_least)

    times("record, new", ours["record_fresh_rows_s"], of("record_listed_origins/fresh")["rows_s"], 4, "rows/s")
    times("record, unchanged", ours["record_again_rows_s"], of("record_listed_origins/relist")["rows_s"], 6, "rows/s")
    wal = ours["record_again_wal_bytes_a_row"]
    bar(f"WAL {wal} bytes an unchanged row (at most 20; the incumbent "
        f"{of('record_listed_origins/relist')['wal_per_row']})", wal <= 20)
    mine = ours["claim_1000_ms"]
    whole = [p for p in peer if p["op"] == "grab" and p["tablesample"] is None and max(p["got"]) > 0]
    for p in whole:
        ratio = p["p50_s"] * 1e3 / mine
        bar(f"claim 1000 in {mine} ms, {p['policy']} {p['p50_s'] * 1e3:.0f} ms: {ratio:.0f} times (at least 30)",
            ratio >= 30)
    busy = ours["claim_1000_with_a_third_under_way_ms"]
    bar(f"with a third under way {busy} ms: {busy / mine:.1f} times that (at most 2.5)", busy <= 2.5 * mine)
    one, eight = ours["one_runner_visits_s"], ours["eight_runners_visits_s"]
    bar(f"8 runners {eight:.0f} distinct visits/s, one {one:.0f}", eight >= one)
    race = of("race", runners=8, policy="oldest_scheduled_first", tablesample=None)
    said.append(f"the incumbent's 8: {race['distinct_origins_s']} and {race['dup_share']:.0%} handed out twice")
    times("outcomes", ours["outcomes_rows_s"], of("process_journal_objects")["rows_s"], 3, "rows/s")
    said.append(f"status of 10,000 in {ours['stats_of_10000_ms']:.0f} ms")
    paging = of("get_listed_origins/paging")
    times("paging", ours["paging_rows_s"], paging["rows_s"], 8, "rows/s")
    said.append(f"the incumbent left out {paging['missing']}")
    times("metrics", 1 / max(ours["metrics_s"], 0.05), 1 / of("update_metrics")["p50_s"], 4, "a second")
    size, theirs = ours["bytes_an_origin"], of("sizes")["bytes_per_origin"]
    bar(f"{size:.0f} bytes an origin without visits (at most 420; the incumbent with visits {theirs:.0f})", size <= 420)
    print(f"{origins} origins: " + "; ".join(said))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

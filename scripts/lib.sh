# Shared by scripts/test, scripts/soak and scripts/bench.

say() { printf '\n== %s\n' "$*" >&2; }
skip() { printf '\n!! SKIPPED: %s\n' "$*" >&2; SKIPPED=$((${SKIPPED:-0} + 1)); }
is_root() { [ "$(id -u)" = 0 ]; }

# Debian packages, where we may install them. In CI a missing server is a failure.
want_packages() {
  local missing=()
  for p in "$@"; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
  [ ${#missing[@]} = 0 ] && return 0
  if is_root && command -v apt-get >/dev/null; then
    say "installing ${missing[*]}"
    { apt-get install -y -qq --no-install-recommends "${missing[@]}" \
      || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; }; } >/dev/null
  else
    return 1
  fi
}

# Starts a throw-away PostgreSQL that forgets everything at a crash, reached by its socket only, and
# sets $pg_url and $pg_restart; it is gone after stop_postgres. Not as root, which PostgreSQL refuses.
start_postgres() {
  pg_url=
  pg_bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
  [ -x "$pg_bin/initdb" ] && [ -x "$pg_bin/pg_ctl" ] || return 1
  # It may be reached by its own user, wherever target/ is.
  pg_data=$(mktemp -d "${TMPDIR:-/tmp}/lamplighter-pg.XXXXXX")
  pg_as=()
  if is_root; then
    id postgres >/dev/null 2>&1 || return 1
    chown postgres "$pg_data"
    pg_as=(setpriv --reuid postgres --regid postgres --clear-groups)
  fi
  (cd "$pg_data" && "${pg_as[@]}" "$pg_bin/initdb" -D "$pg_data/data" -A trust -U postgres >/dev/null \
    && "${pg_as[@]}" "$pg_bin/pg_ctl" -D "$pg_data/data" -w -l "$pg_data/log" -o "-c listen_addresses= -k $pg_data \
      -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200" start >/dev/null) \
    || { rm -rf "$pg_data"; return 1; }
  pg_url="postgres://postgres@${pg_data//\//%2F}/postgres"
  # Without warning, as at a crash.
  pg_restart="cd '$pg_data' && ${pg_as[*]} '$pg_bin/pg_ctl' -D '$pg_data/data' -w -l '$pg_data/log' -m immediate restart >/dev/null"
}

stop_postgres() {
  [ -n "${pg_url:-}" ] || return 0
  (cd "$pg_data" && "${pg_as[@]}" "$pg_bin/pg_ctl" -D "$pg_data/data" -m immediate stop >/dev/null) || true
  rm -rf "$pg_data"
  pg_url=
}

# An interpreter with swh-scheduler, named by LAMPLIGHTER_SWH_PYTHON: made where that can be done.
want_swh() {
  [ -z "${LAMPLIGHTER_SWH_PYTHON:-}" ] || return 0
  local swh="$PWD/target/swh"
  if ! "$swh/bin/python" -c 'import swh.scheduler, psycopg' 2>/dev/null; then
    say "swh-scheduler 3.6.0"
    rm -rf "$swh"
    python3 -m venv "$swh" 2>/dev/null &&
      "$swh/bin/pip" install --quiet --disable-pip-version-check swh-scheduler==3.6.0 psycopg-binary || return 1
  fi
  export LAMPLIGHTER_SWH_PYTHON="$swh/bin/python"
}

shared() { printf '%s' "${LAMPLIGHTER_SHARED:-../shared}"; }

# Appends one measurement: command, result.
measured() {
  local commit; commit=$(git rev-parse --short HEAD 2>/dev/null || echo none)
  [ -z "$(git status --porcelain 2>/dev/null | grep -v docs/measured.md)" ] || commit="$commit+changes"
  local machine; machine="$(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), $(uname -m)"
  printf '| %s | `%s` | %s | %s | %s |\n' "$(date -u +%FT%TZ)" "$1" "$commit" "$machine" "$2" >> docs/measured.md
}

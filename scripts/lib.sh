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

shared() { printf '%s' "${LAMPLIGHTER_SHARED:-../shared}"; }

# Appends one measurement: command, result.
measured() {
  local commit; commit=$(git rev-parse --short HEAD 2>/dev/null || echo none)
  [ -z "$(git status --porcelain 2>/dev/null | grep -v docs/measured.md)" ] || commit="$commit+changes"
  local machine; machine="$(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), $(uname -m)"
  printf '| %s | `%s` | %s | %s | %s |\n' "$(date -u +%FT%TZ)" "$1" "$commit" "$machine" "$2" >> docs/measured.md
}

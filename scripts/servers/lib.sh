# Sourced by the scripts beside it.

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# begin DIR PORT: the arguments of a script. Makes the directory, and sets $dir and $port.
begin() {
    [ $# -eq 2 ] || fail "usage: $(basename "$0") DIR PORT"
    case $2 in '' | *[!0-9]*) fail "PORT must be a number, not '$2'" ;; esac
    mkdir -p "$1" || fail "cannot make the directory $1"
    dir=$(cd "$1" && pwd)
    port=$2
    command -v curl >/dev/null || fail "curl is missing"
}

# install_debian WHAT PACKAGE...: for what is missing. Only root may.
install_debian() {
    what=$1
    shift
    [ "$(id -u)" = 0 ] || fail "$what is missing (apt-get install $*), and only root may install it"
    command -v apt-get >/dev/null || fail "$what is missing, and there is no apt-get to install it"
    export DEBIAN_FRONTEND=noninteractive
    # The packages start a server of their own on port 80 where an init system lets them.
    { apt-get install -y --no-install-recommends "$@" ||
        { apt-get update && apt-get install -y --no-install-recommends "$@"; }; } \
        >"$dir/apt.log" 2>&1 || fail "apt-get could not install $*: see $dir/apt.log"
}

# Sets $backend, git's own server over HTTP.
needs_git() {
    command -v git >/dev/null || fail "git is missing"
    backend=$(git --exec-path)/git-http-backend
    [ -x "$backend" ] || fail "git is without its http-backend: $backend is not there"
}

# What git makes from here on is the same each time: neither the user's configuration nor the clock may change it.
as_ada() {
    export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME="$dir" LC_ALL=C.UTF-8
    export GIT_AUTHOR_NAME="Ada Lamp" GIT_AUTHOR_EMAIL=ada@example.org
    export GIT_COMMITTER_NAME="$GIT_AUTHOR_NAME" GIT_COMMITTER_EMAIL="$GIT_AUTHOR_EMAIL"
}

# first_commit NAME BRANCH: in the repository $repo, of the time $day (seconds since the epoch).
first_commit() {
    tree=$(git -C "$repo" mktree </dev/null)
    commit=$(GIT_AUTHOR_DATE="$day +0100" GIT_COMMITTER_DATE="$day +0100" \
        git -C "$repo" commit-tree -m "First commit of $1" "$tree")
    git -C "$repo" update-ref "refs/heads/$2" "$commit"
}

# Nothing else may answer where the server is to.
port_is_free() {
    if curl -s -o /dev/null --max-time 2 "http://127.0.0.1:$port/"; then
        fail "something answers on port $port already"
    fi
}

# until_ready NAME LOG URL MARK: waits for the server just started, $server, until URL answers with a page
# that has MARK in it. From then on it ends with this script.
until_ready() {
    trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; exit 0' INT TERM HUP
    trap 'kill "$server" 2>/dev/null || true' EXIT
    tries=0
    until curl -sf -o "$dir/index.html" --max-time 5 "$3"; do
        kill -0 "$server" 2>/dev/null || fail "$1 ended at once: $(tail -n 3 "$2" 2>/dev/null)"
        tries=$((tries + 1))
        [ $tries -lt 100 ] || fail "$3 did not answer: $(tail -n 3 "$2")"
        sleep 0.1
    done
    grep -q "$4" "$dir/index.html" || fail "that is not $1's page: see $dir/index.html"
}

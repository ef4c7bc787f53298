# Sourced by the scripts beside it, which define `fail`, and set $dir and $port.

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

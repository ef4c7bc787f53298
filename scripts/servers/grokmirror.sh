#!/bin/sh
# Starts a lighttpd on loopback that serves the manifest that grokmirror's own tool makes of 18 repositories, and them.
#
#   scripts/servers/grokmirror.sh DIR PORT
#
# DIR is made if need be; repositories already there are kept. Prints "ready URL" when the manifest
# is there, and stops with the server when it gets a signal. PORT 0 makes the repositories and the manifest only.
#
# What is in DIR afterwards:
#   git/           the repositories, and manifest.js.gz
#   repositories   one line each: path, the date of its last commit (RFC 3339), what it shares objects with (or "-"),
#                  tab-separated; without the empty one, which a manifest leaves out
#
# Needs lighttpd, git, curl and grok-manifest. As root it installs the first where it is missing; grok-manifest is
# installed into a folder of its own, DIR/venv (or the one that GROKMIRROR_VENV names, which is kept for later).
set -eu

. "$(dirname "$0")/lib.sh"

begin "$@"
version=2.0.12

needs_git
PATH=$PATH:/usr/sbin
if [ "$port" != 0 ] && ! command -v lighttpd >/dev/null; then
    install_debian lighttpd lighttpd
fi
manifest=$(command -v grok-manifest || true)
if [ -z "$manifest" ]; then
    venv=${GROKMIRROR_VENV:-$dir/venv}
    manifest=$venv/bin/grok-manifest
    [ -x "$manifest" ] || {
        python3 -m venv "$venv" >"$dir/pip.log" 2>&1 &&
            "$venv/bin/pip" install -q "grokmirror==$version" >>"$dir/pip.log" 2>&1
    } || fail "grokmirror $version could not be installed: see $dir/pip.log"
fi

# ---- the repositories ---------------------------------------------------------------------------

as_ada
day=1700000000 # 2023-11-14T22:13:20Z; each repository is a day and a bit later

# make PATH [SHARED]: with a commit of its own; SHARED is the repository whose objects it borrows.
make() {
    repo=$dir/git/$1
    day=$((day + 90061))
    [ -d "$repo" ] || {
        git init -q --bare --initial-branch=main "$repo"
        printf '%s\n' "What $1 is" >"$repo/description"
        if [ $# -gt 1 ]; then printf '%s\n' "$dir/git/$2/objects" >"$repo/objects/info/alternates"; fi
        first_commit "$1" main
    }
    printf '%s\t%s\t%s\n' "$1" "$(date -u -d "@$day" +%Y-%m-%dT%H:%M:%SZ)" "${2:--}" >>"$dir/repositories.new"
}

: >"$dir/repositories.new"
make 'with space.git'
make libs/c++parser.git
make libs/ünïcode.git
make libs/日本語.git
make "libs/it's 100%.git"
make deep/a/b/c/nested.git
make linux+tilde~x.git
make base.git
make forks/of-base.git base.git
number=1
while [ $number -le 9 ]; do
    make "$(printf 'tools/tool-%02d.git' $number)"
    number=$((number + 1))
done
[ -d "$dir/git/empty.git" ] || git init -q --bare --initial-branch=main "$dir/git/empty.git"
mv "$dir/repositories.new" "$dir/repositories"
"$manifest" -m "$dir/git/manifest.js.gz" -t "$dir/git" >"$dir/manifest.log" 2>&1 ||
    fail "grok-manifest made none: $(tail -n 3 "$dir/manifest.log")"
[ "$port" = 0 ] && exit 0

# ---- the server ---------------------------------------------------------------------------------

url=http://127.0.0.1:$port/git/
cat >"$dir/lighttpd.conf" <<EOF
server.modules = ("mod_alias", "mod_cgi", "mod_setenv")
server.bind = "127.0.0.1"
server.port = $port
server.document-root = "$dir/git"
server.errorlog = "$dir/lighttpd.log"
server.pid-file = "$dir/lighttpd.pid"
\$HTTP["url"] =~ "^/git/.*/(info/refs|git-upload-pack)$" {
    alias.url = ("/git" => "$backend")
    setenv.set-environment = ("GIT_PROJECT_ROOT" => "$dir/git", "GIT_HTTP_EXPORT_ALL" => "1")
    cgi.assign = ("" => "")
} else \$HTTP["url"] =~ "^/git/" {
    alias.url = ("/git/" => "$dir/git/")
}
EOF

port_is_free
lighttpd -D -f "$dir/lighttpd.conf" &
server=$!
until_ready grokmirror "$dir/lighttpd.log" "${url}manifest.js.gz" ''
echo "ready $url"
wait "$server"

#!/bin/sh
# Starts a real Fossil server on loopback, over 24 repositories that it makes first.
#
#   scripts/servers/fossil.sh DIR PORT
#
# DIR is made if need be; repositories already there are kept. Prints "ready URL" when the list
# answers, and stops with the server when it gets a signal. PORT 0 makes the repositories only.
#
# What is in DIR afterwards:
#   fossil/        the repositories, some in directories, some of names that the server lists and does not serve
#   repositories   one line each: path, the date of its last check-in (RFC 3339), served or not, tab-separated
#
# Needs fossil and curl. As root it installs the first where it is missing.
set -eu

. "$(dirname "$0")/lib.sh"

begin "$@"

if ! command -v fossil >/dev/null; then
    install_debian Fossil fossil
    command -v fossil >/dev/null || fail "fossil was installed, but is not there"
fi

# ---- the repositories ---------------------------------------------------------------------------

export HOME="$dir" USER=ada LC_ALL=C.UTF-8 TZ=UTC
day=1600000000 # 2020-09-13T12:26:40Z; each repository is a month and a bit later

# make PATH served|unserved
make() {
    repo=$dir/fossil/$1.fossil
    day=$((day + 2690061))
    date=$(date -u -d "@$day" +%Y-%m-%dT%H:%M:%S)
    [ -f "$repo" ] || {
        mkdir -p "$(dirname "$repo")"
        fossil init --admin-user ada --date-override "$date" "$repo" >>"$dir/init.log" 2>&1 || fail "see $dir/init.log"
    }
    printf '%s\t%sZ\t%s\n' "$1" "$date" "$2" >>"$dir/repositories.new"
}

: >"$dir/repositories.new"
make 'with space' unserved
make ünï unserved
make 'c++' unserved
make '100%' unserved
make under_score served
make dotted.name-2 served
make sub/deep/er served
make sub/other served
number=1
while [ $number -le 16 ]; do
    make "$(printf 'tools/tool-%02d' $number)" served
    number=$((number + 1))
done
mv "$dir/repositories.new" "$dir/repositories"
[ "$port" = 0 ] && exit 0

# ---- the server ---------------------------------------------------------------------------------

url=http://127.0.0.1:$port/
port_is_free
fossil server --repolist --localhost --port "$port" "$dir/fossil" >"$dir/server.log" 2>&1 &
server=$!
until_ready fossil "$dir/server.log" "$url" '<title>Repository List</title>'
echo "ready $url"
wait "$server"

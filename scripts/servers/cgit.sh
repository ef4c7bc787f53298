#!/bin/sh
# Starts a real cgit under lighttpd on loopback, over 67 repositories that it makes first.
#
#   scripts/servers/cgit.sh DIR PORT
#
# DIR is made if need be; repositories already there are kept. Prints "ready URL" when the index
# answers, and stops with the server when it gets a signal. PORT 0 makes the repositories only.
#
# What is in DIR afterwards:
#   git/           the repositories: odd names, some empty, some without a date
#   repositories   one line each: path, its date in the index (RFC 3339, or "-"), tab-separated
#   lighttpd.pid   the server's process id, while it runs
#
# Commits and index dates are fixed, so that the pages are the same each time.
# Needs cgit, lighttpd, git and curl. As root it installs the first two where they are missing.
set -eu

. "$(dirname "$0")/lib.sh"

begin "$@"
cgi=/usr/lib/cgit/cgit.cgi

needs_git
if [ "$port" != 0 ] && { [ ! -x "$cgi" ] || ! PATH=$PATH:/usr/sbin command -v lighttpd >/dev/null; }; then
    install_debian "cgit and lighttpd" cgit lighttpd
    [ -x "$cgi" ] || fail "cgit was installed, but $cgi is not there"
fi

# ---- the repositories ---------------------------------------------------------------------------

as_ada
day=1700000000 # 2023-11-14T22:13:20Z; each repository is a day and a bit later

# make PATH BRANCH DATED DESCRIPTION
#   DATED  agefile  the date in the index comes from info/web/last-modified
#          mtime    ... from the branch's file (cgit looks at "master" only)
#          none     there is none
#          empty    and there is no commit
make() {
    repo=$dir/git/$1
    day=$((day + 90061))
    [ -d "$repo" ] || {
        git init -q --bare --initial-branch="$2" "$repo"
        if [ -n "$4" ]; then printf '%s\n' "$4" >"$repo/description"; fi
        if [ "$3" != empty ]; then
            first_commit "$1" "$2"
        fi
    }
    date=-
    case $3 in
    agefile)
        date=$(date -u -d "@$day" +%Y-%m-%dT%H:%M:%SZ)
        mkdir -p "$repo/info/web"
        # An offset in the file: what the index shows must be the same instant.
        TZ=UTC-2 date -d "@$day" '+%Y-%m-%d %H:%M:%S +0200' >"$repo/info/web/last-modified"
        ;;
    mtime)
        date=$(date -u -d "@$day" +%Y-%m-%dT%H:%M:%SZ)
        touch -d "@$day" "$repo/refs/heads/$2"
        ;;
    esac
    printf '%s\t%s\n' "$1" "$date" >>"$dir/repositories.new"
}

: >"$dir/repositories.new"
make empty.git main empty "an empty repository"
make linux+tilde~x.git main agefile ""
make no-description.git main agefile ""
make 'with space.git' main agefile "a name with a space"
make 'two more  spaces.git' master mtime "a name with two spaces in a row"
make deep/a/b/c/nested.git main agefile "far down"
make libs/c++parser.git main agefile 'C++ parser & <lexer> "quoted"'
make libs/ünïcode.git main agefile "Ünïcode déscription — 日本語"
make libs/日本語.git master mtime "a name in another script"
make "libs/it's 100%.git" main agefile "a quote and a percent sign"
make libs/undated.git main none "no date in the index"
make libs/Upper.git master mtime "capitals"
number=1
while [ $number -le 55 ]; do
    name=$(printf 'tools/tool-%02d.git' $number)
    case $((number % 5)) in
    0) make "$name" main none "Tool number $number" ;;
    1) make "$name" master mtime "Tool number $number" ;;
    *) make "$name" main agefile "Tool number $number" ;;
    esac
    number=$((number + 1))
done
mv "$dir/repositories.new" "$dir/repositories"
[ "$port" = 0 ] && exit 0

# ---- the server ---------------------------------------------------------------------------------

url=http://127.0.0.1:$port/cgit/
# `clone-prefix`, not `clone-url`: cgit cuts the latter at each space of a repository's name.
# Clones go to git's own backend: cgit's is the "dumb" one, which git refuses for an empty repository.
# `scan-path` stays last: what follows it does not count.
cat >"$dir/cgitrc" <<EOF
virtual-root=/cgit/
css=/cgit-css/cgit.css
logo=
favicon=
root-title=Example Git
root-desc=real cgit under lighttpd
max-repo-count=20
section-from-path=1
enable-index-owner=0
enable-http-clone=0
agefile=info/web/last-modified
clone-prefix=http://127.0.0.1:$port/cgit git://127.0.0.1
cache-size=0
scan-path=$dir/git
EOF
cat >"$dir/lighttpd.conf" <<EOF
server.modules = ("mod_alias", "mod_cgi", "mod_setenv")
server.bind = "127.0.0.1"
server.port = $port
server.document-root = "$dir/git"
server.errorlog = "$dir/lighttpd.log"
server.pid-file = "$dir/lighttpd.pid"
\$HTTP["url"] =~ "^/cgit/.*/(info/refs|git-upload-pack)$" {
    alias.url = ("/cgit" => "$backend")
    setenv.set-environment = ("GIT_PROJECT_ROOT" => "$dir/git", "GIT_HTTP_EXPORT_ALL" => "1")
    cgi.assign = ("" => "")
} else \$HTTP["url"] =~ "^/cgit(/|$)" {
    alias.url = ("/cgit" => "$cgi")
    setenv.set-environment = ("CGIT_CONFIG" => "$dir/cgitrc")
    cgi.assign = ("" => "")
}
EOF

port_is_free
PATH=$PATH:/usr/sbin
lighttpd -D -f "$dir/lighttpd.conf" &
server=$!
until_ready cgit "$dir/lighttpd.log" "$url" "summary='repository list'"
echo "ready $url"
wait "$server"

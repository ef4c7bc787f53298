#!/bin/sh
# Starts a real hgweb under a WSGI server on loopback, over 34 repositories that it makes first.
#
#   scripts/servers/hgweb.sh DIR PORT
#
# DIR is made if need be; repositories already there are kept. Prints "ready URL" when the index
# answers, and stops with the server when it gets a signal. PORT 0 makes the repositories only.
#
# What is in DIR afterwards:
#   hg/            the repositories: odd names, one empty, some in directories of directories
#   repositories   one line each: path, its date in the index (RFC 3339), its tip, tab-separated
#
# Commits and index dates are fixed, so that the pages are the same each time.
# Needs hg (Mercurial; HG names another one), its Python and curl. As root it installs Debian's where it is missing.
set -eu

. "$(dirname "$0")/lib.sh"

begin "$@"
hg=${HG:-hg}

if ! command -v "$hg" >/dev/null; then
    install_debian Mercurial mercurial
    command -v "$hg" >/dev/null || fail "mercurial was installed, but $hg is not there"
fi

# ---- the repositories ---------------------------------------------------------------------------

# Neither the user's configuration nor the clock may change what is made.
export HGRCPATH=/dev/null HGPLAIN=1 HGENCODING=UTF-8 HGUSER="Ada Lamp <ada@example.org>" LC_ALL=C.UTF-8 TZ=UTC
day=1700000000 # 2023-11-14T22:13:20Z; each repository is a day and a bit later

# make PATH KIND DESCRIPTION
#   KIND  full    there is a commit
#         empty   there is none
make() {
    repo=$dir/hg/$1
    day=$((day + 90061))
    if [ ! -d "$repo" ]; then
        mkdir -p "$repo"
        "$hg" --cwd "$repo" init
        printf '[web]\ndescription = %s\ncontact = Zoë Müller\n' "$3" >"$repo/.hg/hgrc"
        if [ "$2" = full ]; then
            printf '%s\n' "$1" >"$repo/README"
            "$hg" --cwd "$repo" commit -q -A -m "First commit of $1" -d "$day -3600"
        fi
    fi
    # What the index shows is the date of the log's file or, without one, of the store.
    stamp=$repo/.hg/store
    [ "$2" = empty ] || stamp=$stamp/00changelog.i
    touch -d "@$day" "$stamp"
    printf '%s\t%s\t%s\n' "$1" "$(date -u -d "@$day" +%Y-%m-%dT%H:%M:%SZ)" \
        "$("$hg" --cwd "$repo" identify -i -r tip)" >>"$dir/repositories.new"
}

: >"$dir/repositories.new"
make emptyrepo empty "an empty repository"
make 'with space' full "a name with a space"
make ünï full "Ünïcode déscription — 日本語"
make '100% & more' full "a percent sign and an ampersand"
make libs/c++ full 'C++ & <lexer> "quoted"'
make libs/日本語 full "a name in another script"
make "libs/it's" full "a quote"
make 'libs/a#b?c;d' full "what stands for something else in a URL"
make sub/deep/nested full "far down"
make sub/deep/er/still full "further down"
number=1
while [ $number -le 24 ]; do
    make "$(printf 'proj/p%02d' $number)" full "Project $number"
    number=$((number + 1))
done
mv "$dir/repositories.new" "$dir/repositories"
[ "$port" = 0 ] && exit 0

# ---- the server ---------------------------------------------------------------------------------

url=http://127.0.0.1:$port/
# Folded: directories are entries of their own, to be walked.
cat >"$dir/hgweb.conf" <<EOF
[paths]
/ = $dir/hg/**
[web]
style = ${HGWEB_STYLE:-paper}
collapse = true
baseurl = $url
EOF

port_is_free
# As behind a web server. hgweb 6 takes names beyond ASCII only from an environment as CGI gives it.
python=$("$hg" debuginstall -T '{pythonexe}')
"$python" - "$dir/hgweb.conf" "$port" >"$dir/serve.log" 2>&1 <<'EOF' &
import os
import sys
from wsgiref.simple_server import make_server

from mercurial import util
from mercurial.hgweb import hgweb

application = hgweb(os.fsencode(sys.argv[1]))


def as_cgi(environment, start):
    for name, value in environment.items():
        if isinstance(value, str):
            environment[name] = os.fsdecode(value.encode("iso-8859-1"))
    return application(environment, start)


old = util.versiontuple(n=2)[0] < 7
make_server("127.0.0.1", int(sys.argv[2]), as_cgi if old else application).serve_forever()
EOF
server=$!
until_ready hgweb "$dir/serve.log" "$url" 'href="?sort=name"'
curl -sf -o /dev/null --max-time 5 "$url%C3%BCn%C3%AF/" || fail "names beyond ASCII are not found by this hgweb"
echo "ready $url"
wait "$server"

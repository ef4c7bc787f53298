#!/bin/sh
# Starts a real gitweb under lighttpd on loopback, over 16 repositories that it makes first.
#
#   scripts/servers/gitweb.sh DIR PORT
#
# DIR is made if need be; repositories already there are kept. Prints "ready URL" when the index
# answers, and stops with the server when it gets a signal. PORT 0 makes the repositories only.
#
# What is in DIR afterwards:
#   git/           the repositories: odd names, one empty, one that is a fork
#   repositories   one line each: path, the date of its commit (RFC 3339, or "-"), tab-separated
#   lighttpd.pid   the server's process id, while it runs
#
# Commits are fixed, so that the pages differ by their relative dates only.
# Needs gitweb, lighttpd, git and curl. As root it installs the first two where they are missing.
set -eu

. "$(dirname "$0")/lib.sh"

begin "$@"
cgi=/usr/share/gitweb/gitweb.cgi

needs_git
if [ "$port" != 0 ] && { [ ! -x "$cgi" ] || ! perl -MCGI -e 1 2>/dev/null || ! PATH=$PATH:/usr/sbin command -v lighttpd >/dev/null; }; then
    install_debian "gitweb or lighttpd" gitweb libcgi-pm-perl lighttpd
    [ -x "$cgi" ] || fail "gitweb was installed, but $cgi is not there"
fi

# ---- the repositories ---------------------------------------------------------------------------

as_ada
day=1600000000 # 2020-09-13T12:26:40Z; each repository is a month and a bit later

# make PATH KIND DESCRIPTION
#   KIND  full    there is a commit
#         empty   there is none
make() {
    repo=$dir/git/$1
    day=$((day + 2690061))
    [ -d "$repo" ] || {
        git init -q --bare --initial-branch=main "$repo"
        printf '%s\n' "$3" >"$repo/description"
        git -C "$repo" config gitweb.owner "Zoë Müller"
        if [ "$2" = full ]; then
            first_commit "$1" main
        fi
    }
    date=-
    [ "$2" = empty ] || date=$(date -u -d "@$day" +%Y-%m-%dT%H:%M:%SZ)
    printf '%s\t%s\n' "$1" "$date" >>"$dir/repositories.new"
}

: >"$dir/repositories.new"
make empty.git empty "an empty repository"
make 'with space.git' full "a name with a space"
make linux+tilde~x.git full "signs that a form would change"
make libs/c++parser.git full 'C++ parser & <lexer> "quoted"'
make libs/ünïcode.git full "Ünïcode déscription — 日本語"
make libs/日本語.git full "a name in another script"
make "libs/it's 100%.git" full "a quote and a percent sign"
make 'libs/a&b;c=d.git' full "what stands for something else in a query"
make deep/a/b/c/nested.git full "far down"
make tools/lamp.git full "one that has a fork"
make tools/lamp/fork.git full "the fork of it"
number=1
while [ $number -le 5 ]; do
    make "$(printf 'tools/tool-%02d.git' $number)" full "Tool number $number"
    number=$((number + 1))
done
mv "$dir/repositories.new" "$dir/repositories"
[ "$port" = 0 ] && exit 0

# ---- the server ---------------------------------------------------------------------------------

url=http://127.0.0.1:$port/gitweb/
cat >"$dir/gitweb.conf" <<EOF
our \$projectroot = "$dir/git";
our \$git_temp = "$dir";
our \$site_name = "Example Git";
our @git_base_url_list = ("git://127.0.0.1", "http://127.0.0.1:$port/git");
our \$javascript = "";
our \$logo = "";
our \$favicon = "";
\$feature{'forks'}{'default'} = [1];
\$feature{'snapshot'}{'default'} = [];
\$feature{'search'}{'default'} = [0];
EOF
cat >"$dir/lighttpd.conf" <<EOF
server.modules = ("mod_alias", "mod_cgi", "mod_setenv")
server.bind = "127.0.0.1"
server.port = $port
server.document-root = "$dir/git"
server.errorlog = "$dir/lighttpd.log"
server.pid-file = "$dir/lighttpd.pid"
\$HTTP["url"] =~ "^/git/" {
    alias.url = ("/git" => "$backend")
    setenv.set-environment = ("GIT_PROJECT_ROOT" => "$dir/git", "GIT_HTTP_EXPORT_ALL" => "1")
    cgi.assign = ("" => "")
} else \$HTTP["url"] =~ "^/gitweb(/|$)" {
    alias.url = ("/gitweb" => "$cgi")
    setenv.set-environment = ("GITWEB_CONFIG" => "$dir/gitweb.conf")
    cgi.assign = ("" => "")
}
EOF

port_is_free
PATH=$PATH:/usr/sbin
lighttpd -D -f "$dir/lighttpd.conf" &
server=$!
until_ready gitweb "$dir/lighttpd.log" "$url" 'class="project_list"'
echo "ready $url"
wait "$server"

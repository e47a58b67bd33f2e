#!/usr/bin/env bash
# The main job, on a real server of its own: protect it, lose a table, get it back.
# Everything lives in one temporary directory and is gone at the end (KEEP=1 leaves it there).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=${PGVERSION:-15}
port=${PORT:-54329}
install=$root/state/postgres/pgtest/install.sh
bin=$("$install" "$version" | cut -d' ' -f2)
psql=$("$install" 15 | cut -d' ' -f2)/psql

work=$(mktemp -d /tmp/pgkeep-demo.XXXXXX)
chmod 755 "$work"

# PostgreSQL refuses to run as root.
as_postgres() { "$@"; }
owner=$(id -un)
if [ "$(id -u)" = 0 ]; then
  owner=postgres
  as_postgres() { (cd / && setpriv --reuid "$owner" --regid "$(id -g "$owner")" --clear-groups "$@"); }
fi

pgkeep() { "$root/bin/pgkeep" --dir "$work" "$@"; }

finish() {
  pgkeep receiver stop shop >/dev/null 2>&1 || true
  for data in "$work/server" "$work/restored"; do
    [ -f "$data/postmaster.pid" ] && as_postgres "$bin/pg_ctl" -D "$data" -m immediate -w stop >/dev/null 2>&1 || true
  done
  [ -n "${KEEP:-}" ] && echo "left in $work" || rm -rf "$work"
}
trap finish EXIT

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
sql() { "$psql" -XqAt -h 127.0.0.1 -p "$port" -U postgres -d postgres -c "$1"; }

say "a PostgreSQL $version with a shop in it"
install -d -m 700 -o "$owner" "$work/server" "$work/spool" "$work/restore"
chown "$owner" "$work"
as_postgres "$bin/initdb" -D "$work/server" -U postgres -A trust -N --data-checksums >"$work/initdb.log"
as_postgres "$bin/pg_ctl" -D "$work/server" -l "$work/server.log" -w start \
  -o "-p $port -c unix_socket_directories='' -c listen_addresses=127.0.0.1" >/dev/null
sql "create table orders as select i as id, now() as placed_at from generate_series(1, 100000) i"
sql "select count(*) || ' orders' from orders"

say "what must be true"
sed -e "s|@PORT@|$port|; s|@WORK@|$work|; s|@BIN@|$bin|; s|@OWNER@|$owner|; s|@COPYPORT@|$((port + 1))|" "$here/pgkeep.hcl.in" >"$work/pgkeep.hcl"
cat "$work/pgkeep.hcl"

say "pgkeep plan"
pgkeep plan

say "pgkeep apply (it shows the plan once more, left out here)"
pgkeep apply --auto-approve | sed -n '/^Plan:/,$p'

say "pgkeep plan, again: nothing to do"
pgkeep plan

say "a day's work, and then somebody drops the table"
sql "insert into orders select i, now() from generate_series(100001, 100500) i"
before=$(sql "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
sql "select pg_sleep(0.2)" >/dev/null
sql "drop table orders"
sql "select 'the table orders is gone' where to_regclass('orders') is null"

say "pgkeep status"
pgkeep status

say "pgkeep recover to $before, the moment before the drop"
pgkeep recover before_drop --target-time "$before" --yes

say "the copy starts, beside the server"
as_postgres "$bin/pg_ctl" -D "$work/restore/data" -l "$work/restored.log" -w start \
  -o "-c unix_socket_directories=''" >/dev/null # Debian's socket folder is for members of postgres only
found=$("$psql" -XqAt -h 127.0.0.1 -p $((port + 1)) -U postgres -d postgres -c "select count(*) from orders")
as_postgres "$bin/pg_ctl" -D "$work/restore/data" -m fast -w stop >/dev/null
echo "$found orders are back, the last of the day among them"
[ "$found" = 100500 ] || { echo "expected 100500" >&2; exit 1; }
say "done"

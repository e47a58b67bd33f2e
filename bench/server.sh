# shellcheck shell=bash
# The server that is measured: Debian's PostgreSQL 15, durable, on a port of its own.

port=${PORT:-54397}

say() { printf '== %s\n' "$*" >&2; }

# PostgreSQL refuses to run as root.
server_user=$(id -un)
as_postgres() { "$@"; }
if [ "$(id -u)" = 0 ]; then
  server_user=postgres
  as_postgres() { (cd / && setpriv --reuid "$server_user" --regid "$(id -g "$server_user")" --clear-groups "$@"); }
fi

sql() { "$pgbin/psql" -XqAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U postgres -d postgres -c "$1"; }

start_server() {
  say "a PostgreSQL 15 with $millions million rows and pgbench of scale $scale in $work"
  install -d -m 700 -o "$server_user" "$work/server"
  touch "$work/server.log" && chown "$server_user" "$work/server.log"
  as_postgres "$pgbin/initdb" -D "$work/server" -U postgres -A trust --data-checksums >"$work/initdb.log"
  # max_wal_size and checkpoint_timeout: no checkpoint of the server's own in the middle of a measurement.
  cat >>"$work/server/postgresql.conf" <<SETTINGS
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = '512MB'
max_wal_size = '8GB'
checkpoint_timeout = '1h'
autovacuum = off
max_replication_slots = 200
wal_keep_size = '0'
SETTINGS
  as_postgres "$pgbin/pg_ctl" -D "$work/server" -l "$work/server.log" -w start >/dev/null
}

load_rows() {
  PGOPTIONS='-c client_min_messages=warning' "$pgbin/psql" -Xq -v ON_ERROR_STOP=1 -v millions="$millions" -h 127.0.0.1 -p "$port" -U postgres -d postgres -f "$here/realistic_rows.sql"
  "$pgbin/pgbench" -h 127.0.0.1 -p "$port" -U postgres -i -q -s "$scale" postgres >/dev/null 2>&1
  sql checkpoint
  cluster_mb=$(du -sm --exclude=pg_wal "$work/server" | cut -f1)
}

# write_configuration DIR SLOT: what pgkeep is told; only the slot and the places differ.
write_configuration() {
  local dir=${1:-$work/site} slot=${2:-pgkeep_orders}
  mkdir -p "$dir"
  cat >"$dir/pgkeep.hcl" <<HCL
repository "main" {
  path = "$dir/repository"

  compression {
    algorithm = "zstd"
    level     = 1
  }
}

server "orders" {
  conninfo     = "host=127.0.0.1 port=$port user=postgres dbname=postgres sslmode=disable"
  repositories = [repository.main]

  slot {
    name = "$slot"
  }

  receiver {
    spool = "$dir/spool"
  }

  backup {
    checkpoint = "fast"
  }
}
HCL
}

pgkeep() { "$program" --dir "$work/site" "$@"; }

finish() {
  local code=$1
  trap - EXIT
  [ "$code" = 0 ] || { echo "bench: it failed; the server's last words:"; tail -5 "$work/server.log"; } >&2
  [ -z "${receiver:-}" ] || kill "$receiver" 2>/dev/null || true
  [ ! -d "$work/site" ] || pgkeep receiver stop orders >/dev/null 2>&1 || true
  as_postgres "$pgbin/pg_ctl" -D "$work/server" -m immediate -w stop >/dev/null 2>&1 || true
  if [ -n "${KEEP:-}" ]; then echo "left in $work" >&2; else rm -rf "$work"; fi
  exit "$code"
}

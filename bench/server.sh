# shellcheck shell=bash
# The server that is measured, durable, on a port of its own, and the peers.

port=${PORT:-25397} # and the next one, for what is recovered; below the ports that a system gives away by itself

say() { printf '== %s\n' "$*" >&2; }

# PostgreSQL refuses to run as root: then it, pgkeep and the peers all run as its user.
server_user=$(id -un)
as=()
if [ "$(id -u)" = 0 ]; then
  server_user=postgres
  as=(setpriv --reuid postgres --regid postgres --clear-groups env HOME=/nonexistent)
fi
as_postgres() { "${as[@]}" "$@"; }

sql() { "$client/psql" -XqAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U postgres -d postgres -c "$1"; }

# unused SLOT: no walsender holds it.
unused() { [ "$(sql "select not active from pg_replication_slots where slot_name = '$1'")" = t ]; }

# drop_slot SLOT, as soon as no walsender holds it.
drop_slot() {
  await 60 unused "$1"
  sql "select pg_drop_replication_slot('$1')" >/dev/null
}

# install_peers finds PostgreSQL and the peers, and installs those that are missing when it may.
install_peers() {
  local need missing=()
  pgbin=$("$root/state/postgres/pgtest/install.sh" "$version" | cut -d' ' -f2)
  client=$pgbin # psql and pgbench; newer servers come without
  ! wanted newer || newer_bin=$("$root/state/postgres/pgtest/install.sh" "$newer" | cut -d' ' -f2)
  for need in time zstd tar pgbackrest barman; do
    command -v "$need" >/dev/null || missing+=("$need")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || { echo "bench: ${missing[*]} is missing. Run, as root:  apt-get install -y ${missing[*]}" >&2; exit 1; }
  say "installing ${missing[*]}"
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q "${missing[@]}" >/dev/null
}

# make_room PROGRAM: a directory that the server's user may write to, with the program in it.
make_room() {
  [ -x "$1" ] || { echo "bench: $1 is missing. Run:  make build" >&2; exit 1; }
  work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/pgkeep-bench.XXXXXX")
  chmod 755 "$work"
  install -m 755 "$1" "$work/pgkeep"
  [ -z "$older" ] || install -m 755 "$older" "$work/older"
  program=$work/pgkeep older=${older:+$work/older} results=$work/results failures=$work/failures
  load_before=$(cut -d' ' -f1-3 /proc/loadavg)
  touch "$results" "$failures" "$work/out"
  chown -R "$server_user" "$work"
  cd "$work"
}

start_server() {
  say "a PostgreSQL $version with $millions million rows and pgbench of scale $scale in $work"
  as_postgres "$pgbin/initdb" -D "$work/server" -U postgres -A trust --data-checksums >"$work/initdb.log"
  # max_wal_size and checkpoint_timeout: no checkpoint of the server's own in the middle of a measurement.
  cat >>"$work/server/postgresql.conf" <<SETTINGS
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = '$work'
shared_buffers = '512MB'
max_wal_size = '8GB'
checkpoint_timeout = '1h'
autovacuum = off
max_replication_slots = 200
wal_keep_size = '0'
archive_mode = on
archive_command = '/bin/true'
SETTINGS
  [ "$version" -lt 17 ] || echo "summarize_wal = on" >>"$work/server/postgresql.conf"
  as_postgres "$pgbin/pg_ctl" -D "$work/server" -l "$work/server.log" -w start >/dev/null
}

stop_server() { as_postgres "$pgbin/pg_ctl" -D "$work/server" -m "${1:-fast}" -t 300 -w stop >/dev/null 2>&1; }

# load_rows freezes what it loads, so that no later look at a row changes its page.
load_rows() {
  PGOPTIONS='-c client_min_messages=warning' "$client/psql" -Xq -v ON_ERROR_STOP=1 -v millions="$millions" -h 127.0.0.1 -p "$port" -U postgres -d postgres -f "$here/realistic_rows.sql"
  "$client/pgbench" -h 127.0.0.1 -p "$port" -U postgres -i -q -s "$scale" postgres >/dev/null 2>&1
  sql "vacuum freeze"
  sql checkpoint
  cluster_mb=$(du -sm --exclude=pg_wal "$work/server" | cut -f1)
  note "cluster_$version" "$cluster_mb"
}

# write_configuration DIR SLOT: what pgkeep is told; only the slot, the places and whether commits wait differ.
write_configuration() {
  local dir=${1:-$work/site} slot=${2:-pgkeep_orders} synchronous=${3:-false}
  as_postgres mkdir -p "$dir"
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
    spool       = "$dir/spool"
    spool_limit = "8GiB"
    synchronous = $synchronous
  }

  backup {
    checkpoint = "fast"
  }
}
HCL
}

pgkeep() { as_postgres "$program" --dir "$work/site" "$@"; }

# quietly COMMAND...: shows what it printed only when it fails.
quietly() { "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; return 1; }; }

# finish CODE prints what was measured, also when it could not go on.
finish() {
  local code=$1
  trap - EXIT
  set +e
  if [ "$code" != 0 ]; then
    echo "bench: it ended early; the server's last words:"
    tail -5 "$work/server.log"
  fi >&2
  end_background
  [ ! -d "$work/site" ] || pgkeep receiver stop orders >/dev/null 2>&1
  [ ! -s "$results" ] || print_table
  [ ! -s "$failures" ] || code=1
  [ ! -e "$work/barman.conf" ] || barman_of receive-wal --stop orders >/dev/null 2>&1
  stop_server immediate
  cd / || true
  if [ -n "${KEEP:-}" ]; then echo "left in $work" >&2; else rm -rf "$work"; fi
  exit "$code"
}

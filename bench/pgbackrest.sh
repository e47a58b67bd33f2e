# shellcheck shell=bash
# pgBackRest: two processes, zst 1, on the server's own machine, as its users run it.

pgbackrest_of() { printf 'pgbackrest --config=%s --stanza=orders' "$work/pgbackrest.conf"; }

begin_pgbackrest() {
  [ ! -e "$work/pgbackrest" ] || return 0
  as_postgres mkdir -p "$work/pgbackrest/repo" "$work/pgbackrest/log" "$work/pgbackrest/lock" "$work/pgbackrest/spool"
  cat >"$work/pgbackrest.conf" <<CONF
[global]
repo1-path=$work/pgbackrest/repo
log-path=$work/pgbackrest/log
lock-path=$work/pgbackrest/lock
spool-path=$work/pgbackrest/spool
log-level-console=warn
process-max=2
compress-type=zst
compress-level=1
start-fast=y
archive-check=n

[orders]
pg1-path=$work/server
pg1-port=$port
pg1-socket-path=$work
pg1-user=postgres
CONF
  # shellcheck disable=SC2046
  quietly as_postgres $(pgbackrest_of) stanza-create
}

# backup_with_pgbackrest takes a full backup; all that it needs is spent on the server's side.
backup_with_pgbackrest() {
  # shellcheck disable=SC2046
  on_server pgbackrest $(pgbackrest_of) backup --type=full --repo1-retention-full=1
  note pgbackrest_side "$(awk -v a="$(last pgbackrest_cpu)" -v b="$(last pgbackrest_server)" 'BEGIN { print a + b }')"
  note_mb pgbackrest_stored "$(find "$work/pgbackrest/repo/backup/orders" -maxdepth 1 -name '*F' | sort | tail -1)"
}

restore_with_pgbackrest() {
  as_postgres mkdir -m 700 "$work/restored"
  # shellcheck disable=SC2046
  timed pgbackrest_restore $(pgbackrest_of) restore --pg1-path="$work/restored" --type=immediate
  [ -e "$work/restored/global/pg_control" ] || { echo "pgBackRest restored nothing" | tee -a "$work/out" >&2; return 1; }
  rm -rf "$work/restored"
}

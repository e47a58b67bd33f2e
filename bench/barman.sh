# shellcheck shell=bash
# Barman: backups by pg_basebackup, uncompressed, as its streaming backups are; WAL by pg_receivewal, then archived with gzip.

barman_of() { as_postgres barman -q -c "$work/barman.conf" "$@"; }

write_barman() { # SLOT
  as_postgres mkdir -p "$work/barman"
  cat >"$work/barman.conf" <<CONF
[barman]
barman_home = $work/barman
barman_user = $server_user
log_file = $work/barman.log
log_level = WARNING

[orders]
description = bench
conninfo = host=127.0.0.1 port=$port user=postgres dbname=postgres
streaming_conninfo = host=127.0.0.1 port=$port user=postgres dbname=postgres
backup_method = postgres
streaming_archiver = on
slot_name = $1
path_prefix = $client
immediate_checkpoint = true
compression = gzip
CONF
}

# begin_barman has it receive WAL, without which it takes no backup.
begin_barman() {
  write_barman barman
  sql "select pg_create_physical_replication_slot('barman', true)" >/dev/null
  receive_with_barman
  quietly barman_of switch-wal --force --archive orders
}

# receive_with_barman starts it, and is back when it streams.
receive_with_barman() {
  "${as[@]}" barman -q -c "$work/barman.conf" receive-wal orders >"$work/barman.out" 2>&1 &
  until [ "$(sql "select count(*) from pg_stat_replication where application_name = 'barman_receive_wal'")" = 1 ]; do
    kill -0 $! 2>/dev/null || { cat "$work/barman.out" "$work/barman.log" >&2; return 1; }
    sleep 0.1
  done
}

# end_barman SLOT
end_barman() {
  barman_of receive-wal --stop orders >/dev/null 2>&1 || true
  await_unused "$1"
  sql "select pg_drop_replication_slot('$1')" >/dev/null
}

backup_with_barman() {
  timed barman barman -q -c "$work/barman.conf" backup orders
  barman_mb=$(du -sm "$work/barman/orders/base" | cut -f1)
  rm -rf "$work/barman/orders/base"
}

# archive_with_barman measures until the last segment is archived and compressed.
archive_with_barman() {
  local began
  rm -rf "$work/barman"
  copy_slot "barman_$round"
  write_barman "barman_$round"
  sync
  began=$EPOCHREALTIME
  receive_with_barman
  until compgen -G "$work/barman/orders/wals/*/$last" >/dev/null; do
    quietly barman_of archive-wal orders
  done
  note barman_wal "$(since "$began")"
  say "  barman_wal: $(last barman_wal) s"
  end_barman "barman_$round"
}

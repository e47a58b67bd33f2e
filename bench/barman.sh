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
check_timeout = 120
CONF
}

# begin_barman has it receive WAL, without which it takes no backup.
begin_barman() {
  write_barman barman
  sql "select pg_create_physical_replication_slot('barman', true)" >/dev/null
  receive_with_barman
  quietly barman_of switch-wal --force --archive orders
}

barman_streams() { [ "$(sql "select count(*) from pg_stat_replication where application_name = 'barman_receive_wal'")" = 1 ]; }

# receive_with_barman starts it, and is back when it streams.
receive_with_barman() {
  "${as[@]}" barman -q -c "$work/barman.conf" receive-wal orders >>"$work/barman.log" 2>&1 &
  await 60 barman_streams || { tail -5 "$work/barman.log" | tee -a "$work/out" >&2; return 1; }
}

# end_barman SLOT
end_barman() {
  barman_of receive-wal --stop orders >/dev/null 2>&1 || true
  drop_slot "$1"
}

# backup_with_barman keeps the backup before it: to a Barman without a backup each is the first, for which it throws all older WAL
# away, and without archived WAL it refuses the next.
backup_with_barman() {
  local newest
  timed barman barman -q -c "$work/barman.conf" backup orders || { barman_says; return 1; }
  newest=$(find "$work/barman/orders/base" -mindepth 1 -maxdepth 1 | sort | tail -1)
  note_mb barman_stored "$newest"
  find "$work/barman/orders/base" -mindepth 1 -maxdepth 1 ! -path "$newest" -exec rm -rf {} +
}

# barman_says tells what its check finds wrong.
barman_says() { as_postgres barman -c "$work/barman.conf" check orders 2>&1 | grep -E 'FAILED|ERROR' | tee -a "$work/out" >&2 || true; }

# archive_with_barman measures until the last segment is archived and compressed.
archive_with_barman() {
  local began
  rm -rf "$work/barman"
  copy_slot "barman_$round"
  write_barman "barman_$round"
  sync
  began=$EPOCHREALTIME
  receive_with_barman
  await 900 archived_by_barman
  note barman_wal "$(since "$began")"
  say "  barman_wal: $(last barman_wal) s"
  end_barman "barman_$round"
  rm -rf "$work/barman"
}

archived_by_barman() {
  compgen -G "$work/barman/orders/wals/*/$last" >/dev/null && return
  barman_of archive-wal orders >"$work/out" 2>&1 || true
  compgen -G "$work/barman/orders/wals/*/$last" >/dev/null
}

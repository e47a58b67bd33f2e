# shellcheck shell=bash
# WAL catch-up: how fast what the server has kept comes over, is durable, and is archived.

# write_wal makes about WAL_MB of WAL behind a slot that nobody moves: every run gets a copy of it.
write_wal() {
  local from now=0 step=0
  say "writing $wal_mb MB of WAL"
  sql "select pg_switch_wal()" >/dev/null
  sql "checkpoint"
  sql "select pg_create_physical_replication_slot('origin', true)" >/dev/null
  from=$(sql "select restart_lsn from pg_replication_slots where slot_name = 'origin'")
  sql "create table more (like orders)"
  while ((now < wal_mb)); do
    sql "insert into more select * from orders where id % 20 = $((step % 20))"
    PGOPTIONS="-c synchronous_commit=off" "$client/pgbench" -h 127.0.0.1 -p "$port" -U postgres -n -c 2 -t 2000 postgres >/dev/null 2>&1
    step=$((step + 1))
    now=$(sql "select (pg_current_wal_lsn() - '$from') / 1048576" | cut -d. -f1)
  done
  sql "select pg_create_restore_point('replayed')" >/dev/null
  sql "select pg_switch_wal()" >/dev/null
  end=$(sql "select pg_current_wal_lsn()")
  end=$(sql "select '0/0'::pg_lsn + div('$end'::pg_lsn - '0/0', 16777216) * 16777216") # where the next segment begins
  last=$(sql "select pg_walfile_name('$end'::pg_lsn)")
  sql "select pg_create_restore_point('a little more')" >/dev/null
  sql "checkpoint"
  wal_size_mb=$(sql "select ('$end'::pg_lsn - '$from') / 1048576" | cut -d. -f1)
}

copy_slot() { sql "select pg_copy_physical_replication_slot('origin', '$1')" >/dev/null; }

# await_flushed SLOT: returns when the client has said that everything up to $end is durable; after ten minutes it is an error.
await_flushed() {
  quietly sql "set statement_timeout = '10min'; do \$\$ begin while (select restart_lsn from pg_replication_slots where slot_name = '$1') < '$end' loop perform pg_sleep(0.01); end loop; end \$\$"
}

compare_wal() {
  attempt "WAL catch-up by Barman" archive_with_barman
  attempt "WAL catch-up" receive_with_pgkeep "pgkeep_$round" "$program" wal
  [ -z "$older" ] || attempt "WAL catch-up by THAN" receive_with_pgkeep "older_$round" "$older" older
  attempt "WAL catch-up by pg_receivewal" receive_with_pg_receivewal
}

receive_with_pg_receivewal() {
  copy_slot "peer_$round"
  as_postgres mkdir "$work/received"
  timed pg_receivewal "$pgbin/pg_receivewal" -h 127.0.0.1 -p "$port" -U postgres -D "$work/received" -S "peer_$round" --endpos="$end" --no-loop --no-password
  [ -e "$work/received/$last" ] || { echo "pg_receivewal did not bring $last" | tee -a "$work/out" >&2; return 1; }
  rm -rf "$work/received"
  drop_slot "peer_$round"
}

# receive_with_pgkeep SLOT PROGRAM WHAT runs one receiver, which streams and archives at once, and notes when the last segment is durable in the
# spool, as the server was told, and when the repository holds it, compressed and durable.
receive_with_pgkeep() {
  local slot=$1 program=$2 what=$3 site=$work/$1 began spooled archived peak
  write_repository_only "$site"
  quietly as_postgres "$program" --dir "$site" apply --auto-approve
  write_configuration "$site" "$slot"
  copy_slot "$slot"
  sync
  began=$EPOCHREALTIME
  in_background "$program" --dir "$site" receiver run orders
  await_flushed "$slot"
  spooled=$EPOCHREALTIME
  await 600 compgen -G "$site/repository/c/orders/*/w/*/*/$last" >/dev/null
  archived=$EPOCHREALTIME
  note "${what}_wal_cpu" "$(cpu_of "$(cat "$work/background")")"
  peak=$(peak_of "$(cat "$work/background")")
  end_background
  note "${what}_spool" "$(awk -v a="$began" -v b="$spooled" 'BEGIN { print b - a }')" "$peak"
  note "${what}_archived" "$(awk -v a="$began" -v b="$archived" 'BEGIN { print b - a }')" "$peak"
  say "  $what: spooled and archived: $(tail -2 "$results" | cut -f2 | paste -sd' ') s"
  note_mb "${what}_stored" "$site/repository/c"
  drop_slot "$slot"
  rm -rf "$site"
}

# peak_of PROCESS: of its resident memory, in KiB.
peak_of() { awk '/VmHWM/ { print $2 }' "/proc/$1/status"; }

# write_repository_only: so that apply makes the repository and no more.
write_repository_only() {
  as_postgres mkdir -p "$1"
  printf 'repository "main" {\n  path = "%s/repository"\n}\n' "$1" >"$1/pgkeep.hcl"
}

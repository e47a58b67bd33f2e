# shellcheck shell=bash
# Full backups, and restores of them.

# begin_backups makes the repository, the slot and the receiver, with a first backup that is not measured.
begin_backups() {
  write_configuration
  quietly pgkeep apply --auto-approve
}

end_peers() {
  if wanted backup; then end_barman barman; fi
  rm -rf "$work/peer" "$work/barman" "$work/pgbackrest/repo/backup"
}

end_backups() {
  pgkeep receiver stop orders >/dev/null
  drop_slot pgkeep_orders
  rm -rf "$work/site"
}

# newest_backup [KIND]: the directory of the newest backup in the repository; F is a full one.
newest_backup() { find "$work/site/repository/c/orders" -path "*/b/*-${1:-}*" -prune -printf '%T@ %p\n' | sort -g | tail -1 | cut -d' ' -f2; }

# compare_backups takes one backup with each. All store what they read from the server durably. What only pgkeep does meanwhile: it
# hashes and checks every page, compares every file with the server's manifest, and writes down where each page lies.
compare_backups() {
  local all=(full_backup_of_ours)
  if wanted restore || wanted backup; then all+=(backup_by_pgbackrest backup_by_pg_basebackup); fi
  ! wanted backup || all+=(backup_by_barman)
  in_turn "${all[@]}"
}

full_backup_of_ours() { attempt "full backup" full_backup backup; }
backup_by_pgbackrest() { attempt "full backup by pgBackRest" backup_with_pgbackrest; }
backup_by_pg_basebackup() { attempt "full backup by pg_basebackup" backup_with_pg_basebackup; }
backup_by_barman() { attempt "full backup by Barman" backup_with_barman; }

# full_backup WHAT
full_backup() {
  on_server "$1" "$program" --dir "$work/site" backup orders
  note_mb "$1_stored" "$(newest_backup F)"
}

backup_with_pg_basebackup() {
  rm -rf "$work/peer"
  timed pg_basebackup "$pgbin/pg_basebackup" -h 127.0.0.1 -p "$port" -U postgres -D "$work/peer" -Ft \
    --compress=client-zstd:1 -X none --checkpoint=fast --no-password
  note_mb pg_basebackup_stored "$work/peer"
}

# compare_restores restores the newest full backup with each.
compare_restores() { in_turn restore_of_ours restore_by_pgbackrest restore_by_than restore_by_tar; }

restore_of_ours() { attempt "restore" restore_newest restore "$program"; }
restore_by_pgbackrest() { attempt "restore by pgBackRest" restore_with_pgbackrest; }
restore_by_than() { [ -z "$older" ] || attempt "restore by THAN" restore_newest older_restore "$older"; }
restore_by_tar() { attempt "restore by tar" restore_with_tar; }

# restore_newest WHAT PROGRAM
restore_newest() {
  await_archived
  restore_backup "$1" "$(basename "$(newest_backup F)")" "$2"
}

# restore_backup WHAT ID [PROGRAM]: into a directory that is removed again.
restore_backup() {
  timed "$1" "${3:-$program}" --dir "$work/site" recover --server orders --backup "$2" --into "$work/restored" --immediate --owner "$server_user" --bindir "$pgbin" --yes
  [ -e "$work/restored/global/pg_control" ] || { echo "nothing was restored" | tee -a "$work/out" >&2; return 1; }
  rm -rf "$work/restored" "$work/restored.pgkeep"
}

# restore_with_tar: it neither checks a checksum nor makes anything durable, and leaves the WAL, the settings for a recovery and the
# owner to somebody else; its time is shown without and with an fsync of every file.
restore_with_tar() {
  local began
  as_postgres mkdir "$work/extracted"
  timed tar tar --zstd -xf "$work/peer/base.tar.zst" -C "$work/extracted"
  began=$EPOCHREALTIME
  find "$work/extracted" -print0 | xargs -0 sync
  note tar_fsync "$(awk -v a="$(last tar)" -v b="$(since "$began")" 'BEGIN { print a + b }')"
  rm -rf "$work/extracted"
}

# await_archived returns when all WAL up to now is in the repository: a backup is usable only then.
await_archived() {
  local last
  sql "select pg_create_restore_point('archived')" >/dev/null
  last=$(sql "select pg_walfile_name(pg_switch_wal())")
  await 600 segment_archived "$last"
}

segment_archived() { [ -n "$(find "$work/site/repository/c" -path '*/w/*' -name "$1" -print -quit)" ]; }

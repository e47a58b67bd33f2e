# shellcheck shell=bash
# Full backups, and restores of them.

# begin_backups makes the repository, the slot and the receiver, with a first backup that is not measured.
begin_backups() {
  write_configuration
  quietly pgkeep apply --auto-approve
}

# begin_peers makes them ready to take backups.
begin_peers() {
  [ "$version" = 15 ] && wanted backup || return 0
  begin_pgbackrest
  begin_barman
}

end_peers() {
  [ "$version" = 15 ] && wanted backup || return 0
  end_barman barman
  rm -rf "$work/peer" "$work/barman" "$work/pgbackrest/repo/backup"
}

end_backups() {
  pgkeep receiver stop orders >/dev/null
  sql "select pg_drop_replication_slot('pgkeep_orders')" >/dev/null
  rm -rf "$work/site"
}

# newest_backup gives the directory of the newest backup in the repository.
newest_backup() { find "$work/site/repository/c/orders" -path '*/b/*' -prune -printf '%T@ %p\n' | sort -g | tail -1 | cut -d' ' -f2; }

# compare_backups takes one backup with each. All store what they read from the server durably. What only pgkeep does meanwhile: it
# hashes and checks every page, compares every file with the server's manifest, and writes down where each page lies.
compare_backups() {
  on_server backup "$program" --dir "$work/site" backup orders
  full=$(newest_backup)
  stored_mb=$(du -sm "$full" | cut -f1)
  note backup_stored "$(du -sk "$full" | awk '{ print $1 / 1024 }')"
  [ "$version" = 15 ] && wanted backup || return 0
  rm -rf "$work/peer"
  timed pg_basebackup "$pgbin/pg_basebackup" -h 127.0.0.1 -p "$port" -U postgres -D "$work/peer" -Ft \
    --compress=client-zstd:1 -X none --checkpoint=fast --no-password
  peer_mb=$(du -sm "$work/peer" | cut -f1)
  backup_with_pgbackrest
  backup_with_barman
}

# restore_backup WHAT ID: with pgkeep, into a directory that is removed again.
restore_backup() {
  timed "$1" "$program" --dir "$work/site" recover --server orders --backup "$2" --into "$work/restored" --immediate --owner "$server_user" --bindir "$pgbin" --yes
  [ -e "$work/restored/global/pg_control" ] || { echo "bench: nothing was restored" >&2; return 1; }
  rm -rf "$work/restored" "$work/restored.pgkeep"
}

# compare_restores restores the newest full backup with each. tar neither checks a checksum nor makes anything durable, and leaves the
# WAL, the settings for a recovery and the owner to somebody else; its time is shown without and with an fsync of every file.
compare_restores() {
  local began
  [ "$version" = 15 ] && wanted backup || return 0
  await_archived
  restore_backup restore "$(basename "$full")"
  restore_with_pgbackrest
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
  until [ -n "$(find "$work/site/repository/c" -path '*/w/*' -name "$last" -print -quit)" ]; do
    sleep 0.1
  done
}

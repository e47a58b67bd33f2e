# shellcheck shell=bash
# Full backups, and restores of them.

# begin_backups makes the repository, the slot and the receiver, with a first backup that is not measured.
begin_backups() {
  pgkeep apply --auto-approve >"$work/apply.log" 2>&1 || { cat "$work/apply.log" >&2; return 1; }
}

end_backups() {
  pgkeep receiver stop orders >/dev/null
  sql "select pg_drop_replication_slot('pgkeep_orders')" >/dev/null
  rm -rf "$work/site"
}

# compare_backups takes one backup with each. Both stream what the server reads, compress it here with zstd 1 and make it
# durable. What only pgkeep does meanwhile: it hashes and checks every page, compares every file with the server's manifest, and
# writes down where each page lies.
compare_backups() {
  timed backup "$program" --dir "$work/site" backup orders
  rm -rf "$work/peer"
  timed pg_basebackup "$pgbin/pg_basebackup" -h 127.0.0.1 -p "$port" -U postgres -D "$work/peer" -Ft \
    --compress=client-zstd:1 -X none --checkpoint=fast --no-password
  peer_mb=$(du -sm "$work/peer" | cut -f1)
  stored_mb=$(du -sm "$work/site/repository/c/orders"/*/b/*/ | tail -1 | cut -f1)
}

# compare_restores restores the newest backup with each. tar neither checks a checksum nor makes anything durable, and leaves the
# WAL, the settings for a recovery and the owner to somebody else; its time is shown without and with an fsync of every file.
compare_restores() {
  local began
  sql "select pg_switch_wal()" >/dev/null
  await_archived
  timed restore "$program" --dir "$work/site" recover --server orders --into "$work/restored" --immediate \
    --owner "$server_user" --bindir "$pgbin" --yes
  [ -e "$work/restored/global/pg_control" ] || { echo "bench: nothing was restored" >&2; return 1; }
  rm -rf "$work/restored" "$work/restored.pgkeep"
  mkdir "$work/extracted"
  timed tar tar --zstd -xf "$work/peer/base.tar.zst" -C "$work/extracted"
  began=$EPOCHREALTIME
  find "$work/extracted" -print0 | xargs -0 sync
  note tar_fsync "$(awk -v a="$(tail -1 "$results" | cut -f2)" -v b="$began" -v e="$EPOCHREALTIME" 'BEGIN { print a + e - b }')" 0
  rm -rf "$work/extracted"
}

# await_archived returns when all WAL up to now is in the repository: a backup is usable only then.
await_archived() {
  local last
  last=$(sql "select pg_walfile_name(pg_current_wal_lsn() - 1)")
  until [ -n "$(find "$work/site/repository/c" -path '*/w/*' -name "$last*" -print -quit)" ]; do
    [ "$(sql "select pg_current_wal_lsn() = pg_current_wal_insert_lsn()")" = t ] || continue
    sleep 0.1
  done
}

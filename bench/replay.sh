# shellcheck shell=bash
# How fast PostgreSQL replays archived WAL that pgkeep, or pgBackRest, fetches for it.

# begin_replay takes the backup that the WAL is replayed on; a receiver archives what is written from now on.
begin_replay() {
  sql "select pg_create_physical_replication_slot('replay', true)" >/dev/null # keeps it for pgBackRest
  begin_backups
  await_archived
}

# archive_for_replay gives pgBackRest the same WAL, and restores what both begin with. A copy of it is kept; each round replays where it was
# restored, because a route belongs to the data directory that it lies beside.
archive_for_replay() {
  local segment
  say "archiving for pgBackRest"
  begin_pgbackrest
  as_postgres mkdir "$work/plain"
  for segment in "$work"/server/pg_wal/0*; do
    [[ $(basename "$segment") > "$last" ]] && continue
    as_postgres cp "$segment" "$work/plain"
    # shellcheck disable=SC2046
    quietly as_postgres $(pgbackrest_of) archive-push "$segment"
  done
  await_archived
  quietly pgkeep recover --server orders --into "$work/replay" --to-name replayed --action shutdown --owner "$server_user" --bindir "$pgbin" --port $((port + 1)) --yes
  mv "$work/replay" "$work/begin"
  mv "$work/replay.pgkeep" "$work/begin.pgkeep"
}

compare_replay() {
  attempt "replay" replay replay
  # shellcheck disable=SC2046
  attempt "replay by pgBackRest" replay pgbackrest_replay -c "restore_command=$(pgbackrest_of) --pg1-path=$work/replay --archive-async archive-get %f \"%p\""
  attempt "replay by cp" replay plain_replay -c "restore_command=cp $work/plain/%f \"%p\""
}

# replay WHAT OPTION...: PostgreSQL itself is timed; it ends at the target.
replay() {
  local what=$1
  shift
  cp -a "$work/begin" "$work/replay"
  cp -a "$work/begin.pgkeep" "$work/replay.pgkeep"
  rm -rf "$work/pgbackrest/spool"/*
  timed "$what" "$pgbin/postgres" -D "$work/replay" "$@"
  grep -q 'recovery stopping at restore point "replayed"' "$work/out" || { tail -20 "$work/out" >&2; return 1; }
  rm -rf "$work/replay" "$work/replay.pgkeep"
}

end_replay() {
  drop_slot replay
  end_backups
  rm -rf "$work/begin" "$work/begin.pgkeep" "$work/pgbackrest/repo/archive" "$work/plain"
}

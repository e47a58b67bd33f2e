# shellcheck shell=bash
# Incremental backups, and the restore of what hangs on many of them.

# change_pages OFFSET changes 2 % of the cluster's pages: a row in each of so many pages of the two big tables is locked, which is
# written into its page. Each offset changes others.
change_pages() {
  local heap every table
  heap=$(sql "select (pg_relation_size('orders') + pg_relation_size('pgbench_accounts')) / 8192")
  every=$(awk -v heap="$heap" -v mb="$cluster_mb" 'BEGIN { printf "%d", heap / (mb * 128) * 50 }')
  for table in orders pgbench_accounts; do
    sql "select count(*) from (select 1 from $table where ctid = any (array(
           select format('(%s,1)', page)::tid from generate_series($1, pg_relation_size('$table') / 8192 - 1, $every) page)) for update) rows" >/dev/null
  done
  sql checkpoint
}

# compare_incremental [SUFFIX] takes an incremental backup on the full one that was taken just before.
compare_incremental() {
  change_pages "$round"
  timed "incremental${1:-}" "$program" --dir "$work/site" backup orders --incremental
  note_mb "incremental${1:-}_stored" "$(newest_backup I)"
}

# compare_chain restores a full backup and the last of six incremental ones on it.
compare_chain() {
  say "a chain of seven"
  round=
  attempt "chain" make_chain
  for ((round = 1; round <= rounds; round++)); do
    attempt "restore of a chain's full" restore_backup restore_full "$(cat "$work/first")"
    attempt "restore of a chain's tip" restore_backup restore_tip "$(cat "$work/tip")"
  done
}

make_chain() {
  local offset
  quietly pgkeep backup orders
  basename "$(newest_backup F)" >"$work/first"
  for ((offset = 20; offset < 26; offset++)); do
    change_pages "$offset"
    quietly pgkeep backup orders --incremental
  done
  basename "$(newest_backup I)" >"$work/tip"
  await_archived
}

# compare_newer has the backups on a server that tells what changed; the one that was measured until now makes room for it.
compare_newer() {
  stop_server
  rm -rf "$work/server" "$work/pgbackrest"
  version=$newer pgbin=$newer_bin round=
  start_server
  load_rows
  begin_backups
  for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds: backups of PostgreSQL $newer"
    attempt "full backup of $newer" full_backup backup_newer
    attempt "incremental backup of $newer" compare_incremental _newer
  done
  attempt "ending the backups" end_backups
}

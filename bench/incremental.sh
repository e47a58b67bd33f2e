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

# compare_incremental takes an incremental backup on the full one that was taken just before.
compare_incremental() {
  change_pages "$round"
  timed incremental "$program" --dir "$work/site" backup orders --incremental
  note incremental_stored "$(du -sk "$(newest_backup)" | awk '{ print $1 / 1024 }')"
}

# compare_chain restores a full backup and the last of six incremental ones on it.
compare_chain() {
  local first tip
  say "a chain of seven"
  quietly pgkeep backup orders
  first=$(basename "$(newest_backup)")
  for ((round = 20; round < 26; round++)); do
    change_pages "$round"
    quietly pgkeep backup orders --incremental
  done
  tip=$(basename "$(newest_backup)")
  await_archived
  for ((round = 1; round <= rounds; round++)); do
    restore_backup restore_full "$first"
    restore_backup restore_tip "$tip"
  done
}

# shellcheck shell=bash
# Commits a second while they wait for a synchronous standby: pgkeep's receiver, or pg_receivewal --synchronous.

compare_commits() {
  local pair
  write_configuration "$work/standby" pgkeep_commits true
  sed -i '/^server/,$d' "$work/standby/pgkeep.hcl"
  quietly as_postgres "$program" --dir "$work/standby" apply --auto-approve
  write_configuration "$work/standby" pgkeep_commits true
  for name in pgkeep_commits peer_commits; do
    sql "select pg_create_physical_replication_slot('$name', true)" >/dev/null
  done
  as_postgres mkdir "$work/commits_peer"
  for ((pair = 1; pair <= pairs; pair++)); do
    say "commits: pair $pair of $pairs"
    if ((pair % 2)); then commits_with ours; commits_with theirs; else commits_with theirs; commits_with ours; fi
    awk -v a="$(last ours)" -v b="$(last theirs)" 'BEGIN { print a, b, a / b }' >>"$work/commits"
  done
}

# commits_with WHO notes what pgbench reaches in ten seconds.
commits_with() {
  local slot=pgkeep_commits
  if [ "$1" = ours ]; then
    "${as[@]}" "$program" --dir "$work/standby" receiver run orders >"$work/receiver.log" 2>&1 &
  else
    slot=peer_commits
    "${as[@]}" "$pgbin/pg_receivewal" -h 127.0.0.1 -p "$port" -U postgres -D "$work/commits_peer" -S "$slot" --synchronous --no-password >"$work/receiver.log" 2>&1 &
  fi
  receiver=$!
  until [ "$(sql "select count(*) from pg_stat_replication where state = 'streaming'")" = 1 ]; do
    kill -0 "$receiver" || { cat "$work/receiver.log" >&2; return 1; }
    sleep 0.1
  done
  sql "alter system set synchronous_standby_names = '*'"
  sql "select pg_reload_conf()" >/dev/null
  note "$1" "$("$client/pgbench" -h 127.0.0.1 -p "$port" -U postgres -n -c 8 -j 2 -T "${SECONDS_OF_COMMITS:-10}" postgres 2>/dev/null | awk '/^tps/ { print $3 }')"
  sql "alter system reset synchronous_standby_names"
  sql "select pg_reload_conf()" >/dev/null
  kill "$receiver"
  wait "$receiver" || true
  receiver=
  await_unused "$slot"
}

# print_commits gives the mean ratio with its 95 % confidence interval (Student's t; 2.228 for the 10 degrees of freedom of 11 pairs).
print_commits() {
  awk '{ a += $1; b += $2; r += $3; q += $3 * $3; n++ } END {
    mean = r / n; spread = n > 1 ? 2.228 * sqrt((q - n * mean * mean) / (n - 1) / n) : 0
    printf "| %-66s | %8.0f | %8.0f | %5.2f | %6s | %6s | %7s | %7s |\n", sprintf("commits/s, synchronous / pg_receivewal (%d pairs, +- %.2f)", n, spread), a / n, b / n, mean, ">=0.93", "", "", "" }' "$work/commits"
}

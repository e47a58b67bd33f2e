# shellcheck shell=bash
# Commits a second while they wait for a synchronous standby: pgkeep's receiver, or pg_receivewal --synchronous.

begin_commits() {
  write_repository_only "$work/standby"
  quietly as_postgres "$program" --dir "$work/standby" apply --auto-approve
  write_configuration "$work/standby" pgkeep_commits true
  for name in pgkeep_commits peer_commits; do
    sql "select pg_create_physical_replication_slot('$name', true)" >/dev/null
  done
  as_postgres mkdir "$work/commits_peer"
}

# compare_commits is one pair; who begins alternates.
compare_commits() {
  say "commits: pair $round of $pairs"
  if ((round % 2)); then commits_with ours; commits_with theirs; else commits_with theirs; commits_with ours; fi
  awk -v a="$(last ours)" -v b="$(last theirs)" 'BEGIN { print a, b, a / b }' >>"$work/commits"
}

# commits_with WHO notes what pgbench reaches in ten seconds.
commits_with() {
  local slot=pgkeep_commits reached
  if [ "$1" = ours ]; then
    in_background "$program" --dir "$work/standby" receiver run orders
  else
    slot=peer_commits
    in_background "$pgbin/pg_receivewal" -h 127.0.0.1 -p "$port" -U postgres -D "$work/commits_peer" -S "$slot" --synchronous --no-password
  fi
  await 120 one_streams
  sql "alter system set synchronous_standby_names = '*'"
  sql "select pg_reload_conf()" >/dev/null
  reached=$(timeout 300 "$client/pgbench" -h 127.0.0.1 -p "$port" -U postgres -n -c 8 -j 2 -T "${SECONDS_OF_COMMITS:-10}" postgres 2>"$work/out" | awk '/^tps/ { print $3 }') || true
  sql "alter system reset synchronous_standby_names"
  sql "select pg_reload_conf()" >/dev/null
  [ -n "$reached" ] || { echo "pgbench did not end" >>"$work/out"; return 1; }
  note "$1" "$reached" "$(peak_of "$(cat "$work/background")")"
  end_background
  await 60 unused "$slot"
}

one_streams() { [ "$(sql "select count(*) from pg_stat_replication where state = 'streaming'")" = 1 ]; }

# print_commits gives the mean ratio with its 95 % confidence interval (Student's t).
print_commits() {
  [ -s "$work/commits" ] || { missing "commits/s, synchronous / pg_receivewal" ">=0.93"; return 0; }
  awk -v pa="$(highest ours)" -v pb="$(highest theirs)" '
    BEGIN { split("0 12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262 2.228 2.201", t, " ") }
    { a += $1; b += $2; r += $3; q += $3 * $3; n++ } END {
    mean = r / n; spread = n > 1 ? (n in t ? t[n] : 2) * sqrt((q - n * mean * mean) / (n - 1) / n) : 0
    printf "| %-66s | %8.0f | %8.0f | %5.2f | %6s | %-7s | %6s | %7s | %7s |\n", sprintf("commits/s, synchronous / pg_receivewal (%d pairs, +- %.3f)", n, spread), a / n, b / n, mean, ">=0.93", (mean >= 0.93 ? "yes" : "no"), "", pa, pb }' "$work/commits"
}

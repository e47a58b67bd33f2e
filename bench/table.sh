# shellcheck shell=bash
# The table at the end, in Markdown.

# row TITLE MB OURS THEIRS TO_REACH: the ratio is ours to theirs, so less than 1 means that pgkeep needs less.
row() {
  local ours theirs
  ours=$(median "$3") theirs=$(median "$4")
  if [ -z "$ours" ] || [ -z "$theirs" ]; then missing "$1" "$5"; return 0; fi
  awk -v t="$1$(rounds_of "$3" "$4")" -v mb="$2" -v a="$ours" -v b="$theirs" -v to="$5" -v pa="$(highest "$3")" -v pb="$(highest "$4")" 'BEGIN {
    printf "| %-66s | %8.2f | %8.2f | %5.2f | %6s | %-7s | %6s | %7s | %7s |\n", t, a, b, a / b, to, (to == "" ? "" : a / b <= to ? "yes" : "no"), mb ? sprintf("%.0f", mb / a) : "", pa, pb }'
}

# rounds_of OURS THEIRS: how many it is the median of, where that is not all.
rounds_of() {
  local a b
  a=$(all_of "$1" | wc -l) b=$(all_of "$2" | wc -l)
  ((a == rounds && b == rounds)) || echo " ($a/$b rounds)"
}

# missing TITLE TO_REACH: what was wanted, and gave no figure.
missing() { printf '| %-66s | %8s | %8s | %5s | %6s | %-7s | %6s | %7s | %7s |\n' "$1" - - - "$2" - "" "" ""; }

# if_wanted WHAT ROW...
if_wanted() { local what=$1; shift; ! wanted "$what" || "$@"; }

print_table() {
  local wal=${wal_size_mb:-0} mb newer_mb
  mb=$(last cluster_15) newer_mb=$(last "cluster_$newer")
  echo
  echo "Machine:  $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) CPUs, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), $(findmnt -no FSTYPE,SOURCE -T "$work" | head -1), Linux $(uname -r)"
  echo "Load:     $load_before before, $(cut -d' ' -f1-3 /proc/loadavg) at the end; $rounds rounds, medians; $(date -u +%Y-%m-%dT%H:%MZ), $((SECONDS / 60)) minutes, at most $(all_of room | sort -g | tail -1) MB of files"
  echo "Versions: $("$program" version | head -1)$(commit_of); $("$client/postgres" --version), and $newer; $(pgbackrest version); Barman $(barman --version | head -1); zstd $(zstd --version | grep -o 'v[0-9.]*' | head -1)"
  echo "Data:     $millions million rows and pgbench -s $scale: a cluster of $mb MB (of $newer, ${newer_mb:-0} MB); $wal MB of WAL"
  echo
  printf '| %-66s | %8s | %8s | %5s | %6s | %7s | %6s | %7s | %7s |\n' "seconds, where nothing else is said" pgkeep peer ratio goal reached MB/s MiB peer
  echo "|--------------------------------------------------------------------|---------:|---------:|------:|-------:|---------|-------:|--------:|--------:|"
  if_wanted backup row "full backup, zstd 1 / pg_basebackup -Ft client-zstd:1" "$mb" backup pg_basebackup 0.80
  if_wanted backup row "full backup, zstd 1 / pgBackRest, 2 processes, zst 1" "$mb" backup pgbackrest 1.00
  if_wanted backup row "full backup, zstd 1 / Barman, uncompressed" "$mb" backup barman 0.70
  if_wanted incremental row "backup after 2 % of the pages changed, 15 / own full" "$mb" incremental backup 0.70
  if_wanted incremental row "the same, MB stored" "" incremental_stored backup_stored 0.06
  if_wanted newer row "backup after 2 % of the pages changed, $newer / own full" "$newer_mb" incremental_newer backup_newer 0.30
  if_wanted newer row "the same, MB stored" "" incremental_newer_stored backup_newer_stored 0.06
  if_wanted restore row "restore, checked, fsynced / pgBackRest, 2 processes" "$mb" restore pgbackrest_restore 0.80
  if_wanted restore row "restore, checked, fsynced / tar -x: no check, no fsync" "$mb" restore tar ""
  if_wanted restore row "restore, checked, fsynced / tar -x, then fsync" "$mb" restore tar_fsync ""
  [ -z "$older" ] || if_wanted restore row "restore / the same by THAN" "$mb" restore older_restore ""
  if_wanted chain row "restore of the tip of a chain of 7 / of its full" "$mb" restore_tip restore_full 1.40
  if_wanted wal row "WAL catch-up, durable in the spool / pg_receivewal" "$wal" wal_spool pg_receivewal ""
  if_wanted wal row "WAL catch-up, archived, zstd 1 / pg_receivewal" "$wal" wal_archived pg_receivewal 1.11
  if_wanted wal row "WAL catch-up, archived, zstd 1 / Barman, gzip" "$wal" wal_archived barman_wal 0.125
  [ -z "$older" ] || if_wanted wal row "WAL catch-up, archived / the same by THAN" "$wal" wal_archived older_archived ""
  if_wanted replay row "replay through wal-get / archive-get --archive-async, 2 processes" "$wal" replay pgbackrest_replay 0.80
  if_wanted replay row "replay through wal-get / cp of plain local segments: no check" "$wal" replay plain_replay ""
  if_wanted commits print_commits
  if_wanted backup row "CPU s on the server's side of a full backup / pgBackRest" "" backup_server pgbackrest_side 0.60
  print_peak
  echo
  echo "ratio: pgkeep's for each of the peer's; below 1 pgkeep needs less (of commits/s, above). MB/s: pgkeep, of plain bytes. MiB: peak resident memory"
  echo "of pgkeep, and of the peer (of one of its processes; of a replay, of PostgreSQL)."
  echo "MB stored: $(for what in backup pg_basebackup pgbackrest barman wal; do stored "$what"; done)of $wal MB of WAL by pg_receivewal all."
  print_rounds
  print_failures
}

# stored WHAT: how many MB, where it was measured.
stored() { [ -z "$(median "$1_stored")" ] || printf '%s %.0f, ' "$1" "$(median "$1_stored")"; }

# commit_of gives the commit of the tree that the benchmark lies in, where it is one.
commit_of() { git -C "$root" log -1 --format=', measured by the benchmark of commit %h' 2>/dev/null || true; }

# print_peak gives the most memory that any command of pgkeep's took.
print_peak() {
  local what top=0 peak
  for what in backup backup_newer incremental incremental_newer restore restore_full restore_tip wal_spool ours; do
    peak=$(highest "$what")
    ((${peak:-0} <= top)) || top=$peak
  done
  printf '| %-66s | %8s | %8s | %5s | %6s | %-7s | %6s | %7s | %7s |\n' "peak memory of any command of pgkeep's above, MiB" "$top" "" "" 192 "$( ((top <= 192)) && echo yes || echo no)" "" "$top" ""
}

# print_rounds gives what the medians are of.
print_rounds() {
  local what
  echo
  echo "Rounds:"
  for what in $(cut -f1 "$results" | awk '!seen[$0]++ && $0 !~ /^(room|cluster_)/'); do
    printf '  %-26s %s\n' "$what" "$(all_of "$what" | awk '{ printf "%s%.4g", (NR > 1 ? ", " : ""), $1 }')"
  done
}

print_failures() {
  [ -s "$failures" ] || return 0
  echo
  echo "Failed:"
  sed 's/^/  /' "$failures"
}

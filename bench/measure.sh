# shellcheck shell=bash
# Measuring: seconds and peak memory go into $results, a line "WHAT SECONDS PEAK_KIB" each; the table shows medians.

note() { printf '%s\t%s\t%s\n' "$1" "$2" "${3:-0}" >>"$results"; }

# timed WHAT COMMAND...: wall clock and peak resident memory of one process.
timed() {
  local what=$1 seconds peak
  shift
  sync # what others left dirty is not ours to pay
  /usr/bin/time -o "$work/time" -f '%e %M' "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; return 1; }
  read -r seconds peak <"$work/time"
  note "$what" "$seconds" "$peak"
  say "  $what: $seconds s"
}

# median WHAT COLUMN: of all rounds.
median() {
  awk -F'\t' -v what="$1" -v column="$2" '$1 == what { print $column }' "$results" | sort -g |
    awk '{ v[NR] = $1 } END { if (NR) print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

highest() { awk -F'\t' -v what="$1" '$1 == what && $3 > top { top = $3 } END { if (top) printf "%d", (top + 1023) / 1024 }' "$results"; }

# row TITLE MB OURS THEIRS: a line of the table; the ratio is theirs to ours, so more than 1 means that pgkeep is faster.
row() {
  local ours theirs
  ours=$(median "$3" 2) theirs=$(median "$4" 2)
  [ -n "$ours" ] || return 0
  awk -v t="$1" -v mb="$2" -v a="$ours" -v b="$theirs" -v pa="$(highest "$3")" -v pb="$(highest "$4")" 'BEGIN {
    printf "| %-58s | %8.2f | %8.2f | %5.2f | %7.0f | %7s | %7s |\n", t, a, b, b / a, mb / a, pa, pb }'
}

print_table() {
  local head='| %-58s | %8s | %8s | %5s | %7s | %7s | %7s |\n'
  {
    echo
    echo "Machine:  $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) CPUs, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), $(findmnt -no FSTYPE,SOURCE -T "$work" | head -1), Linux $(uname -r)"
    echo "Load:     $(cut -d' ' -f1-3 /proc/loadavg) at the end; $rounds rounds, medians; $(date -u +%Y-%m-%dT%H:%MZ)"
    echo "Versions: $("$program" version | head -1); $("$pgbin/postgres" --version); $(tar --version | head -1); $(zstd --version | grep -o 'v[0-9.]*' | head -1 | sed 's/^/zstd /')"
    echo "Data:     $millions million rows and pgbench -s $scale: a cluster of $cluster_mb MB; ${wal_size_mb:-0} MB of WAL"
    echo
    # shellcheck disable=SC2059
    printf "$head" "" "pgkeep s" "peer s" "ratio" "MB/s" "MiB" "peer"
    echo "|------------------------------------------------------------|---------:|---------:|------:|--------:|--------:|--------:|"
    row "full backup, zstd 1 / pg_basebackup client-zstd:1" "$cluster_mb" backup pg_basebackup
    row "restore, checked, fsynced / tar -x: no check, no fsync" "$cluster_mb" restore tar
    row "restore, checked, fsynced / tar -x, then fsync" "$cluster_mb" restore tar_fsync
    row "WAL catch-up, durable in the spool / pg_receivewal" "${wal_size_mb:-0}" wal_spool pg_receivewal
    row "WAL catch-up, also archived (zstd 1) / pg_receivewal" "${wal_size_mb:-0}" wal_archived pg_receivewal
    [ -z "$older" ] || row "WAL catch-up, archived / the same by THAN" "${wal_size_mb:-0}" wal_archived older_archived
    echo
    echo "ratio: the peer's seconds for each of pgkeep's; above 1 pgkeep is faster. MB/s: pgkeep, of plain bytes. MiB: peak"
    echo "resident memory of pgkeep, and of the peer."
    [ -z "${stored_mb:-}" ] || echo "Stored: $stored_mb MB by pgkeep, $peer_mb MB by pg_basebackup."
    [ -z "${wal_stored_mb:-}" ] || echo "WAL stored: $wal_stored_mb MB by pgkeep, $wal_size_mb MB by pg_receivewal, which was not asked to compress."
  }
}

# shellcheck shell=bash
# The table at the end, in Markdown.

# row TITLE MB OURS THEIRS TO_REACH: the ratio is ours to theirs, so less than 1 means that pgkeep needs less.
row() {
  local ours theirs
  ours=$(median "$3") theirs=$(median "$4")
  [ -n "$ours" ] && [ -n "$theirs" ] || return 0
  awk -v t="$1" -v mb="$2" -v a="$ours" -v b="$theirs" -v to="$5" -v pa="$(highest "$3")" -v pb="$(highest "$4")" 'BEGIN {
    printf "| %-66s | %8.2f | %8.2f | %5.2f | %6s | %6s | %7s | %7s |\n", t, a, b, a / b, to, mb ? sprintf("%.0f", mb / a) : "", pa, pb }'
}

print_table() {
  {
    echo
    echo "Machine:  $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) CPUs, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), $(findmnt -no FSTYPE,SOURCE -T "$work" | head -1), Linux $(uname -r)"
    echo "Load:     $(cut -d' ' -f1-3 /proc/loadavg) at the end; $rounds rounds, medians; $(date -u +%Y-%m-%dT%H:%MZ)"
    echo "Versions: $("$program" version | head -1); $("$pgbin/postgres" --version); $(pgbackrest version); Barman $(barman --version | head -1); zstd $(zstd --version | grep -o 'v[0-9.]*' | head -1)"
    echo "Data:     $millions million rows and pgbench -s $scale: a cluster of $cluster_mb MB; ${wal_size_mb:-0} MB of WAL"
    echo
    printf '| %-66s | %8s | %8s | %5s | %6s | %6s | %7s | %7s |\n' "seconds, where nothing else is said" pgkeep peer ratio goal MB/s MiB peer
    echo "|--------------------------------------------------------------------|---------:|---------:|------:|-------:|-------:|--------:|--------:|"
    row "full backup, zstd 1 / pg_basebackup -Ft client-zstd:1" "$cluster_mb" backup pg_basebackup 0.80
    row "full backup, zstd 1 / pgBackRest, 2 processes, zst 1" "$cluster_mb" backup pgbackrest 1.00
    row "full backup, zstd 1 / Barman, uncompressed" "$cluster_mb" backup barman 0.70
    row "CPU s on the server's side of a full backup / pgBackRest" "" backup_server pgbackrest_side 0.60
    row "backup after 2 % of the pages changed, $version / own full" "$cluster_mb" incremental backup "$([ "$version" -lt 17 ] && echo 0.70 || echo 0.30)"
    row "the same, MB stored" "" incremental_stored backup_stored 0.06
    row "restore, checked, fsynced / pgBackRest, 2 processes" "$cluster_mb" restore pgbackrest_restore 0.80
    row "restore, checked, fsynced / tar -x: no check, no fsync" "$cluster_mb" restore tar ""
    row "restore, checked, fsynced / tar -x, then fsync" "$cluster_mb" restore tar_fsync ""
    row "restore of the tip of a chain of 7 / of its full" "$cluster_mb" restore_tip restore_full 1.40
    row "WAL catch-up, durable in the spool / pg_receivewal" "${wal_size_mb:-0}" wal_spool pg_receivewal ""
    row "WAL catch-up, archived, zstd 1 / pg_receivewal" "${wal_size_mb:-0}" wal_archived pg_receivewal 1.11
    row "WAL catch-up, archived, zstd 1 / Barman, gzip" "${wal_size_mb:-0}" wal_archived barman_wal 0.125
    [ -z "$older" ] || row "WAL catch-up, archived / the same by THAN" "${wal_size_mb:-0}" wal_archived older_archived ""
    row "replay through wal-get / archive-get --archive-async, 2 processes" "${wal_size_mb:-0}" replay pgbackrest_replay 0.80
    [ ! -s "$work/commits" ] || print_commits
    echo
    echo "ratio: pgkeep's for each of the peer's; below 1 pgkeep needs less. MB/s: pgkeep, of plain bytes. MiB: peak resident memory"
    echo "of pgkeep, and of the peer (of one of its processes)."
    [ -z "${stored_mb:-}" ] || echo "Stored: $stored_mb MB by pgkeep, ${peer_mb:-?} MB by pg_basebackup, ${pgbackrest_mb:-?} MB by pgBackRest, ${barman_mb:-?} MB by Barman."
    [ -z "${wal_stored_mb:-}" ] || echo "WAL stored: $wal_stored_mb MB by pgkeep, $wal_size_mb MB by pg_receivewal, which was not asked to compress."
  }
}

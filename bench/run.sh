#!/usr/bin/env bash
# pgkeep beside pg_basebackup and pg_receivewal of Debian's PostgreSQL 15, on this machine, with a server of its own.
#
#   bench/run.sh                 2 million rows, three rounds: some minutes, a few gigabytes
#
#   MILLIONS=4                   rows of realistic data; a million is 300 MB with its indexes
#   SCALE=20                     of pgbench's tables beside it
#   WAL_MB=1024                  how far the WAL catch-up reaches
#   ROUNDS=3                     the table shows medians
#   ONLY="backup wal"            leave the rest out: backup, restore, wal
#   BENCH_DIR=/srv               where the files go (default: the directory for temporary files)
#   BIN=bin/pgkeep               the program to measure
#   THAN=/tmp/pgkeep             an older build, whose WAL catch-up takes its turn too
#
# The two programs take turns in every round, so that what else the machine does hits both alike; the ratios are worth more
# than the seconds. Nothing is left behind (KEEP=1 leaves it).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
millions=${MILLIONS:-2} scale=${SCALE:-20} wal_mb=${WAL_MB:-1024} rounds=${ROUNDS:-3} only=${ONLY:-backup restore wal}
program=$(realpath "${BIN:-$root/bin/pgkeep}") older=${THAN:-}

for need in /usr/bin/time zstd tar; do
  command -v "$need" >/dev/null || { echo "bench: $need is missing. Run, as root:  apt-get install -y time zstd tar" >&2; exit 1; }
done
[ -x "$program" ] || { echo "bench: $program is missing. Run:  make build" >&2; exit 1; }
pgbin=$("$root/state/postgres/pgtest/install.sh" 15 | cut -d' ' -f2)
work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/pgkeep-bench.XXXXXX")
chmod 755 "$work"
results=$work/results

# shellcheck source=bench/server.sh
. "$here/server.sh"
# shellcheck source=bench/measure.sh
. "$here/measure.sh"
# shellcheck source=bench/backup.sh
. "$here/backup.sh"
# shellcheck source=bench/wal.sh
. "$here/wal.sh"
trap 'finish $?' EXIT

start_server
load_rows
write_configuration
if [[ " $only " == *" backup "* || " $only " == *" restore "* ]]; then
  begin_backups
  for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds: backups"
    compare_backups
    [[ " $only " != *" restore "* ]] || { say "round $round of $rounds: restores"; compare_restores; }
  done
  end_backups
fi
if [[ " $only " == *" wal "* ]]; then
  write_wal
  for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds: WAL"
    compare_wal
  done
fi
print_table

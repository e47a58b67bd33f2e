#!/usr/bin/env bash
# pgkeep beside its peers on this machine, with a server of its own: pg_basebackup and pg_receivewal of PostgreSQL 15, pgBackRest
# and Barman of Debian.
#
#   bench/run.sh                 5 million rows and pgbench -s 80, five rounds: half an hour, 25 gigabytes for the time
#
#   MILLIONS=5                   rows of realistic data; a million is 300 MB with its indexes
#   SCALE=80                     of pgbench's tables beside it
#   WAL_MB=3200                  how far the WAL catch-up and the replay reach
#   ROUNDS=5                     the table shows medians
#   PAIRS=11                     runs of pgbench with either as the synchronous standby
#   ONLY="backup restore incremental chain wal replay commits"    leave the rest out
#   PG=15                        of the server; pg_basebackup, pgBackRest and Barman are compared on 15 only
#   BENCH_DIR=/srv               where the files go (default: the directory for temporary files)
#   BIN=bin/pgkeep               the program to measure
#   THAN=/tmp/pgkeep             an older build, whose WAL catch-up takes its turn too
#
# The programs take turns in every round, so that what else the machine does hits all alike; the ratios are worth more
# than the seconds. Nothing is left behind (KEEP=1 leaves it).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
millions=${MILLIONS:-5} scale=${SCALE:-80} wal_mb=${WAL_MB:-3200} rounds=${ROUNDS:-5} pairs=${PAIRS:-11} version=${PG:-15}
only=${ONLY:-backup restore incremental chain wal replay commits}
older=${THAN:-}
wanted() { [[ " $only " == *" $1 "* ]]; }

# shellcheck source=bench/server.sh
. "$here/server.sh"
# shellcheck source=bench/measure.sh
. "$here/measure.sh"
# shellcheck source=bench/table.sh
. "$here/table.sh"
# shellcheck source=bench/backup.sh
. "$here/backup.sh"
# shellcheck source=bench/incremental.sh
. "$here/incremental.sh"
# shellcheck source=bench/wal.sh
. "$here/wal.sh"
# shellcheck source=bench/replay.sh
. "$here/replay.sh"
# shellcheck source=bench/commits.sh
. "$here/commits.sh"
# shellcheck source=bench/pgbackrest.sh
. "$here/pgbackrest.sh"
# shellcheck source=bench/barman.sh
. "$here/barman.sh"

install_peers
make_room "${BIN:-$root/bin/pgkeep}"
trap 'finish $?' EXIT

start_server
load_rows
if wanted backup || wanted restore || wanted incremental || wanted chain; then
  begin_backups
  begin_peers
  for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds: backups"
    compare_backups
    ! wanted incremental || compare_incremental
    ! wanted restore || compare_restores
  done
  end_peers
  ! wanted chain || compare_chain
  end_backups
fi
if wanted wal || wanted replay; then
  ! wanted replay || begin_replay
  write_wal
  if wanted replay; then
    archive_for_replay
    for ((round = 1; round <= rounds && round <= 3; round++)); do
      say "round $round: replay"
      compare_replay
    done
    end_backups
  fi
fi
if wanted wal; then
  for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds: WAL"
    compare_wal
  done
fi
! wanted commits || compare_commits
print_table

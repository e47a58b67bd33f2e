#!/usr/bin/env bash
# pgkeep beside its peers on this machine, with a server of its own: pg_basebackup and pg_receivewal of PostgreSQL 15, pgBackRest
# and Barman of Debian. The table is printed at the end; what fails costs its own row only, is told under the table, and the
# exit code is 1.
#
#   bench/run.sh                 5 million rows and pgbench -s 80, five rounds: 45 minutes, 25 gigabytes for the time
#
#   MILLIONS=5                   rows of realistic data; a million is 300 MB with its indexes
#   SCALE=80                     of pgbench's tables beside it
#   WAL_MB=3200                  how far the WAL catch-up and the replay reach
#   ROUNDS=5                     the table shows medians
#   PAIRS=11                     runs of pgbench with either as the synchronous standby, ten seconds each (SECONDS_OF_COMMITS)
#   ONLY="backup restore incremental chain replay wal commits newer"    leave the rest out
#   NEWER=17                     or 18: the server whose second backup is of what it tells that changed; all else is on 15
#   BENCH_DIR=/srv               where the files go (default: the directory for temporary files)
#   BIN=bin/pgkeep               the program to measure
#   THAN=/tmp/pgkeep             an older build, whose restores and WAL catch-up take their turn too
#   KEEP=1                       leave the files; otherwise nothing is left behind
#
# The programs take turns in every round, so that what else the machine does hits all alike; the ratios are worth more
# than the seconds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
millions=${MILLIONS:-5} scale=${SCALE:-80} wal_mb=${WAL_MB:-3200} rounds=${ROUNDS:-5} pairs=${PAIRS:-11} version=15 newer=${NEWER:-17}
only=${ONLY:-backup restore incremental chain replay wal commits newer}
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
  attempt "preparing pgBackRest" begin_pgbackrest
  ! wanted backup || attempt "preparing Barman" begin_barman
  for ((round = 1; round <= rounds; round++)); do
    wanted backup || wanted restore || wanted incremental || break
    say "round $round of $rounds: backups"
    compare_backups
    ! wanted restore || compare_restores
    ! wanted incremental || attempt "incremental backup" compare_incremental
  done
  attempt "ending Barman" end_peers
  ! wanted chain || compare_chain
  attempt "ending the backups" end_backups
fi
if wanted wal || wanted replay; then
  ! wanted replay || attempt "preparing the replay" begin_replay
  write_wal
  if wanted replay; then
    attempt "archiving for the replay" archive_for_replay
    for ((round = 1; round <= rounds; round++)); do
      say "round $round of $rounds: replay"
      compare_replay
    done
    attempt "ending the replay" end_replay
  fi
fi
if wanted wal; then
  for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds: WAL"
    compare_wal
  done
fi
if wanted commits; then
  attempt "preparing the commits" begin_commits
  for ((round = 1; round <= pairs; round++)); do
    attempt "commits" compare_commits
  done
fi
! wanted newer || compare_newer

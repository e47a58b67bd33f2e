# shellcheck shell=bash
# Measuring: what was measured goes into $results, a line "WHAT SECONDS PEAK_KIB" each; the table shows medians.

note() { printf '%s\t%s\t%s\n' "$1" "$2" "${3:-0}" >>"$results"; }

# attempt WHAT COMMAND...: runs it in a shell of its own, so that a failure costs only what it would have measured. Nothing that
# it sets is seen afterwards, but what it notes.
attempt() {
  local what=$1 code
  shift
  : >"$work/out"
  set +e
  (set -e; "$@")
  code=$?
  set -e
  note_room
  [ "$code" != 0 ] || return 0
  what="$what${round:+, round $round}: $(tail -1 "$work/out" | cut -c1-300)"
  say "  FAILED: $what"
  printf '%s\n' "$what" >>"$failures"
  clear_away
}

# in_turn COMMAND...: in this order in odd rounds, the other way round in even ones: what one leaves to the disk slows down the next.
in_turn() {
  local i
  if ((round % 2)); then
    for ((i = 1; i <= $#; i++)); do "${!i}"; done
  else
    for ((i = $#; i >= 1; i--)); do "${!i}"; done
  fi
}

# clear_away ends and removes what a failure may have left, before the next attempt.
clear_away() {
  end_background
  rm -rf "$work/restored" "$work/restored.pgkeep" "$work/extracted" "$work/received" "$work/replay" "$work/replay.pgkeep"
}

# in_background COMMAND...: as the server's user, until end_background, which waits for it.
in_background() {
  "${as[@]}" "$@" >"$work/background.log" 2>&1 &
  echo $! >"$work/background"
}

end_background() {
  local process
  [ -e "$work/background" ] || return 0
  process=$(cat "$work/background")
  rm "$work/background"
  kill "$process" 2>/dev/null || return 0
  wait "$process" 2>/dev/null || tail --pid="$process" -f /dev/null # it may be another shell's child
}

# await SECONDS COMMAND...: until it succeeds; an error after so many seconds, or when what runs in the background has ended.
await() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    if ((SECONDS > until)); then echo "waited in vain: $*" | tee -a "$work/out" >&2; return 1; fi
    if [ -e "$work/background" ] && ! kill -0 "$(cat "$work/background")" 2>/dev/null; then
      tee -a "$work/out" <"$work/background.log" >&2
      return 1
    fi
    sleep 0.02
  done
}

# timed WHAT COMMAND...: wall clock and peak resident memory of one process, and the CPU seconds of it and of what it started as
# WHAT_cpu.
timed() {
  local what=$1 seconds peak user system
  shift
  sync # what others left dirty is not ours to pay
  /usr/bin/time -o "$work/time" -f '%e %M %U %S' "${as[@]}" timeout 1800 "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; return 1; }
  read -r seconds peak user system <"$work/time"
  note "$what" "$seconds" "$peak"
  note "${what}_cpu" "$(awk -v u="$user" -v s="$system" 'BEGIN { print u + s }')"
  say "  $what: $seconds s"
}

# since BEGAN: seconds.
since() { awk -v b="$1" -v e="$EPOCHREALTIME" 'BEGIN { print e - b }'; }

# cpu_of PROCESS: its CPU seconds so far, and those of children that have ended.
cpu_of() { awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15 + $16 + $17) / hz }' "/proc/$1/stat"; }

# server_cpu gives the CPU seconds that the server has used, by processes that have ended too.
server_cpu() {
  local postmaster
  postmaster=$(head -1 "$work/server/postmaster.pid")
  { cat "/proc/$postmaster/stat"; for child in $(pgrep -P "$postmaster"); do cat "/proc/$child/stat" 2>/dev/null || true; done; } |
    awk -v hz="$(getconf CLK_TCK)" '{ t += $14 + $15 + $16 + $17 } END { print t / hz }'
}

# on_server WHAT COMMAND...: timed, and the CPU seconds that the server spent on it as WHAT_server.
on_server() {
  local before
  before=$(server_cpu)
  timed "$@"
  note "$1_server" "$(awk -v b="$before" -v e="$(server_cpu)" 'BEGIN { print e - b }')"
}

# note_room notes how many MB all the benchmark's files take.
note_room() { note room "$(du -sm "$work" 2>/dev/null | cut -f1)"; }

# mb WHAT PATH: notes its size.
note_mb() { note "$1" "$(du -sk "$2" | awk '{ print $1 / 1024 }')"; }

# last WHAT: what was noted last.
last() { awk -F'\t' -v what="$1" '$1 == what { v = $2 } END { print v }' "$results"; }

# all_of WHAT: of all rounds, in their order.
all_of() { awk -F'\t' -v what="$1" '$1 == what { print $2 }' "$results"; }

# median WHAT: of all rounds.
median() { all_of "$1" | sort -g | awk '{ v[NR] = $1 } END { if (NR) print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# highest WHAT: the peak in MiB.
highest() { awk -F'\t' -v what="$1" '$1 == what && $3 > top { top = $3 } END { if (top) printf "%d", (top + 1023) / 1024 }' "$results"; }

# shellcheck shell=bash
# Measuring: what was measured goes into $results, a line "WHAT SECONDS PEAK_KIB" each; the table shows medians.

note() { printf '%s\t%s\t%s\n' "$1" "$2" "${3:-0}" >>"$results"; }

# timed WHAT COMMAND...: wall clock and peak resident memory of one process, and the CPU seconds of it and of what it started as
# WHAT_cpu.
timed() {
  local what=$1 seconds peak user system
  shift
  sync # what others left dirty is not ours to pay
  /usr/bin/time -o "$work/time" -f '%e %M %U %S' "${as[@]}" "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; return 1; }
  read -r seconds peak user system <"$work/time"
  note "$what" "$seconds" "$peak"
  note "${what}_cpu" "$(awk -v u="$user" -v s="$system" 'BEGIN { print u + s }')"
  say "  $what: $seconds s"
}

# since BEGAN: seconds.
since() { awk -v b="$1" -v e="$EPOCHREALTIME" 'BEGIN { print e - b }'; }

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

# last WHAT: what was noted last.
last() { awk -F'\t' -v what="$1" '$1 == what { v = $2 } END { print v }' "$results"; }

# median WHAT: of all rounds.
median() {
  awk -F'\t' -v what="$1" '$1 == what { print $2 }' "$results" | sort -g |
    awk '{ v[NR] = $1 } END { if (NR) print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

highest() { awk -F'\t' -v what="$1" '$1 == what && $3 > top { top = $3 } END { if (top) printf "%d", (top + 1023) / 1024 }' "$results"; }

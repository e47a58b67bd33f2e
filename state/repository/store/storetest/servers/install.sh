#!/usr/bin/env bash
# Puts the storage servers that the tests of the drivers speak to on this machine.
#
#   install.sh [NAME...]      versitygw fake-gcs-server azurite sshd; default: all
#
# versitygw (S3) and fake-gcs-server are built from their Go modules, azurite comes by npm, OpenSSH's sshd and sftp-server by
# apt. What is not the system's own lies under <repository>/.cache/stores; PGKEEP_CACHE names another folder. What is there
# already is found again; several may run at once; a run that is killed leaves nothing half made.
#
# Standard output: one line for each, "NAME PATH". Everything else goes to standard error.
set -euo pipefail

versitygw=v1.8.0
fakegcs=v1.52.2
azurite=3.37.0
node=22.23.3

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PGKEEP_CACHE:-$(cd "$here/../../../../.." && pwd)/.cache}/stores

say() { echo "pgkeep install: $*" >&2; }

root_do() {
  if [ "$(id -u)" = 0 ]; then "$@" >&2; return; fi
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@" >&2; return; fi
  say "this needs root. Run, as root:  apt-get update && apt-get install -y openssh-server npm"
  return 1
}

apt_install() {
  command -v apt-get >/dev/null || { say "no apt-get here: install $* yourself"; return 1; }
  say "installing $* by apt"
  root_do env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 update || say "apt-get update did not work; trying with the lists that are here"
  root_do env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=600 install "$@"
}

# go_program NAME MODULE VERSION: built in a folder of its own, and moved when it is whole.
go_program() {
  local at=$cache/$1-$3/$1 tmp
  if [ ! -x "$at" ]; then
    say "building $2@$3"
    tmp=$(mktemp -d "$cache/.new-XXXXXX")
    (cd "$tmp" && GOFLAGS=-mod=mod GOBIN=$tmp CGO_ENABLED=0 go install "$2@$3" >&2)
    mkdir -p "$(dirname "$at")"
    mv "$tmp/$1" "$at"
    rm -rf "$tmp"
  fi
  echo "$1 $at"
}

# npm_azurite brings Node.js from npm too: azurite's own modules want a newer one than some systems have, and do not say so.
npm_azurite() {
  local at=$cache/azurite-$azurite-node-$node tmp
  if [ ! -x "$at/azurite-blob" ]; then
    command -v npm >/dev/null || apt_install npm
    say "fetching azurite $azurite and Node.js $node by npm"
    tmp=$(mktemp -d "$cache/.new-XXXXXX")
    (cd "$tmp" && npm install --silent --no-audit --no-fund --ignore-scripts "azurite@$azurite" "node-linux-$(node_machine)@$node" >&2)
    printf '#!/bin/sh\nexec "%s/node_modules/node-linux-%s/bin/node" "%s/node_modules/.bin/azurite-blob" "$@"\n' "$at" "$(node_machine)" "$at" >"$tmp/azurite-blob"
    chmod +x "$tmp/azurite-blob"
    rm -rf "$at"
    mv "$tmp" "$at"
  fi
  echo "azurite $at/azurite-blob"
}

node_machine() { if [ "$(uname -m)" = aarch64 ]; then echo arm64; else echo x64; fi; }

# Debian starts a server "ssh" when the package arrives; nobody asked for that one, so it is kept from starting.
apt_sshd() {
  if [ ! -x /usr/sbin/sshd ] || [ ! -x /usr/lib/openssh/sftp-server ]; then
    local policy=/usr/sbin/policy-rc.d ours=
    if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' | root_do tee $policy; root_do chmod 755 $policy; ours=1; fi
    apt_install openssh-server openssh-sftp-server || { [ -z "$ours" ] || root_do rm -f $policy; return 1; }
    [ -z "$ours" ] || root_do rm -f $policy
  fi
  echo "sshd /usr/sbin/sshd"
}

main() {
  umask 022
  [ $# -gt 0 ] || set -- versitygw fake-gcs-server azurite sshd
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9
  rm -rf "$cache"/.new-*
  local name
  for name in "$@"; do
    case $name in
    versitygw) go_program versitygw github.com/versity/versitygw/cmd/versitygw $versitygw ;;
    fake-gcs-server) go_program fake-gcs-server github.com/fsouza/fake-gcs-server $fakegcs ;;
    azurite) npm_azurite ;;
    sshd) apt_sshd ;;
    *) say "no server $name here"; exit 64 ;;
    esac
  done
}

main "$@"

#!/bin/sh
# Restores a full backup and its WAL from a repository of pgkeep, with nothing but sh, tar, od, dd and zstd, gzip or lz4.
#
#   sh restore-without-pgkeep.sh CLUSTER BACKUP DATA [OID=DIRECTORY ...]
#
#   CLUSTER   a directory of the repository: REPOSITORY/c/SERVER/SYSTEM-IDENTIFIER
#   BACKUP    the id of a full backup (it has an -F-): a name of CLUSTER/b
#   DATA      the data directory to be made; it must not be there. WAL goes to DATA.wal
#   OID=...   the directory to be made for each tablespace (CLUSTER/b/BACKUP/v/OID)
#
# Then start PostgreSQL of the same major version on DATA, as the user who owns it: it recovers to the end of the WAL.
set -eu
umask 077

fail() { echo "restore-without-pgkeep: $*" >&2; exit 1; }

[ $# -ge 3 ] || fail "usage: $0 CLUSTER BACKUP DATA [OID=DIRECTORY ...]"
cluster=$1 backup=$1/b/$2 data=$3
shift 3
case $backup in *-F-*) ;; *) fail "$backup is no full backup: pgkeep backups export writes any other as a whole one" ;; esac
grep -q '"decision": "committed"' "$backup/COMMIT.json" || fail "$backup was never completed"
[ ! -e "$backup/TOMB.json" ] || fail "$backup is being deleted"
[ ! -e "$data" ] && [ ! -e "$data.wal" ] || fail "$data or $data.wal is there already"
case $data in /*) ;; *) data=$PWD/$data ;; esac

# number FILE OFFSET: the four bytes there, as a number.
number() { od -An -v -tu4 --endian=little -j "$2" -N 4 "$1" | tr -d ' '; }

# plain FILE: its content. Frames that decoders skip stand first; what follows tells the program.
plain() {
	at=0
	magic=$(number "$1" 0)
	while [ "$magic" -ge 407710288 ] && [ "$magic" -le 407710303 ]; do
		at=$((at + 8 + $(number "$1" $((at + 4)))))
		magic=$(number "$1" "$at")
	done
	case $magic in
	4247762216) zstd -dcq < "$1" ;;
	407708164) lz4 -dcq < "$1" ;;
	*) gzip -dcq < "$1" ;;
	esac
}

# unpack FOLDER DIRECTORY: a tar stream, cut into volumes.
unpack() {
	mkdir "$2"
	for volume in "$backup/v/$1"/*; do
		plain "$volume" || kill $$
	done | tar x -p -C "$2" --exclude='pg_tblspc/*'
}

# 1. The data directory, and each tablespace with its link.
unpack base "$data"
for folder in "$backup"/v/*; do
	oid=${folder##*/} place=
	[ "$oid" != base ] || continue
	for pair in "$@"; do
		[ "${pair%%=*}" != "$oid" ] || place=${pair#*=}
	done
	[ -n "$place" ] || fail "tablespace $oid has no directory: add $oid=DIRECTORY"
	case $place in /*) ;; *) place=$PWD/$place ;; esac
	unpack "$oid" "$place"
	ln -s "$place" "$data/pg_tblspc/$oid"
done

# 2. The WAL from the backup's first segment on, and the history of each timeline.
mkdir "$data.wal"
first=$(sed -n 's/^START WAL LOCATION: .* (file \([0-9A-F]*\))$/\1/p' "$data/backup_label")
size=$(sed -n 's/^ *"segment_size": \([0-9]*\),*$/\1/p' "$cluster/cluster.json")
for object in "$cluster"/w/[0-9A-F]*/*/*; do
	name=${object##*/} segment=${object##*/}
	segment=${segment%%.*}
	case $name in *.id) continue ;; esac
	# All timelines: which is followed, PostgreSQL reads from the histories. The rest of the name is the position.
	if expr "x${segment#????????}" '<' "x${first#????????}" > /dev/null; then continue; fi
	case $name in
	*.partial-*) # the beginning of a segment; the longest comes last
		[ -e "${object%%.partial-*}" ] && continue
		plain "$object" > "$data.wal/$segment"
		dd if=/dev/null of="$data.wal/$segment" bs=1 seek="$size" 2> /dev/null ;;
	*) plain "$object" > "$data.wal/$name" ;;
	esac
done
for object in "$cluster"/w/history/*; do
	[ ! -e "$object" ] || plain "$object" > "$data.wal/${object##*/}.history"
done

# 3. A configuration that recovers, and that archives nothing and follows nobody.
rm -f "$data/standby.signal" "$data/recovery.signal"
cat >> "$data/postgresql.auto.conf" <<END
restore_command = 'cp "$data.wal/%f" "%p"'
archive_mode = off
archive_cleanup_command = ''
recovery_end_command = ''
primary_conninfo = ''
primary_slot_name = ''
synchronous_standby_names = ''
END
: > "$data/recovery.signal"
echo "Restored. Give $data, $data.wal and the tablespaces to PostgreSQL's user, look at $data/postgresql.conf, then: pg_ctl -D $data start"

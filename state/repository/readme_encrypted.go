package repository

// readmeOf gives README.txt. Both begin with the same line, by which a Create that was cut short is told.
func readmeOf(encrypted bool) string {
	if encrypted {
		return readmeEncrypted
	}
	return readme
}

// readmeEncrypted is README.txt of an encrypted repository.
const readmeEncrypted = `This directory is a repository of pgkeep: backups and write-ahead log of PostgreSQL clusters.
It is encrypted with age (https://age-encryption.org). Without an identity of one of its readers nothing in it can be read, by anybody.
Every object in it was written once and is never changed. Do not edit, rename or move anything here.

What lies where
  keys/<key>/<class>-<reader>.age            the repository's own keys, each encrypted for one reader; the class is meta or data
  c/<server>/<system identifier>/            one PostgreSQL cluster
    b/<backup>/                              one base backup; it counts only if COMMIT.json says "committed" and there is no TOMB.json
    w/<timeline>/<log>/<segment>             one WAL segment (data)
    w/<timeline>/<log>/<segment>.partial-N   the first N (hexadecimal) bytes of a segment that was not finished (data)
    w/history/<timeline>                     a timeline history file
  Below b/<backup>/v/ everything is of class data; what is not data is of class meta.

Restore without pgkeep (a full backup: its id has an -F-; all commands from this directory; identity.txt is your own age identity)
  Everything is compressed with zstd, gzip or lz4, and then encrypted. Below, for gzip say "gzip -dc" and for lz4 "lz4 -dc" where it
  says "zstd -dc".

  1. The repository's keys. What is encrypted for other readers complains and is passed over; for a passphrase leave -i out.
       for f in keys/*/data-*.age; do age -d -i identity.txt "$f"; done > /dev/shm/data.key
       for f in keys/*/meta-*.age; do age -d -i identity.txt "$f"; done > /dev/shm/meta.key
     A decision is read with: age -d -i /dev/shm/meta.key c/<server>/<id>/b/<backup>/COMMIT.json
  2. The data directory, then each tablespace (b/<backup>/v/<oid> into its directory, with a link pg_tblspc/<oid> to it):
       mkdir -m 0700 /restore
       for f in c/<server>/<id>/b/<backup>/v/base/*; do age -d -i /dev/shm/data.key "$f"; done |
         zstd -dc | tar x -C /restore --exclude='pg_tblspc/*'
  3. The write-ahead log from the backup's start on:
       for f in c/<server>/<id>/w/<timeline>/*/*; do age -d -i /dev/shm/data.key "$f" | zstd -dc > /archive/"${f##*/}"; done
     A file named <segment>.partial-N becomes <segment>, padded with zeros to full size (truncate -s 16M).
     A history file (with meta.key) becomes <timeline>.history.
  4. In /restore/postgresql.auto.conf: restore_command = 'cp /archive/%f %p'
       touch /restore/recovery.signal
     Remove archive_command, primary_conninfo and primary_slot_name from the configuration. Start the server. Remove the two key files.

Each object is signed by who wrote it, in the header of age; age itself does not look at that, pgkeep does. The format is described
byte by byte in docs/format.md of pgkeep.
`

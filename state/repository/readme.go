package repository

// readme is README.txt: how to restore without pgkeep.
const readme = `This directory is a repository of pgkeep: backups and write-ahead log of PostgreSQL clusters.
Every object in it was written once and is never changed. Do not edit, rename or move anything here.

What lies where
  c/<server>/<system identifier>/            one PostgreSQL cluster
    b/<backup>/                              one base backup; it counts only if COMMIT.json says "committed" and there is no TOMB.json
    w/<timeline>/<log>/<segment>             one WAL segment
    w/<timeline>/<log>/<segment>.partial-N   the first N (hexadecimal) bytes of a segment that was not finished
    w/history/<timeline>                     a timeline history file

Restore without pgkeep (a full backup: its id has an -F-; all commands from this directory)
  Everything is compressed with zstd, gzip or lz4. The command "file" tells which; below, for gzip say
  "gzip -dc" and for lz4 "lz4 -dc" where it says "zstd -dc".

  1. The data directory, then each tablespace (a number beside v/base) into a directory of its own, with a link to it:
       mkdir -m 0700 /restore
       cat c/<server>/<id>/b/<backup>/v/base/* | zstd -dc | tar x -C /restore --exclude='pg_tblspc/*'
       mkdir -m 0700 /tablespace
       cat c/<server>/<id>/b/<backup>/v/<oid>/* | zstd -dc | tar x -C /tablespace
       ln -s /tablespace /restore/pg_tblspc/<oid>
  2. The write-ahead log from the backup's start on:
       for f in c/<server>/<id>/w/<timeline>/*/*; do zstd -dc < "$f" > /archive/"${f##*/}"; done
     A file named <segment>.partial-N becomes <segment>, padded with zeros to full size (truncate -s 16M).
     A history file becomes <timeline>.history.
  3. In /restore/postgresql.auto.conf: restore_command = 'cp /archive/%f %p'
       touch /restore/recovery.signal
     Remove archive_command, primary_conninfo and primary_slot_name from the configuration. Start the server.

  The same as a script of a hundred lines: docs/restore-without-pgkeep.sh of pgkeep. With pgkeep at hand "pgkeep backups export" writes
  any backup, an incremental one too, as pg_basebackup would have, and pg_verifybackup accepts it.

Metadata, sizes and SHA-256 of each WAL object stand at its start, in a frame that the tools above skip. The format is described
byte by byte in docs/format.md of pgkeep.
`

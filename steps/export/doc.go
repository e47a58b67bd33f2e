// Package export writes a backup as PostgreSQL's own programs write one, so that nobody needs pgkeep to use it: a data
// directory (pg_basebackup -Fp) or tar files (pg_basebackup -Ft), full or incremental in the repository, always whole here.
//
// # What is written
//
// Every member of the backup as the server sent it, the configuration too: a copy is not disarmed, which is what recovery
// is for. backup_label loses the lines that make PostgreSQL ask for an incremental's parent. backup_manifest is computed
// anew from the bytes that are written, and pg_verifybackup accepts it. The WAL between the backup's start and its end is
// added when it is asked for, and then the copy starts by itself.
//
// # The order
//
// The destination must be absent or empty. Members go there in the server's order through os.Root, one after another while
// others are read ahead; then everything is made durable, and backup_manifest comes last: an export without it is not
// complete. One that fails removes what it wrote. Memory does not grow with the backup.
package export

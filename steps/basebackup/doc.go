// Package basebackup takes a base backup: PostgreSQL's BASE_BACKUP stream on one side, one backup in each repository on
// the other, in one pass.
//
// The server's tar streams are kept verbatim: a reader records every raw byte while archive/tar understands them, so
// that a restore needs nothing but a decompressor and tar. What the tar says is not trusted: names, links and sizes are
// checked here (see member.go), and at the end PostgreSQL's own manifest must name exactly the files that came.
//
// An incremental backup takes the same stream, on every version, and leaves it to the repository to store only the pages
// that its parent does not have. Whether a parent is fit is looked at first (parent.go); where none is, the backup is full and
// says why. A server of PostgreSQL 17 and later that keeps WAL summaries sends only the pages that changed, and they are laid
// over the parent's (summaries.go, content.go); where it does not, the whole stream is compared, and the backup says why.
//
// Order of writes: START in each repository when the server has named the start position, volumes and shards while the
// stream runs, COMMIT when data and stop position are complete. Whatever fails on the way is decided `aborted`; a
// process that is killed leaves a START whose lock is free, which the plan's remove-incomplete finds.
package basebackup

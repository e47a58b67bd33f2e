// Package recovery turns a backup in a repository into a data directory that PostgreSQL starts from, and hands PostgreSQL
// the WAL it asks for on its way to the target.
//
// # The words
//
// A route (plan.Route) is decided elsewhere: which backup, which line of history, which WAL, where to stop. Restore
// carries it out; WALGet serves it, called by PostgreSQL's restore_command for each file. Between the two stands the route
// file, which Restore writes into the state directory beside the data directory ("<data directory>.pgkeep", mode 0700):
//
//	route.json      where WAL comes from, which WAL must exist, where it ends
//	restore.json    what is being restored here, and how far it came
//	originals/      the configuration as it was in the backup
//	start.json      the server that Start started there, and where it reached its target
//	server.log      what that server says
//	ahead/          segments that were fetched before PostgreSQL asks for them
//
// # The order
//
// Restore looks (is the destination empty, does the backup fit, does every tablespace have a place), then writes files in
// parallel, disarms the configuration, fsyncs everything, and writes global/pg_control last: a directory without it does
// not start. A restore that was cut short is found by restore.json; the next one with the same route checks what is there
// by its checksum and fetches the rest.
//
// Start starts PostgreSQL in what was restored and follows its log until recovery has ended: at the target, or elsewhere,
// which is a failure. PostgreSQL's own sentences decide, and at the end of the WAL the WAL itself.
//
// Every write goes through os.Root, so a name from a repository cannot leave the directory; symbolic links in pg_tblspc
// are made here from the tablespace mapping and never copied from the backup.
//
// # What is fetched ahead
//
// DESIGN's restore_command asks wal-get for every file. Here the shell looks first whether the segment was fetched ahead, because a static
// program of this size takes 10 ms of CPU to start and PostgreSQL waits for it at every segment; the shell takes 3 (BenchmarkServe). What
// makes that safe: only segments that the route needs to their ends lie there, below the digest of the route file, compared with
// their SHA-256 and fsynced before they get their name, and moved by rename. Everything else goes to wal-get as before.
//
// # A standby
//
// PostgreSQL asks a standby's restore_command for everything in turn with its primary: the archive, then the stream, then the archive
// (WaitForWALToBecomeAvailable), and waits for each answer. So a wal-get that waits keeps the standby from streaming. In the
// route it waits all the same, without end: a promotion there would leave out WAL that must exist. Two things it does not wait for:
//
//   - What the standby has itself, to where the route needs it. After a restart PostgreSQL asks again for what it had long replayed.
//   - What lies behind the route, histories included (PostgreSQL looks for a higher one each time that streaming fails): after wal_wait it is
//     absent. DESIGN has a history absent only when every repository answered. With that a repository that is down stops
//     replication for as long, and fills the primary's disk where there is a slot; without, a standby that is promoted while every repository is
//     silent may take the number of a timeline that they hold: such WAL is refused by them, as another's.
//
// What PostgreSQL is given it puts in the place of the segment in pg_wal. So a segment of which a part is archived is not handed out where
// the standby has streamed as much: a promotion would end with a PANIC, and a restart without the primary would have lost the rest.
//
// # The exit codes of wal-get
//
// 0: the file is there. 10: it is outside the route, PostgreSQL may go on without it. 255: everything else. The shell line
// in restore_command maps 10 to 1 and all others to 255, because PostgreSQL takes any code up to 125 as "there is no such
// file" and would end recovery early. Success without a file is 255 too.
package recovery

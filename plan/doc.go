// Package plan compares what the configuration wants with what was seen and says what to do: the steps, in an order that
// is safe, each with the reasons for it; what is not planned and why; and what is true that an operator should know.
//
// Build is pure. It has no clock, no I/O, no goroutine and no randomness: the same Spec, Observation, time and Options
// give the same Plan, byte for byte. So a plan can be tested against golden files, made offline from a recorded
// observation, and asked about the future. After a crash nothing is replayed: the world is looked at and planned again.
//
// Unknown is a value. What was not seen (a server that did not answer, a path that is not mounted, a machine that is not
// this one) plans nothing; it is said under NotDone, with the machine to run on where that helps.
//
// One file decides one thing:
//
//	repositories.go   create-repository, and when it is refused
//	server.go         who a server is and whether it can be protected at all
//	slot.go           create-slot, replace-slot, and slots that are not ours
//	receiver.go       start-receiver, follow-timeline, record-gap, the spool
//	backup.go         take-backup: no usable backup, a broken chain, a due schedule (schedule.go)
//	clean.go          remove-incomplete, prune, prune-wal as steps
//	retention.go      which backup stays and why, as a pure function
//	wal_need.go       which archived WAL nobody needs
//	lines.go          timelines as lines of history
//	route.go          how a recovery gets from a backup to its target
//	alone.go          what is asked for by hand: backup, delete, switch, recover
//	windows.go        what can be recovered now
//	valid.go          whether an older plan still says the same
//
// Package render draws a plan; package steps applies it and decides nothing.
package plan

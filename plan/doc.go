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
//	source.go         which server a backup is taken from, and whether it can be
//	backup.go         take-backup: no usable backup, a broken chain, a due schedule (schedule.go)
//	clean.go          remove-incomplete, prune, prune-wal as steps
//	retention.go      which backup stays and why, as a pure function
//	wal_need.go       which archived WAL nobody needs
//	lines.go          timelines as lines of history
//	route.go          how a recovery gets from a backup to its target
//	drill.go          drills (drill_target.go: which moment), and how those that were made went
//	objective.go      what is promised of a server, and what was measured
//	alone.go          what is asked for by hand: backup, delete, switch, recover
//	windows.go        what can be recovered now
//	valid.go          whether an older plan still says the same; facts.go and compare.go say what makes two steps the same
//	saved.go          a plan as a file; saved_read.go refuses what is not as it was written
//	digest.go         what a reviewer agrees to, as one word
//
// A saved plan holds no secret and nothing made of one. It is applied only while planning again, with its own clock and
// options, decides the same: so a file that somebody edited, digest and all, can do no more than the planner would. What is
// applied are its own steps, which are what was reviewed.
//
// A review digest must let a later plan delete less than was agreed to, and one SHA-256 cannot tell a subset. So the word
// carries, behind a root that commits to all of it, one short hash for each deletion; all else that needs approval is one
// hash that must be equal. Deletions of more than forty backups have only the root, and then only an equal plan goes on.
//
// Package render draws a plan; package steps applies it and decides nothing.
package plan

// Package receive streams a server's WAL to the local spool and from there into repositories.
//
//	server ──stream──► spool (*.partial, fsync) ──complete──► check ──► repository 1
//	   ▲                  │                                     │  └──► repository 2 …
//	   └──── flush ───────┘ (or what the repositories hold)     └ own CRC fails: quarantine, fetch again
//
// Every arrow has a goroutine of its own under one errgroup; Run returns when all have stopped. A repository that is
// slow or away only lets its own queue grow; the stream waits for nothing but the spool's limit.
//
// What is acknowledged. The flush position is never ahead of the fsynced spool; with acknowledge = "repository" never
// ahead of what the repositories (or a quorum of them) hold, for which the unfinished segment is pushed at least every
// second. The apply position is never sent, so that remote_apply waits rather than believes.
//
// Where it starts. From our own durable position, that of the spool or, where every repository reaches further, of the one
// that reaches least far, never from where the server happens to be: a repository that lags so gets what it lacks. A
// server may serve WAL from before its slot, so asking costs nothing. When it no longer has it, the stream goes on where
// the furthest repository ends, and behind its hole nothing counts as held by one that lags, until it is filled. A gap is
// recorded only when the server says that the WAL is gone and every repository has answered.
//
// When it lets go. A server that shuts down waits for our flush as long as we answer; when we cannot reach its end we
// close the connection and the slot keeps the WAL.
package receive

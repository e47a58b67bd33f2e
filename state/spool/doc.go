// Package spool keeps the WAL of servers on local disk between the moment it is received and the moment every
// repository holds it.
//
//	<directory>/<server>/receiver.lock     held while a receiver runs; names its holder
//	<directory>/<server>/status.json       what the receiver says of itself, replaced as a whole every second
//	<directory>/<server>/<system id>/
//	    segment_size                       in bytes, written first
//	    000000010000000000000002.partial   being received, or left unfinished at the end of a timeline
//	    000000010000000000000001           complete: fsynced, then renamed
//	    000000010000000000000000.done      complete and in every repository; the last is kept, see below
//	    00000002.history                   timeline history files, as the server sent them
//	    gap-<timeline>-<from>-<to>.json    WAL that is known to be lost
//	    diverged/                          WAL that a promotion or a fork left behind: kept for people, never sent on
//	    quarantine/                        complete segments that failed their own checksums
//
// The words. A position is written when write(2) took it, and durable when an fsync that came after has returned. The
// durable position is only ever computed from what was fsynced by this process: what is read back after a kill may sit
// in the page cache alone, so Open first fsyncs every partial and every directory.
//
// A segment that has all its bytes is fsynced and named beside the stream. What follows it counts for nothing until then: the next
// segment is named .partial.new, which an Open removes, and nothing of it is called durable.
//
// While a receiver keeps up with its server, the file of the next segment is made beforehand, full of zeros: an unfinished
// segment may be longer than what was received of it, and its length says nothing.
//
// A torn partial needs no hand. Open cuts it back to the end of its last whole record and receiving goes on from the
// start of the page before. The bytes that come again are compared with those that are there: a server that sends other
// bytes for a position that we hold is a fork, and nothing is overwritten. One page at least always comes again, from
// the last .done segment when the position stands at a border; that is why it is kept. Where a record lies in it that began
// earlier, the segments back to its beginning are kept too, a gigabyte at most and less where room is scarce: with them its checksum
// vouches for what comes of it. An unfinished segment that begins with a record which nothing vouches for is not proven: it comes again, and
// without a server it stays.
//
// A file whose fsync failed is not used again: the kernel may have dropped what it could not write and call the page
// clean. Its durable beginning is copied into a new file, and the rest comes again from the server.
//
// One process at a time writes a server's spool (the lock); Look reads it at any time and changes nothing.
package spool

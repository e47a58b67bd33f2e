// Package repository knows what the keys of a store mean: it is the only one who does. It holds two things of each
// PostgreSQL cluster, told apart by stored name and system identifier: base backups and the archive of WAL.
// docs/format.md describes every object byte by byte.
//
// # Words
//
// A Repository is opened from a store.Store and gives handles (Cluster) that do no I/O until they are asked. A *record* is a
// small JSON object that proves itself by its last member. A *sealed* object (package seal) carries its metadata in a
// frame that decompressors skip. The *index* (wx) says in one object what hundreds of segments hold.
//
// # How it stays right without locks
//
// Every object is created by one conditional put and never changed, so of two writers one wins, and the order of puts is
// the crash safety. "Exists" is answered by comparing: the same plain bytes are success, so that a put whose answer was lost can be made
// again, by another process and with another compression; other bytes are an error (CodeFork for WAL), and nothing is overwritten.
// Backups are decided by one object, COMMIT.json, for which commit and abort compete; see BeginBackup, Tomb and Sweep.
//
// # Incremental backups
//
// A BackupStream with a Parent stores only pages whose hash is another than the parent's at the same place (volume_pack.go), and
// lists the others as stretches of the parent's volumes, or of those that the parent refers to. So each backup is read from its own
// lists; of its parent it needs volumes and nothing else, and those stay while anybody's refs/ names them (Sweep). What keeps them
// between the choice of a parent and COMMIT is START, see BeginBackup. What is left of a frame of which less than a
// quarter is read is stored again, so that volumes become free.
//
// # Backups that were cut
//
// PostgreSQL cannot go on with a base backup, so one whose stream was cut begins anew; what the second stream has in common with the first need not be
// stored again. Three ways were weighed. A continued backup under the id of the cut one, of which every volume that comes out the same is not put again, as copies do
// it: the server's archive is one stream, in which the first file that grew moves all that follows, so that nothing comes out the same. The lists rebuilt from the
// stored volumes themselves, which hold the server's own archive: that reads, and in an encrypted repository decrypts, all of them, which a
// backup host must not be able to. So a writer puts small marks (backup_mark.go), and a cut backup is to the next one what a parent is to an
// incremental one, by the same comparison of hashes and the same references.
//
// What keeps its volumes is the protocol of committed backups, and nothing new: a third decision, `cut`, competes for COMMIT, so that neither its
// writer nor a cleaner can decide otherwise; START of the next one names it before that looks for its TOMB; it goes by TOMB and a look for who
// reads it. Each cut backup stands for its own volumes only: several are asked one after another, and none keeps another one. A mark
// that is missing, late or bad, or a volume that is missing or short, means that less is continued. The bytes of volumes are trusted
// as a parent's are: by the SHA-256 that their writer listed, which refs/ passes on and verification reads against.
//
// # The archive
//
// PutSegment, PutPartial and PutHistory put WAL; OpenSegment, OpenPartial and History give it back, checked to the last byte
// when they reach io.EOF. Names are computed, never looked for. WALRanges tells what is there from the index and a listing of what the
// index does not cover yet: an index that is missing, damaged or doubtful makes looking slower and hides nothing, and one that is
// believed never promises what is gone, because DeleteWAL puts the new index before it deletes.
//
// # What cannot be trusted
//
// The first design called a COMMIT without START garbage. A START that a disk lost made a good backup food for a sweep, so it
// is `corrupt` now: told, kept, and removed only by name. So is a backup of which START, COMMIT or TOMB does not prove itself, and
// one whose COMMIT is gone although its writer went away as one does after its decision (Cluster.Writers). One
// bad object hides neither another backup nor another cluster (state.Cluster.Unknown).
//
// No machine's clock alone ends a grace or a hold: see backup_clock.go. A TOMB of another host put between a prune's count of
// usable backups and its own TOMB is not seen: minimum_redundancy is kept by one host that prunes a repository at a time, and a
// TOMB is never withdrawn, because the model loses backups when it may be.
//
// # What is not seen
//
// Verify looks at every object and names what is wrong. Every object proves itself, so that each change of one is found; that one is
// gone is found where something names it, see Repository.Verify.
//
// A place without REPOSITORY.json is never an empty repository. Open tells an absent or empty directory (CodeAbsent), a file
// system that is not mounted (CodeNotMounted) and foreign content (CodeNotRepository) apart; Look makes an Unknown of whatever keeps it from
// seeing everything.
package repository

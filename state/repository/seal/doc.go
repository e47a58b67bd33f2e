// Package seal turns plain bytes into the bytes that a repository stores, and back, so that both pgkeep and the command
// line tools of the compression can read them.
//
// There are two shapes. A sealed *object* (Packer.Pack, Open) is a whole thing, a WAL segment say: first a note with its
// metadata, then its bytes as one compressed stream. The note is a frame that decoders skip: a skippable frame of zstd
// and lz4, an empty member with an extra field of gzip; `zstd -d`, `lz4 -d` and `gzip -d` give the plain bytes and
// nothing else. The note holds the size and SHA-256 of the plain and of the compressed bytes and is itself checksummed,
// so a single changed bit anywhere is found, and one ranged read of the first kilobytes tells what the object is.
//
// A *frame* (Framer, Deframer) is a small independent piece of a volume that decodes alone; frames one after another are
// one stream to the tools.
//
// Which algorithm it was is told by the first bytes, never by a name or a setting, so settings can change at any time.
// What comes from a store is not trusted: windows, sizes and notes are bounded before memory is given to them, and every
// mismatch is ErrCorrupt.
//
// # Encryption
//
// A Vault turns a whole object, as it is said above, into an *envelope*: an age file, one for each object, that `age -d` opens, with two
// stanzas of ours in its header which age passes over. envelope.go shows its form.
//
// Keys. A repository has key pairs of its own, an X25519 pair for each class: *meta* (lists, hashes, decisions, indexes) and *data* (volumes, WAL).
// Objects are encrypted for the public halves, which lie in the repository, signed. The secret halves lie beside them, wrapped: each one in
// an age file for one reader (X25519, post-quantum or passphrase). So who writes needs no secret of the readers, a reader is added by one small
// object, and no data is written again. A backup host is a reader of meta; it makes the data pair at creation, wraps it for others and
// forgets it. A reader who was taken out may have kept what he unwrapped: that is what rotation is for, which makes another key of a higher number. New
// objects are sealed with the highest, old keys stay and open what is old.
//
// Signatures. age says who can read, not who wrote. The last stanza of the header holds an Ed25519 signature over the repository's id,
// the object's key, every byte of the header before it, and length and SHA-256 of what follows the header. So an object that was renamed, swapped, taken
// from another repository or encrypted by a mere reader is refused, before anything of it is believed: Vault.Check. Because the signature
// covers the *stored* payload, a holder of the meta key who re-encrypts something under a signed header is found out too, and whoever knows
// the writer's public key can verify stored bytes without any secret (Head.Prove). The header itself ends in age's MAC.
//
// Notes. Data objects carry a second stanza: length and SHA-256 of what was sealed, and of WAL the note of the object inside, encrypted for
// the meta key. By it a backup host observes, indexes and verifies what it cannot decrypt. The first design kept this in a sidecar
// (<segment>.id). It was given up because two objects can be torn apart by a crash or a copy, and need an order of puts, listings and
// deletions of their own; one object is there or not.
//
// Put again. age draws a new file key for each encryption, so two puts of one thing have different bytes. Deriving the key from the content would
// make them equal, and would let the thief of a backup host, who has everything that it is derived from, derive it again: refused. Keeping the
// ciphertext in the upload spool would make retries equal, but not two receivers, nor a try after the spool was lost. Instead "the same" is told
// as everywhere in the repository, by what was sealed: on ErrExists the object that is there must be signed, proven byte by byte, and its
// note must name the same plain bytes. Other content is a fork; anything unsigned or damaged is corrupt, and never success.
//
// Ranges. The payload is age's: 64 KiB chunks, each sealed with its number and whether it is the last. Any stretch is read as whole chunks
// that prove themselves; the header comes along with ranges near the start and costs one small read before others. Frames stay what they are,
// within one age file a volume: an age file for each frame would cost 200 bytes a frame and a shell could not put them together.
//
// Sums. sums/, refs/ and COMMIT speak of objects before they were sealed. So one backup has the same lists in every repository, encrypted or not,
// one pass over the stream serves all, and a copy between repositories with different keys stays the same backup. Stored bytes are proven
// by the signature.
//
// What it does not do. Who can write the store can delete what no lock holds, and can put an old state of a *set* back: take away the newest key, the
// newest generation of an index, a HOLD. Names of servers, times and lengths of objects are visible. The plain WAL that was not uploaded yet, and the last segment that was, lie in
// the receiver's spool, as in PostgreSQL's own pg_wal. Who holds the data key can forge ranges of volumes, which full reads and signed lists find out.
package seal

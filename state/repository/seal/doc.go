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
package seal

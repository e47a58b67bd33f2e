package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// maxShard bounds the raw content of a list of files that a reader accepts: one file of a large segment size may need many
// extents.
const maxShard = 128 << 20

// BackupReader reads one committed backup. Its methods may be called by several goroutines at once.
type BackupReader struct {
	c       *Cluster
	rec     record
	folders []Folder
	sums    map[string]sumLine // of everything but volumes
	others  []Alternate        // that hold it byte for byte alike
	unlike  []*unlike          // that hold it, and otherwise
	told    func(object string, from string, why error)
}

// Alternate is the same backup in another repository.
type Alternate struct {
	Name   string // of the repository, in messages
	Backup *BackupReader
}

// UnreadableList is the error of a list of a backup, or of another object that is no volume, that could be read neither where the
// backup is nor, being the same to the byte, elsewhere. Whoever has the backup otherwise in another repository can go on there.
type UnreadableList struct {
	Object string // its key
	Err    error  // why it could not be read where the backup is
}

// Error is Err's.
func (e *UnreadableList) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *UnreadableList) Unwrap() error { return e.Err }

// Or has whatever cannot be read here, or is damaged, read from others, object by object and in this order. From one that holds
// the backup otherwise, as a copy that stands alone, come data by file and position, and those other objects that are alike; lists
// of files are not: reading them fails with an UnreadableList. One that holds another backup is left out; false: none is left. told is
// told of each object that was read elsewhere, and why, by several goroutines; nil: nobody.
func (b *BackupReader) Or(told func(object, from string, why error), others ...Alternate) bool {
	for _, o := range others {
		mine, its := b.rec.decided, o.Backup.rec.decided
		if slices.Equal(mine.Sums, its.Sums) && slices.Equal(mine.Refs, its.Refs) {
			b.others = append(b.others, o)
		} else if b.sameBackup(o.Backup) {
			b.unlike = append(b.unlike, &unlike{Alternate: o})
		}
	}
	b.told = told
	return len(b.others)+len(b.unlike) > 0
}

// elsewhere reads from others what failed here with why; the error is why where all fail.
func (b *BackupReader) elsewhere(ctx context.Context, others []Alternate, object string, why error, read func(*Cluster) error) error {
	for _, o := range others {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := read(o.Backup.c); err != nil {
			var refused *refusedPiece
			if errors.As(err, &refused) {
				return err
			}
			continue
		}
		if b.told != nil {
			b.told(object, o.Name, why)
		}
		return nil
	}
	return why
}

// OpenBackup opens a committed backup, also a damaged or a tombed one of which nothing was removed yet. A reader that
// works for long takes a Hold first.
func (c *Cluster) OpenBackup(ctx context.Context, id string) (*BackupReader, error) {
	if err := CheckBackupID(id); err != nil {
		return nil, err
	}
	r, err := c.readBackup(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open backup %s: %w", id, err)
	}
	if r.corrupt() && !r.committed() {
		return nil, &state.Error{
			Code: state.CodeCorrupt, Text: fmt.Sprintf("backup %s cannot be trusted", id),
			Hint: "pgkeep check --repository, then restore the object from another repository", Err: r.why(),
		}
	}
	if !r.begun() {
		return nil, &state.Error{
			Code: state.CodeAbsent, Text: fmt.Sprintf("the repository has no backup %s of %s", id, c.key.Name),
			Hint: "pgkeep backups " + c.key.Name, Err: store.ErrNotExist,
		}
	}
	if is, _ := r.describe(); !r.committed() {
		return nil, &state.Error{
			Code: state.CodeStale, Text: fmt.Sprintf("backup %s is %s, not committed", id, is.State),
			Hint: "pgkeep backups " + c.key.Name,
		}
	}
	b := &BackupReader{c: c, rec: r, sums: map[string]sumLine{}}
	if err := b.load(ctx); err != nil {
		return nil, fmt.Errorf("open backup %s: %w", id, err)
	}
	return b, nil
}

// load reads the sums of the shards, and the folders.
func (b *BackupReader) load(ctx context.Context) error {
	err := b.c.readSums(ctx, b.rec.id, sumsDir, b.rec.decided.Sums, func(l sumLine) error {
		if !strings.HasPrefix(l.name, volumeDir) {
			b.sums[l.name] = l
		}
		return nil
	})
	if err != nil {
		return err
	}
	body, err := b.object(ctx, folderListName)
	if err != nil {
		return err
	}
	var list folderList
	if err := decodeRecord(body, &list); err != nil {
		return corrupt(b.key(folderListName), err)
	}
	if list.Backup != b.rec.id {
		return corrupt(b.key(folderListName), fmt.Errorf("it is of backup %s", list.Backup))
	}
	b.folders = list.Folders
	return nil
}

func (b *BackupReader) key(name string) string { return b.c.key.backupDir(b.rec.id) + name }

// Info gives the backup's facts.
func (b *BackupReader) Info() state.Backup {
	info, _ := b.rec.describe() // it is committed, or it would not be open
	return info
}

// Folders gives the data directory (OID 0) and the tablespaces.
func (b *BackupReader) Folders() []Folder { return b.folders }

// object reads one object that is no volume, proved by sums/.
func (b *BackupReader) object(ctx context.Context, name string) ([]byte, error) {
	want, ok := b.sums[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", b.key(name), store.ErrNotExist)
	}
	body, err := b.c.provedObject(ctx, b.key(name), want)
	if err != nil && len(b.others)+len(b.unlike) > 0 {
		others := slices.Clone(b.others)
		for _, u := range b.unlike {
			others = append(others, u.Alternate)
		}
		err = b.elsewhere(ctx, others, b.key(name), err, func(c *Cluster) (err error) {
			body, err = c.provedObject(ctx, b.key(name), want)
			return err
		})
	}
	switch {
	case err == nil:
		return body, nil
	case ctx.Err() != nil:
		return nil, err
	}
	return nil, &UnreadableList{Object: b.key(name), Err: err}
}

// missing turns "does not exist" of an object that a list of sums names into corruption.
func missing(key string, err error) error {
	if errors.Is(err, store.ErrNotExist) {
		return corrupt(key, err)
	}
	return err
}

// shard reads one object that is no volume, and decompresses it.
func (b *BackupReader) shard(ctx context.Context, name string) ([]byte, error) {
	body, err := b.object(ctx, name)
	if err != nil {
		return nil, err
	}
	d, err := seal.NewDeframer()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	limit := maxList
	if strings.HasPrefix(name, filesDir) {
		limit = maxShard
	}
	raw, err := d.Frame(nil, body, limit)
	if err != nil {
		return nil, corrupt(b.key(name), err)
	}
	return raw, nil
}

// Files gives every member in the order of the server's stream: directories, links and files. It ends at the first error.
func (b *BackupReader) Files(ctx context.Context) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for n := range b.rec.decided.FileShards {
			files, err := b.fileShard(ctx, n)
			if err != nil {
				yield(File{}, err)
				return
			}
			for i := range files {
				if !yield(files[i], nil) {
					return
				}
			}
		}
	}
}

func (b *BackupReader) fileShard(ctx context.Context, n int) ([]File, error) {
	name := shardName(filesDir, n)
	raw, err := b.shard(ctx, name)
	if err != nil {
		return nil, err
	}
	files, err := decodeFileShard(raw, b.rec.id, n)
	if err != nil {
		return nil, corrupt(b.key(name), err)
	}
	for i := range files {
		files[i].shard = n
	}
	return files, nil
}

// PageHashes gives the hashes of pages, run by run, with the seed they were made with. A full backup has all of them.
func (b *BackupReader) PageHashes(ctx context.Context, visit func(PageHashes) error) error {
	for n := range b.rec.decided.HashShards {
		name := shardName(hashDir, n)
		raw, err := b.shard(ctx, name)
		if err != nil {
			return err
		}
		head, hashes, err := decodeHashShard(raw, b.rec.id, n)
		if err != nil {
			return corrupt(b.key(name), err)
		}
		for _, r := range head.Runs {
			size := r.Count * hashSize
			if err := visit(PageHashes{Folder: r.Folder, Path: string(r.Path), First: r.First, Seed: head.Seed, Hashes: hashes[:size]}); err != nil {
				return err
			}
			hashes = hashes[size:]
		}
	}
	return nil
}

// PageHashes are the hashes of consecutive pages of a file: 16 bytes a page, xxh3-128 with Seed.
type PageHashes struct {
	Folder uint32
	Path   string
	First  int64 // page
	Seed   uint64
	Hashes []byte // valid during the call
}

// PGManifest gives PostgreSQL's own manifest, verbatim. It grows with the number of files; OpenPGManifest streams it.
func (b *BackupReader) PGManifest(ctx context.Context) ([]byte, error) {
	return io.ReadAll(b.OpenPGManifest(ctx))
}

// OpenPGManifest streams PostgreSQL's own manifest, verbatim, piece by piece.
func (b *BackupReader) OpenPGManifest(ctx context.Context) io.Reader {
	return &pieceReader{b: b, ctx: ctx}
}

// pieceReader reads the pieces of the server's manifest one after another.
type pieceReader struct {
	b    *BackupReader
	ctx  context.Context // of the one call chain that reads
	next int
	rest []byte
}

// Read gives the next bytes.
func (r *pieceReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.next == r.b.rec.decided.Manifest {
			return 0, io.EOF
		}
		piece, err := r.b.shard(r.ctx, shardName(serverDir, r.next))
		if err != nil {
			return 0, err
		}
		r.rest = piece
		r.next++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// BackupLabel gives backup_label, verbatim.
func (b *BackupReader) BackupLabel(ctx context.Context) ([]byte, error) {
	return b.shard(ctx, labelName)
}

// Captured gives the captured settings and hba rules; store.ErrNotExist where the role could not read them.
func (b *BackupReader) Captured(ctx context.Context) ([]byte, error) {
	return b.shard(ctx, capturedName)
}

// Relations gives the names of relations by relfilenode; store.ErrNotExist where they are not known.
func (b *BackupReader) Relations(ctx context.Context) ([]byte, error) {
	return b.shard(ctx, relationName)
}

package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// box is the store of an encrypted repository: what is put is sealed, what is got is opened and proven, and lengths are those of
// the objects before they were sealed. So nobody above has to know, and nobody can forget. Of WAL alone lengths are as stored:
// notes of WAL differ in length.
type box struct {
	store.Store
	v      *seal.Vault
	reload func(context.Context) error // looks for keys that were added since; nil: nowhere
}

// ErrNoSigningKey means that nothing can be written into an encrypted repository from here, which can be read all the same.
var ErrNoSigningKey = errors.New("the encryption block names no signing_key")

// classOf tells by its key with what an object is sealed.
func classOf(key string) seal.Class {
	part := strings.Split(key, "/")
	switch {
	case key == repositoryKey, key == readmeKey, part[0]+"/" == keysDir:
		return seal.ClassClear
	case part[0]+"/" != clustersDir || len(part) < 5:
		return seal.ClassMeta
	case isWAL(part), part[3] == "b" && len(part) > 5 && part[5]+"/" == volumeDir:
		return seal.ClassData
	}
	return seal.ClassMeta
}

// isWAL tells segments and partials from history files.
func isWAL(part []string) bool {
	return len(part) > 5 && part[3] == "w" && part[4] != "history"
}

// PutIfAbsent is store.Store's. The same object put again is sealed anew, with other bytes: who meets ErrExists compares what was sealed.
func (b *box) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	class := classOf(key)
	if class == seal.ClassClear {
		return b.Store.PutIfAbsent(ctx, key, body, size, o)
	}
	var rest []byte
	if isWAL(strings.Split(key, "/")) {
		var err error
		if rest, err = metaOf(body, size); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
	}
	s, err := b.v.Seal(key, class, body, size, rest)
	if errors.Is(err, seal.ErrNoKey) {
		return noKey("nothing can be written into the encrypted repository: no signing key is here", ErrNoSigningKey)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return b.Store.PutIfAbsent(ctx, key, s, s.Size(), o)
}

// metaOf reads the note of a sealed object that is to be encrypted, for the meta key: without it a backup host could not tell what
// it has archived.
func metaOf(body io.ReaderAt, size int64) ([]byte, error) {
	for want := int64(headStep); ; want *= 8 {
		head, err := io.ReadAll(io.NewSectionReader(body, 0, min(want, size)))
		if err != nil {
			return nil, err
		}
		m, enough, err := seal.ReadMeta(head)
		if err != nil || !enough && want >= size {
			return nil, errors.Join(errors.New("it is no sealed object"), err)
		}
		if enough {
			return json.Marshal(m)
		}
	}
}

// Get is store.Store's.
func (b *box) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	switch class := classOf(key); {
	case class == seal.ClassClear:
		return b.Store.Get(ctx, key, off, n)
	case class == seal.ClassData && (off > 0 || n >= 0):
		return b.getRange(ctx, key, off, n)
	default:
		r, err := b.open(ctx, key, class)
		if err != nil || off == 0 && n < 0 {
			return r, err
		}
		return part(r, off, n)
	}
}

// part reads all of a metadata object, because its whole proves it, and gives a stretch of it.
func part(r io.ReadCloser, off, n int64) (io.ReadCloser, error) {
	all, err := io.ReadAll(r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	all = all[min(off, int64(len(all))):]
	if n >= 0 {
		all = all[:min(n, int64(len(all)))]
	}
	return io.NopCloser(bytes.NewReader(all)), nil
}

// opened is an object of which the header was read and checked.
type opened struct {
	head *seal.Head
	rest io.Reader // what follows the header
	io.Closer
}

// begin gets an object, as much of it as limit says (-1: all), and checks its header.
func (b *box) begin(ctx context.Context, key string, class seal.Class, limit int64) (*opened, error) {
	r, err := b.Store.Get(ctx, key, 0, limit)
	if err != nil {
		return nil, err
	}
	h, rest, err := readEnvelope(r)
	if err == nil {
		err = b.check(ctx, key, class, h)
	}
	if err != nil {
		_ = r.Close()
		return nil, refused(key, err)
	}
	return &opened{head: h, rest: rest, Closer: r}, nil
}

// check is Vault.Check; where the key is not known, others may have made one since the repository was opened.
func (b *box) check(ctx context.Context, key string, class seal.Class, h *seal.Head) error {
	err := b.v.Check(key, class, h)
	if err == nil || !errors.Is(err, seal.ErrNoKey) || b.reload == nil || b.v.Knows(h.Key) {
		return err
	}
	if err := b.reload(ctx); err != nil {
		return err
	}
	if err = b.v.Check(key, class, h); err != nil && !b.v.Knows(h.Key) { // nobody reads it, and it hides nothing else
		return fmt.Errorf("%w: it is sealed with repository key %s, which no trusted writer has signed or which is gone from %s", seal.ErrCorrupt, h.Key, keysDir)
	}
	return err
}

func readEnvelope(r io.Reader) (*seal.Head, io.Reader, error) {
	const step = 2 << 10 // most headers are shorter
	var head []byte
	for want := step; ; want *= 4 {
		more := make([]byte, want-len(head))
		n, err := io.ReadFull(r, more)
		head = append(head, more[:n]...)
		h, enough, headErr := seal.ParseHead(head)
		switch {
		case headErr != nil:
			return nil, nil, headErr
		case enough:
			return h, io.MultiReader(bytes.NewReader(head[h.Size:]), r), nil
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil, nil, fmt.Errorf("%w: it ends inside its header", seal.ErrCorrupt)
		case err != nil:
			return nil, nil, err
		}
	}
}

// refused gives an error of sealed bytes its code.
func refused(key string, err error) error {
	switch {
	case state.CodeOf(err) != "":
		return err
	case errors.Is(err, seal.ErrCorrupt):
		return corrupt(key, err)
	case errors.Is(err, seal.ErrNoKey) && classOf(key) == seal.ClassData:
		return noDataKey(key, err)
	case errors.Is(err, seal.ErrNoKey):
		return noKey(fmt.Sprintf("object %s cannot be read here", key), err)
	}
	return err
}

// unsealed gives plain bytes of an object.
type unsealed struct {
	key string
	io.Reader
	io.Closer
}

// Read is io.Reader's.
func (u *unsealed) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = refused(u.key, err)
	}
	return n, err
}

// open gives a whole object. Reading it to io.EOF proves it.
func (b *box) open(ctx context.Context, key string, class seal.Class) (io.ReadCloser, error) {
	o, err := b.begin(ctx, key, class, -1)
	if err != nil {
		return nil, err
	}
	r, err := b.v.Open(class, o.head, o.rest)
	if err != nil {
		_ = o.Close()
		return nil, refused(key, err)
	}
	return &unsealed{key, r, o}, nil
}

// nearStart is how far into an object a range may begin for what lies before it to be read along rather than asked for apart.
const nearStart = 256 << 10

// getRange gives plain bytes of a data object. Its chunks prove themselves, and what lies in them is proven again by who reads frames.
func (b *box) getRange(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if n < 0 {
		n = 1 << 62
	}
	limit := b.v.HeadSize(seal.ClassData) + seal.SaltSize
	if off < nearStart {
		limit = min(limit+off+min(n, 1<<40)+(off+min(n, 1<<40))/1024+2*seal.ChunkSize, 1<<41)
	}
	o, err := b.begin(ctx, key, seal.ClassData, limit)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, seal.SaltSize)
	if _, err := io.ReadFull(o.rest, salt); err != nil {
		_ = o.Close()
		return nil, refused(key, short(err))
	}
	x := o.head.RangeOf(off, n)
	var from io.Reader
	closer := o.Closer
	if x.Off+x.N <= limit {
		if _, err = io.CopyN(io.Discard, o.rest, max(0, x.Off-o.head.SaltAt()-seal.SaltSize)); err != nil {
			_ = o.Close()
			return nil, refused(key, short(err))
		}
		from = o.rest
	} else {
		_ = o.Close()
		r, err := b.Store.Get(ctx, key, x.Off, x.N)
		if err != nil {
			return nil, err
		}
		from, closer = r, r
	}
	r, err := b.v.OpenRange(seal.ClassData, o.head, x, salt, from)
	if err != nil {
		_ = closer.Close()
		return nil, refused(key, err)
	}
	return &unsealed{key, r, closer}, nil
}

// short makes an early end of a header's bytes what it is.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends after its header", seal.ErrCorrupt)
	}
	return err
}

// note gives what the header of a data object says.
func (b *box) note(ctx context.Context, key string) (seal.Note, error) {
	o, err := b.begin(ctx, key, seal.ClassData, headStep)
	for want := int64(headStep) * 8; err != nil && isCorrupt(err) && want <= seal.MaxHead; want *= 8 {
		o, err = b.begin(ctx, key, seal.ClassData, want)
	}
	if err != nil {
		return seal.Note{}, err
	}
	defer o.Close()
	n, err := b.v.Note(o.head)
	if err != nil {
		return n, refused(key, err)
	}
	return n, nil
}

// prove reads all stored bytes of an object, and tells whether they are what a trusted writer has signed. No secret key is asked for but,
// for the note of a data object, the meta key.
func (b *box) prove(ctx context.Context, key string) (seal.Note, error) {
	class := classOf(key)
	o, err := b.begin(ctx, key, class, -1)
	if err != nil {
		return seal.Note{}, err
	}
	defer o.Close()
	if err := o.head.Prove(o.rest); err != nil {
		return seal.Note{}, refused(key, err)
	}
	if class != seal.ClassData {
		return seal.Note{}, nil
	}
	n, err := b.v.Note(o.head)
	if err != nil {
		return n, refused(key, err)
	}
	return n, nil
}

// holds tells whether an object that cannot be decrypted here holds these bytes, whole and signed.
func (b *box) holds(ctx context.Context, key string, body []byte) (bool, error) {
	n, err := b.prove(ctx, key)
	if err != nil {
		return false, err
	}
	return n.Size == int64(len(body)) && n.SHA256 == sha256.Sum256(body), nil
}

// Stat is store.Store's.
func (b *box) Stat(ctx context.Context, key string) (store.Info, error) {
	info, err := b.Store.Stat(ctx, key)
	return b.plainInfo(info), err
}

// List is store.Store's.
func (b *box) List(ctx context.Context, prefix, after string, delimited bool) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for info, err := range b.Store.List(ctx, prefix, after, delimited) {
			if !yield(b.plainInfo(info), err) {
				return
			}
		}
	}
}

func (b *box) plainInfo(info store.Info) store.Info {
	class := classOf(info.Key)
	if info.Prefix || class == seal.ClassClear || isWAL(strings.Split(info.Key, "/")) {
		return info
	}
	info.Size = b.v.PlainSize(class, info.Size)
	return info
}

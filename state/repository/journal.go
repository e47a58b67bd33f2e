package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// maxNote bounds one object of journal/ and evidence/.
const maxNote = 4 << 20

// Note is one entry of a cluster's journal, or one piece of evidence.
type Note struct {
	Key      string          `json:"-"`
	At       time.Time       `json:"at"`
	SystemID string          `json:"system_id"`
	Entry    json.RawMessage `json:"entry"` // what was put
}

// noteFile is one object of journal/ or evidence/.
type noteFile struct {
	Format int `json:"format"`
	Note
}

// PutJournal keeps what was done to the cluster at a moment. entry is written as JSON and must hold no secret. The same entry again is
// the same object.
func (c *Cluster) PutJournal(ctx context.Context, at time.Time, entry any) error {
	body, err := c.note(at, entry)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	sum := sha256.Sum256(body)
	return c.putNote(ctx, c.key.journalFile(at, hex.EncodeToString(sum[:8])), body)
}

// PutEvidence keeps what a recovery, a drill or a verification at a moment has proven. entry is written as JSON and must hold no secret.
func (c *Cluster) PutEvidence(ctx context.Context, at time.Time, entry any) error {
	body, err := c.note(at, entry)
	if err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	return c.putNote(ctx, c.key.evidenceFile(at), body)
}

// Journal gives the entries of the journal from a moment on, oldest first.
func (c *Cluster) Journal(ctx context.Context, from time.Time) iter.Seq2[Note, error] {
	return c.notes(ctx, c.key.journalDir(), from)
}

// JournalNewestFirst gives the entries of the journal from the newest back to a moment.
func (c *Cluster) JournalNewestFirst(ctx context.Context, from time.Time) iter.Seq2[Note, error] {
	return func(yield func(Note, error) bool) {
		keys, err := c.noteKeys(ctx, c.key.journalDir(), from)
		if err != nil {
			yield(Note{}, err)
			return
		}
		for _, key := range slices.Backward(keys) {
			n, err := c.readNote(ctx, key)
			if err == nil && n.At.Before(from) || isAbsent(err) {
				continue
			}
			if !yield(n, err) {
				return
			}
		}
	}
}

// noteKeys gives the keys of a directory from a moment on, oldest first.
func (c *Cluster) noteKeys(ctx context.Context, dir string, from time.Time) ([]string, error) {
	if err := c.key.Check(); err != nil {
		return nil, err
	}
	after := ""
	if !from.IsZero() {
		after = dir + keyTime(from.Add(-1))
	}
	var keys []string
	for info, err := range c.repo.st.List(ctx, dir, after, false) {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", dir, err)
		}
		keys = append(keys, info.Key)
	}
	return keys, nil
}

// Evidence gives the pieces of evidence from a moment on, oldest first.
func (c *Cluster) Evidence(ctx context.Context, from time.Time) iter.Seq2[Note, error] {
	return c.notes(ctx, c.key.evidenceDir(), from)
}

func (c *Cluster) note(at time.Time, entry any) ([]byte, error) {
	if err := c.key.Check(); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(entry)
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	body, err := encodeRecord(noteFile{Format: 1, Note: Note{At: at.UTC(), SystemID: c.key.SystemID, Entry: raw}})
	if err == nil && len(body) > maxNote {
		err = fmt.Errorf("%d bytes are more than the %d of an entry", len(body), maxNote)
	}
	return body, err
}

func (c *Cluster) putNote(ctx context.Context, key string, body []byte) error {
	err := c.repo.st.PutIfAbsent(ctx, key, bytes.NewReader(body), int64(len(body)), store.PutOptions{})
	if errors.Is(err, store.ErrExists) {
		there, readErr := readAll(ctx, c.repo.st, key, maxNote)
		if readErr == nil && bytes.Equal(there, body) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

func (c *Cluster) notes(ctx context.Context, dir string, from time.Time) iter.Seq2[Note, error] {
	return func(yield func(Note, error) bool) {
		keys, err := c.noteKeys(ctx, dir, from)
		if err != nil {
			yield(Note{}, err)
			return
		}
		for _, key := range keys {
			n, err := c.readNote(ctx, key)
			if n.At.Before(from) && err == nil || isAbsent(err) {
				continue
			}
			if !yield(n, err) {
				return
			}
		}
	}
}

func (c *Cluster) readNote(ctx context.Context, key string) (Note, error) {
	n := Note{Key: key}
	b, err := readAll(ctx, c.repo.st, key, maxNote)
	if err != nil {
		return n, err
	}
	var f noteFile
	if err := decodeRecord(b, &f); err != nil {
		return n, corrupt(key, err)
	}
	sum := sha256.Sum256(b)
	ours := c.key.isOf(key, f.Note) || key == c.key.journalFile(f.At, hex.EncodeToString(sum[:8]))
	if f.SystemID != c.key.SystemID || !ours {
		return n, corrupt(key, fmt.Errorf("it is of system %s at %s", f.SystemID, f.At))
	}
	f.Key = key
	return f.Note, nil
}

package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// maxRecord bounds the small JSON objects of a backup: START, COMMIT, TOMB, HOLD, VERIFY.
const maxRecord = 64 << 10

// checkMember begins the last member of a record; the 64 digits of its value are the SHA-256 of every byte before it.
const checkMember = `"check": "`

// encodeRecord writes v, which must be a struct, as indented JSON whose last member proves the bytes before it: these
// objects stand in no list of sums, and a flipped digit of an LSN must not pass.
func encodeRecord(v any) ([]byte, error) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	head, ok := bytes.CutSuffix(body, []byte("\n}"))
	if !ok {
		return nil, errors.New("encode record: not an object with members")
	}
	head = append(head, ",\n  "...)
	sum := sha256.Sum256(head)
	out := append(head, checkMember...)
	out = append(out, hex.EncodeToString(sum[:])...)
	return append(out, "\"\n}\n"...), nil
}

// decodeRecord checks the proof and reads the members that v knows.
func decodeRecord(b []byte, v any) error {
	at := bytes.LastIndex(b, []byte(checkMember))
	tail := len(checkMember) + 64 + len("\"\n}\n")
	if at < 0 || len(b)-at != tail {
		return errors.New("it does not end in its check: cut short or not a record of pgkeep")
	}
	sum := sha256.Sum256(b[:at])
	want := hex.EncodeToString(sum[:]) + "\"\n}\n"
	if string(b[at+len(checkMember):]) != want {
		return errors.New("its bytes are not those that were written: the check does not match")
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	return nil
}

// corrupt is the error for an object whose stored bytes are not what was written.
func corrupt(key string, err error) error {
	return &state.Error{
		Code: state.CodeCorrupt, Text: fmt.Sprintf("object %s cannot be trusted", key),
		Hint: "pgkeep check --repository, then restore the object from another repository or delete the backup", Err: err,
	}
}

// putRecord puts a record. When the key is taken by these very bytes it is our own put, told of twice: success.
func (c *Cluster) putRecord(ctx context.Context, key string, v any) error {
	body, err := encodeRecord(v)
	if err != nil {
		return err
	}
	if len(body) > maxRecord {
		return fmt.Errorf("put %s: %d bytes are more than the %d that a record may have", key, len(body), maxRecord)
	}
	removal := strings.HasSuffix(key, "/"+decisionName) || strings.HasSuffix(key, "/"+tombName)
	return c.putBytes(ctx, key, body, store.PutOptions{Reserve: removal}) // what makes room must find room
}

// putObject puts bytes under a key that is ours alone. ErrExists stays only when other bytes are there.
func (c *Cluster) putObject(ctx context.Context, key string, body []byte) error {
	return c.putBytes(ctx, key, body, store.PutOptions{})
}

func (c *Cluster) putBytes(ctx context.Context, key string, body []byte, o store.PutOptions) error {
	st := c.repo.Store()
	err := st.PutIfAbsent(ctx, key, bytes.NewReader(body), int64(len(body)), o)
	if err == nil {
		return nil
	}
	if !errors.Is(err, store.ErrExists) {
		return err // the store names the object
	}
	same, readErr := c.holds(ctx, key, body)
	if readErr != nil {
		return fmt.Errorf("compare %s with what is there already: %w", key, readErr)
	}
	if !same {
		return fmt.Errorf("put %s: other bytes are there: %w", key, store.ErrExists)
	}
	return nil
}

// holds tells whether an object that is there holds these bytes. What cannot be decrypted here is told by what its writer has signed.
func (c *Cluster) holds(ctx context.Context, key string, body []byte) (bool, error) {
	if c.repo.box != nil && classOf(key) == seal.ClassData {
		return c.repo.box.holds(ctx, key, body)
	}
	there, err := c.readObject(ctx, key, int64(len(body)))
	return bytes.Equal(there, body), err
}

// readObject reads a whole object, and at most limit+1 bytes of it.
func (c *Cluster) readObject(ctx context.Context, key string, limit int64) ([]byte, error) {
	r, err := c.repo.Store().Get(ctx, key, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return b, nil
}

// readRecord reads and proves a record. The error wraps store.ErrNotExist, or is of CodeCorrupt.
func (c *Cluster) readRecord(ctx context.Context, key string, v any) error {
	b, err := c.readObject(ctx, key, maxRecord)
	if err != nil {
		return err
	}
	if err := decodeRecord(b, v); err != nil {
		return corrupt(key, err)
	}
	return nil
}

// exists asks the store for one key.
func (c *Cluster) exists(ctx context.Context, key string) (bool, error) {
	_, err := c.repo.Store().Stat(ctx, key)
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", key, err)
	}
	return true, nil
}

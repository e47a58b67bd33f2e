package keyfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// The kinds of keys that Generate makes.
const (
	Reader      = "reader"       // an age identity
	PostQuantum = "post-quantum" // one that a quantum computer could not break
	Writer      = "writer"       // what objects are signed with
)

// Generate makes a key, writes it into a new file of mode 0600, durably, and gives its public half. A file that is there is never written over:
// it may hold the only key of a repository.
func Generate(path, kind string, now time.Time) (public string, err error) {
	secret := ""
	if kind == Writer {
		w, err := seal.NewWriterKey(rand.Reader)
		if err != nil {
			return "", err
		}
		public, secret = string(w.ID()), w.Secret()
	} else if public, secret, err = seal.NewIdentity(kind == PostQuantum); err != nil {
		return "", err
	}
	text := fmt.Appendf(nil, "# created: %s\n# public key: %s\n%s\n", now.UTC().Format(time.RFC3339), public, secret)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // #nosec: the operator names it
	if errors.Is(err, os.ErrExist) {
		return "", &state.Error{Text: path + " is there already: a key is never written over", Hint: "name another file"}
	}
	if err != nil {
		return "", fmt.Errorf("write the key: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("write the key: %w", err), os.Remove(path))
	}
	return public, nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path) // #nosec: the directory of a file that was just made
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

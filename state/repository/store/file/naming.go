package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// naming is how a finished temporary file gets a final name that nothing else has.
type naming int

const (
	unknown    naming = iota
	byLink            // link(2)
	byRenaming        // renameat2(RENAME_NOREPLACE)
	neither           // the file system can do neither: refused
)

func (s *Store) namingNow() naming {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.naming
}

// Probe finds out whether the file system can keep the promise of PutIfAbsent, with two temporary files. It is made by the
// first put anyway.
func (s *Store) Probe() error {
	root, err := s.openOrMake()
	if err != nil {
		return err
	}
	return s.ready(root)
}

// ready collects what dead writers left and finds out how to name files, once for each Store.
func (s *Store) ready(root *os.Root) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.naming == unknown {
		if err := collect(root); err != nil {
			return fmt.Errorf("prepare store %s: %w", s.path, err)
		}
		found, err := probe(root)
		if err != nil {
			return fmt.Errorf("probe store %s: %w", s.path, err)
		}
		s.naming = found
	}
	if s.naming == neither {
		return fmt.Errorf("%s can neither link(2) nor renameat2(RENAME_NOREPLACE), so two writers could tear an object: %w",
			s.path, store.ErrUnsupported)
	}
	return nil
}

// probe tries both ways on real files: a name that is taken must be refused, and a free one given.
func probe(root *os.Root) (naming, error) {
	for _, how := range []naming{byLink, byRenaming} {
		ok, err := works(root, how)
		if err != nil {
			return unknown, err
		}
		if ok {
			return how, nil
		}
	}
	return neither, nil
}

func works(root *os.Root, how naming) (bool, error) {
	a, err := newTemp(root)
	if err != nil {
		return false, err
	}
	defer a.discard()
	b, err := newTemp(root)
	if err != nil {
		return false, err
	}
	defer b.discard()
	free := b.path + "-name"
	defer root.Remove(free)
	if err := a.name(b.path, how); !errors.Is(err, fs.ErrExist) {
		return false, nil // refused for another reason, or the taken name was replaced
	}
	return a.name(free, how) == nil, nil
}

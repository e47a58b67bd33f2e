package file

import (
	"errors"
	"testing"
)

// TestNothingIsSettledHalfWay: a directory counts as durable when all above it are, not before and not after a failure.
func TestNothingIsSettledHalfWay(t *testing.T) {
	id, failed := identity{inode: 1}, errors.New("no fsync")
	for _, fails := range []string{"a/b/c", "a/b", "a", "."} {
		s := &Store{durable: map[string]identity{}}
		err := s.settleAll("a/b/c", func(dir string) (identity, bool, error) {
			if s.settled("a/b/c", id, true) || s.settled("a/b", id, true) {
				t.Errorf("a directory counts as durable before %s is", dir)
			}
			if dir == fails {
				return identity{}, false, failed
			}
			return id, true, nil
		})
		if !errors.Is(err, failed) || len(s.durable) > 0 {
			t.Errorf("%s cannot be fsynced: %v, %v count as durable", fails, err, s.durable)
		}
	}
}

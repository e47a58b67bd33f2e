package sftp

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/location"
	"github.com/pgkeep/pgkeep/state/repository/store/remote"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest/servers"
)

// TestNothingIsSettledHalfWay: a directory counts as durable when all above it are, not before and not after a failure.
func TestNothingIsSettledHalfWay(t *testing.T) {
	durable, failed := map[string]bool{".": true}, errors.New("no fsync")
	known := func(dir string) bool { return durable[dir] }
	for _, fails := range []string{"a/b/c", "a/b", "a", "."} {
		settled, err := settle("a/b/c", known, func(dir string) error {
			if durable[dir] && dir != "." {
				t.Errorf("%s counts as durable before %s is", dir, fails)
			}
			if dir == fails {
				return failed
			}
			return nil
		})
		if !errors.Is(err, failed) || len(settled) > 0 {
			t.Errorf("%s cannot be fsynced: %v %v", fails, settled, err)
		}
	}
	settled, err := settle("a/b/c", known, func(string) error { return nil })
	if err != nil || !slices.Equal(settled, []string{"a/b/c", "a/b", "a"}) {
		t.Errorf("%v %v", settled, err)
	}
}

// TestDirectoryMadeAgainIsSettledAgain: what another machine removed was durable, and what is made in its place is not.
func TestDirectoryMadeAgainIsSettledAgain(t *testing.T) {
	at, err := location.Parse(servers.SFTP(t).Dir(t))
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{at: at, dialer: remote.NewDialer(remote.Wire{})}
	st, other := remote.New(b, remote.Patience{}), Open(at, remote.Patience{})
	defer other.Close()
	defer st.Close()
	if err := st.PutIfAbsent(t.Context(), "a/b/c", strings.NewReader("x"), 1, store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := other.Delete(t.Context(), "a/b/c"); err != nil {
		t.Fatal(err)
	}
	s, err := b.connected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !s.durable["a/b"] || !s.durable["a"] {
		t.Fatalf("durable: %v", s.durable)
	}
	if err := b.mkdir(s, "a/b"); err != nil {
		t.Fatal(err)
	}
	if s.durable["a/b"] || s.durable["a"] {
		t.Errorf("a directory that was just made counts as durable: %v", s.durable)
	}
}

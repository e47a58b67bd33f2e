package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// Race lets two writers with a store each race for one key, 50 times or PGKEEP_ROUNDS: one wins, the other is told so, and
// what is stored is the winner's, whole.
func Race(t *testing.T, open func(t testing.TB) store.Store) {
	rounds := 50
	if n, err := strconv.Atoi(os.Getenv("PGKEEP_ROUNDS")); err == nil {
		rounds = n
	}
	writers := []store.Store{open(t), open(t)}
	for round := range rounds {
		key := fmt.Sprintf("race/%d/%d", round%7, round)
		errs := make([]error, len(writers))
		var wg sync.WaitGroup
		for w, st := range writers {
			wg.Go(func() {
				body := noise(10_000+round, uint64(w))
				errs[w] = st.PutIfAbsent(t.Context(), key, bytes.NewReader(body), int64(len(body)), store.PutOptions{})
			})
		}
		wg.Wait()
		winner, loser := 0, 1
		if errs[0] != nil {
			winner, loser = 1, 0
		}
		if errs[winner] != nil || !errors.Is(errs[loser], store.ErrExists) {
			t.Fatalf("round %d: %v and %v: one must win and one be told that the name is taken", round, errs[0], errs[1])
		}
		if !bytes.Equal(get(t, writers[loser], key, 0, -1), noise(10_000+round, uint64(winner))) {
			t.Fatalf("round %d: writer %d won, but the bytes are another's", round, winner)
		}
	}
	t.Logf("%d rounds, one winner in each", rounds)
}

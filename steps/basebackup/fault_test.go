package basebackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store"
	"github.com/pgkeep/pgkeep/state/repository/store/storetest"
)

// TestEveryPutFails lets each put of a backup fail, before it is carried out or after: the backup is committed, and then it is
// whole, or it is not, and then the caller is told.
func TestEveryPutFails(t *testing.T) {
	for _, after := range []bool{false, true} {
		total := 0
		for n := -1; n < total; n++ { // the first time none
			st := &storetest.Faulty{Store: storetest.NewMemory(time.Now)}
			repo, err := repository.Create(t.Context(), st, repository.CreateOptions{Now: testClock})
			check(t, err)
			puts := 0
			fail := func(c storetest.Call) error {
				if c.Method != "PutIfAbsent" {
					return nil
				}
				if puts++; puts == n+1 {
					return errors.New("the line was cut")
				}
				return nil
			}
			if after {
				st.After = fail
			} else {
				st.Before = fail
			}
			committed := streamed(t, repo)
			if n < 0 {
				total = puts
			}
			st.After, st.Before = nil, nil
			c := repo.Cluster("orders", "7335180256203400928")
			backups, err := c.Backups(t.Context())
			check(t, err)
			for _, b := range backups {
				if (b.State == state.BackupCommitted) != committed {
					t.Errorf("put %d, carried out %v: told %v, %s", n, after, committed, b.State)
				}
				if committed {
					check(t, c.VerifyBackup(t.Context(), b.ID, true, func(f repository.Finding) { t.Errorf("put %d: %+v", n, f) }))
				}
			}
		}
		if total < 8 {
			t.Errorf("%d puts", total)
		}
	}
}

// streamed takes one small backup from a stream, and tells whether it was committed.
func streamed(t *testing.T, repo *repository.Repository) bool {
	t.Helper()
	k := &taking{
		ctx: t.Context(), o: Options{Now: func() time.Time { return testClock }}, id: repository.NewBackupID(testClock, repository.KindFull, 7),
		version: 150018, dst: []*repository.Cluster{repo.Cluster("orders", "7335180256203400928")}, outcomes: make([]Outcome, 1),
		members: newMembers(), began: testClock,
	}
	defer k.endLeases()
	err := k.Begin(postgres.BackupStart{LSN: 0x3000028, Timeline: 1, Tablespaces: []postgres.BackupTablespace{{}}})
	if err == nil {
		err = k.Archive(postgres.BackupTablespace{}, bytes.NewReader(closed(stream(dir("base"), entry{name: "base/1", data: "one"}, entry{name: "backup_label", data: "label"}))))
	}
	if err == nil {
		err = k.Manifest(bytes.NewReader(manifestOf(t, map[string]string{"base/1": "one", "backup_label": "label"})))
	}
	if err != nil {
		k.abort(t.Context(), err)
		return false
	}
	_, err = k.commit(t.Context(), t.Context(), postgres.BackupResult{StopLSN: 0x3000100, Timeline: 1}, judgement{})
	return err == nil
}

// TestCutAnywhere ends the stream at every border of a member and inside each: nothing of it is ever taken as whole.
func TestCutAnywhere(t *testing.T) {
	whole := closed(stream(dir("base"), entry{name: "base/1", data: string(make([]byte, 1500))}, entry{name: "backup_label", data: "label"}))
	for cut := 0; cut < len(whole)-512; cut += 256 {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			k := newTaking(t, 150018)
			if err := k.Archive(postgres.BackupTablespace{}, bytes.NewReader(whole[:cut])); err == nil {
				t.Error("a stream that was cut was taken")
			}
		})
	}
}

// lying keeps other bytes than those that it is given, of one put, and says that all went well.
type lying struct {
	store.Store
	mu       sync.Mutex
	puts, at int
	key      string
}

func (l *lying) PutIfAbsent(ctx context.Context, key string, body io.ReaderAt, size int64, o store.PutOptions) error {
	l.mu.Lock()
	l.puts++
	lie := l.puts == l.at
	if lie {
		l.key = key
	}
	l.mu.Unlock()
	if !lie {
		return l.Store.PutIfAbsent(ctx, key, body, size, o)
	}
	b := make([]byte, size)
	if _, err := body.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	b[len(b)/2] ^= 4
	return l.Store.PutIfAbsent(ctx, key, bytes.NewReader(b), size, o)
}

// TestWrongBytesAreFound: a store that keeps wrong bytes of any put is found out: the backup is not committed, or verification
// names the object. A lease holds nothing.
func TestWrongBytesAreFound(t *testing.T) {
	found := 0
	for at := 3; ; at++ { // README.txt and REPOSITORY.json are put before
		st := &lying{Store: storetest.NewMemory(time.Now)}
		repo, err := repository.Create(t.Context(), st, repository.CreateOptions{Now: testClock})
		check(t, err)
		st.puts, st.at = 2, at
		streamed(t, repo)
		if st.key == "" {
			break
		}
		named := strings.HasPrefix(st.key, "lease/")
		check(t, repo.Verify(t.Context(), true, func(f repository.Finding) { named = named || f.Object == st.key }))
		if !named {
			t.Errorf("wrong bytes of put %d, %s, were not found", at, st.key)
		}
		found++
	}
	if found < 8 {
		t.Errorf("%d puts", found)
	}
	t.Logf("%d puts", found)
}

package torture

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

const synchronousHCL = `
repository "main" {
  path = "@DIR@/repository"
}

server "orders" {
  conninfo     = "%s"
  repositories = [repository.main]

  receiver {
    spool       = "@DIR@/spool"
    synchronous = true
    push_every  = "1h"
  }

  backup {
    checkpoint = "fast"
  }
}
`

// With the receiver in synchronous_standby_names nothing that was acknowledged is lost: server and receiver are killed
// under load, the server never comes back, and the copy that pgkeep recovers holds every commit that a client was told of.
func TestSynchronousRecoversEverything(t *testing.T) {
	for _, version := range pgtest.SomeVersions(t, 15) {
		t.Run(strconv.Itoa(version), func(t *testing.T) { synchronousRecoversEverything(t, version) })
	}
}

func synchronousRecoversEverything(t *testing.T, version int) {
	pg := pgtest.Start(t, pgtest.Options{Version: version})
	pg.Exec(t, "create table acknowledged (n bigint primary key)")
	base := fmt.Sprintf(synchronousHCL, pg.Conninfo())
	s := newSite(t, base)
	s.run(t, "apply", "--auto-approve")
	pg.Exec(t, "alter system set synchronous_standby_names = 'pgkeep_orders'")
	pg.Reload(t)
	j := journey{version: version, pg: pg, site: s}
	eventually(t, "a synchronous standby", func() bool {
		return pg.SQL(t, "select count(*) from pg_stat_replication where sync_state = 'sync'") == "1"
	})

	told := acknowledgedUnderLoad(t, pg, func() {
		receiver := j.receiver(t).PID
		if err := syscall.Kill(receiver, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // how long it hangs is the fault: commits that do not wait for it are lost
		pg.Kill9(t)
		if err := syscall.Kill(receiver, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	})
	eventually(t, "the receiver's end", func() bool { return !j.receiver(t).Running })

	s.configure(t, base+fmt.Sprintf(plainRecoveryHCL, owner(), pg.Bin))
	s.run(t, "recover", "all", "--yes", "--accept-loss") // the server is dead: nobody can say what else it wrote
	back := pgtest.StartDir(t, version, filepath.Join(s.dir, "all"), pgtest.Options{Version: version})
	defer back.Stop(t, "fast")
	awaitPromotion(t, back)
	has := strings.Fields(back.SQL(t, "select coalesce(string_agg(n::text, ' '), '') from acknowledged"))
	slices.Sort(has)
	lost := 0
	for _, n := range told {
		if _, found := slices.BinarySearch(has, n); !found {
			lost++
		}
	}
	t.Logf("%d commits were acknowledged, %d of them are lost; the copy holds %d", len(told), lost, len(has))
	if lost != 0 || len(told) == 0 {
		t.Errorf("lost %d of %d acknowledged commits", lost, len(told))
	}
}

const plainRecoveryHCL = `
recovery "all" {
  server = server.orders

  target {
    latest = true
    action = "promote"
  }

  destination {
    path   = "@DIR@/all"
    owner  = "%s"
    bindir = "%s"
  }
}
`

// acknowledgedUnderLoad commits numbers over four connections, breaks things once there are enough of them, and gives
// every number whose commit a client was told of.
func acknowledgedUnderLoad(t *testing.T, pg *pgtest.Server, breakIt func()) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var (
		mu     sync.Mutex
		told   []string
		enough = make(chan struct{})
		g      sync.WaitGroup
	)
	note := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, strconv.Itoa(n))
		if len(told) == 500 {
			close(enough)
		}
	}
	for client := range 4 {
		g.Go(func() {
			conn, err := pgx.Connect(ctx, pg.Conninfo())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(context.Background())
			for n := client; ctx.Err() == nil; n += 4 {
				if _, err := conn.Exec(ctx, "insert into acknowledged values ($1)", n); err != nil {
					return // the server is dead
				}
				note(n)
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Error("fewer than 500 commits in a minute")
	}
	breakIt()
	g.Wait()
	return told
}

package torture_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
	"github.com/pgkeep/pgkeep/steps/receive"
)

// refusedSite is a site whose receiver runs in this process, as a role that may do no more than it must.
type refusedSite struct {
	*site
	tries attempts
	leave func() error // ends the session that a shutdown waits for
}

// refusal is one way in which a server that was fine does not take the receiver any more.
type refusal struct {
	code  state.Code
	cause func(t *testing.T, x *refusedSite)
	cure  func(t *testing.T, x *refusedSite)
}

func sql(text string) func(*testing.T, *refusedSite) {
	return func(t *testing.T, x *refusedSite) {
		for _, s := range strings.Split(text, ";") {
			x.server.Exec(t, s)
		}
	}
}

// hba puts lines before those that trust everybody local.
func hba(lines string) func(*testing.T, *refusedSite) {
	return func(t *testing.T, x *refusedSite) {
		x.server.WriteFile(t, "pg_hba.conf", lines+"\nlocal all all trust\nhost all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n")
		x.server.Reload(t)
	}
}

// sslmode makes the receiver ask for another encryption from its next connection on.
func sslmode(mode string) func(*testing.T, *refusedSite) {
	return func(_ *testing.T, x *refusedSite) {
		x.tries.mu.Lock()
		defer x.tries.mu.Unlock()
		before, _, _ := strings.Cut(x.tries.conninfo, " sslmode=")
		x.tries.conninfo = before + " sslmode=" + mode
	}
}

func refusals() map[string]refusal {
	return map[string]refusal{
		"password rotated":    {state.CodePassword, sql("alter role least password 'new'"), sql("alter role least password 'old'")},
		"no REPLICATION":      {state.CodeRole, sql("alter role least noreplication"), sql("alter role least replication")},
		"no LOGIN":            {state.CodeRole, sql("alter role least nologin"), sql("alter role least login")},
		"hba rejects":         {state.CodeHBA, hba("host replication least 127.0.0.1/32 reject"), hba("")},
		"TLS is asked for":    {state.CodeTLS, sslmode("require"), sslmode("disable")},
		"walsenders used up":  {state.CodeTooMany, useWalsenders, freeWalsenders},
		"the server is down":  {state.CodeUnreachable, func(t *testing.T, x *refusedSite) { x.server.Stop(t, "immediate") }, func(t *testing.T, x *refusedSite) { x.server.StartAgain(t) }},
		"the server recovers": {state.CodeStarting, recovering, recovered},
		"the server ends":     {state.CodeStarting, ending, hasEnded},
	}
}

// Fault A15: each refusal has its code and a hint, is tried again at most once a second, and ends by itself when its
// cause does.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, r := range refusals() {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { t.Parallel(); refused(t, r) })
	}
}

func refused(t *testing.T, r refusal) {
	x := &refusedSite{site: newSite(t, pgtest.Options{SegmentMB: 1, Settings: map[string]string{"max_wal_senders": "2", "wal_sender_timeout": "2s"}})}
	x.server.Exec(t, "create role least login replication password 'old'")
	hba("")(t, x)
	x.o.Conninfo = fmt.Sprintf("host=127.0.0.1 port=%d user=least password=old dbname=postgres sslmode=disable", x.server.Port)
	o := x.counted()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- receive.Run(ctx, o) }()
	t.Cleanup(cancel)
	x.write(500)
	x.awaitArchived(x.flushed())

	r.cause(t, x)
	_, _ = x.server.Try("select pg_terminate_backend(pid) from pg_stat_replication where application_name = '" + slotName + "'")
	await(t, "it says why", func() bool { return x.hasProblem(r.code) })
	x.tries.forget()
	began := time.Now()
	time.Sleep(5 * time.Second) // how often it tries meanwhile is what is measured
	await(t, "it tried again", func() bool { n, _ := x.tries.seen(); return n >= 2 })
	n, shortest := x.tries.seen()
	took := time.Since(began)
	now := x.look().Receiver
	if now.Problem == nil || now.Problem.Code != r.code || now.Streaming {
		t.Fatalf("after %s: %+v", took, now)
	}
	p := *now.Problem
	if n > 2+int(took/time.Second) || shortest < time.Second {
		t.Errorf("%d tries in %s, the shortest pause is %s", n, took, shortest)
	}
	r.cure(t, x)
	x.write(500)
	x.awaitArchived(x.flushed())
	t.Logf("%s: %s\n→ %s\n%d tries in %s", p.Code, p.Text, p.Hint, n, took)
	if strings.Contains(p.Text+p.Hint, "old") || strings.Contains(p.Text+p.Hint, "new'") {
		t.Error("the password is told")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("the receiver ended with %v", err)
	}
}

// attempts are the moments at which a receiver tried to connect, and how.
type attempts struct {
	mu       sync.Mutex
	conninfo string
	at       []time.Time
}

// forget is about what was before the fault.
func (a *attempts) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = nil
}

// seen tells how often it was tried, and the shortest pause.
func (a *attempts) seen() (n int, shortest time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	shortest = time.Hour
	for i := 1; i < len(a.at); i++ {
		shortest = min(shortest, a.at[i].Sub(a.at[i-1]))
	}
	return len(a.at), shortest
}

func (a *attempts) next() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
	return a.conninfo
}

// counted gives the options of a receiver whose tries to connect are noted.
func (x *refusedSite) counted() receive.Options {
	x.tries.conninfo = x.o.Conninfo
	o := x.o.options(nil)
	o.Connect = func(ctx context.Context) (*postgres.Replication, error) {
		c, err := postgres.ParseConninfo(x.tries.next(), nil, nil)
		if err != nil {
			return nil, err
		}
		return postgres.ConnectReplication(ctx, c, postgres.ConnectOptions{ApplicationName: slotName, Timeout: patience})
	}
	return o
}

// useWalsenders takes every walsender for base backups that nobody reads.
func useWalsenders(t *testing.T, x *refusedSite) {
	x.server.Exec(t, "select pg_terminate_backend(pid) from pg_stat_replication")
	super, err := postgres.ParseConninfo(x.server.Conninfo(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	hba("host replication postgres 127.0.0.1/32 trust")(t, x)
	await(t, "all walsenders are in use by others", func() bool {
		x.server.Exec(t, "select pg_terminate_backend(pid) from pg_stat_replication where application_name = '"+slotName+"'")
		r, err := postgres.ConnectReplication(t.Context(), super, postgres.ConnectOptions{ApplicationName: "other", Timeout: patience})
		if err == nil {
			t.Cleanup(func() { _ = r.Close() })
		}
		return x.server.SQL(t, "select count(*) from pg_stat_activity where backend_type = 'walsender' and application_name = 'other'") == "2"
	})
}

func freeWalsenders(t *testing.T, x *refusedSite) {
	x.server.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender' and application_name = 'other'")
}

// recovering restarts the server as a standby that takes no connections.
func recovering(t *testing.T, x *refusedSite) {
	x.server.Exec(t, "alter system set hot_standby = off")
	x.server.Stop(t, "immediate")
	x.server.WriteFile(t, "standby.signal", "")
	x.server.StartAgain(t)
}

func recovered(t *testing.T, x *refusedSite) {
	x.server.Stop(t, "immediate")
	if err := os.Remove(filepath.Join(x.server.DataDir, "standby.signal")); err != nil {
		t.Fatal(err)
	}
	x.server.StartAgain(t)
	await(t, "the server takes connections", func() bool { _, err := x.server.Try("select 1"); return err == nil })
}

// ending begins a shutdown that waits for a session which stays.
func ending(t *testing.T, x *refusedSite) {
	hba("host all postgres 127.0.0.1/32 trust")(t, x)
	super, err := postgres.ParseConninfo(x.server.Conninfo(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	stays, err := postgres.Connect(t.Context(), super, postgres.ConnectOptions{ApplicationName: "stays"})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := strconv.Atoi(x.streaming()[0])
	if err != nil {
		t.Fatal(err)
	}
	x.server.Signal(t, syscall.SIGTERM)
	if err := stays.TerminateBackend(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	x.t.Cleanup(func() { _ = stays.Close() })
	x.leave = stays.Close
}

func hasEnded(t *testing.T, x *refusedSite) {
	if err := x.leave(); err != nil {
		t.Fatal(err)
	}
	<-x.server.Done()
	x.server.StartAgain(t)
}

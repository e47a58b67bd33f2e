package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

const realHCL = `
repository "main" {
  path = %q
}

server "orders" {
  conninfo     = %q
  repositories = [repository.main]

  receiver {
    spool = %q
  }

  backup {
    checkpoint = "fast"
  }
}
`

// TestAgentProtectsARealServer runs the whole agent on a server that nobody protects, kills its walsender, and ends it.
func TestAgentProtectsARealServer(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Version: pgtest.Versions(t)[0]})
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(realHCL, filepath.Join(dir, "repository"), pg.Conninfo(), filepath.Join(dir, "spool"))
	if err := os.WriteFile(filepath.Join(config, "site.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func() (*hclspec.Spec, hcl.Diagnostics) {
		return hclspec.Load(os.DirFS(config), ".", hclspec.LoadOptions{Hostname: "here"})
	}
	spec, diags := load()
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	ctx, end := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- Run(ctx, Options{
			Load: load, Host: "here", LockDir: filepath.Join(dir, "lock"), Resync: time.Second, AllowVolatileSpool: true, Log: slog.New(slog.DiscardHandler),
		})
	}()
	protected := func() bool {
		seen := observe.World(t.Context(), spec, observe.Options{Host: "here", LockDir: filepath.Join(dir, "lock"), Timeout: enough})
		p, _ := plan.Build(spec, seen, time.Now().UTC(), plan.Options{})
		return len(p.Steps) == 0 && seen.Receivers["orders"].Agent && streams(seen)
	}
	await(t, "the server is protected", protected)
	pg.Exec(t, "select pg_terminate_backend(active_pid) from pg_replication_slots where active")
	await(t, "it streams again", protected)
	end()
	if err := <-over; err != nil {
		t.Errorf("the agent ended with %v", err)
	}
	seen := observe.World(t.Context(), spec, observe.Options{Host: "here", Timeout: enough})
	if r := seen.Receivers["orders"]; r.Running {
		t.Errorf("its receiver runs on: %+v", r)
	}
}

func streams(seen state.Observation) bool {
	for _, s := range seen.Servers["orders"].Slots {
		if s.Active {
			return true
		}
	}
	return false
}

// enough bounds what only a test that fails waits for.
const enough = 10 * time.Minute

// await asks until it is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(enough); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", enough, what)
		}
	}
}

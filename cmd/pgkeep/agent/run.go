package agent

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
)

// Options are what the agent needs.
type Options struct {
	// Load reads the configuration; called at the start and on every Reload.
	Load    func() (*hclspec.Spec, hcl.Diagnostics)
	Reload  <-chan struct{} // a value for each SIGHUP
	Log     *slog.Logger
	Resync  time.Duration // how long the agent sleeps at most; default 1 minute
	Host    string        // this machine; empty: asked
	Env     map[string]string
	Program string // pgkeep's own path
	Version string
}

// Run keeps the world as the configuration says until ctx ends; then it stops its receivers tidily and returns nil. It
// fails only when the first configuration cannot be used.
func Run(ctx context.Context, o Options) error { return errors.New("not built yet") }

package observe

import (
	"context"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// Options bound one look. The zero value looks at everything with the defaults.
type Options struct {
	Host       string            // this machine's name; empty: asked
	Now        time.Time         // this machine's clock when the look begins; zero: read
	Env        map[string]string // what conninfo may use of the environment; never PG*
	Timeout    time.Duration     // for each server and each repository; default 10 s
	Parallel   int               // how many are asked at once; default 16
	Recoveries []string          // labels of recoveries that are asked for: their destinations and targets are looked at
}

// World looks at everything that the spec names.
func World(ctx context.Context, spec *hclspec.Spec, o Options) state.Observation {
	return state.Observation{Version: state.ObservationVersion, At: o.Now, Host: o.Host}
}

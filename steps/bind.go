package steps

import (
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
)

// BindOptions are what the real world needs beside the configuration.
type BindOptions struct {
	Host      string            // this machine; empty: asked
	Env       map[string]string // what conninfo may use of the environment
	Program   string            // pgkeep's own path, for detached receivers and restore_command
	Args      []string          // arguments that make a detached receiver read the same configuration
	LockDir   string            // directory of this machine's locks; empty: host.LockDir()
	Who       string            // user@host
	Version   string
	Receivers Receivers // the agent's own; nil: detached processes
	Now       func() time.Time
}

// Bind gives the real world of a configuration. It connects to nothing until a step asks.
func Bind(spec *hclspec.Spec, o BindOptions) World { return World{} }

package steps

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/open"
)

// BindOptions are what the real world needs beside the configuration.
type BindOptions struct {
	Host      string            // this machine; empty: asked
	Env       map[string]string // what conninfo may use of the environment (HOME); PG* never counts
	Program   string            // pgkeep's own path, for detached receivers and restore_command; empty: this program
	Args      []string          // of `pgkeep receiver run NAME`, so that it reads the same configuration; no secrets
	Input     []byte            // what that process reads from its standard input: variables, which can be secrets; nil: nothing
	LockDir   string            // directory of this machine's locks; empty: host.LockDir()
	Who       string            // user@host; empty: asked
	Version   string            // of pgkeep
	Receivers Receivers         // the agent's own; nil: detached processes
	Stores    *open.Stores      // of this process, so that one max_rate bounds all that it does; nil: of each Bind
	Now       func() time.Time  // nil: time.Now
	// AllowVolatileSpool accepts a spool on tmpfs. It is for tests only.
	AllowVolatileSpool bool
}

// Sharing gives the options with stores of their own: what is bound with them, and looks that are given them, share one rate.
func (o BindOptions) Sharing() BindOptions {
	o.Stores = &open.Stores{}
	return o
}

func (o BindOptions) withDefaults() BindOptions {
	if o.Host == "" {
		o.Host, _ = host.Name() // an unknown name matches only blocks without `host`
	}
	if o.Who == "" {
		o.Who = host.Who()
	}
	if o.LockDir == "" {
		o.LockDir = host.LockDir()
	}
	if o.Program == "" {
		o.Program, _ = os.Executable() // starting it tells what is wrong with an empty path
	}
	if o.Stores == nil {
		o.Stores = &open.Stores{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Bind gives the real world of a configuration. It connects to nothing and opens nothing until a step asks.
func Bind(spec *hclspec.Spec, o BindOptions) World {
	o = o.withDefaults()
	r := real{spec: spec, o: o, budget: repository.NewBudget(transferBudget)}
	w := World{
		Servers:       realServers{r},
		Repositories:  realRepositories{r},
		Receivers:     o.Receivers,
		Backups:       realBackups{r},
		Recoveries:    realRecoveries{r},
		Spools:        realSpools{r},
		Verifications: realVerifications{r},
		Copies:        realCopies{r},
		Drills:        realDrills{r},
		Locks:         realLocks{r},
		Journal:       realJournal{r},
	}
	if w.Receivers == nil {
		w.Receivers = detachedReceivers{r}
	}
	return w
}

// transferBudget bounds the bytes in flight of all backups of this process together.
const transferBudget = 96 << 20

// real is what the bindings share.
type real struct {
	spec   *hclspec.Spec
	o      BindOptions
	budget *repository.Budget
}

func (r real) server(name string) (*hclspec.Server, error) {
	i := slices.IndexFunc(r.spec.Servers, func(s hclspec.Server) bool { return s.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("find server %q: the configuration has none of that name", name)
	}
	return &r.spec.Servers[i], nil
}

func (r real) repository(label string) (*hclspec.Repository, error) {
	i := slices.IndexFunc(r.spec.Repositories, func(x hclspec.Repository) bool { return x.Name == label })
	if i < 0 {
		return nil, fmt.Errorf("find repository %q: the configuration has none of that name", label)
	}
	return &r.spec.Repositories[i], nil
}

// conninfo gives how to connect to a server, also to one that a `removed` block still knows.
func (r real) conninfo(name string) (postgres.Conninfo, error) {
	var secret hclspec.Secret
	if s, err := r.server(name); err == nil {
		secret = s.Conninfo
	} else {
		i := slices.IndexFunc(r.spec.Removed, func(x hclspec.Removed) bool { return x.Name == name })
		if i < 0 {
			return postgres.Conninfo{}, err
		}
		secret = r.spec.Removed[i].Conninfo
	}
	return postgres.ParseConninfo(secret.Reveal(), r.o.Env, osFiles{})
}

// osFiles reads service and password files of this machine.
type osFiles struct{}

func (osFiles) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

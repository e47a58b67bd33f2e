package observe

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository/store/open"
)

// Options bound one look. The zero value looks at everything with the defaults.
type Options struct {
	Host              string               // this machine's name; empty: asked
	Now               time.Time            // this machine's clock when the look begins; zero: read
	Env               map[string]string    // what conninfo may use of the environment (HOME); PG* never counts
	Timeout           time.Duration        // for each server, spool and destination; default 10 s
	RepositoryTimeout time.Duration        // for each repository, whose catalogue can be long; default 60 s
	Parallel          int                  // how many are asked at once; default 16
	LockDir           string               // this machine's locks, which tell live writers from dead ones; empty: host.LockDir()
	Journal           bool                 // also what the newest journal entry of each server remembers
	Recoveries        []hclspec.Recovery   // those that are asked for: their destinations and targets are looked at
	Backup            string               // id of the backup that the recoveries start from; empty: the newest that reaches the target
	Walsenders        bool                 // each server is also asked over a replication connection, which needs a free walsender
	Stores            *open.Stores         // of this process, which share max_rate; nil: none is shared
	Only              func(kind Kind) bool // leaves out what nobody wants to know; nil: everything
}

// Kind is a part of the world.
type Kind string

// The parts of the world.
const (
	Servers      Kind = "servers"
	Repositories Kind = "repositories"
	Spools       Kind = "spools" // with the receivers that write them
)

func (o Options) withDefaults() Options {
	if o.Host == "" {
		o.Host, _ = host.Name() // an unknown name matches only blocks without `host`
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.RepositoryTimeout <= 0 {
		o.RepositoryTimeout = time.Minute
	}
	if o.Parallel <= 0 {
		o.Parallel = 16
	}
	if o.LockDir == "" {
		o.LockDir = host.LockDir()
	}
	if o.Only == nil {
		o.Only = func(Kind) bool { return true }
	}
	return o
}

// World looks at everything that the spec names. It never fails: what could not be seen is unknown, and says why.
func World(ctx context.Context, spec *hclspec.Spec, o Options) state.Observation {
	o = o.withDefaults()
	l := &look{spec: spec, o: o, slots: make(chan struct{}, o.Parallel)}
	l.seen = state.Observation{Version: state.ObservationVersion, At: o.Now.UTC(), Host: o.Host}
	if o.Only(Servers) {
		l.servers(ctx)
	}
	if o.Only(Repositories) {
		l.repositories(ctx)
	}
	if o.Only(Spools) {
		l.spools(ctx)
	}
	l.all.Wait()
	l.absentAgain(ctx)
	l.scratches(ctx)
	l.recoveries(ctx)
	return l.seen
}

// look is one World. What it has seen is written under mu.
type look struct {
	spec  *hclspec.Spec
	o     Options
	slots chan struct{}
	all   sync.WaitGroup
	mu    sync.Mutex
	seen  state.Observation
}

// question is one thing that is looked at beside the others: how long it may take, what is seen, and what stands in its
// place when it is late.
type question[T any] struct {
	limit time.Duration
	see   func(context.Context) T
	late  func(error) T
	store func(T) // called under the look's lock
}

// ask asks a question, bounded in number and time. A file system that hangs cannot be interrupted: then late stands in
// its place, and its goroutine is left to end by itself.
func ask[T any](ctx context.Context, l *look, q question[T]) {
	l.all.Go(func() {
		l.slots <- struct{}{}
		defer func() { <-l.slots }()
		ctx, stop := context.WithTimeout(ctx, q.limit)
		defer stop()
		answer := make(chan T, 1)
		go func() { answer <- q.see(ctx) }()
		v := await(ctx, answer, q.late)
		l.mu.Lock()
		defer l.mu.Unlock()
		q.store(v)
	})
}

// await waits for the answer, and a second longer than the limit, for one that tells of the limit itself.
func await[T any](ctx context.Context, answer <-chan T, late func(error) T) T {
	select {
	case v := <-answer:
		return v
	case <-ctx.Done():
	}
	grace := time.NewTimer(time.Second)
	defer grace.Stop()
	select {
	case v := <-answer:
		return v
	case <-grace.C:
		return late(ctx.Err())
	}
}

// unknown turns a failure into a value. Its text is the error's, which never holds a secret.
func unknown(err error) *state.Unknown {
	code := state.CodeOf(err)
	switch {
	case code != "":
	case errors.Is(err, os.ErrPermission):
		code = state.CodePermission
	default:
		code = state.CodeIO
	}
	hint := state.HintOf(err)
	if hint == "" {
		hint = ownHint(err)
	}
	return &state.Unknown{Code: code, Because: err.Error(), Hint: hint}
}

// ownHint says what to look at where the operating system refused; empty: nothing better is known than what it said.
func ownHint(err error) string {
	var p *fs.PathError
	if !errors.As(err, &p) {
		return ""
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "run pgkeep as the user who owns it; which directory refuses: namei -l " + p.Path
	case errors.Is(err, syscall.ENOTDIR):
		return "it is a file, or lies below one: namei -l " + p.Path + "; then name a directory"
	}
	return "look at it, and at this machine's log (dmesg): ls -ld " + p.Path
}

// otherHost is what stands in the place of all that lives on another machine: the same path here is another directory.
func otherHost(what, there, here string) *state.Unknown {
	return &state.Unknown{
		Code:    state.CodeOtherHost,
		Because: what + " is on " + there + ", and this is " + here,
		Hint:    "run pgkeep on " + there,
	}
}

package observe

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/spool"
)

// spools looks at every server's spool and at the receiver that writes it, in one look.
func (l *look) spools(ctx context.Context) {
	l.seen.Spools = map[string]state.Spool{}
	l.seen.Receivers = map[string]state.Receiver{}
	l.removedSpools(ctx)
	for _, s := range l.spec.Servers {
		if !host.IsHere(s.Receiver.Host, l.o.Host) {
			l.mu.Lock()
			l.keep(s, spoolUnknown(s, otherHost("the receiver of "+s.Name, s.Receiver.Host, l.o.Host)))
			l.mu.Unlock()
			continue
		}
		late := func(err error) spool.Facts {
			return spoolUnknown(s, &state.Unknown{
				Code:    state.CodeIO,
				Because: fmt.Sprintf("the spool %s did not answer within %s: %v", s.Receiver.Spool, l.o.Timeout, err),
				Hint:    "look whether its file system hangs: ls " + s.Receiver.Spool,
			})
		}
		ask(ctx, l, question[spool.Facts]{
			limit: l.o.Timeout, late: late,
			see:   func(context.Context) spool.Facts { return askSpool(s) },
			store: func(f spool.Facts) { l.keep(s, f) },
		})
	}
}

// standardSpool is where receivers write that were given no other directory.
const standardSpool = "/var/lib/pgkeep/spool"

// SpoolDir gives the directory of spools in which a server's is. Where a `removed` block does not say where that was, it
// is looked for in the directories that other servers use, and in the standard one; empty when it is in none.
func SpoolDir(spec *hclspec.Spec, server string) string {
	places := []string{standardSpool}
	for _, r := range spec.Removed {
		if r.Name == server && r.Spool != "" {
			places = []string{r.Spool}
		}
	}
	for _, s := range spec.Servers {
		if s.Name == server {
			return s.Receiver.Spool
		}
		if !slices.Contains(places, s.Receiver.Spool) {
			places = append(places, s.Receiver.Spool)
		}
	}
	for _, dir := range places {
		if at, err := host.LookAt(filepath.Join(dir, server)); err == nil && at.IsDir {
			return dir
		}
	}
	return ""
}

// removedSpools looks at what servers of `removed` blocks left on this machine: a receiver of theirs may run on.
func (l *look) removedSpools(ctx context.Context) {
	for _, r := range l.spec.Removed {
		dir := SpoolDir(l.spec, r.Name)
		if dir == "" {
			continue
		}
		s := hclspec.Server{Name: r.Name, Receiver: hclspec.Receiver{Spool: dir}}
		ask(ctx, l, question[spool.Facts]{
			limit: l.o.Timeout,
			see:   func(context.Context) spool.Facts { return askSpool(s) },
			late:  func(err error) spool.Facts { return spoolUnknown(s, unknown(err)) },
			store: func(f spool.Facts) { l.keep(s, f) },
		})
	}
}

func (l *look) keep(s hclspec.Server, f spool.Facts) {
	l.seen.Spools[s.Name], l.seen.Receivers[s.Name] = f.Spool, f.Receiver
}

func askSpool(s hclspec.Server) spool.Facts {
	facts, err := spool.Look(s.Receiver.Spool, s.Name)
	if err != nil {
		return spoolUnknown(s, unknown(err))
	}
	return facts
}

func spoolUnknown(s hclspec.Server, why *state.Unknown) spool.Facts {
	return spool.Facts{
		Spool:    state.Spool{Path: s.Receiver.Spool, Unknown: why},
		Receiver: state.Receiver{Unknown: why},
	}
}

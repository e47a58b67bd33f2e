package observe

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

func (l *look) repositories(ctx context.Context) {
	l.seen.Repositories = map[string]state.Repository{}
	for _, x := range l.spec.Repositories {
		location := x.Path + x.URL // exactly one is set
		if !host.IsHere(x.Host, l.o.Host) {
			what := fmt.Sprintf("repository %q", x.Name)
			l.seen.Repositories[x.Name] = state.Repository{Location: location, Unknown: otherHost(what, x.Host, l.o.Host)}
		}
	}
	for _, x := range l.spec.Repositories {
		if host.IsHere(x.Host, l.o.Host) {
			l.repository(ctx, x)
		}
	}
}

func (l *look) repository(ctx context.Context, x hclspec.Repository) {
	late := func(err error) state.Repository {
		return state.Repository{Location: x.Path, Unknown: &state.Unknown{
			Code:    state.CodeIO,
			Because: fmt.Sprintf("repository %q did not answer within %s: %v", x.Name, l.o.RepositoryTimeout, err),
			Hint:    "look whether its file system hangs: ls " + x.Path,
		}}
	}
	ask(ctx, l, l.o.RepositoryTimeout,
		func(ctx context.Context) state.Repository { return l.askRepository(ctx, x) },
		late, func(r state.Repository) { l.seen.Repositories[x.Name] = r })
}

func (l *look) askRepository(ctx context.Context, x hclspec.Repository) state.Repository {
	st, err := file.Open(x.Path, file.Options{})
	if err != nil {
		return state.Repository{Location: x.Path, Unknown: unknown(err)}
	}
	defer st.Close()
	return repository.Look(ctx, st, repository.ObserveOptions{Location: x.Path, WriterAlive: l.writerAlive})
}

// writerAlive tells whether the process that writes a backup lives: it holds a lock on the machine that START names.
// From any other machine that cannot be known.
func (l *look) writerAlive(machine string, _ repository.ClusterKey, id string) (alive, known bool) {
	if !host.IsHere(machine, l.o.Host) {
		return false, false
	}
	held, err := host.IsLocked(host.BackupLock(l.o.LockDir, id))
	return held, err == nil
}

// doubtAbsent looks at repositories that are absent or empty: where a slot or a spool shows that WAL was received for
// them before, it is not a new repository that is missing but a mount.
func (l *look) doubtAbsent() {
	for label, r := range l.seen.Repositories {
		if r.Unknown == nil || r.Unknown.Code != state.CodeAbsent {
			continue
		}
		if evidence := l.existed(label); evidence != "" {
			r.Unknown = &state.Unknown{
				Code:    state.CodeNotMounted,
				Because: fmt.Sprintf("%s holds no repository, and %s", r.Location, evidence),
				Hint:    "mount it; or, if it is gone for good, name the step: pgkeep repository create " + label,
			}
			l.seen.Repositories[label] = r
		}
	}
}

// existed gives the evidence that there was a repository; empty when there is none. A server of which another repository
// holds something proves nothing about this one: it may have been added yesterday.
func (l *look) existed(label string) string {
	for _, s := range l.spec.Servers {
		if !slices.Contains(s.Repositories, label) || l.keptElsewhere(s) {
			continue
		}
		if spool := l.seen.Spools[s.Name]; spool.Unknown == nil && spool.Durable != 0 {
			return fmt.Sprintf("the spool %s has WAL of %s up to %s", spool.Path, s.Name, spool.Durable)
		}
		seen := l.seen.Servers[s.Name]
		if i := slices.IndexFunc(seen.Slots, func(x state.Slot) bool { return x.Name == s.Slot.Name }); i >= 0 && seen.Slots[i].RestartLSN != 0 {
			return fmt.Sprintf("server %s has slot %q at %s already", s.Name, s.Slot.Name, seen.Slots[i].RestartLSN)
		}
	}
	return ""
}

func (l *look) keptElsewhere(s hclspec.Server) bool {
	return slices.ContainsFunc(s.Repositories, func(label string) bool {
		r, asked := l.seen.Repositories[label]
		return asked && r.Unknown == nil
	})
}

package observe

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal/keyfile"
)

func (l *look) repositories(ctx context.Context) {
	l.seen.Repositories = map[string]state.Repository{}
	for _, x := range l.spec.Repositories {
		if !host.IsHere(x.Host, l.o.Host) {
			what := fmt.Sprintf("repository %q", x.Name)
			l.seen.Repositories[x.Name] = state.Repository{Location: x.Location(), Unknown: otherHost(what, x.Host, l.o.Host)}
		}
	}
	for _, x := range l.spec.Repositories {
		if host.IsHere(x.Host, l.o.Host) {
			l.repository(ctx, x)
		}
	}
}

// absentAgain looks at repositories that were absent once more, after everything else: another pgkeep may have made one
// meanwhile and then a slot, and what was seen must not tell of a slot from before its repository.
func (l *look) absentAgain(ctx context.Context) {
	for _, x := range l.spec.Repositories {
		if u := l.seen.Repositories[x.Name].Unknown; u != nil && u.Code == state.CodeAbsent {
			l.repository(ctx, x)
		}
	}
	l.all.Wait()
}

func (l *look) repository(ctx context.Context, x hclspec.Repository) {
	late := func(err error) state.Repository {
		return state.Repository{Location: x.Location(), Unknown: &state.Unknown{
			Code:    state.CodeIO,
			Because: fmt.Sprintf("repository %q did not answer within %s: %v", x.Name, l.o.RepositoryTimeout, err),
			Hint:    hanging(x),
		}}
	}
	ask(ctx, l, question[state.Repository]{
		limit: l.o.RepositoryTimeout, late: late,
		see:   func(ctx context.Context) state.Repository { return l.askRepository(ctx, x) },
		store: func(r state.Repository) { l.seen.Repositories[x.Name] = r },
	})
}

func (l *look) askRepository(ctx context.Context, x hclspec.Repository) state.Repository {
	st, err := l.o.Stores.Open(x.Location())
	if err != nil {
		return state.Repository{Location: x.Location(), Unknown: unknown(err)}
	}
	defer st.Close()
	keys, err := keyfile.Ring(ctx, x.Encryption)
	if err != nil {
		return state.Repository{Location: x.Location(), Free: -1, Total: -1, Unknown: unknown(err)}
	}
	if l.o.Journal {
		l.remember(ctx, st, keys)
	}
	return repository.Look(ctx, st, repository.ObserveOptions{
		Location: x.Location(), Keys: keys, Now: l.o.Now, WriterAlive: repository.LockedWriters(l.o.LockDir, l.o.Host, host.Machine()), Locks: x.ObjectLock.Mode != "",
	})
}

// hanging says where to look when a repository does not answer.
func hanging(x hclspec.Repository) string {
	if x.Path == "" {
		return "look whether its service can be reached from here, and whether a proxy stands between"
	}
	return "look whether its file system hangs: ls " + x.Path
}

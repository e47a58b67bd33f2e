package observe

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/seal/keyfile"
	"github.com/pgkeep/pgkeep/state/repository/store/open"
)

// target asks the repositories of a recovery's server, one after the other, until one proves that the target can be
// reached. When none does, the last answer stands.
func (l *look) target(ctx context.Context, r hclspec.Recovery) {
	limit := l.o.RepositoryTimeout
	late := func(err error) state.TargetFact {
		return state.TargetFact{Unknown: &state.Unknown{
			Code:    state.CodeIO,
			Because: fmt.Sprintf("finding the target of %s took longer than %s: %v", r.Name, limit, err),
			Hint:    "look whether the repository's file system hangs",
		}}
	}
	sources := l.sources(r.Server)
	receiver := l.receiverOf(r.Server)
	asked := TargetOptions{Target: r.Target, Receiver: receiver, Now: l.o.Now, Backup: l.o.Backup}
	see := func(ctx context.Context) state.TargetFact { return askAll(sources, r.Server, asked, asking(ctx)) }
	store := func(fact state.TargetFact) { l.seen.Targets[r.Name] = fact }
	ask(ctx, l, question[state.TargetFact]{limit: limit, see: see, late: late, store: store})
}

// askAll asks the sources for a target. All of them go to the newest timeline that any of them knows: one that was away
// during a failover knows the branch alone that was left. The latest moment is that of the one which goes farthest.
func askAll(sources []source, server string, o TargetOptions, ask func(source, TargetOptions) state.TargetFact) state.TargetFact {
	best := state.TargetFact{Unknown: &state.Unknown{
		Code:    state.CodeTarget,
		Because: "no repository that was seen holds anything of " + server,
		Hint:    "pgkeep status",
	}}
	for _, s := range sources {
		o.Newest = max(o.Newest, newestTimeline(s.cluster))
	}
	for _, s := range sources {
		fact := ask(s, o)
		if !best.Reachable || fact.Reachable && fact.End > best.End {
			best = fact
		}
		if best.Reachable && !o.Target.Latest {
			break
		}
	}
	return best
}

func asking(ctx context.Context) func(source, TargetOptions) state.TargetFact {
	return func(s source, o TargetOptions) state.TargetFact { return s.ask(ctx, o) }
}

// TargetOf tells what the archived WAL proves about the target of a recovery in a world that was seen already. Its
// destination is not looked at.
func TargetOf(ctx context.Context, spec *hclspec.Spec, seen state.Observation, r hclspec.Recovery, o Options) state.TargetFact {
	l := &look{spec: spec, o: o.withDefaults(), seen: seen}
	asked := TargetOptions{Target: r.Target, Receiver: l.receiverOf(r.Server), Now: l.o.Now, Backup: l.o.Backup}
	return askAll(l.sources(r.Server), r.Server, asked, asking(ctx))
}

// source is one repository's cluster in which a target is looked for.
type source struct {
	label    string
	path     string // of a directory; empty: the location is a URL
	location string
	keys     *hclspec.Encryption // nil: nothing is encrypted
	cluster  state.Cluster
	stores   *open.Stores
}

// sources gives what was seen of a server: in its own repositories, or in all of them when the configuration no longer
// knows it.
func (l *look) sources(server string) []source {
	i := slices.IndexFunc(l.spec.Servers, func(s hclspec.Server) bool { return s.Name == server })
	var out []source
	for _, x := range l.spec.Repositories {
		if i >= 0 && !slices.Contains(l.spec.Servers[i].Repositories, x.Name) || !host.IsHere(x.Host, l.o.Host) {
			continue
		}
		seen := l.seen.Repositories[x.Name]
		if c, ok := l.clusterOf(seen, server); ok && seen.Unknown == nil {
			out = append(out, source{label: x.Name, path: x.Path, location: x.Location(), keys: x.Encryption, cluster: c, stores: l.o.Stores})
		}
	}
	return out
}

// clusterOf gives the cluster of the system identifier that the server has now; of a server that did not answer, the one
// whose newest backup is the newest.
func (l *look) clusterOf(r state.Repository, server string) (state.Cluster, bool) {
	var best state.Cluster
	found := false
	for _, c := range r.Clusters[server] {
		if c.SystemID == l.seen.Servers[server].SystemID {
			return c, true
		}
		if !found || newestID(c) > newestID(best) {
			best, found = c, true
		}
	}
	return best, found
}

// newestID gives the id of the newest backup; ids begin with their time.
func newestID(c state.Cluster) string {
	if len(c.Backups) == 0 {
		return ""
	}
	return c.Backups[len(c.Backups)-1].ID
}

// receiverOf gives the server's receiver when it was seen: it proves that a server was silent.
func (l *look) receiverOf(server string) *state.Receiver {
	r, ok := l.seen.Receivers[server]
	if !ok || r.Unknown != nil {
		return nil
	}
	return &r
}

// open opens the source's repository.
func (s source) open(ctx context.Context) (*repository.Repository, func(), error) {
	keys, err := keyfile.Ring(ctx, s.keys)
	if err != nil {
		return nil, nil, err
	}
	st, err := s.stores.Open(s.location)
	if err != nil {
		return nil, nil, err
	}
	repo, err := repository.OpenWith(ctx, st, keys)
	if err != nil {
		_ = st.Close()
		return nil, nil, err
	}
	return repo, func() { _ = st.Close() }, nil
}

func (s source) ask(ctx context.Context, o TargetOptions) state.TargetFact {
	repo, closeStore, err := s.open(ctx)
	if err != nil {
		return state.TargetFact{Unknown: unknown(err)}
	}
	defer closeStore()
	o.Cluster, o.Archive = s.cluster, ArchiveOf(repo.Cluster(s.cluster.Name, s.cluster.SystemID))
	return Target(ctx, o)
}

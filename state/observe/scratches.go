package observe

import (
	"context"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
)

// scratches looks at the scratch directories of the drills: room, user and programs, not what lies in them.
func (l *look) scratches(ctx context.Context) {
	if len(l.spec.Drills) == 0 {
		return
	}
	l.seen.Scratches = map[string]state.Destination{}
	for _, d := range l.spec.Drills {
		store := func(seen state.Destination) { l.seen.Scratches[d.Name] = seen }
		if !host.IsHere(d.Host, l.o.Host) {
			l.mu.Lock()
			store(state.Destination{Path: d.Scratch, Unknown: otherHost("the scratch directory of drill "+d.Name, d.Host, l.o.Host)})
			l.mu.Unlock()
			continue
		}
		major := l.majorOf(d.Server)
		see := func(ctx context.Context) state.Destination { return scratch(ctx, d, major) }
		late := func(err error) state.Destination {
			return state.Destination{Path: d.Scratch, Unknown: &state.Unknown{
				Code: state.CodeIO, Because: "looking at " + d.Scratch + " took too long: " + err.Error(), Hint: "look whether its file system hangs",
			}}
		}
		ask(ctx, l, question[state.Destination]{limit: l.o.Timeout, see: see, late: late, store: store})
	}
	l.all.Wait()
}

func scratch(ctx context.Context, d hclspec.Drill, major int) state.Destination {
	seen := state.Destination{Path: d.Scratch, Free: map[string]int64{}}
	at, err := host.LookAt(d.Scratch)
	if err == nil {
		seen.Exists, seen.Empty = at.Exists, at.Exists && at.Empty
		err = freeAt(&seen, hclspec.Destination{Path: d.Scratch})
	}
	if err != nil {
		seen.Unknown = unknown(err)
		return seen
	}
	if owner, err := host.LookupOwner(d.Owner); err == nil { // a user that is absent is a fact, not a failure
		seen.OwnerExists, seen.CanOwn = true, host.CanGiveTo(owner)
	}
	seen.BinVersion = binVersion(ctx, d.BinDir, major)
	return seen
}

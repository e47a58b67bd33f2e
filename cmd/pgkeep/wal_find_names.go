package main

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/observe"
	"github.com/pgkeep/pgkeep/state/wal"
)

// nameMoments names the relations of moments, each from the newest backup before it, and gives the last of these backups.
// Names are for people: catalogs that cannot be read are told of, and their relations stay numbers.
func (a *app) nameMoments(ctx context.Context, w openedWAL, all []state.Moment) (from string) {
	byBackup := map[string][]wal.Relation{}
	for _, m := range all {
		for _, r := range m.Relations {
			id := backupBefore(w.held.Cluster, m)
			byBackup[id] = append(byBackup[id], r.Relation)
		}
	}
	names := map[string]map[wal.Relation]state.NamedRelation{}
	for _, id := range sorted(byBackup) {
		if id == "" {
			continue
		}
		b, err := w.cluster.OpenBackup(ctx, id)
		if err == nil {
			names[id], err = observe.Names(ctx, b, w.held.Cluster.Major, byBackup[id])
		}
		if err != nil {
			fmt.Fprintf(a.err, "The names in backup %s cannot be read, so that its tables are told by their numbers: %s\n", id, err)
			if hint := state.HintOf(err); hint != "" {
				fmt.Fprintln(a.err, "→ "+hint)
			}
			continue
		}
		from = id
	}
	for _, m := range all {
		known := names[backupBefore(w.held.Cluster, m)]
		for i, r := range m.Relations {
			if is := known[r.Relation]; is.Name != "" {
				is.Name, is.Rows = printable(is.Name), r.Rows
				m.Relations[i] = is
			}
		}
	}
	return from
}

// backupBefore gives the newest usable backup before a moment; empty: none.
func backupBefore(c state.Cluster, m state.Moment) string {
	var best state.Backup
	for _, b := range c.Backups { // ids do not order the backups of one second
		if c.Usability(b) == state.Usable && b.Stop <= m.LSN && b.Stop > best.Stop {
			best = b
		}
	}
	return best.ID
}

// nameLive asks the server for names that no backup has, and tells whether it gave any. It has files only of tables that the
// transaction left in place: a number that it knows of one that was dropped is another's.
func (a *app) nameLive(ctx context.Context, w openedWAL, all []state.Moment) (any bool) {
	var want []wal.Relation
	nameless := func(m state.Moment, r state.NamedRelation) bool {
		return (m.Kind == state.MomentDelete || m.Kind == state.MomentTransaction) && r.Name == "" && r.Rows > 0
	}
	for _, m := range all {
		for _, r := range m.Relations {
			if nameless(m, r) {
				want = append(want, r.Relation)
			}
		}
	}
	s, err := server(w.spec, w.held.Cluster.Name)
	if len(want) == 0 || err != nil { // a server that is not configured any more may still be held
		return false
	}
	names, err := observe.LiveNames(ctx, *s, w.held.Cluster.SystemID, observe.Options{Env: a.env}, want)
	if err != nil {
		fmt.Fprintf(a.err, "The server could not be asked for the names of tables that are in no backup yet: %s\n", err)
	}
	for _, m := range all {
		for i, r := range m.Relations {
			if is := names[r.Relation]; nameless(m, r) && is.Name != "" {
				is.Name, is.Rows = printable(is.Name), r.Rows
				m.Relations[i], any = is, true
			}
		}
	}
	return any
}

package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// maxChain bounds a chain: an incremental backup never stands on more than so many others.
const maxChain = 14

// kindOf decides of what kind the next backup is: what was asked for (auto, full or incremental), and what the backups that
// there are allow. The reason is empty where there was nothing to decide.
func (b *builder) kindOf(s *server, asked string) (kind, parent string, why *Reason) {
	if asked != "auto" && asked != "incremental" {
		return "full", "", nil
	}
	at := s.Where.Of("backup.full_every")
	full := func(code, text string, args ...any) (string, string, *Reason) {
		r := because(code, "a full backup, because "+fmt.Sprintf(text, args...), at)
		return "full", "", &r
	}
	p, missed := b.parent(s)
	if p == nil {
		if missed == "" {
			return "full", "", nil // there is none at all, and that is told
		}
		return full("no-parent", "%s", missed)
	}
	depth, began := 1, p.Began
	if c := p.Chain; c != nil {
		depth, began = c.Depth+1, c.Began
	}
	every := s.Backup.FullEvery
	switch {
	case asked == "auto" && every > 0 && !b.now.Before(began.Add(every-every/24)): // ticks fall a little early and late
		return full("full-due", "full_every is %s and the chain of %s began at %s", Span(every), p.ID, Moment(began))
	case depth > maxChain:
		return full("chain-long", "%s stands on %d others, and a chain is no longer", p.ID, depth-1)
	case p.Chain != nil && p.Chain.LiveBytes*2 < p.Chain.ReferredBytes:
		return full("chain-thin", "of the %s of volumes that %s keeps it reads less than half", Size(p.Chain.ReferredBytes), p.ID)
	}
	told, known := tells(s)
	if known && p.Chain != nil && p.Chain.Summaries {
		switch {
		case !told:
			return full("not-told", "%s has not the hashes of all its pages, and %s", p.ID, summariesOff)
		case p.Timeline != s.seen.Timeline:
			return full("not-told", "%s has not the hashes of all its pages, and is of timeline %d and the server of %d", p.ID, p.Timeline, s.seen.Timeline)
		}
	}
	text := fmt.Sprintf("an incremental backup on %s, number %d of its chain: pages that it has are not stored again", p.ID, depth)
	if c := p.Chain; c != nil && p.StoredBytes > 0 {
		text += fmt.Sprintf("; %s stored %s", p.ID, Size(p.StoredBytes))
	}
	switch {
	case told && p.Timeline != s.seen.Timeline:
		text += fmt.Sprintf("; %s is of timeline %d and the server of %d: the whole cluster is read and compared", p.ID, p.Timeline, s.seen.Timeline)
	case told:
		text += "; the server is asked which pages changed, and where it cannot tell all of them the cluster is read and compared"
	case known:
		text += "; " + summariesOff + ": the whole cluster is read and compared"
	}
	r := because("incremental", text, at)
	return "incremental", p.ID, &r
}

// summariesSince is the first major version that keeps WAL summaries, and so can tell which pages changed.
const summariesSince = 17

// summariesOff is why a server does not tell.
const summariesOff = "summarize_wal is off"

// tells looks whether the server tells an incremental backup which pages changed. known is false where it was not seen, and
// on versions that never do.
func tells(s *server) (told, known bool) {
	from := s.seen
	if s.source != nil {
		from = s.source.seen
	}
	if from.Major() < summariesSince {
		return false, false
	}
	v, known := from.Settings["summarize_wal"]
	return v == "on", known
}

// parent gives the newest backup on which another can build: committed in every repository that gets the new one (one that gets
// this very backup from another repository first is left out), of the
// server's major version, on its line of history, and sure of its own chain. Else it says why not; empty: there is no
// committed one at all.
func (b *builder) parent(s *server) (p *state.Backup, missed string) {
	for _, h := range s.homes {
		if h.archive == nil && h.copying == nil {
			missed = h.spec.Address + " holds no backup of " + s.Name
		}
	}
	if missed != "" {
		return nil, missed
	}
	at := slices.IndexFunc(s.homes, func(h *home) bool { return h.copying == nil }) // the others lag behind it
	if at < 0 {
		return nil, missed
	}
	a := s.homes[at].archive
	for i := len(a.Backups) - 1; i >= 0; i-- {
		k := &a.Backups[i]
		if k.State != state.BackupCommitted {
			continue
		}
		why := ""
		lacks := s.lacking(k)
		switch {
		case len(lacks) > 0:
			why = strings.Join(lacks, " and ") + " lacks " + k.ID
		case k.Version/10000 != s.seen.Major():
			why = fmt.Sprintf("%s is of PostgreSQL %d", k.ID, k.Version/10000)
		case k.Timeline > s.seen.Timeline || !a.current.holds(k.Timeline, max(k.Redo, k.Stop)):
			why = fmt.Sprintf("%s is not on the line of history of timeline %d", k.ID, s.seen.Timeline)
		case k.Kind == "incremental" && k.Chain == nil:
			why = k.ID + " does not say what it stands on"
		case k.Began.After(b.now.Add(time.Hour)):
			why = k.ID + " says that it began in the future"
		default:
			return k, ""
		}
		if missed == "" {
			missed = why
		}
	}
	return nil, missed
}

// lacking names the repositories that do not have a backup as committed.
func (s *server) lacking(k *state.Backup) []string {
	var out []string
next:
	for _, h := range s.homes {
		if h.gets(k.ID) {
			continue // before the next one
		}
		if h.archive == nil {
			out = append(out, h.spec.Address)
			continue
		}
		for i := range h.archive.Backups {
			if o := &h.archive.Backups[i]; o.ID == k.ID && o.State == state.BackupCommitted {
				continue next
			}
		}
		out = append(out, h.spec.Address)
	}
	return out
}

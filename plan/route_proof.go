package plan

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// Proof is one thing that a recovery rests on, with the evidence for it.
type Proof struct {
	What string `json:"what"` // backup | timelines | segments | space | time | settings | programs | overwrites
	Text string `json:"text"`
}

// proof says what the route rests on, and what each of it was learned from.
func (b *builder) proof(rec hclspec.Recovery, r *Route, d state.Destination) []Proof {
	a := b.archiveOf(r)
	if a == nil {
		return nil
	}
	return []Proof{
		{"backup", b.chosenText(a, r)},
		{"timelines", timelinesText(a, r)},
		{"segments", segmentsText(a, r)},
		{"space", b.spaceText(r, d)},
		{"time", b.timeText(a, r)},
		{"settings", b.raisedSettings(rec.Server)},
		{"programs", programsText(r, d)},
		{"overwrites", overwritesText(r, d)},
	}
}

// archiveOf gives the archive that a route reads; nil: it was not seen.
func (b *builder) archiveOf(r *Route) *archive {
	p := b.repositories[r.Repository]
	if p == nil {
		return nil
	}
	clusters := p.seen.Clusters[r.Server]
	for i := range clusters {
		if clusters[i].SystemID == r.SystemID {
			return newArchive(&clusters[i], b.seen.Servers[r.Server].Timeline)
		}
	}
	return nil
}

// chosenText says why this backup and no other.
func (b *builder) chosenText(a *archive, r *Route) string {
	x, _ := a.lineFor(hclspec.Target{Timeline: r.TargetTimeline}, state.TargetFact{})
	var chosen *state.Backup
	older, newer := 0, 0
	for i := range a.Backups {
		k := &a.Backups[i]
		if k.ID == r.Backup {
			chosen = k
		}
	}
	if chosen == nil {
		return r.Backup
	}
	for i := range a.Backups {
		k := &a.Backups[i]
		switch {
		case k == chosen || !x.holds(k.Timeline, k.Stop) || a.usability(k) != state.Usable:
		case k.Stop > chosen.Stop:
			newer++
		default:
			older++
		}
	}
	text := fmt.Sprintf("%s, consistent from %s on (%s); ", chosen.Kind, chosen.Stop, Moment(chosen.Ended))
	switch {
	case b.opt.Backup != "":
		text += "it was named"
	case newer > 0:
		text += "the newest from which the target is reached: " + count(newer, "newer backup") + " would begin behind it, or lack WAL to it"
	default:
		text += "the newest that there is on the way"
	}
	if older > 0 {
		text += fmt.Sprintf("; %s would do with more WAL", count(older, "older one"))
	}
	if v := a.Verified; v != nil {
		for _, k := range v.Backups {
			if k.ID == r.Backup && !k.Full.IsZero() {
				return text + "; all of it was read and proved at " + Moment(k.Full)
			}
		}
	}
	return text + "; it was not read again since it was taken (pgkeep verify)"
}

// timelinesText says how the way through the timelines is known.
func timelinesText(a *archive, r *Route) string {
	x, _ := a.lineFor(hclspec.Target{Timeline: r.TargetTimeline}, state.TargetFact{})
	var parts []string
	for i, p := range r.Path {
		if left, on := x.left(p.Timeline); on && i+1 < len(r.Path) {
			parts = append(parts, fmt.Sprintf("%d until %s", p.Timeline, left))
			continue
		}
		parts = append(parts, fmt.Sprintf("%d until %s", p.Timeline, r.End))
	}
	text := strings.Join(parts, ", then ")
	switch {
	case r.Target.Timeline != 0:
		text += "; the target names timeline " + fmt.Sprint(r.TargetTimeline)
	case len(a.lines) > 1:
		text += fmt.Sprintf("; timeline %d is the newest of %d that are archived", r.TargetTimeline, len(a.lines))
	}
	if r.TargetTimeline > 1 {
		text += fmt.Sprintf("; its history file says what it grew out of (%08X.history)", uint32(r.TargetTimeline))
	}
	return text
}

// segmentsText counts the segments of the route and those that were read again.
func segmentsText(a *archive, r *Route) string {
	var all, read, unarchived int64
	var first, last string
	for _, p := range r.Path {
		whole := wal.Range{Timeline: p.Timeline, From: a.size.Floor(p.From), To: a.size.Ceil(p.To)}
		all += whole.Bytes() / a.size.Bytes()
		if first == "" {
			first = a.size.SegmentAt(p.Timeline, p.From).Name(a.size)
		}
		last = a.size.SegmentAt(p.Timeline, max(p.To, p.From+1)-1).Name(a.size)
		if a.Verified != nil {
			for _, both := range intersect(whole, a.Verified.ReadWAL) {
				read += both.Bytes() / a.size.Bytes()
			}
		}
		for _, m := range wal.Missing(p, a.have) {
			unarchived += m.Bytes()
		}
	}
	text := fmt.Sprintf("%s, %s to %s, all there", count(int(all), "segment"), first, last)
	if first == last {
		text = "1 segment, " + first + ", is there"
	}
	if unarchived > 0 {
		text += fmt.Sprintf(" (the last %s in the spool)", Size(unarchived))
	}
	switch {
	case read == all:
		text += "; a full verification has read and proved all of it"
	case read > 0:
		text += fmt.Sprintf("; a full verification has read and proved %d", read)
	default:
		text += "; no full verification has read any of it"
	}
	return text + "; each one's SHA-256 is checked before PostgreSQL gets it"
}

// spaceText compares what is restored with what is free, for each directory.
func (b *builder) spaceText(r *Route, d state.Destination) string {
	need := b.spaceNeeded(r, d)
	names := map[string]string{}
	for _, t := range b.tablespaces(r, d) {
		if dir, ok := mappedTo(r.Destination, t); ok {
			names[dir] = "tablespace " + tablespaceKey(t) + ", "
		}
	}
	var out []string
	for _, p := range sortedNames(need) {
		free := "free space not known"
		if n, ok := d.Free[p]; ok {
			free = Size(n) + " free"
		}
		atMost := ""
		if len(r.Destination.Databases) > 0 {
			atMost = "at most "
		}
		out = append(out, fmt.Sprintf("%s: %s%s%s needed, %s", p, names[p], atMost, Size(need[p]), free))
	}
	return strings.Join(out, "; ")
}

// timeText estimates how long it takes by what was measured, of this repository before others.
func (b *builder) timeText(a *archive, r *Route) string {
	measured := slices.Clone(a.Measured)
	if len(measured) == 0 {
		for _, x := range b.spec.Repositories {
			if p := b.repositories[x.Name]; p != nil && x.Name != r.Repository {
				for _, c := range p.seen.Clusters[r.Server] {
					measured = append(measured, c.Measured...)
				}
			}
		}
		slices.SortStableFunc(measured, func(x, y state.Measured) int { return y.At.Compare(x.At) })
	}
	effort := Effort{DataBytes: r.DataBytes, ReplayWAL: r.WALBytes}
	if r.Destination.WAL == "copy" {
		effort.CopiedWAL = r.WALBytes
	}
	return EstimateRecovery(measured, effort).Sentence()
}

// programsText says which PostgreSQL will start what is restored.
func programsText(r *Route, d state.Destination) string {
	where := "found on this machine"
	if r.Destination.BinDir != "" {
		where = "in " + filepath.Clean(r.Destination.BinDir)
	}
	return fmt.Sprintf("PostgreSQL %d, %s; the backup is of the same major version", d.BinVersion, where)
}

// overwritesText names what is in the way of the restore.
func overwritesText(r *Route, d state.Destination) string {
	path := r.Destination.Path
	switch {
	case !d.Exists:
		return "nothing: " + path + " is not there yet"
	case d.Empty:
		return "nothing: " + path + " is empty"
	case !r.Destination.Overwrite && d.Restored != nil:
		return fmt.Sprintf("nothing: %s holds a complete restore of backup %s, begun %s", path, d.Restored.Backup, Moment(d.Restored.Began))
	case d.Ours && (d.Holds == "" || !r.Destination.Overwrite):
		return "what an earlier try of this recovery left in " + path
	}
	text := fmt.Sprintf("the data directory in %s, of system %s", path, d.Holds)
	if len(d.Taken) > 0 {
		text += ", and the tablespaces in " + strings.Join(d.Taken, ", ")
	}
	return text + usedText(d)
}

// usedText says what goes with a data directory that is restored over.
func usedText(d state.Destination) string {
	last := ""
	if !d.WroteAt.IsZero() {
		last = fmt.Sprintf(": its server wrote last at %s, on timeline %d", Moment(d.WroteAt), d.Timeline)
	}
	switch r := d.Restored; {
	case r == nil:
		return last
	case r.Used:
		return fmt.Sprintf("; it was restored from backup %s, begun %s, and used since, and what was written in it goes%s", r.Backup, Moment(r.Began), last)
	default:
		return fmt.Sprintf("; it was restored from backup %s, begun %s, and no server was started in it since", r.Backup, Moment(r.Began))
	}
}

package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state"
)

// copying is what one repository of a server gets from another.
type copying struct {
	from   *home
	backup *state.Backup // nil: WAL only
}

// copyBackups decides, before a new backup is planned, which repositories get the newest usable backup from another one:
// those that have none as new, because they were added or brought back later, or failed when it was taken. Older ones are
// not copied: the moments between them are reached with WAL.
func (b *builder) copyBackups(s *server) {
	if s.systemID == "" {
		return
	}
	for _, h := range s.homes {
		from, k := b.newestElsewhere(s, h)
		if k == nil || h.upTo(from.archive.current, k) {
			continue
		}
		if why, code, hint := b.uncopyable(h, k); why != "" {
			b.notDone(NotDone{
				What: "copy-backup of " + k.ID + " into " + h.spec.Name, Hint: hint,
				Why: because(code, why, s.Where.Of("repositories")),
			})
			continue
		}
		h.copying = &copying{from: from, backup: k}
	}
}

// newestElsewhere gives the newest usable backup on the server's line of history that another repository holds, and the
// nearest of those that hold it.
func (b *builder) newestElsewhere(s *server, h *home) (from *home, best *state.Backup) {
	for _, o := range s.sources(h) {
		a := o.archive
		for i := range a.Backups {
			k := &a.Backups[i]
			if a.usability(k) != state.Usable || !a.current.holds(k.Timeline, max(k.Redo, k.Stop)) || s.known && k.Version/10000 != s.seen.Major() {
				continue
			}
			if best == nil || k.Stop > best.Stop {
				from, best = o, k
			}
		}
	}
	return from, best
}

// sources gives the other repositories that hold something of the server, the nearest first: directories of a machine,
// then the others, each by their names, as the spec has them.
func (s *server) sources(h *home) []*home {
	var near, far []*home
	for _, o := range s.homes {
		switch {
		case o == h || o.archive == nil || o.create != "" || !o.seen.ReadsData(): // what no identity here opens cannot be copied
		case o.spec.Path != "":
			near = append(near, o)
		default:
			far = append(far, o)
		}
	}
	return append(near, far...)
}

// uncopied says that what other repositories hold is not copied, for want of a key; empty: nothing keeps it from being copied.
func (s *server) uncopied(h *home) string {
	if closed := s.closed(h); len(closed) > 0 && len(s.sources(h)) == 0 {
		return "; what " + strings.Join(closed, " and ") + " holds is encrypted, and no identity here opens its data, so that it is not copied"
	}
	return ""
}

// uncopiedWAL warns of holes that another repository could fill, and of which no identity here opens the data.
func (b *builder) uncopiedWAL(s *server, h *home) {
	for _, o := range s.homes {
		if o == h || o.archive == nil || o.create != "" || o.seen.ReadsData() {
			continue
		}
		ranges := b.holes(s, h, o)
		if len(ranges) == 0 {
			continue
		}
		b.finding(Finding{
			Severity: Warning, Code: state.CodeNoKey, Subject: h.spec.Address, Range: rangeOf(s.Where.Of("repositories")),
			Text: fmt.Sprintf("%s lacks WAL of %s that %s holds (%s), and it is not copied: no identity here opens its data", h.spec.Address, s.Name, o.spec.Address, brief(ranges)),
			Hint: "run pgkeep apply where an identity of one of the data_recipients is",
		})
		return
	}
}

// upTo tells whether the repository holds this backup or a newer one of the line, or is getting one from the server now.
func (h *home) upTo(x line, k *state.Backup) bool {
	if h.archive == nil {
		return false
	}
	for i := range h.archive.Backups {
		o := &h.archive.Backups[i]
		switch {
		case o.State == state.BackupRunning && o.ID != k.ID && o.Began.After(k.Began):
			return true
		case o.State == state.BackupCommitted && x.holds(o.Timeline, o.Stop) && o.Stop >= k.Stop:
			return true
		}
	}
	return false
}

// uncopyable says what keeps a backup from being copied into a repository though it lacks it; empty: nothing.
func (b *builder) uncopyable(h *home, k *state.Backup) (why, code, hint string) {
	if h.archive != nil {
		for i := range h.archive.Backups {
			o := &h.archive.Backups[i]
			if o.ID != k.ID || o.State == state.BackupAborted || o.State == state.BackupAbandoned || o.State == state.BackupCut {
				continue // what a try that failed has left is removed first
			}
			switch o.State { //nolint:exhaustive // the others were deleted, or passed over above
			case state.BackupRunning:
				return fmt.Sprintf("%s is being written there since %s by %s", o.ID, Moment(o.Began), orUnknown(o.Host)), stillRunning, ""
			case state.BackupCorrupt:
				return fmt.Sprintf("%s is there and is damaged: %s", o.ID, o.Failure), "damaged-copy", "pgkeep repair --server " + h.archive.Name + " --repository " + h.spec.Name
			}
			return fmt.Sprintf("%s was deleted there", o.ID), "deleted-copy", ""
		}
	}
	if need := copyBytes(k); h.create == "" && h.seen.Free > 0 && need > h.seen.Free {
		b.finding(Finding{
			Severity: Error, Code: state.CodeDiskFull, Subject: h.spec.Address, Range: rangeOf(h.spec.Where.Block), Hint: "add space",
			Text: fmt.Sprintf("%s has %s free, and a copy of %s takes up to %s", h.seen.Location, Size(h.seen.Free), k.ID, Size(need)),
		})
		return fmt.Sprintf("it takes up to %s, and %s has %s free", Size(need), h.spec.Address, Size(h.seen.Free)), "no-space", "add space"
	}
	return "", "", ""
}

// copyBytes gives how much a copy takes at most: what an incremental backup refers to is copied along where it is not there.
func copyBytes(k *state.Backup) int64 {
	if k.Chain == nil {
		return k.StoredBytes
	}
	return k.StoredBytes + k.Chain.ReferredBytes
}

// gets tells whether the repository gets this very backup from another one.
func (h *home) gets(id string) bool {
	return h.copying != nil && h.copying.backup != nil && h.copying.backup.ID == id
}

// goesOn tells whether a copy that was killed is what the repository gets from the same one again: the new copy goes on with it.
func (h *home) goesOn(k *state.Backup) bool {
	return k.State == state.BackupAbandoned && k.Continues != "" && h.gets(k.ID) && h.copying.from.seen.ID == k.Continues
}

// dropCopies leaves out the copies into repositories that get a full backup from the server by this same plan.
func (s *server) dropCopies(action TakeBackup) {
	if action.Kind != "full" {
		return
	}
	for _, h := range s.homes {
		if slices.Contains(action.Repositories, h.spec.Name) {
			h.copying = nil
		}
	}
}

// copy adds the steps that bring one repository what it lacks and another one holds. after is what removes the rests of
// tries that failed.
func (b *builder) copy(s *server, h *home, after []string) {
	if h.create != "" {
		after = append(slices.Clone(after), h.create)
	}
	if h.copying != nil {
		b.copyBackup(s, h, after)
	}
	b.copyWAL(s, h, after)
}

func (b *builder) copyBackup(s *server, h *home, after []string) {
	from, k := h.copying.from, h.copying.backup
	at := s.Where.Of("repositories")
	why := []Reason{because("repositories-differ", fmt.Sprintf("%s holds %s of %s, the newest usable backup of %s, and %s", from.spec.Address, k.ID, Moment(k.Ended), s.Name, h.has(s)), at)}
	effect := fmt.Sprintf("a restore point in %s once its WAL is there; moves %s", h.spec.Name, Size(k.StoredBytes))
	if c := k.Chain; c != nil && !h.holdsAll(k.Refs) {
		effect = fmt.Sprintf("a restore point in %s once its WAL is there, which stands alone; moves %s", h.spec.Name, Size(copyBytes(k)))
		why = append(why, because("refers", fmt.Sprintf("%s refers to %s, which %s lacks: the volumes that it reads of others come along", k.ID, strings.Join(k.Refs, ", "), h.spec.Address), at))
	}
	if h.archive != nil && slices.ContainsFunc(h.archive.Backups, func(o state.Backup) bool { return h.goesOn(&o) }) {
		why = append(why, because("goes-on", fmt.Sprintf("a copy that was killed has left a part of it in %s: what is whole there is not copied again", h.spec.Address), at))
	}
	h.copied = b.step(Step{
		ID: b.copyID(s, "copy", h), Change: Add, Impact: Safe, Host: copyHost(from, h), After: after, Because: why, Effect: effect,
		Action: CopyBackup{
			Server: s.Name, SystemID: s.systemID, From: from.spec.Name, FromID: from.seen.ID, Repository: h.spec.Name, RepositoryID: h.seen.ID, Backup: k.ID,
		},
		Requires: []Condition{{Code: NeedBackup, Text: k.ID + " is still whole in " + from.spec.Name}},
	})
}

// has says what the newest of the repository is.
func (h *home) has(s *server) string {
	if h.create != "" {
		return h.spec.Address + " is new"
	}
	if h.archive != nil {
		for _, k := range slices.Backward(h.archive.Backups) {
			if h.archive.usability(&k) == state.Usable {
				return fmt.Sprintf("the newest in %s is %s", h.spec.Address, k.ID)
			}
		}
	}
	return h.spec.Address + " holds no usable one"
}

// holdsAll tells whether the repository has all of these backups as committed. The step looks again, at their volumes.
func (h *home) holdsAll(ids []string) bool {
	for _, id := range ids {
		ok := h.archive != nil && slices.ContainsFunc(h.archive.Backups, func(o state.Backup) bool { return o.ID == id && o.State == state.BackupCommitted })
		if !ok {
			return false
		}
	}
	return true
}

func (b *builder) copyID(s *server, verb string, h *home) string {
	return "server." + s.Name + "/" + verb + "/" + h.spec.Name
}

// copyHost gives the machine that both repositories can be reached from; empty: any.
func copyHost(from, to *home) string {
	if to.spec.Host != "" {
		return to.spec.Host
	}
	return from.spec.Host
}

package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// Drift is what changed without pgkeep since the newest journal entry of each server.
type Drift struct {
	Servers []ServerDrift `json:"servers"` // in the configuration's order
}

// ServerDrift is the drift of one server.
type ServerDrift struct {
	Server  string    `json:"server"`            // address
	Since   time.Time `json:"since,omitzero"`    // of the journal entry; zero: there is none to compare with
	Who     string    `json:"who,omitempty"`     // who applied then, user@host
	Unknown []string  `json:"unknown,omitempty"` // what could not be compared, and why, as sentences
	Changes []Changed `json:"changes,omitempty"`
}

// Changed is one thing that is not as pgkeep left it.
type Changed struct {
	Code string `json:"code"` // stable, lower case with dashes: "slot-dropped"
	Text string `json:"text"` // "slot pgkeep_orders was dropped"
}

// Drifted tells whether anything changed.
func (d *Drift) Drifted() bool {
	return d != nil && slices.ContainsFunc(d.Servers, func(s ServerDrift) bool { return len(s.Changes) > 0 })
}

// slotAbsent is Facts.Slot where there was no slot.
const slotAbsent = "absent"

// Remember gives what the journal keeps of each server that was seen, so that Options.RefreshOnly can compare.
func Remember(spec *hclspec.Spec, seen state.Observation) map[string]state.Facts {
	out := map[string]state.Facts{}
	for i := range spec.Servers {
		s := &spec.Servers[i]
		f := state.Facts{Backups: map[string][]string{}, Repositories: map[string]string{}}
		if srv, ok := seen.Servers[s.Name]; ok && srv.Unknown == nil {
			role := srv.Role
			f.SystemID, f.Version, f.Timeline, f.Role, f.Settings = srv.SystemID, srv.Version, srv.Timeline, &role, rememberedSettings(srv.Settings)
			f.Slot = slotFact(srv, s.Slot.Name)
		}
		if r, ok := seen.Receivers[s.Name]; ok && r.Unknown == nil {
			f.Receiver = receiverFact(r)
		}
		for _, label := range s.Repositories {
			r, ok := seen.Repositories[label]
			if !ok || r.Unknown != nil {
				continue
			}
			f.Repositories[label] = r.ID
			f.Backups[label] = visibleBackups(r.Clusters[s.Name])
		}
		out[s.Name] = f
	}
	return out
}

// rememberedSettings leaves out what tells nothing or may hold a secret: commands and whole paths.
func rememberedSettings(all map[string]string) map[string]string {
	out := map[string]string{}
	for _, name := range []string{
		"archive_mode", "data_checksums", "full_page_writes", "fsync", "hot_standby", "idle_replication_slot_timeout",
		"max_connections", "max_replication_slots", "max_slot_wal_keep_size", "max_wal_senders", "summarize_wal",
		"synchronous_commit", "synchronous_standby_names", "wal_keep_size", "wal_level", "wal_sender_timeout",
	} {
		if v, ok := all[name]; ok {
			out[name] = v
		}
	}
	return out
}

func slotFact(s state.Server, name string) string {
	slot := findSlot(s, name)
	switch {
	case slot == nil:
		return slotAbsent
	case slot.WALStatus == "":
		return "without WAL"
	}
	return slot.WALStatus
}

func receiverFact(r state.Receiver) string {
	if r.Running {
		return "running"
	}
	return "stopped"
}

func visibleBackups(clusters []state.Cluster) []string {
	out := []string{}
	for _, c := range clusters {
		for _, k := range c.Backups {
			if (k.State == state.BackupCommitted || k.State == state.BackupDamaged) && k.Tombed.IsZero() {
				out = append(out, k.ID)
			}
		}
	}
	return out
}

// drift compares what the journal remembers with what was seen.
func (b *builder) drift() {
	b.plan.Drift = &Drift{Servers: []ServerDrift{}}
	now := Remember(b.spec, b.seen)
	for i := range b.spec.Servers {
		s := &b.spec.Servers[i]
		if len(b.scope.targets) > 0 && !slices.ContainsFunc(b.scope.targets, func(a address) bool { return a.owners["server."+s.Name] }) ||
			slices.ContainsFunc(b.scope.exclude, func(a address) bool { return a.owners["server."+s.Name] }) {
			continue
		}
		b.plan.Drift.Servers = append(b.plan.Drift.Servers, b.driftOf(s, now[s.Name]))
	}
}

func (b *builder) driftOf(s *hclspec.Server, is state.Facts) ServerDrift {
	d := ServerDrift{Server: s.Address}
	was, ok := b.seen.Remembered[s.Name]
	switch {
	case !ok:
		d.Unknown = []string{"no repository with a journal of it was seen"}
		return d
	case was.Unknown != nil:
		d.Unknown = []string{"its journal could not be read: " + was.Unknown.Because}
		return d
	case was.At.IsZero():
		d.Unknown = []string{"nothing was applied to it yet: there is nothing to compare with"}
		return d
	}
	d.Since, d.Who = was.At, was.Who
	if srv, ok := b.seen.Servers[s.Name]; !ok || srv.Unknown != nil {
		because := "it was not looked at"
		if ok {
			because = srv.Unknown.Because
		}
		d.Unknown = append(d.Unknown, "the server itself: "+because)
	} else if was.Facts.SystemID != "" {
		d.onServer(s, was.Facts, is)
	}
	if was.Facts.Receiver == "running" && is.Receiver == "stopped" {
		d.changed("receiver-stopped", "the receiver no longer runs")
	}
	for _, label := range slices.Sorted(maps.Keys(was.Facts.Backups)) {
		b.driftIn(&d, s, label, was.Facts)
	}
	return d
}

func (d *ServerDrift) changed(code, format string, args ...any) {
	d.Changes = append(d.Changes, Changed{Code: code, Text: fmt.Sprintf(format, args...)})
}

func (d *ServerDrift) onServer(s *hclspec.Server, was, is state.Facts) {
	if was.SystemID != is.SystemID {
		d.changed("identity", "another cluster answers: system identifier %s → %s", was.SystemID, is.SystemID)
		return // nothing else can be compared
	}
	if was.Version != is.Version {
		d.changed("version", "PostgreSQL was updated %s → %s", versionText(was.Version), versionText(is.Version))
	}
	if was.Timeline != is.Timeline {
		d.changed("timeline", "the server changed its timeline %d → %d: a standby was promoted, or it was recovered", was.Timeline, is.Timeline)
	}
	switch {
	case was.Slot == is.Slot || was.Slot == "":
	case is.Slot == slotAbsent:
		d.changed("slot-dropped", "slot %s was dropped", s.Slot.Name)
	case was.Slot == slotAbsent:
		d.changed("slot-created", "slot %s was created by somebody else", s.Slot.Name)
	default:
		d.changed("slot-status", "slot %s changed its wal_status %s → %s", s.Slot.Name, was.Slot, is.Slot)
	}
	if was.Role != nil && is.Role != nil {
		d.role(*was.Role, *is.Role)
	}
	d.settings(was.Settings, is.Settings)
}

func (d *ServerDrift) role(was, is state.Role) {
	if was.Name != is.Name {
		d.changed("role", "pgkeep connects as another role: %s → %s", was.Name, is.Name)
		return
	}
	for _, p := range []struct {
		name    string
		had, it bool
	}{
		{"SUPERUSER", was.Superuser, is.Superuser},
		{"REPLICATION", was.Replication, is.Replication},
		{"EXECUTE on pg_switch_wal()", was.SwitchWAL, is.SwitchWAL},
		{"EXECUTE on pg_create_restore_point()", was.CreateRestore, is.CreateRestore},
		{"pg_read_all_settings", was.ReadAllSettings, is.ReadAllSettings},
		{"pg_read_all_stats", was.ReadAllStats, is.ReadAllStats},
	} {
		switch {
		case p.had && !p.it:
			d.changed("privilege-lost", "role %s lost %s", is.Name, p.name)
		case !p.had && p.it:
			d.changed("privilege-new", "role %s got %s", is.Name, p.name)
		}
	}
}

func (d *ServerDrift) settings(was, is map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(was)) {
		now, readable := is[name]
		if !readable {
			d.changed("setting-unreadable", "setting %s can no longer be read; it was %s", name, settingText(name, was[name]))
		} else if now != was[name] {
			d.changed("setting", "setting %s changed %s → %s", name, settingText(name, was[name]), settingText(name, now))
		}
	}
}

// driftIn compares what one repository held with what it holds. What pgkeep deletes keeps its TOMB for a day, and later
// runs are in the journal: an id that is simply not there any more was taken away by somebody else.
func (b *builder) driftIn(d *ServerDrift, s *hclspec.Server, label string, was state.Facts) {
	r, ok := b.seen.Repositories[label]
	at := "repository." + label
	if p := b.repositories[label]; p != nil {
		at = p.spec.Address
	}
	if !ok || r.Unknown != nil {
		because := "it was not looked at"
		if ok {
			because = r.Unknown.Because
		}
		d.Unknown = append(d.Unknown, at+": "+because)
		return
	}
	if id := was.Repositories[label]; id != "" && id != r.ID {
		d.changed("repository-other", "%s is another repository: id %s → %s", at, id, r.ID)
		return
	}
	listed := map[string]state.BackupState{}
	for _, c := range r.Clusters[s.Name] {
		if c.Unknown != nil {
			d.Unknown = append(d.Unknown, "backups of system identifier "+c.SystemID+" in "+at+": "+c.Unknown.Because)
			return
		}
		for _, k := range c.Backups {
			listed[k.ID] = k.State
		}
	}
	var gone, broken, fresh []string
	for _, id := range was.Backups[label] {
		switch how, there := listed[id]; {
		case !there:
			gone = append(gone, id)
		case how == state.BackupCorrupt:
			broken = append(broken, id)
		}
	}
	for _, id := range visibleBackups(r.Clusters[s.Name]) {
		if !slices.Contains(was.Backups[label], id) {
			fresh = append(fresh, id)
		}
	}
	d.backups(at, gone, broken, fresh)
}

func (d *ServerDrift) backups(at string, gone, broken, fresh []string) {
	if n := len(gone); n > 0 {
		d.changed("backups-gone", "%s that pgkeep did not delete %s gone from %s: %s", count(n, "backup"), isAre(n), at, names(gone))
	}
	if n := len(broken); n > 0 {
		d.changed("backups-corrupt", "%s in %s can no longer be trusted: %s", count(n, "backup"), at, names(broken))
	}
	if n := len(fresh); n > 0 {
		d.changed("backups-new", "%s appeared in %s that the journal does not know: %s", count(n, "backup"), at, names(fresh))
	}
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// versionText writes 150018 as 15.18.
func versionText(n int) string { return fmt.Sprintf("%d.%d", n/10000, n%10000) }

// settingText writes the value of a setting as postgresql.conf would: pg_settings gives it in base units.
func settingText(name, value string) string {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n <= 0 {
		if value == "" {
			return "''"
		}
		return value
	}
	switch name {
	case "max_slot_wal_keep_size", "wal_keep_size":
		return megabytes(n)
	case "wal_segment_size":
		return megabytes(n >> 20)
	case "wal_sender_timeout", "idle_session_timeout", "wal_receiver_timeout":
		return strconv.FormatInt(n, 10) + "ms"
	}
	return value
}

func megabytes(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 20, "TB"}, {1 << 10, "GB"}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "MB"
}

// Sentences writes the drift for people, a line each; those of one server begin with its address.
func (d *Drift) Sentences() []string {
	var out []string
	for _, s := range d.Servers {
		since := ""
		if !s.Since.IsZero() {
			since = fmt.Sprintf(" since %s, when %s applied", Moment(s.Since), orSomebody(s.Who))
		}
		if len(s.Changes) == 0 && len(s.Unknown) == 0 {
			out = append(out, s.Server+": nothing changed"+since+".")
		}
		if len(s.Changes) > 0 {
			out = append(out, s.Server+": "+count(len(s.Changes), "change")+since+":")
		}
		for _, c := range s.Changes {
			out = append(out, "  "+c.Text)
		}
		for _, u := range s.Unknown {
			out = append(out, s.Server+": unknown: "+strings.TrimSuffix(u, "."))
		}
	}
	return out
}

func orSomebody(who string) string {
	if who == "" {
		return "somebody"
	}
	return who
}

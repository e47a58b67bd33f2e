package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// server is one server block with everything that is known of it, while it is planned.
type server struct {
	*hclspec.Server
	seen     state.Server
	known    bool // it answered
	usable   bool // nothing keeps it from being planned
	systemID string
	homes    []*home  // one for each repository of the block that is known, in the block's order
	blocked  []string // labels of those that are not

	source  *source    // where backups are taken from; nil: not looked at yet
	after   []string   // ids of steps that everything later on this server comes after
	lost    *wal.Range // a gap that this plan records
	stopped string     // id of the step that stops its receiver for the sake of another; empty: none
	retry   string     // id of the step that takes a backup; empty: none is planned
	retryIn []string   // into which repositories
	// retryGoesOn are the cut backups with which it goes on.
	retryGoesOn []string
}

// home is what one repository holds of a server.
type home struct {
	*place
	archive *archive        // nil: nothing of this cluster
	others  []state.Cluster // other system identifiers under the same name
	fates   Retained
	copying *copying // the backup that it gets from another repository; nil: none
	copied  string   // id of the step that brings it; empty: none is planned
	filled  string   // id of the step that brings WAL; empty: none is planned
	gives   []gift   // WAL that others get from it
}

// server plans one server block: first what is wrong with it, then slot, timeline, receiver and backups, then what the
// repositories no longer need.
func (b *builder) server(spec *hclspec.Server) {
	s := b.gather(spec)
	b.plainBeside(s)
	b.copyBackups(s)
	s.usable = s.known && b.identity(s) && b.ready(s)
	if s.usable {
		b.unclaimed(s)
		b.synchronous(s)
		if b.lineage(s) && b.slot(s) {
			b.follow(s)
			b.gap(s)
			b.receiver(s)
			b.sourceOf(s)
			b.backup(s)
		}
	}
	b.spool(s)
	b.clean(s)
	b.verify(s)
	b.drills(s)
	b.windows(s)
	b.objective(s)
	b.nextTicks(s)
}

// gather puts together what was seen of a server, and says what was not.
func (b *builder) gather(spec *hclspec.Server) *server {
	s := &server{Server: spec}
	seen, ok := b.seen.Servers[spec.Name]
	what := "slot, receiver and backups of " + spec.Name
	switch {
	case !ok:
		b.notDone(NotDone{What: what, Why: because("not-seen", spec.Name+" was not looked at", spec.Where.Block)})
	case seen.Unknown != nil:
		at := spec.Where.Of("conninfo")
		b.notDone(NotDone{What: what, Why: because("server-unknown", seen.Unknown.Because, at), Hint: seen.Unknown.Hint})
		b.finding(Finding{
			Severity: Error, Code: seen.Unknown.Code, Subject: spec.Address, Text: seen.Unknown.Because, Hint: seen.Unknown.Hint, Range: rangeOf(at),
		})
	default:
		s.seen, s.known, s.systemID = seen, true, seen.SystemID
	}
	for _, name := range spec.Repositories {
		p := b.repositories[name]
		if p == nil || !p.known {
			s.blocked = append(s.blocked, name)
			continue
		}
		if u := p.unknownCluster(s); u != nil {
			s.blocked = append(s.blocked, name)
			b.refuseCluster(s, p, u)
			continue
		}
		s.homes = append(s.homes, &home{place: p})
		if p.create != "" {
			s.after = append(s.after, p.create)
		}
	}
	if s.systemID == "" {
		s.systemID = b.systemIDOf(s)
	}
	for _, h := range s.homes {
		if h.create == "" { // what is to be created holds nothing
			h.settle(s)
		}
	}
	return s
}

// unknownCluster says why what the repository holds of the server was not seen though the repository was; nil: it was.
func (p *place) unknownCluster(s *server) *state.Unknown {
	for _, c := range p.seen.Clusters[s.Name] {
		if c.Unknown != nil && (s.systemID == "" || c.SystemID == s.systemID) {
			return c.Unknown
		}
	}
	return nil
}

func (b *builder) refuseCluster(s *server, p *place, u *state.Unknown) {
	at := p.spec.Where.Of("path")
	what := "everything of " + s.Name + " in " + p.spec.Address
	b.notDone(NotDone{What: what, Why: because("cluster-unknown", u.Because, at), Hint: u.Hint})
	b.finding(Finding{Severity: Error, Code: u.Code, Subject: s.Address, Text: u.Because, Hint: u.Hint, Range: rangeOf(at)})
}

// settle picks out the cluster of the server's own system identifier.
func (h *home) settle(s *server) {
	clusters := h.seen.Clusters[s.Name]
	for i := range clusters {
		if clusters[i].Unknown != nil {
			continue
		}
		if clusters[i].SystemID == s.systemID && s.systemID != "" {
			h.archive = newArchive(&clusters[i], s.seen.Timeline)
			continue
		}
		h.others = append(h.others, clusters[i])
	}
}

// systemIDOf tells which cluster a server that did not answer is: the one that the configuration pins, or the only one
// that its repositories hold. Empty: not known.
func (b *builder) systemIDOf(s *server) string {
	if len(s.Identity) == 1 {
		return s.Identity[0]
	}
	id := ""
	for _, h := range s.homes {
		for _, c := range h.seen.Clusters[s.Name] {
			if id != "" && id != c.SystemID {
				return ""
			}
			id = c.SystemID
		}
	}
	return id
}

// identity refuses a server that is not the one whose backups we hold, until the configuration names it.
func (b *builder) identity(s *server) bool {
	named := slices.Contains(s.Identity, s.systemID)
	at := s.Where.Of("identity.system_identifiers")
	refuse := func(text, hint string) bool {
		b.notDone(NotDone{What: "everything on " + s.Name, Why: because("other-identity", text, at), Hint: hint})
		b.finding(Finding{Severity: Error, Code: state.CodeIdentity, Subject: s.Address, Text: text, Hint: hint, Range: rangeOf(at)})
		return false
	}
	if len(s.Identity) > 0 && !named {
		return refuse(fmt.Sprintf("%s answers with system identifier %s, and identity names %s", s.Name, s.systemID, strings.Join(s.Identity, ", ")),
			fmt.Sprintf("if this is the right server now, add %q to identity.system_identifiers; the old backups stay restorable", s.systemID))
	}
	for _, h := range s.homes { // one cluster is of one major version: pg_upgrade makes another system identifier
		if h.archive != nil && h.archive.Major != 0 && h.archive.Major != s.seen.Major() {
			return refuse(fmt.Sprintf("%s answers as PostgreSQL %d, and %s holds PostgreSQL %d of the same system identifier %s",
				s.Name, s.seen.Major(), h.spec.Address, h.archive.Major, s.systemID),
				fmt.Sprintf("if this is the right server now, give %s another name in the repositories: stored_as = %q; the old backups stay restorable",
					s.Address, fmt.Sprintf("%s-%d", s.Name, s.seen.Major())))
		}
	}
	if named {
		return true
	}
	pin := fmt.Sprintf("if this is the right server now, add identity { system_identifiers = [%q] } to %s; the old backups stay restorable", s.systemID, s.Address)
	for _, h := range s.homes {
		if h.archive == nil && len(h.others) > 0 {
			was := h.others[len(h.others)-1]
			text := fmt.Sprintf("%s answers with system identifier %s, and %s holds backups of %s under this name", s.Name, s.systemID, h.spec.Address, was.SystemID)
			if was.Major != 0 && was.Major != s.seen.Major() {
				text += fmt.Sprintf("; it is PostgreSQL %d now and was %d, as after a pg_upgrade", s.seen.Major(), was.Major)
			}
			return refuse(text, pin)
		}
	}
	if sp, ok := b.seen.Spools[s.Name]; ok && sp.Unknown == nil && sp.SystemID != "" && sp.SystemID != s.systemID {
		return refuse(fmt.Sprintf("%s answers with system identifier %s, and the spool %s holds WAL of %s", s.Name, s.systemID, sp.Path, sp.SystemID), pin)
	}
	return true
}

// ready tells whether settings and privileges let the server be protected, and prints the statement for each that does not.
func (b *builder) ready(s *server) bool {
	ok := true
	block := func(code state.Code, text, hint string) {
		ok = false
		at := s.Where.Of("conninfo")
		b.notDone(NotDone{What: "everything on " + s.Name, Why: because("not-ready", text, at), Hint: hint})
		b.finding(Finding{Severity: Error, Code: code, Subject: s.Address, Text: text, Hint: hint, Range: rangeOf(at)})
	}
	set := s.seen.Settings
	if set["wal_level"] == "minimal" {
		block(state.CodeSettings, s.Name+" has wal_level = minimal, which cannot be recovered from", "ALTER SYSTEM SET wal_level = 'replica';  -- then restart the server")
	}
	if set["max_wal_senders"] == "0" {
		block(state.CodeSettings, s.Name+" has max_wal_senders = 0", "ALTER SYSTEM SET max_wal_senders = 10;  -- then restart the server")
	}
	if n, free := slotRoom(s); !free {
		block(state.CodeSettings, fmt.Sprintf("%s has max_replication_slots = %d, and all are taken", s.Name, n),
			fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d;  -- then restart the server", max(10, n+4)))
	}
	if r := s.seen.Role; r.Name != "" && !r.Replication && !r.Superuser {
		block(state.CodeRole, fmt.Sprintf("the role %s on %s lacks REPLICATION", r.Name, s.Name), "ALTER ROLE "+quoteIdent(r.Name)+" REPLICATION;")
	}
	return ok
}

// slotRoom tells max_replication_slots and whether our slot exists or fits.
func slotRoom(s *server) (limit int, free bool) {
	value, ok := s.seen.Settings["max_replication_slots"]
	if !ok || findSlot(s.seen, s.Slot.Name) != nil {
		return 0, true
	}
	if _, err := fmt.Sscanf(value, "%d", &limit); err != nil {
		return 0, true
	}
	return limit, len(s.seen.Slots) < limit
}

// quoteIdent quotes an identifier for SQL that an operator will paste.
func quoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteLiteral quotes a string for SQL that an operator will paste.
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// durable gives the end of WAL that we hold of the server on its newest timeline here, spool included, and whether
// everything that could hold some was seen.
func (b *builder) durable(s *server) (t wal.Timeline, end wal.LSN, complete bool) {
	complete = len(s.blocked) == 0
	see := func(on wal.Timeline, l wal.LSN) {
		if on > t {
			t, end = on, l
		} else if on == t {
			end = max(end, l)
		}
	}
	for _, h := range s.homes {
		if h.archive == nil {
			continue
		}
		for _, r := range h.archive.have {
			see(r.Timeline, r.To)
		}
	}
	sp, ok := b.spoolOf(s)
	if !ok {
		return t, end, false
	}
	if sp.Durable != 0 {
		see(sp.Timeline, sp.Durable)
	}
	return t, end, complete
}

// spoolOf gives what is spooled of the very cluster that the server is. It is not ok for a spool that was not seen, and
// for one in which another cluster was written last: its positions mean nothing here, and what it has of ours is not known.
func (b *builder) spoolOf(s *server) (sp state.Spool, ok bool) {
	sp, ok = b.seen.Spools[s.Name]
	return sp, ok && sp.Unknown == nil && (sp.SystemID == s.systemID || sp.SystemID == "")
}

// reportOf gives what the receiver says of its positions, when they are those of the very cluster that the server is.
func (b *builder) reportOf(s *server) (r state.Receiver, ok bool) {
	r, ok = b.seen.Receivers[s.Name]
	sp := b.seen.Spools[s.Name]
	return r, ok && r.Unknown == nil && (sp.SystemID == s.systemID || sp.SystemID == "")
}

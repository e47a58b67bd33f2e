package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// OK is the severity of what Checked found in order. A plan's own Findings never have it.
const OK Severity = "ok"

// Checked says what a check finds beside the plan's Findings. With severity OK, what was looked at and found in order: for each
// repository its place, for each server connection, replication connection, role, settings, identity, slot, receiver,
// spool, and in each repository backups, their age and size, room for the next one, WAL and retention. With another
// severity, what a plan repairs or cannot help, and a check must not call in order: no receiver, no slot, an overdue
// backup. What was not seen is in neither.
func (p *Plan) Checked(spec *hclspec.Spec, seen state.Observation) []Finding {
	c := &checker{builder: newBuilder(spec, seen, p.Now, p.Options), plan: p}
	for i := range spec.Repositories {
		c.repository(&spec.Repositories[i])
	}
	for i := range spec.Servers {
		c.server(&spec.Servers[i])
	}
	return c.good
}

// checker gathers verdicts.
type checker struct {
	*builder
	plan *Plan
	good []Finding
}

// bad adds a verdict that is not good.
func (c *checker) bad(severity Severity, code state.Code, subject string, texts ...string) {
	f := Finding{Severity: severity, Code: code, Subject: subject, Text: texts[0]}
	if len(texts) > 1 {
		f.Hint = texts[1]
	}
	c.good = append(c.good, f)
}

// say adds a line unless an error or warning of one of the codes stands against it.
func (c *checker) say(subject, text string, against ...state.Code) {
	for _, f := range c.plan.Findings {
		if f.Subject == subject && slices.Contains(against, f.Code) {
			return
		}
	}
	c.good = append(c.good, Finding{Severity: OK, Subject: subject, Text: text})
}

func (c *checker) repository(r *hclspec.Repository) {
	p := c.repositories[r.Name]
	if !p.known {
		return
	}
	text := fmt.Sprintf("repository: %s is there, format %d", p.seen.Location, p.seen.Format)
	if p.seen.Total > 0 && p.seen.Free >= 0 {
		text += fmt.Sprintf(", %s free of %s", Size(p.seen.Free), Size(p.seen.Total))
	}
	c.say(r.Address, text, state.CodeDiskFull)
	c.encryption(r, p.seen.Encryption)
}

// encryption says which keys can be read here.
func (c *checker) encryption(r *hclspec.Repository, e *state.Encryption) {
	if e == nil {
		return
	}
	closed := 0
	for _, k := range e.Keys {
		if !k.Data {
			closed++
		}
	}
	text := fmt.Sprintf("encryption: the identities here open all keys of the repository (%d), data included", len(e.Keys))
	if closed > 0 {
		text = fmt.Sprintf("encryption: the identities here open the metadata of all keys of the repository (%d), and not the data of %d: restores are made where an identity of one of the data_recipients is", len(e.Keys), closed)
	}
	c.say(r.Address, text)
	if !e.Writes {
		c.say(r.Address, "encryption: no signing_key is here: this machine reads and writes nothing")
	}
}

func (c *checker) server(spec *hclspec.Server) {
	quiet := newBuilder(c.spec, c.seen, c.now, Options{}) // what gather says again is not wanted twice
	s := quiet.gather(spec)
	if s.known {
		c.onServer(s)
	}
	c.received(s)
	c.promised(s)
	c.drilled(s)
	for _, h := range s.homes {
		c.archived(s, h)
	}
}

// onServer says what is in order on the server itself.
func (c *checker) onServer(s *server) {
	version := fmt.Sprintf("%d.%d", s.seen.Major(), s.seen.Version%10000)
	c.say(s.Address, "connection: "+orUnknown(s.seen.Host)+" answers as PostgreSQL "+version)
	c.walsender(s)
	if r := s.seen.Role; r.Replication || r.Superuser {
		c.say(s.Address, "role: "+r.Name+" may replicate"+alsoMay(r), state.CodeRole, state.CodePrivilege)
	}
	c.say(s.Address, "identity: system identifier "+s.systemID+", timeline "+fmt.Sprint(s.seen.Timeline), state.CodeIdentity, state.CodeFork)
	var settings []string
	for _, name := range []string{"wal_level", "max_wal_senders", "max_replication_slots"} {
		if v, ok := s.seen.Settings[name]; ok {
			settings = append(settings, name+" = "+v)
		}
	}
	if len(settings) > 0 {
		c.say(s.Address, "settings: "+strings.Join(settings, ", "), state.CodeSettings)
	}
	if told, known := tells(s); known && c.incrementals(s.Name) {
		text := "the server is asked which pages changed (summarize_wal = on)"
		if !told {
			text = "the whole cluster is read and compared each time; the server would tell which pages changed with ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();"
		}
		c.say(s.Address, "incremental backups: "+text)
	}
	slot := findSlot(s.seen, s.Slot.Name)
	if slot != nil && slot.Physical && slot.RestartLSN != 0 && (slot.WALStatus == state.SlotReserved || slot.WALStatus == state.SlotExtended) {
		c.say(s.Address, fmt.Sprintf("slot: %s is %s and holds back %s", slot.Name, slot.WALStatus, Size(slot.Retained)), state.CodeSlotInUse, state.CodeSlotLost)
	}
	if slot == nil {
		c.bad(Error, state.CodeSlotAbsent, s.Address, "there is no slot "+s.Slot.Name+": PostgreSQL may remove WAL before it is archived", "pgkeep apply")
	}
}

// incrementals tells whether a schedule orders incremental backups of a server.
func (c *checker) incrementals(server string) bool {
	return slices.ContainsFunc(c.schedules[server], func(d *due) bool { return d.spec.Backup != "full" })
}

// walsender says whether a replication connection can be opened now, where one was tried: a stream that lives proves only
// that it could when it began.
func (c *checker) walsender(s *server) {
	w := s.seen.Walsender
	switch {
	case w == nil:
	case w.Unknown != nil:
		text := "a replication connection cannot be opened: " + w.Unknown.Because
		if r := c.seen.Receivers[s.Name]; r.Running && r.Streaming {
			text += "; the receiver still streams, and could not come back once it is cut off"
		}
		c.bad(Error, w.Unknown.Code, s.Address, text, w.Unknown.Hint)
	case w.SystemID != s.systemID:
		c.bad(Error, state.CodeIdentity, s.Address, fmt.Sprintf("a replication connection reaches %s with system identifier %s, and a connection %s with %s",
			orUnknown(w.Host), w.SystemID, orUnknown(s.seen.Host), s.systemID), "name one server in conninfo: something between sends the two kinds of connections to different ones")
	default:
		c.say(s.Address, "replication connection: "+orUnknown(w.Host)+" identifies itself as "+w.SystemID)
	}
}

// alsoMay tells what the role may do beyond what is needed, and names what it may not.
func alsoMay(r state.Role) string {
	var may, not []string
	for _, p := range []struct {
		has  bool
		what string
	}{
		{r.SwitchWAL || r.Superuser, "switch WAL"},
		{r.CreateRestore || r.Superuser, "create restore points"},
		{r.ReadAllSettings || r.Superuser, "read all settings"},
		{r.ReadAllStats || r.Superuser, "read all statistics"},
	} {
		if p.has {
			may = append(may, p.what)
		} else {
			not = append(not, p.what)
		}
	}
	out := ""
	if len(may) > 0 {
		out += ", " + strings.Join(may, ", ")
	}
	if len(not) > 0 {
		out += "; it may not " + strings.Join(not, ", ") + ", which nothing here needs"
	}
	return out
}

// received says how receiver and spool are.
func (c *checker) received(s *server) {
	r, ok := c.seen.Receivers[s.Name]
	switch {
	case !ok || r.Unknown != nil || r.Problem != nil: // said by the plan, or by who looked
	case !r.Running:
		c.bad(Error, state.CodeReceiver, s.Address, "no receiver of "+s.Name+" runs: WAL stays on the server", "pgkeep apply, or start the agent: systemctl start pgkeep-agent")
	case !r.Streaming:
		c.bad(Error, state.CodeReceiver, s.Address, fmt.Sprintf("the receiver of %s runs (process %d) and does not stream", s.Name, r.PID), "pgkeep receiver status "+s.Name)
	default:
		behind := "nothing behind"
		if r.Flushed < r.ServerEnd {
			behind = Size(int64(r.ServerEnd-r.Flushed)) + " behind"
		}
		c.say(s.Address, fmt.Sprintf("receiver: streams, %s is durable, %s; %s is archived in every repository", r.Flushed, behind, r.Archived))
	}
	sp, ok := c.seen.Spools[s.Name]
	if ok && sp.Unknown == nil && sp.Durable != 0 && !c.spoolFull(s, sp.Path) {
		c.say(s.Address, fmt.Sprintf("spool: %s has %s free", sp.Path, Size(sp.Free)), state.CodeCorrupt, state.CodeFork)
	}
}

// spoolFull tells whether the plan says that the spool lacks space; a repository may lack it under the same code.
func (c *checker) spoolFull(s *server, path string) bool {
	return slices.ContainsFunc(c.plan.Findings, func(f Finding) bool {
		return f.Subject == s.Address && f.Code == state.CodeDiskFull && strings.Contains(f.Text, path)
	})
}

// archived says what is in order of one server in one repository.
func (c *checker) archived(s *server, h *home) {
	if h.archive == nil {
		return
	}
	usable, newest := 0, (*state.Backup)(nil)
	for i := range h.archive.Backups {
		k := &h.archive.Backups[i]
		if h.archive.usability(k) == state.Usable {
			usable++
			if newest == nil || k.Ended.After(newest.Ended) {
				newest = k
			}
		}
	}
	if newest != nil {
		text := fmt.Sprintf("backups: %s in %s, the newest of %s, %s ago", count(usable, "usable backup"), h.spec.Address, Moment(newest.Ended), Span(c.now.Sub(newest.Ended)))
		c.say(s.Address, text, state.CodeTarget, state.CodeCorrupt)
	}
	c.tries(s, h)
	c.age(s, h, newest)
	c.sizes(s, h)
	if need, how, known := c.nextBackup(s, h); known && h.seen.Free > 0 && need <= h.seen.Free {
		c.say(s.Address, fmt.Sprintf("room: the next backup needs about %s (%s), and %s has %s free", Size(need), how, h.spec.Address, Size(h.seen.Free)))
	}
	if spans := h.archive.intervals(); len(spans) == 1 {
		c.say(s.Address, fmt.Sprintf("WAL: in %s without a gap from %s to %s", h.spec.Address, spans[0].FromLSN, spans[0].ToLSN), state.CodeGap)
	}
	var names []string
	for _, r := range c.retentions[s.Name] {
		if len(r.Repositories) == 0 || containsString(r.Repositories, h.spec.Name) {
			names = append(names, r.Name)
		}
	}
	c.verified(s, h)
	if len(names) > 0 {
		c.say(s.Address, fmt.Sprintf("retention: %s in %s", strings.Join(names, " and "), h.spec.Address))
	}
}

// promised says which objectives are met; one that is missed fails a check. One that is not proven is a warning of the plan.
func (c *checker) promised(s *server) {
	for _, o := range c.plan.Objectives {
		if o.Server != s.Name {
			continue
		}
		for _, p := range []*Promise{o.RPO, o.RTO} {
			if p == nil || !p.Known {
				continue
			}
			name := "rto"
			if p == o.RPO {
				name = "rpo"
			}
			text := p.sentence(name, time.Duration(p.Promised*float64(time.Second)))
			if p.Met {
				c.say(s.Address, text)
				continue
			}
			for _, f := range c.plan.Findings {
				if f.Code == state.CodeObjective && f.Subject == s.Address && f.Text == text {
					c.bad(Error, f.Code, s.Address, f.Text, f.Hint)
				}
			}
		}
	}
}

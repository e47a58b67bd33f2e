package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// OK is the severity of what Checked found in order. A plan's own Findings never have it.
const OK Severity = "ok"

// Checked says what was looked at and found in order: for each repository its place, for each server connection, role,
// settings, identity, slot, receiver, spool, and in each repository backups, WAL and retention. What is not in order is
// among the plan's Findings, and what was not seen is in neither.
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

// checker gathers what is in order.
type checker struct {
	*builder
	plan *Plan
	good []Finding
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
}

func (c *checker) server(spec *hclspec.Server) {
	quiet := newBuilder(c.spec, c.seen, c.now, Options{}) // what gather says again is not wanted twice
	s := quiet.gather(spec)
	if s.known {
		c.onServer(s)
	}
	c.received(s)
	for _, h := range s.homes {
		c.archived(s, h)
	}
}

// onServer says what is in order on the server itself.
func (c *checker) onServer(s *server) {
	version := fmt.Sprintf("%d.%d", s.seen.Major(), s.seen.Version%10000)
	c.say(s.Address, "connection: "+orUnknown(s.seen.Host)+" answers as PostgreSQL "+version)
	if r := s.seen.Role; r.Replication || r.Superuser {
		c.say(s.Address, "role: "+r.Name+" may replicate", state.CodeRole, state.CodePrivilege)
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
	slot := findSlot(s.seen, s.Slot.Name)
	if slot != nil && slot.Physical && slot.RestartLSN != 0 && (slot.WALStatus == state.SlotReserved || slot.WALStatus == state.SlotExtended) {
		c.say(s.Address, fmt.Sprintf("slot: %s is %s and holds back %s", slot.Name, slot.WALStatus, Size(slot.Retained)), state.CodeSlotInUse, state.CodeSlotLost)
	}
}

// received says what is in order of receiver and spool.
func (c *checker) received(s *server) {
	if r, ok := c.seen.Receivers[s.Name]; ok && r.Unknown == nil && r.Running && r.Streaming && r.Problem == nil {
		behind := "nothing behind"
		if r.Flushed < r.ServerEnd {
			behind = Size(int64(r.ServerEnd-r.Flushed)) + " behind"
		}
		c.say(s.Address, fmt.Sprintf("receiver: streams, %s is durable, %s", r.Flushed, behind))
	}
	sp, ok := c.seen.Spools[s.Name]
	if ok && sp.Unknown == nil && sp.Durable != 0 {
		c.say(s.Address, fmt.Sprintf("spool: %s has %s free", sp.Path, Size(sp.Free)), state.CodeDiskFull, state.CodeCorrupt, state.CodeFork)
	}
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
	if spans := h.archive.intervals(); len(spans) == 1 {
		c.say(s.Address, fmt.Sprintf("WAL: in %s without a gap from %s to %s", h.spec.Address, spans[0].FromLSN, spans[0].ToLSN), state.CodeGap)
	}
	var names []string
	for _, r := range c.retentions[s.Name] {
		if len(r.Repositories) == 0 || containsString(r.Repositories, h.spec.Name) {
			names = append(names, r.Name)
		}
	}
	if len(names) > 0 {
		c.say(s.Address, fmt.Sprintf("retention: %s in %s", strings.Join(names, " and "), h.spec.Address))
	}
}

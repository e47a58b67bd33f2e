package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// report says what was seen, what was decided and why, and what is still missing.
func (d *draft) report(file string, p *plan.Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is written, from what %s showed:\n\n", file, printable(d.seen.Host))
	section(&b, "", d.facts())
	section(&b, "Decided:", d.decisions)
	missing := d.missing(p)
	section(&b, "Still missing before pgkeep can protect it:", missing)
	section(&b, "Worth knowing:", d.notes())
	section(&b, "May be granted as a superuser, and pgkeep does without:", d.grants())
	if len(d.dropped) > 0 {
		var lines []string
		for _, h := range d.dsn.Hosts() {
			name, port := h, "*"
			if n := strings.LastIndexByte(h, ':'); n >= 0 && !strings.HasPrefix(h, "/") {
				name, port = strings.Trim(h[:n], "[]"), h[n+1:]
			} else if strings.HasPrefix(h, "/") {
				name = "localhost"
			}
			lines = append(lines, fmt.Sprintf("%s:%s:*:%s:PASSWORD", strings.ReplaceAll(name, ":", `\:`), port, d.dsn.User()))
		}
		section(&b, "The password is not in the file. Write it into ~/.pgpass, mode 0600, of the user who runs pgkeep:", lines)
	}
	if len(missing) == 0 {
		b.WriteString("Nothing is missing on the server. ")
	}
	b.WriteString("Next:\n\n  pgkeep validate\n  pgkeep plan\n")
	return b.String()
}

func section(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	if title != "" {
		b.WriteString(title + "\n\n")
	}
	for _, l := range lines {
		b.WriteString("  " + l + "\n")
	}
	b.WriteString("\n")
}

// facts is what the server showed.
func (d *draft) facts() []string {
	s := d.seen
	kind := "a primary"
	if s.InRecovery {
		kind = "a standby"
	}
	out := []string{fmt.Sprintf("PostgreSQL %d.%d, %s, system identifier %s, timeline %d", s.Major(), s.Version%10000, kind, s.SystemID, s.Timeline)}
	size := "size not readable (GRANT pg_monitor)"
	if s.SizeBytes > 0 {
		size = hclspec.FormatSize(roundSize(s.SizeBytes))
	}
	checksums := "no data checksums"
	if s.PageChecksums {
		checksums = "data checksums"
	}
	out = append(out, fmt.Sprintf("%s, %s, WAL segments of %s", size, checksums, hclspec.FormatSize(int64(s.SegmentSize))))
	for _, t := range s.Tablespaces {
		out = append(out, fmt.Sprintf("tablespace %s in %s", printable(t.Name), printable(t.Location)))
	}
	var set []string
	for _, name := range []string{"wal_level", "max_wal_senders", "max_replication_slots", "archive_mode"} {
		if v, ok := s.Settings[name]; ok {
			set = append(set, name+" = "+printable(v))
		}
	}
	out = append(out, strings.Join(set, ", "))
	return append(out, fmt.Sprintf("role %s: %s", printable(s.Role.Name), roleWords(s.Role)))
}

func roleWords(r state.Role) string {
	switch {
	case r.Superuser:
		return "superuser; one with LOGIN and REPLICATION is enough"
	case r.Replication:
		return "LOGIN and REPLICATION"
	}
	return "LOGIN without REPLICATION"
}

// missing lists the statements and lines without which nothing can be done on the server.
func (d *draft) missing(p *plan.Plan) []string {
	var out []string
	for _, n := range p.NotDone {
		if n.Why.Code == "not-ready" && n.Hint != "" && !slices.Contains(out, n.Hint) {
			out = append(out, n.Hint)
		}
	}
	w := d.seen.Walsender
	switch {
	case w == nil || w.Unknown == nil:
	case w.Unknown.Code == state.CodeHBA:
		out = append(out, "in "+d.hbaFile()+", above any line that rejects:  "+d.hbaLine(w.Unknown.Because), "SELECT pg_reload_conf();")
	case len(out) == 0:
		out = append(out, w.Unknown.Because)
		if w.Unknown.Hint != "" {
			out = append(out, "→ "+w.Unknown.Hint)
		}
	}
	return out
}

func (d *draft) hbaFile() string {
	if f := d.seen.Settings["hba_file"]; f != "" {
		return printable(f)
	}
	return "pg_hba.conf"
}

// seenFrom finds the address that the server saw in its refusal.
var seenFrom = regexp.MustCompile(`host "([0-9a-fA-F.:]+)"`)

// hbaLine is the line that lets the role replicate from here.
func (d *draft) hbaLine(refusal string) string {
	role := hbaName(d.dsn.User())
	m := seenFrom.FindStringSubmatch(refusal)
	if m == nil {
		return fmt.Sprintf("local  replication  %s  scram-sha-256", role)
	}
	bits := 32
	if strings.Contains(m[1], ":") {
		bits = 128
	}
	return fmt.Sprintf("host  replication  %s  %s/%d  scram-sha-256", role, m[1], bits)
}

func hbaName(role string) string {
	if regexp.MustCompile(`^[a-z_][a-z0-9_]*$`).MatchString(role) && role != "all" {
		return role
	}
	return `"` + strings.ReplaceAll(role, `"`, `""`) + `"`
}

// notes is what the operator should know of other users of the server's WAL.
func (d *draft) notes() []string {
	s := d.seen
	var out []string
	if s.InRecovery {
		out = append(out, "it is a standby: name all members, host=A,B, so that the writable one is found and followed")
	}
	if m := s.Settings["archive_mode"]; m != "" && m != "off" {
		out = append(out, "archive_mode = "+printable(m)+": something archives WAL already; pgkeep streams beside it and changes nothing there")
	}
	for _, slot := range s.Slots {
		held := ""
		if slot.Retained > 0 {
			held = fmt.Sprintf(", holds back %s", hclspec.FormatSize(roundSize(slot.Retained)))
		}
		out = append(out, fmt.Sprintf("slot %s is another's%s; it is left alone", printable(slot.Name), held))
	}
	if s.Patroni {
		out = append(out, "Patroni manages it and drops slots that it does not know. In its dynamic configuration (patronictl edit-config):",
			fmt.Sprintf("  ignore_slots: [{name: %s, type: physical}]", "pgkeep_"+strings.ReplaceAll(d.name, "-", "_")))
	}
	if v := s.Settings["max_slot_wal_keep_size"]; v != "" && v != "-1" {
		out = append(out, "max_slot_wal_keep_size = "+printable(v)+" MB: a receiver that is away for longer than that loses its slot")
	}
	return out
}

// grants are what makes more visible or possible.
func (d *draft) grants() []string {
	r, role := d.seen.Role, `"`+strings.ReplaceAll(printable(d.seen.Role.Name), `"`, `""`)+`"`
	var out []string
	if r.Superuser {
		return nil
	}
	if !r.SwitchWAL {
		out = append(out, "GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO "+role+";  -- an idle server's last commits are archived within the hour")
	}
	if !r.CreateRestore {
		out = append(out, "GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO "+role+";  -- named restore points")
	}
	if !r.ReadAllSettings || !r.ReadAllStats {
		out = append(out, "GRANT pg_monitor TO "+role+";  -- sizes, and settings that only superusers see")
	}
	return out
}

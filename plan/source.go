package plan

import (
	"fmt"
	"slices"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// source is the server that backups are taken from: the one of conninfo, or the standby of backup.conninfo.
type source struct {
	seen    state.Server
	standby bool    // it is the one of backup.conninfo
	why     *Reason // why it is this one; nil: there is nothing to say
	refused *unfit  // why no backup can be taken; nil: one can
}

// unfit says why no backup can be taken from a server.
type unfit struct {
	code     string // of the reason
	finding  state.Code
	severity Severity
	attr     string // of the server block
	text     string
	hint     string
}

// sourceOf looks once at the server that backups are taken from, and says what is wrong with it.
func (b *builder) sourceOf(s *server) *source {
	if s.source != nil {
		return s.source
	}
	s.source = b.chooseSource(s)
	if s.source.refused == nil {
		s.source.refused = transferable(s)
	}
	if bad := s.source.refused; bad != nil && bad.finding != "" {
		b.finding(Finding{
			Severity: bad.severity, Code: bad.finding, Subject: s.Address, Text: bad.text, Hint: bad.hint, Range: rangeOf(s.Where.Of(bad.attr)),
		})
	}
	return s.source
}

func (b *builder) chooseSource(s *server) *source {
	from := s.Backup.From
	if s.Backup.Conninfo.Empty() {
		return &source{seen: s.seen, refused: wrongRole(s)}
	}
	at := s.Where.Of("backup.conninfo")
	seen := b.seen.Standbys[s.Name]
	bad := b.unfitStandby(s, seen)
	switch {
	case bad == nil:
		why := because("from-standby", fmt.Sprintf("it is taken from the standby at %s, and its WAL comes from %s", seen.Host, s.Name), at)
		return &source{seen: seen, standby: true, why: &why}
	case from == "any":
		why := because("from-primary", fmt.Sprintf("it is taken from %s itself: %s", s.Name, bad.text), at)
		return &source{seen: s.seen, why: &why}
	}
	return &source{seen: seen, standby: true, refused: bad}
}

// wrongRole tells whether the server of conninfo is not what backup.from asks for.
func wrongRole(s *server) *unfit {
	switch from := s.Backup.From; {
	case s.seen.InRecovery && from == "primary":
		return &unfit{
			code: "wrong-role", attr: "backup.from", text: s.Name + ` answers as a standby, and backup.from = "primary"`,
			hint: `point conninfo at the primary, or set backup.from = "any"`,
		}
	case !s.seen.InRecovery && from == "standby":
		return &unfit{
			code: "wrong-role", attr: "backup.from", text: s.Name + ` answers as the primary, and backup.from = "standby"`,
			hint: `name the standby in backup.conninfo, or set backup.from = "any"`,
		}
	}
	return nil
}

// unfitStandby tells what keeps a backup from being taken from the standby; nil: nothing that can be seen.
func (b *builder) unfitStandby(s *server, seen state.Server) *unfit {
	bad := func(finding state.Code, severity Severity, text, hint string) *unfit {
		return &unfit{code: "standby-unfit", finding: finding, severity: severity, attr: "backup.conninfo", text: text, hint: hint}
	}
	switch {
	case seen.Unknown != nil:
		return bad(seen.Unknown.Code, Error, seen.Unknown.Because, seen.Unknown.Hint)
	case seen.SystemID == "":
		return bad("", Warning, "the standby of "+s.Name+" was not looked at", "observe again with this pgkeep: pgkeep observe")
	case seen.SystemID != s.systemID:
		return bad(state.CodeIdentity, Error, fmt.Sprintf("%s has system identifier %s, and %s has %s: it is no standby of it", seen.Host, seen.SystemID, s.Name, s.systemID),
			"point backup.conninfo at a standby of "+s.Name)
	case !seen.InRecovery:
		return bad(state.CodeConninfo, Error, seen.Host+" is no standby: it was promoted, or is the primary itself",
			"point backup.conninfo at a standby; with several hosts in it, add target_session_attrs=standby")
	case seen.Timeline != s.seen.Timeline:
		return bad(state.CodeIdentity, Error, fmt.Sprintf("%s is on timeline %d, and %s on %d: it does not follow it", seen.Host, seen.Timeline, s.Name, s.seen.Timeline),
			"let the standby follow "+s.Name+": recovery_target_timeline = 'latest', and primary_conninfo")
	case s.seen.Settings["full_page_writes"] == "off":
		return bad(state.CodeSettings, Error, s.Name+" has full_page_writes = off, and PostgreSQL takes no backup from its standbys then",
			"ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf(); CHECKPOINT;  -- on "+s.Name)
	}
	if id, at := newestRedo(s); id != "" && seen.ReplayLSN < at {
		return bad(state.CodeStale, Warning, fmt.Sprintf("%s has replayed WAL up to %s, and backup %s begins at %s: WAL from before it may be pruned", seen.Host, seen.ReplayLSN, id, at),
			"look why the standby lags: SELECT * FROM pg_stat_wal_receiver; SELECT pg_is_wal_replay_paused();")
	}
	return nil
}

// newestRedo gives the usable backup on the server's timeline whose redo position is the newest.
func newestRedo(s *server) (id string, at wal.LSN) {
	for _, h := range s.homes {
		if h.archive == nil {
			continue
		}
		for i := range h.archive.Backups {
			k := &h.archive.Backups[i]
			if k.Timeline == s.seen.Timeline && k.Redo > at && h.archive.usability(k) == state.Usable {
				id, at = k.ID, k.Redo
			}
		}
	}
	return id, at
}

// compressesSince is the first major version that compresses a backup for the transfer.
const compressesSince = 15

// transferable tells whether the server can compress what it sends, as transfer_compression asks; nil: it can, or whether it
// can is not known: with what gzip needs it is always built.
func transferable(s *server) *unfit {
	with, from := s.Backup.TransferCompression, s.source.seen
	if with == "none" || with == "" || from.Version == 0 {
		return nil
	}
	bad := &unfit{code: "transfer-compression", finding: state.CodeSettings, severity: Error, attr: "backup.transfer_compression"}
	switch {
	case from.Major() < compressesSince:
		bad.text = fmt.Sprintf("%s is PostgreSQL %d, and transfer_compression needs %d or later", s.Name, from.Major(), compressesSince)
		bad.hint = `take transfer_compression out; on a thin network, run pgkeep near the server`
	case with == "gzip" || from.WALCompressions == nil || slices.Contains(from.WALCompressions, with):
		return nil
	default:
		bad.text = fmt.Sprintf("PostgreSQL of %s was built without %s, and transfer_compression = %q", s.Name, with, with)
		bad.hint = fmt.Sprintf("set transfer_compression = %q", otherCompression(from.WALCompressions))
	}
	return bad
}

// otherCompression gives the best that a server can compress with.
func otherCompression(has []string) string {
	for _, c := range []string{"zstd", "lz4"} {
		if slices.Contains(has, c) {
			return c
		}
	}
	return "gzip"
}

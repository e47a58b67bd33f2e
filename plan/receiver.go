package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// lagWarning is how long a receiver may be behind the server before that is worth a warning.
const lagWarning = 5 * time.Minute

// receiver starts the server's receiver when none lives, and says what ails one that does.
func (b *builder) receiver(s *server) {
	r, ok := b.seen.Receivers[s.Name]
	slot := findSlot(s.seen, s.Slot.Name)
	if s.stopped != "" {
		b.startAgain(s)
		return
	}
	if ok && r.Unknown == nil && r.Running {
		b.receiverHealth(s, r)
		b.restartReceiver(s, r)
		return
	}
	if !ok || r.Unknown != nil {
		if slot != nil && slot.Active {
			return // the server itself says that it lives
		}
		why := "the receiver of " + s.Name + " was not looked at"
		if r.Unknown != nil {
			why = r.Unknown.Because
		}
		b.notDone(NotDone{
			What: "start-receiver of " + s.Name, Host: b.elsewhere(s.Receiver.Host), Hint: runOn(b.elsewhere(s.Receiver.Host)),
			Why: because("receiver-unknown", why, s.Where.Of("receiver.host")),
		})
		return
	}
	if !b.here(s.Receiver.Host) {
		b.notDone(NotDone{
			What: "start-receiver of " + s.Name, Host: s.Receiver.Host, Hint: runOn(s.Receiver.Host),
			Why: because("other-host", fmt.Sprintf("it runs on %s and this machine is %s", s.Receiver.Host, b.seen.Host), s.Where.Of("receiver.host")),
		})
		return
	}
	if !b.spoolUsable(s) {
		return
	}
	s.after = append(s.after, b.step(Step{
		ID: "server." + s.Name + "/receiver", Action: StartReceiver{Server: s.Name}, Change: Add, Impact: Safe, Host: s.Receiver.Host,
		Because: []Reason{because("no-receiver", b.whyReceiver(s, r, slot), s.Where.Of("receiver"))},
		Effect:  b.receiverEffect(s), After: s.after,
		Requires: []Condition{{Code: NeedSlotPresent, Text: "the slot " + s.Slot.Name + " exists and is not lost"}, {Code: NeedNoReceiver, Text: "no receiver of " + s.Name + " runs"}},
	}))
}

// refusesNamed tells whether a receiver that runs refuses the very server that the configuration names: it was started
// before the configuration did. When its spool is of this server already, it refuses it for another cause, and would again.
func (b *builder) refusesNamed(s *server, r state.Receiver) bool {
	sp := b.seen.Spools[s.Name]
	return r.Problem != nil && r.Problem.Code == state.CodeIdentity && !r.Streaming && slices.Contains(s.Identity, s.systemID) && sp.SystemID != s.systemID
}

// restartReceiver plans a new start of a receiver that must read the configuration again. An agent does that by itself
// once it reads its configuration again, and would start anew what is stopped before it has.
func (b *builder) restartReceiver(s *server, r state.Receiver) {
	if r.Agent || !b.refusesNamed(s, r) || !b.spoolUsable(s) {
		return
	}
	at := s.Where.Of("identity.system_identifiers")
	id := "server." + s.Name + "/receiver"
	s.after = append(s.after, b.step(Step{
		ID: id + "/stop", Action: StopReceiver{Server: s.Name}, Change: Modify, Impact: Safe, Host: s.Receiver.Host,
		Because: []Reason{because("refuses-named", "the receiver of "+s.Name+" was started before the configuration named this server, and refuses it since "+Moment(r.Problem.Since), at)},
		Effect:  "nothing is lost: it receives nothing; what is in its spool stays", After: s.after,
		Requires: []Condition{{Code: NeedReceiver, Text: "the receiver of " + s.Name + " runs"}},
	}))
	s.after = append(s.after, b.step(Step{
		ID: id, Action: StartReceiver{Server: s.Name}, Change: Add, Impact: Safe, Host: s.Receiver.Host,
		Because: []Reason{because("no-receiver", "it receives from the server that the configuration names only when it is started anew", at)},
		Effect:  b.receiverEffect(s), After: s.after,
		Requires: []Condition{{Code: NeedSlotPresent, Text: "the slot " + s.Slot.Name + " exists and is not lost"}, {Code: NeedNoReceiver, Text: "no receiver of " + s.Name + " runs"}},
	}))
}

// startAgain starts a receiver that an earlier step of this plan stops.
func (b *builder) startAgain(s *server) {
	s.after = append(s.after, b.step(Step{
		ID: "server." + s.Name + "/receiver", Action: StartReceiver{Server: s.Name}, Change: Add, Impact: Safe, Host: s.Receiver.Host,
		Because: []Reason{because("no-receiver", "it was stopped so that its slot could be replaced", s.Where.Of("receiver"))},
		Effect:  b.receiverEffect(s), After: s.after,
		Requires: []Condition{{Code: NeedSlotPresent, Text: "the slot " + s.Slot.Name + " exists and is not lost"}, {Code: NeedNoReceiver, Text: "no receiver of " + s.Name + " runs"}},
	}))
}

func (b *builder) elsewhere(host string) string {
	if b.here(host) {
		return ""
	}
	return host
}

func runOn(host string) string {
	if host == "" {
		return ""
	}
	return "run on " + host
}

func (b *builder) whyReceiver(s *server, r state.Receiver, slot *state.Slot) string {
	text := "no receiver of " + s.Name + " runs"
	if !r.Reported.IsZero() {
		text = "no receiver of " + s.Name + " has run since " + Moment(r.Reported)
	}
	if slot != nil && slot.RestartLSN != 0 {
		text += fmt.Sprintf("; the slot holds back %s of WAL", Size(slot.Retained))
	}
	return text
}

func (b *builder) receiverEffect(s *server) string {
	t, end, _ := b.durable(s)
	text := "WAL is archived as it is written"
	switch {
	case s.lost != nil:
		text = fmt.Sprintf("WAL is archived again, from %s of timeline %d on", s.lost.To, s.lost.Timeline)
	case end != 0:
		text = fmt.Sprintf("WAL is archived again, from %s of timeline %d on", end, t)
	}
	if s.Receiver.Synchronous {
		text += "; commits on " + s.Name + " wait whenever this receiver stops"
	}
	return text
}

// receiverHealth finds what ails a receiver that runs.
func (b *builder) receiverHealth(s *server, r state.Receiver) {
	at := rangeOf(s.Where.Of("receiver"))
	_, _, filling := b.filling(s)
	if r.Problem != nil && (r.Problem.Code != state.CodeDiskFull || !filling) { // the spool's own finding says how full it is
		severity := Error
		if r.Problem.Code == state.CodeDiskFull && r.Streaming {
			severity = Warning // it nears its limit
		}
		hint := r.Problem.Hint
		switch {
		case r.Problem.Code != state.CodeIdentity:
		case b.refusesNamed(s, r) && r.Agent:
			hint = "the agent read the configuration before it named this server: systemctl reload pgkeep-agent"
		case b.refusesNamed(s, r):
			hint = "the configuration names this server and the receiver was started before it did: apply this plan, which starts it anew"
		default: // the plan came so far because the configuration accepts this server
			hint = fmt.Sprintf("the configuration accepts this server and the receiver was started before it did: pgkeep receiver stop %s && pgkeep apply", s.Name)
		}
		b.finding(Finding{
			Severity: severity, Code: r.Problem.Code, Subject: s.Address, Text: "the receiver says since " + Moment(r.Problem.Since) + ": " + r.Problem.Text,
			Hint: hint, Range: at,
		})
		return
	}
	if lag := b.now.Sub(r.CaughtUpAt); r.Flushed < r.ServerEnd && lag > lagWarning && !r.CaughtUpAt.IsZero() {
		b.finding(Finding{
			Severity: Warning, Code: state.CodeGap, Subject: s.Address, Range: at,
			Text: fmt.Sprintf("the receiver is %s and %s behind the server", Span(lag), Size(int64(r.ServerEnd-r.Flushed))),
			Hint: "pgkeep receiver status " + s.Name,
		})
	}
}

// spoolUsable tells whether a receiver can write its spool, and refuses one in memory.
func (b *builder) spoolUsable(s *server) bool {
	sp, ok := b.seen.Spools[s.Name]
	at := s.Where.Of("receiver.spool")
	code, why, hint := state.Code(""), "", ""
	switch {
	case !ok:
		return true
	case sp.Unknown != nil && sp.Unknown.Code != state.CodeAbsent:
		code, why, hint = sp.Unknown.Code, sp.Unknown.Because, sp.Unknown.Hint
	case sp.FileSystem == "tmpfs":
		code, why = state.CodeSettings, sp.Path+" is on tmpfs: what is acknowledged to the server there is gone after a reboot"
		hint = "choose a directory on a disk for receiver.spool"
	default:
		return true
	}
	b.notDone(NotDone{What: "start-receiver of " + s.Name, Why: because("spool-refused", why, at), Hint: hint})
	b.finding(Finding{Severity: Error, Code: code, Subject: s.Address, Text: why, Hint: hint, Range: rangeOf(at)})
	return false
}

// spool finds what ails a spool, whether or not its server answers.
func (b *builder) spool(s *server) {
	sp, ok := b.seen.Spools[s.Name]
	if !ok || sp.Unknown != nil {
		return
	}
	at := rangeOf(s.Where.Of("receiver.spool"))
	if severity, percent, filling := b.filling(s); filling {
		then := "below 10 % WAL waits on the server"
		if s.Receiver.SpoolLimit.Bytes > 0 {
			then = "and may grow to " + Size(s.Receiver.SpoolLimit.Bytes)
		}
		b.finding(Finding{
			Severity: severity, Code: state.CodeDiskFull, Subject: s.Address, Range: at,
			Text: fmt.Sprintf("the spool %s has %s free of %s (%d %%); %s", sp.Path, Size(sp.Free), Size(sp.Total), percent, then),
			Hint: "add space, or bring back the repositories so that the spool empties",
		})
	}
	if n := len(sp.Diverged); n > 0 {
		b.finding(Finding{
			Severity: Error, Code: state.CodeFork, Subject: s.Address, Range: at,
			Text: fmt.Sprintf("the spool of %s has set aside %s with other bytes than what is archived, under %s", s.Name, count(n, "segment"), sp.Path),
			Hint: "find out which server wrote them: two servers may have been promoted to the same timeline",
		})
	}
	if n := len(sp.Quarantined); n > 0 {
		b.finding(Finding{
			Severity: Warning, Code: state.CodeCorrupt, Subject: s.Address, Range: at,
			Text: fmt.Sprintf("the spool of %s has set aside %s with a failed check after the flush, to be fetched again", s.Name, count(n, "segment")),
			Hint: "check the disk under " + sp.Path,
		})
	}
}

// filling tells whether so little of the spool's file system is free that it is worth a finding, and which. Where the limit
// is one of bytes alone, others may fill the disk as far as what the spool may still grow fits on it.
func (b *builder) filling(s *server) (severity Severity, percent int64, is bool) {
	sp, ok := b.seen.Spools[s.Name]
	if !ok || sp.Unknown != nil || sp.Total <= 0 {
		return "", 0, false
	}
	percent = sp.Free * 100 / sp.Total
	if limit := s.Receiver.SpoolLimit; limit.Bytes > 0 && limit.Percent == 0 {
		return Warning, percent, percent < 10 && sp.Free < limit.Bytes-sp.Used
	}
	if percent < 10 {
		return Error, percent, true
	}
	return Warning, percent, percent < 20
}

// lineage refuses a server whose timeline does not go on from what is archived.
func (b *builder) lineage(s *server) bool {
	ours, end, _ := b.durable(s)
	at := s.Where.Of("conninfo")
	refuse := func(text, hint string) bool {
		b.notDone(NotDone{What: "everything on " + s.Name, Why: because("other-history", text, at), Hint: hint})
		b.finding(Finding{Severity: Error, Code: state.CodeFork, Subject: s.Address, Text: text, Hint: hint, Range: rangeOf(at)})
		return false
	}
	if ours == 0 || s.seen.Timeline == 0 || s.seen.Timeline == ours {
		return true
	}
	if s.seen.Timeline < ours {
		return refuse(fmt.Sprintf("%s answers on timeline %d, and timeline %d of the same cluster is archived: this is a server that was left behind", s.Name, s.seen.Timeline, ours),
			"point conninfo at the server that was promoted")
	}
	if h := s.seen.History; h != nil && !(line{timeline: h.Timeline, parents: h.Parents}).holds(ours, end) && !cutBack(*h, ours) {
		return refuse(fmt.Sprintf("timeline %d of %s does not descend from timeline %d, which is archived", s.seen.Timeline, s.Name, ours),
			"find out which server this is before anything is archived from it")
	}
	return true
}

// follow plans the step onto a new timeline of the server, unless a living receiver takes it by itself.
func (b *builder) follow(s *server) {
	ours, end, _ := b.durable(s)
	if ours == 0 || s.seen.Timeline <= ours {
		return
	}
	if r, ok := b.seen.Receivers[s.Name]; ok && (r.Unknown != nil || r.Running) {
		return // a receiver follows by itself
	}
	s.after = append(s.after, b.step(Step{
		ID: "server." + s.Name + "/timeline", Action: FollowTimeline{Server: s.Name, Timeline: s.seen.Timeline, RepositoryIDs: b.repositoryIDs(s.Repositories)}, Change: Modify, Impact: Safe,
		Because: []Reason{because("new-timeline", fmt.Sprintf("%s is on timeline %d and WAL is archived up to %s of timeline %d", s.Name, s.seen.Timeline, end, ours), s.Where.Of("conninfo"))},
		Effect:  fmt.Sprintf("archives %s; recovery goes across the promotion", s.seen.Timeline.HistoryName()), After: s.after,
		Requires: []Condition{descent(s, ours)},
	}))
}

// descent requires that the server's timeline still left ours where it was seen to.
func descent(s *server, ours wal.Timeline) Condition {
	c := Condition{Code: NeedDescent, Text: fmt.Sprintf("timeline %d descends from timeline %d", s.seen.Timeline, ours)}
	if h := s.seen.History; h != nil {
		if at, was := (line{timeline: h.Timeline, parents: h.Parents}).left(ours); was {
			c.Value = fmt.Sprintf("%d@%s", ours, at)
			c.Text += ", which it left at " + at.String()
		}
	}
	return c
}

// cutBack tells whether the new timeline left ours before the end of what we hold: then ours goes back to the switch.
func cutBack(h state.History, ours wal.Timeline) bool {
	_, was := (line{timeline: h.Timeline, parents: h.Parents}).left(ours)
	return was
}

// gap records WAL that is lost, on the receiver's evidence that the server no longer has it.
func (b *builder) gap(s *server) {
	r, ok := b.seen.Receivers[s.Name]
	slot := findSlot(s.seen, s.Slot.Name)
	if !ok || r.Unknown != nil || r.Problem == nil || r.Problem.Code != state.CodeGap || slot == nil || slot.WALStatus == state.SlotLost || slot.RestartLSN == 0 {
		return
	}
	t, end, complete := b.durable(s)
	hole := wal.Range{Timeline: t, From: end, To: s.seen.SegmentSize.Floor(slot.RestartLSN)}
	if !complete || end == 0 || hole.Empty() || s.gapRecorded(hole) {
		return
	}
	s.lost = &hole
	since := "an unknown time"
	for _, h := range s.homes {
		if h.archive != nil {
			since = Moment(h.archive.lastCommit(hole.From))
		}
	}
	s.after = append(s.after, b.step(Step{
		ID: "server." + s.Name + "/gap", Change: Modify, Impact: Safe,
		Action:   RecordGap{Server: s.Name, SystemID: s.systemID, Range: hole, Reason: r.Problem.Text, RepositoryIDs: b.repositoryIDs(s.Repositories)},
		Because:  []Reason{because("gap", fmt.Sprintf("we hold WAL up to %s, of %s, and the server's begins at %s: %s", hole.From, since, hole.To, r.Problem.Text), s.Where.Of("slot"))},
		Effect:   fmt.Sprintf("%s of WAL cannot be had again: moments from %s until the next backup ends cannot be recovered; nothing can close this", Size(hole.Bytes()), since),
		After:    s.after,
		Requires: []Condition{{Code: NeedLoss, Text: "the server no longer serves " + hole.From.String()}},
	}))
}

// gapRecorded tells whether every repository knows of the hole.
func (s *server) gapRecorded(hole wal.Range) bool {
	for _, h := range s.homes {
		if h.archive == nil {
			continue
		}
		known := make([]wal.Range, 0, len(h.archive.Gaps))
		for _, g := range h.archive.Gaps {
			known = append(known, g.Range)
		}
		if len(wal.Missing(hole, known)) > 0 {
			return false
		}
	}
	return true
}

// lastCommit gives the newest commit archived at or before a position.
func (a *archive) lastCommit(l wal.LSN) time.Time {
	var out time.Time
	for _, r := range a.WAL {
		if r.From < l {
			out = later(out, r.LastCommit)
		}
	}
	return out
}

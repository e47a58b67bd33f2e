package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// refusal is why a recovery cannot be planned.
type refusal struct {
	code       state.Code
	text, hint string
}

// recoverBlock plans the recovery block of that name.
func (b *builder) recoverBlock(name string) {
	for i := range b.spec.Recoveries {
		if b.spec.Recoveries[i].Name == name {
			b.recover(b.spec.Recoveries[i])
			return
		}
	}
	var known []string
	for _, r := range b.spec.Recoveries {
		known = append(known, r.Name)
	}
	b.refuseAsked("No such recovery", fmt.Sprintf("The configuration has no recovery %q. It has %s.", name, names(known)), nil)
}

// recover plans one recovery: destination, backup, path, and the proof that PostgreSQL can stop at the target.
func (b *builder) recover(rec hclspec.Recovery) {
	at := rec.Where.Of("target")
	refuse := func(r refusal, host string) {
		b.notDone(NotDone{What: "recover " + rec.Name, Why: because("cannot-recover", r.text, at), Hint: r.hint, Host: host})
		if host == "" {
			b.finding(Finding{Severity: Error, Code: r.code, Subject: rec.Name, Text: r.text, Hint: r.hint, Range: rangeOf(at)})
		}
	}
	if !b.here(rec.Destination.Host) {
		refuse(refusal{state.CodeOtherHost, fmt.Sprintf("its destination is on %s and this machine is %s", rec.Destination.Host, b.seen.Host), runOn(rec.Destination.Host)}, rec.Destination.Host)
		return
	}
	if b.restored(rec, refuse) {
		return
	}
	if b.opt.Start && rec.Destination.PrimaryConninfo != "" {
		refuse(refusal{state.CodeTarget, "a standby has no target that could be waited for", "leave out --start, and start it with pg_ctl when it is restored"}, "")
		return
	}
	route, why := b.route(rec)
	late := b.unpushed(rec.Server)
	if late != "" && rec.Target.Latest {
		b.finding(Finding{Severity: Warning, Code: state.CodeTarget, Subject: rec.Name, Text: late, Range: rangeOf(at)})
	}
	if why != nil && why.code == state.CodeTarget && late != "" && b.opt.RecoverTo == nil {
		why = &refusal{why.code, "what is archived does not prove that " + targetText(rec.Target) + " is reached, and this only looks: " + late, "pgkeep recover " + rec.Name}
	}
	if why == nil {
		why = b.destination(rec, route)
	}
	if why != nil {
		refuse(*why, "")
		return
	}
	if again := againText(rec.Target.Restore, b.seen.Targets[rec.Name]); again != "" {
		b.finding(Finding{Severity: Warning, Code: state.CodeTarget, Subject: rec.Name, Text: again, Hint: "look whether it is the one that is meant", Range: rangeOf(at)})
	}
	d := b.seen.Recoveries[rec.Name]
	route.Destination.Overwrite = overwrites(rec, d) // nothing else than what is shown
	s := Step{
		ID: "recovery." + rec.Name, Action: RecoverTo{Recovery: rec.Name, Route: *route, RepositoryIDs: b.repositoryIDs(b.readBy(route))}, Change: Add, Impact: Disruptive, Host: rec.Destination.Host,
		Because: []Reason{because("asked", "asked for: "+targetText(rec.Target), at), because("route", routeText(route), at)},
		Effect:  recoverEffect(route) + b.copiedWAL(rec, route),
		Proof:   b.proof(rec, route, d),
		Requires: []Condition{
			{Code: NeedDestination, Text: destinationText(rec, d)},
			{Code: NeedBackup, Text: "backup " + route.Backup + " is still there"},
			{Code: NeedWAL, Text: "all WAL of the route is still there"},
		},
	}
	if overwrites(rec, d) {
		s.Change, s.Impact = Modify, Destructive
		s.Effect += "; what is in " + rec.Destination.Path + " is restored over: pages that differ are fetched, and what the backup does not have is removed"
	}
	if b.opt.Start {
		s.Action = RecoverTo{Recovery: rec.Name, Route: *route, Start: true, Major: b.majorOf(route), Checks: rec.Checks, RepositoryIDs: b.repositoryIDs(b.readBy(route))}
		s.Effect += "; the server is started there, and waited for until it has reached the target" + askedThere(rec.Checks)
		s.Requires = append(s.Requires, Condition{Code: NeedStartable, Text: "PostgreSQL can be started there: its owner, its programs, its port"})
	}
	if n := len(rec.Checks); n > 0 && !b.opt.Start {
		s.Effect += "; its checks are asked only with --start"
	}
	b.step(s)
}

// askedThere names the checks that follow; empty: there are none.
func askedThere(checks []hclspec.Check) string {
	var names []string
	for _, c := range checks {
		names = append(names, c.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return "; there it is asked: " + strings.Join(names, ", ")
}

// unpushed says that a server's spool holds WAL which no repository has yet; empty: it holds none.
func (b *builder) unpushed(name string) string {
	sp, ok := b.seen.Spools[name]
	if !ok || sp.Unknown != nil || sp.Durable == 0 {
		return ""
	}
	var end wal.LSN
	for _, r := range b.repositories {
		for _, c := range r.seen.Clusters[name] {
			for _, w := range c.WAL {
				if c.SystemID == sp.SystemID && w.Timeline == sp.Timeline {
					end = max(end, held(w).To)
				}
			}
		}
	}
	if sp.Durable <= end {
		return ""
	}
	return fmt.Sprintf("WAL of %s from %s to %s is in its spool and not archived yet; pgkeep recover pushes it first", name, end, sp.Durable)
}

// copiedWAL says why WAL is brought beside the data directory when the configuration does not ask for it.
func (b *builder) copiedWAL(rec hclspec.Recovery, r *Route) string {
	if rec.Destination.WAL == "copy" || r.Destination.WAL != "copy" {
		return ""
	}
	return fmt.Sprintf("; user %q may not read %s, so the WAL of the route is copied beside the data directory first, as with wal = \"copy\"",
		rec.Destination.Owner, b.repositories[r.Repository].spec.Address)
}

// route chooses repository, backup and line of history for a recovery.
func (b *builder) route(rec hclspec.Recovery) (*Route, *refusal) {
	homes, systemID, why := b.sources(rec.Server)
	if why != nil {
		return nil, why
	}
	if homes, why = openHomes(rec.Server, homes); why != nil {
		return nil, why
	}
	fact := b.seen.Targets[rec.Name]
	if why := b.factRefusal(rec, homes); why != nil {
		return nil, why
	}
	if why := b.spoolRefusal(rec, homes); why != nil {
		return nil, why
	}
	var best *candidate
	var reasons []string
	for _, h := range homes {
		c, not := b.candidate(rec, h, fact)
		if c == nil {
			reasons = append(reasons, h.spec.Address+": "+not)
			continue
		}
		if best == nil || c.before(best, rec.Target.Latest) {
			best = c
		}
	}
	if best == nil {
		return nil, &refusal{state.CodeTarget, targetText(rec.Target) + " of " + rec.Server + " cannot be reached: " + strings.Join(reasons, "; ") + b.letGo(rec, homes), "pgkeep backups list " + rec.Server}
	}
	a := best.home.archive
	r := &Route{
		Server: rec.Server, SystemID: systemID, Repository: best.home.spec.Name, SegmentSize: a.size, Backup: best.backup.ID,
		Target: rec.Target, Destination: rec.Destination, WALWait: rec.WALWait, Path: a.walk(best.line, best.backup.Redo, best.end),
		TargetTimeline: best.line.timeline, End: best.end, DataBytes: best.backup.DataBytes,
		Before: fact.Before, After: fact.After, AtEnd: fact.AtEnd || rec.Target.Latest,
	}
	for _, p := range r.Path {
		r.WALBytes += int64(a.size.Ceil(p.To) - a.size.Floor(p.From))
	}
	return r, nil
}

// openHomes leaves out the repositories whose volumes and WAL no identity here opens.
func openHomes(server string, homes []*home) ([]*home, *refusal) {
	var open []*home
	var closed []string
	for _, h := range homes {
		if h.seen.ReadsData() {
			open = append(open, h)
			continue
		}
		closed = append(closed, h.spec.Address)
	}
	if len(open) == 0 && len(closed) > 0 {
		return nil, &refusal{
			state.CodeNoKey, "what " + strings.Join(closed, " and ") + " holds of " + server + " is encrypted, and no identity here opens its data",
			"run pgkeep recover where an identity of one of the data_recipients is",
		}
	}
	return open, nil
}

// sources gives the repositories that can be asked for a server, which need not be in the configuration any more.
func (b *builder) sources(name string) ([]*home, string, *refusal) {
	spec := b.serverNamed(name)
	s := &server{Server: spec}
	if spec == nil {
		s.Server = &hclspec.Server{Name: name}
		for _, r := range b.spec.Repositories {
			s.Repositories = append(s.Repositories, r.Name)
		}
	}
	if seen, ok := b.seen.Servers[name]; ok && seen.Unknown == nil {
		s.seen, s.known, s.systemID = seen, true, seen.SystemID
	}
	for _, label := range s.Repositories {
		if p := b.repositories[label]; p != nil && p.known {
			s.homes = append(s.homes, &home{place: p})
		}
	}
	if len(s.homes) == 0 {
		return nil, "", &refusal{state.CodeIO, "no repository of " + name + " was seen", "pgkeep check --repository " + strings.Join(s.Repositories, " ")}
	}
	s.systemID = b.recoverID(s)
	var out []*home
	for _, h := range s.homes {
		h.settle(s)
		if h.archive != nil {
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(x, y *home) int { return cmp.Compare(far(x), far(y)) })
	if len(out) == 0 {
		return nil, "", &refusal{state.CodeTarget, "no repository that was seen holds a backup of " + name, "pgkeep backups list"}
	}
	return out, s.systemID, nil
}

// far tells how far away a repository is: a directory of a machine is nearer than anything else.
func far(h *home) int {
	if h.spec.Path != "" {
		return 0
	}
	return 1
}

// recoverID chooses whose backups to recover when a stored name has had several system identifiers: the server's own if
// it has backups, else the one with the newest backup.
func (b *builder) recoverID(s *server) string {
	newest, id := time.Time{}, ""
	for _, h := range s.homes {
		for _, c := range h.seen.Clusters[s.Name] {
			for _, k := range c.Backups {
				if c.SystemID == s.systemID && k.State == state.BackupCommitted {
					return c.SystemID
				}
				if id == "" || k.Ended.After(newest) {
					newest, id = k.Ended, c.SystemID
				}
			}
		}
	}
	return id
}

// factRefusal refuses what the archived WAL disproves, or was not asked about.
func (b *builder) factRefusal(rec hclspec.Recovery, homes []*home) *refusal {
	t := rec.Target
	fact, observed := b.seen.Targets[rec.Name]
	if t.Latest || t.Immediate || t.LSN != 0 && !observed {
		return nil
	}
	if !observed {
		return &refusal{state.CodeTarget, "the archived WAL was not searched for " + targetText(t), "plan with this recovery asked for: pgkeep plan --recover=" + rec.Name}
	}
	if fact.Unknown != nil {
		return &refusal{fact.Unknown.Code, fact.Unknown.Because, fact.Unknown.Hint}
	}
	if fact.Reachable {
		return nil
	}
	text, hint := TargetText(t, fact)
	return &refusal{state.CodeTarget, text + b.letGo(rec, homes), hint}
}

// spoolRefusal refuses `latest` when the receiver's machine could not be asked for what it holds beyond the archive,
// or is not known because no configuration names the server, and nobody accepted that loss.
func (b *builder) spoolRefusal(rec hclspec.Recovery, homes []*home) *refusal {
	spec := b.serverNamed(rec.Server)
	sp, ok := b.seen.Spools[rec.Server]
	if !rec.Target.Latest || rec.Destination.PrimaryConninfo != "" || b.opt.AcceptLoss || ok && (sp.Unknown == nil || sp.Unknown.Code == state.CodeAbsent) {
		return nil
	}
	var end wal.LSN
	var at time.Time
	for _, h := range homes {
		if l := h.archive.endOf(h.archive.current); l > end {
			end, at = l, h.archive.lastCommit(l)
		}
	}
	if spec == nil {
		return &refusal{
			state.CodeTarget,
			fmt.Sprintf("no configuration says where the receiver of %s ran, so it could not be asked for WAL after %s (%s), the last that is archived", rec.Server, end, Moment(at)),
			"recover where the configuration is, or accept the loss of what comes after with --accept-loss",
		}
	}
	where := spec.Receiver.Host
	if where == "" {
		where = "this machine"
	}
	return &refusal{
		state.CodeTarget,
		fmt.Sprintf("the spool of %s on %s could not be asked for WAL after %s (%s), the last that is archived", rec.Server, where, end, Moment(at)),
		"run where the spool is, or accept the loss of what comes after with --accept-loss",
	}
}

// takeSpool takes what the spool has beyond the archive into the route.
func (b *builder) takeSpool(rec hclspec.Recovery, c *candidate) {
	sp, ok := b.seen.Spools[rec.Server]
	if ok && sp.Unknown == nil && sp.Timeline == c.line.timeline && sp.SystemID == c.home.archive.SystemID && sp.Durable > c.end {
		c.end = sp.Durable
	}
}

// destination refuses a directory that must not be written, or that cannot hold what is restored.
func (b *builder) destination(rec hclspec.Recovery, r *Route) *refusal {
	d, ok := b.seen.Recoveries[rec.Name]
	path := rec.Destination.Path
	no := func(hint, text string, args ...any) *refusal {
		return &refusal{state.CodeDestination, fmt.Sprintf(text, args...), hint}
	}
	switch major := b.majorOf(r); {
	case !ok:
		return no("", "the destination %s was not looked at", path)
	case d.Unknown != nil:
		return &refusal{d.Unknown.Code, d.Unknown.Because, d.Unknown.Hint}
	case d.Running && !(b.opt.Start && d.Ours): // one that this recovery started earlier is waited for; the step looks whose it is
		return no("choose another directory, or stop that server first", "a PostgreSQL server runs in %s", path)
	case d.Exists && !d.Empty && !d.Ours && !rec.Destination.Overwrite:
		return no("choose an empty directory, or restore over it with overwrite = true (--overwrite)", "%s is not empty", path)
	case overwrites(rec, d) && d.Holds != r.SystemID && (d.Holds != "" || !d.Ours):
		return no("choose another directory; only a data directory of the same cluster is restored over", "%s is not empty and holds %s, not system %s", path, heldText(d.Holds), r.SystemID)
	case !d.OwnerExists:
		return no("create the user, or name another with owner", "the user %q does not exist here", rec.Destination.Owner)
	case !d.CanOwn:
		return no("run as root or as that user", "files cannot be given to %q by this user", rec.Destination.Owner)
	case d.BinVersion == 0:
		return no("install PostgreSQL, or name its bindir", "no PostgreSQL binaries were found for %s", path)
	case major != 0 && d.BinVersion != major:
		return no(fmt.Sprintf("name the bindir of PostgreSQL %d", major), "the binaries are PostgreSQL %d and the backup is of PostgreSQL %d", d.BinVersion, major)
	}
	if slices.Contains(d.Unreadable, r.Repository) {
		r.Destination.WAL = "copy" // wal-get runs as the owner, who could not read it
	}
	if why := tablespaceRefusal(rec, r, d); why != nil {
		return why
	}
	return b.space(r, d)
}

func (b *builder) majorOf(r *Route) int {
	for _, c := range b.repositories[r.Repository].seen.Clusters[r.Server] {
		if c.SystemID == r.SystemID {
			return c.Major
		}
	}
	return 0
}

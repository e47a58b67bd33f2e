package hclspec

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

func (l *loader) buildServers() []Server {
	var out []Server
	schema := serverBlock()
	for _, label := range sortedKeys(l.servers) {
		b := l.servers[label]
		if _, ok := l.declaredValue(b); !ok {
			continue
		}
		for n := range b.instances {
			d := l.decode(&schema, b.block.Body, b.block.DefRange, &b.instances[n])
			if s := l.server(label, &b.instances[n], d); !d.broken {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b Server) int { return strings.Compare(a.Address, b.Address) })
	l.checkShared(out)
	return out
}

func (l *loader) server(label string, i *instance, d *decoded) Server {
	slot, receiver, backup := d.blocks["slot"], d.blocks["receiver"], d.blocks["backup"]
	s := Server{
		Address: i.address, Block: label, Name: i.name, Conninfo: get[Secret](d, "conninfo"),
		Repositories: l.named(l.repositories, d, "repositories"),
		Identity:     get[[]string](d.blocks["identity"], "system_identifiers"),
		Slot:         Slot{Name: text0(slot, "name"), OnLost: text0(slot, "on_lost")},
		Backup: Backup{
			FullEvery: get[time.Duration](backup, "full_every"), MaxRate: get[int64](backup, "max_rate"),
			CheckPageChecksums: get[bool](backup, "check_page_checksums"), Checkpoint: text0(backup, "checkpoint"),
			From: text0(backup, "from"), TransferCompression: text0(backup, "transfer_compression"),
			Conninfo: get[Secret](backup, "conninfo"),
		},
		Objective: Objective{RPO: get[time.Duration](d.blocks["objective"], "rpo"), RTO: get[time.Duration](d.blocks["objective"], "rto")},
		Where:     d.where(),
	}
	if s.Slot.Name == "" {
		s.Slot.Name = defaultSlot(s.Name)
	}
	s.Receiver = Receiver{
		Host: text0(receiver, "host"), Synchronous: get[bool](receiver, "synchronous"), Acknowledge: text0(receiver, "acknowledge"),
		Quorum: int(get[int64](receiver, "quorum")), Spool: text0(receiver, "spool"), SpoolLimit: get[Limit](receiver, "spool_limit"),
		OnSpoolFull: text0(receiver, "on_spool_full"), PushEvery: get[time.Duration](receiver, "push_every"),
		ApplicationName: text0(receiver, "application_name"), Timeout: get[time.Duration](receiver, "timeout"),
	}
	if s.Receiver.ApplicationName == "" {
		s.Receiver.ApplicationName = s.Slot.Name
	}
	slices.Sort(s.Identity)
	if !d.broken {
		l.checkServer(s, d)
	}
	return s
}

// checkServer refuses what contradicts itself.
func (l *loader) checkServer(s Server, d *decoded) {
	if err := checkSlot(s.Slot.Name); err != nil && !l.has(s, "slot.name") {
		l.refuse("Invalid slot name", mistake{fmt.Sprintf("The default slot name of %s, %s, is longer than 63 bytes.", s.Address, s.Slot.Name), "Name the slot: slot { name = … }."}, s.Where.Block)
	}
	if o := d.blocks["objective"]; o.present && s.Objective == (Objective{}) {
		l.refuse("Invalid objective", mistake{"An objective says rpo, rto or both.", `Write for example rpo = "10s".`}, o.at)
	}
	r := s.Receiver
	if r.Quorum > len(s.Repositories) {
		l.refuse("Invalid receiver.quorum", mistake{fmt.Sprintf("The quorum is %d, and %s writes to %d.", r.Quorum, s.Address, len(s.Repositories)), ""}, s.Where.Of("receiver.quorum"))
	}
	if r.Quorum > 0 && r.Acknowledge != "repository" {
		l.refuse("Invalid receiver.quorum", mistake{"A quorum counts repositories, and WAL is acknowledged from the spool.", `Add acknowledge = "repository".`}, s.Where.Of("receiver.quorum"))
	}
	if r.Synchronous && r.OnSpoolFull == "gap" {
		l.refuse("Invalid receiver.on_spool_full", mistake{"synchronous promises that no acknowledged commit is lost, and a gap loses some.", `Write "wait".`}, s.Where.Of("receiver.on_spool_full"))
	}
	if !s.Backup.Conninfo.Empty() && s.Backup.From == "primary" {
		l.refuse("Invalid backup.conninfo", mistake{"It leads to the standby that backups are taken from, and backup.from is \"primary\".", `Write from = "standby", or "any" to take the primary where the standby cannot be used.`}, s.Where.Of("backup.conninfo"))
	}
	for _, p := range l.buildPaths(s) {
		if overlap(p, r.Spool) {
			l.refuse("Invalid receiver.spool", mistake{fmt.Sprintf("The spool %s overlaps the repository in %s.", r.Spool, p), "Give it a directory of its own."}, s.Where.Of("receiver.spool"))
		}
	}
}

func (l *loader) has(s Server, attr string) bool { _, ok := s.Where.Attr[attr]; return ok }

// buildPaths gives the paths of the server's repositories that lie on the receiver's machine.
func (l *loader) buildPaths(s Server) []string {
	var out []string
	for _, name := range s.Repositories {
		if r, ok := l.built[name]; ok && r.Path != "" && l.onHost(r.Host) == l.onHost(s.Receiver.Host) {
			out = append(out, r.Path)
		}
	}
	return out
}

// checkShared refuses two servers with one stored name or one slot name.
func (l *loader) checkShared(all []Server) {
	names, slots := map[string]Server{}, map[string]Server{}
	for _, s := range all {
		if o, ok := names[s.Name]; ok {
			if l.takenFrom(s) || l.takenFrom(o) {
				continue // checkMoves reports the moved block
			}
			l.shared("stored name", s.Name, "stored_as", s, o)
		} else if o, ok := slots[s.Slot.Name]; ok {
			l.shared("slot name", s.Slot.Name, "slot.name", s, o)
		}
		names[s.Name], slots[s.Slot.Name] = s, s
	}
}

func (l *loader) shared(what, name, attr string, s, o Server) {
	l.refuse("Two servers share a "+what, mistake{fmt.Sprintf("%s and %s both have the %s %s.", o.Address, s.Address, what, quote(name)), "Set " + attr + " on one of them."}, s.Where.Of(attr))
}

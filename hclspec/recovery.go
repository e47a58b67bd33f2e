package hclspec

import (
	"fmt"
	"strconv"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/pgkeep/pgkeep/state/wal"
)

func (l *loader) buildRecoveries() []Recovery {
	var out []Recovery
	schema := recoveryBlock()
	for _, b := range l.sorted("recovery") {
		d := l.decode(&schema, b.Body, b.DefRange, nil)
		for _, name := range []string{"target", "destination"} {
			if !d.blocks[name].present && len(l.strange[b.Body]) == 0 {
				d.broken = true
				l.refuse("Missing block", mistake{fmt.Sprintf("recovery %q needs a block %s.", b.Labels[0], name), ""}, b.DefRange)
			}
		}
		if d.broken {
			continue
		}
		names := l.named(l.servers, d, "server")
		if len(names) > 1 {
			l.refuse("One server is wanted", mistake{fmt.Sprintf("This names %d servers: %s.", len(names), listing(names)), `Name one by its key, as server.orders["eu"].`}, d.ranges["server"])
			continue
		}
		t := d.blocks["target"]
		target, err := targetOf(t)
		if err != nil {
			l.refuse("Invalid target", err, t.at)
			continue
		}
		r := Recovery{
			Address: "recovery." + b.Labels[0], Name: b.Labels[0], Server: names[0], Target: target,
			Destination: destinationOf(d.blocks["destination"]), WALWait: get[time.Duration](d, "wal_wait"), Where: d.where(),
		}
		r.Checks = l.checks(&schema, b.Labels[0], d, l.content(&schema, b.Body).Blocks)
		if d.broken {
			continue
		}
		if err := r.Destination.check(); err != nil {
			l.refuse("Invalid destination.tablespaces", err, r.Where.Of("destination.tablespaces"))
		}
		if err := r.checkStandby(); err != nil {
			l.refuse("Invalid standby", err, r.Where.Of("destination.primary_conninfo"))
		}
		if err := r.Askable(); err != nil {
			l.refuse("Invalid check", err, r.Where.Block)
		}
		out = append(out, r)
	}
	return out
}

func destinationOf(d *decoded) Destination {
	return Destination{
		Host: text0(d, "host"), Path: text0(d, "path"), Owner: text0(d, "owner"), BinDir: text0(d, "bindir"),
		Port: int(get[int64](d, "port")), Tablespaces: get[map[string]string](d, "tablespaces"), WAL: text0(d, "wal"), Overwrite: get[bool](d, "overwrite"),
		PrimaryConninfo: text0(d, "primary_conninfo"), PrimarySlot: text0(d, "primary_slot_name"),
		Databases: sortedDatabases(get[[]string](d, "databases")),
	}
}

// check refuses directories that lie in each other.
func (d Destination) check() error {
	names := sortedKeys(d.Tablespaces)
	for n, name := range names {
		if overlap(d.Tablespaces[name], d.Path) {
			return mistake{fmt.Sprintf("Tablespace %s in %s overlaps the destination %s.", name, d.Tablespaces[name], d.Path), ""}
		}
		for _, other := range names[:n] {
			if overlap(d.Tablespaces[name], d.Tablespaces[other]) {
				return mistake{fmt.Sprintf("Tablespaces %s and %s overlap.", other, name), ""}
			}
		}
	}
	return nil
}

func targetOf(d *decoded) (Target, error) {
	t := Target{
		Time: get[time.Time](d, "time"), LSN: get[wal.LSN](d, "lsn"), XID: uint32(get[int64](d, "xid")), Restore: text0(d, "name"),
		Immediate: get[bool](d, "immediate"), Latest: get[bool](d, "latest"), Inclusive: get[bool](d, "inclusive"),
		Timeline: timelineOf(text0(d, "timeline")), Action: text0(d, "action"),
	}
	t.Time = t.inMicroseconds()
	return t, t.check()
}

// inMicroseconds gives the time with the precision of PostgreSQL's own, which would cut the rest off and could then stop
// elsewhere: until 0.1234567 s is until 0.123456, and before 0.1234567 s is before 0.123457.
func (t Target) inMicroseconds() time.Time {
	cut := t.Time.Truncate(time.Microsecond)
	if !t.Inclusive && cut.Before(t.Time) {
		return cut.Add(time.Microsecond)
	}
	return cut
}

// check refuses none or several targets, and inclusive where PostgreSQL has no such choice.
func (t Target) check() error {
	n := 0
	for _, given := range []bool{!t.Time.IsZero(), t.LSN != 0, t.XID != 0, t.Restore != "", t.Immediate, t.Latest} {
		if given {
			n++
		}
	}
	switch {
	case n == 0:
		return mistake{"No target is given.", "Give one of time, lsn, xid, name, immediate and latest."}
	case n > 1:
		return mistake{fmt.Sprintf("%d targets are given, and a recovery stops at one.", n), "Give one of time, lsn, xid, name, immediate and latest."}
	case !t.Inclusive && (t.Immediate || t.Latest || t.Restore != ""):
		return mistake{"inclusive = false has a meaning for time, lsn and xid only.", ""}
	}
	return nil
}

func checkTimeline(s string) error {
	if n, err := strconv.ParseUint(s, 10, 32); s == "latest" || err == nil && n > 0 {
		return nil
	}
	return mistake{fmt.Sprintf("%s is not a timeline.", quote(s)), `Write "latest", or a number from 1.`}
}

func timelineOf(s string) wal.Timeline {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}
	return wal.Timeline(n)
}

// RecoveryText is a recovery as the command line gives it: the attributes of the blocks as text.
type RecoveryText struct {
	Server                   string // stored name
	Time, LSN, XID, Name     string
	Immediate, Latest        bool
	Overwrite                bool
	PrimaryConninfo          string // empty: it is no standby
	PrimarySlot              string
	Exclusive                bool
	Timeline, Action         string            // empty: the default
	Path, Owner, BinDir, WAL string            // empty: the default, except Path
	Port                     int               // 0: the default
	Tablespaces              map[string]string // tablespace to directory
	WALWait                  string            // empty: the default
	Databases                []string          // empty: all
}

// NewRecovery reads a recovery that stands in no file, by the same rules as the recovery block.
func NewRecovery(r RecoveryText, zone *time.Location) (Recovery, error) {
	l := newLoader(nil, LoadOptions{Zone: zone})
	schema := recoveryBlock()
	d := l.decodeAt("", &schema, nil, nil)
	target, destination := d.blocks["target"], d.blocks["destination"]
	for _, t := range []struct {
		in     *decoded
		schema block
		texts  map[string]string
	}{
		{target, schema.blocks[0], map[string]string{"time": r.Time, "lsn": r.LSN, "xid": r.XID, "name": r.Name, "timeline": r.Timeline, "action": r.Action}},
		{destination, schema.blocks[1], map[string]string{"path": r.Path, "owner": r.Owner, "bindir": r.BinDir, "wal": r.WAL, "primary_conninfo": r.PrimaryConninfo, "primary_slot_name": r.PrimarySlot}},
		{d, schema, map[string]string{"wal_wait": r.WALWait}},
	} {
		for _, a := range t.schema.attributes {
			if err := setText(t.in, a, t.texts[a.name], zone); err != nil {
				return Recovery{}, err
			}
		}
	}
	if r.Port < 0 || r.Port > 65535 {
		return Recovery{}, mistake{fmt.Sprintf("%d is not a port.", r.Port), ""}
	}
	if r.Port > 0 {
		destination.values["port"] = int64(r.Port)
	}
	destination.values["overwrite"] = r.Overwrite
	if err := setDatabases(destination, r.Databases, zone); err != nil {
		return Recovery{}, err
	}
	target.values["immediate"], target.values["latest"], target.values["inclusive"] = r.Immediate, r.Latest, !r.Exclusive
	return finishRecovery(r, d, target, destination)
}

func finishRecovery(r RecoveryText, d, target, destination *decoded) (Recovery, error) {
	t, err := targetOf(target)
	if err != nil {
		return Recovery{}, err
	}
	to := destinationOf(destination)
	if to.Path == "" {
		return Recovery{}, mistake{"No directory to restore into is given.", ""}
	}
	for _, name := range sortedKeys(r.Tablespaces) {
		if err := checkPath(r.Tablespaces[name]); err != nil {
			return Recovery{}, err
		}
		if err := checkPlain(r.Tablespaces[name]); err != nil {
			return Recovery{}, err
		}
	}
	to.Tablespaces = r.Tablespaces
	if err := to.check(); err != nil {
		return Recovery{}, err
	}
	out := Recovery{Server: r.Server, Target: t, Destination: to, WALWait: get[time.Duration](d, "wal_wait")}
	return out, out.checkStandby()
}

// setText reads one attribute from text.
func setText(d *decoded, a attribute, value string, zone *time.Location) error {
	if value == "" {
		return nil
	}
	text, err := asWritten(value)
	if err != nil {
		return err
	}
	v, err := a.kind.read(text, zone)
	if err != nil {
		return err
	}
	d.values[a.name] = v
	return nil
}

// asWritten refuses text that cty would change: the path or name that it then is may be another's.
func asWritten(s string) (cty.Value, error) {
	if v := cty.StringVal(s); v.AsString() == s {
		return v, nil
	}
	return cty.NilVal, mistake{quote(s) + " has letters and their marks apart, which pgkeep would take for another text.", "Write it in Unicode's normal form C."}
}

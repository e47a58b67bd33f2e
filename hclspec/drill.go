package hclspec

import (
	"fmt"
	"slices"
	"time"
)

// Drill is one `drill` block: how often a server is recovered for real, and what is asked of the copy.
type Drill struct {
	Address    string
	Name       string
	Server     string // stored name
	Repository string // stored name of the one that is drilled; empty: the nearest of the server's
	Cron       string // empty: only MaxAge counts
	Timezone   string // IANA name; default UTC
	MaxAge     time.Duration
	Host       string // the machine that it runs on; empty: this one
	Scratch    string // directory for the copy while it is there; default /var/lib/pgkeep/drill
	Owner      string // user who runs the copy; empty: who runs pgkeep
	BinDir     string // of PostgreSQL's programs; empty: found on the machine
	Target     DrillTarget
	Amcheck    string // full: indexes and tables | index | off
	Canaries   int    // of the largest tables of each database, how many are counted
	MaxShrink  int    // percent of its rows that a table may have lost since the last drill
	Timeout    time.Duration
	WALWait    time.Duration // as Recovery.WALWait
	Checks     []Check       // sorted by name
	Where      Where
}

// DrillTarget is the moment that a drill recovers: exactly one is set.
type DrillTarget struct {
	Latest    bool // the end of what the repository holds
	Random    bool // any moment that the repository says it can recover
	Immediate bool // the end of the newest backup
}

// longestScratch leaves room for what a socket's path needs below it: the kernel takes 107 bytes.
const longestScratch = 70

func drillBlock() block {
	verify := verifyBlock()
	same := func(name string) attribute {
		i := slices.IndexFunc(verify.attributes, func(a attribute) bool { return a.name == name })
		return verify.attributes[i]
	}
	return block{name: "drill", label: "name", attributes: []attribute{
		{name: "server", kind: references("server"), required: true},
		{name: "repository", kind: references("repository"), otherwise: "the nearest of the server's"},
		same("cron"),
		same("timezone"),
		{name: "max_age", kind: duration(time.Hour, 3660*24*time.Hour), otherwise: "35d; none with `cron`"},
		{name: "host", kind: machine(), otherwise: "this machine"},
		{name: "scratch", kind: directory(), standard: `"/var/lib/pgkeep/drill"`},
		ownerAttribute(),
		{name: "bindir", kind: directory(), otherwise: "found on the machine"},
		{name: "amcheck", kind: oneOf("full", "index", "off"), standard: `"full"`},
		{name: "canaries", kind: whole(0, 1000), standard: "20"},
		{name: "max_shrink", kind: share(), standard: `"50%"`},
		{name: "timeout", kind: duration(time.Minute, 7*24*time.Hour), standard: `"12h"`},
		{name: "wal_wait", kind: duration(time.Second, 7*24*time.Hour), standard: `"10m"`},
	}, blocks: []block{drillTargetBlock(), checkBlock()}, refused: []string{
		"`server.x` of a `for_each` without its key", "a repository that its server does not write to", "two checks of one name",
		fmt.Sprintf("`scratch` longer than %d bytes", longestScratch), "`scratch` in a repository or spool of the machine",
	}}
}

func drillTargetBlock() block {
	return block{name: "target", single: true, attributes: []attribute{
		{name: "latest", kind: boolean(), standard: "false"},
		{name: "random", kind: boolean(), standard: "false"},
		{name: "immediate", kind: boolean(), standard: "false"},
	}, refused: []string{"not exactly one of `latest`, `random` and `immediate`; without the block: `latest`"}}
}

func (l *loader) buildDrills(servers []Server) []Drill {
	var out []Drill
	schema := drillBlock()
	for _, b := range l.sorted("drill") {
		d := l.decode(&schema, b.Body, b.DefRange, nil)
		one := Drill{
			Address: "drill." + b.Labels[0], Name: b.Labels[0], Cron: text0(d, "cron"), Timezone: text0(d, "timezone"), MaxAge: get[time.Duration](d, "max_age"),
			Host: text0(d, "host"), Scratch: text0(d, "scratch"), Owner: text0(d, "owner"), BinDir: text0(d, "bindir"), Amcheck: text0(d, "amcheck"),
			Canaries: int(get[int64](d, "canaries")), MaxShrink: int(get[int64](d, "max_shrink")), Timeout: get[time.Duration](d, "timeout"),
			WALWait: get[time.Duration](d, "wal_wait"), Target: drillTargetOf(d.blocks["target"]), Where: d.where(),
		}
		one.Checks = l.checks(&schema, b.Labels[0], d, l.content(&schema, b.Body).Blocks)
		if d.broken || !l.drillNames(&one, d) {
			continue
		}
		if one.MaxAge == 0 && one.Cron == "" {
			one.MaxAge = 35 * 24 * time.Hour
		}
		l.checkDrill(one, d, servers)
		out = append(out, one)
	}
	return out
}

func drillTargetOf(d *decoded) DrillTarget {
	if !d.present {
		return DrillTarget{Latest: true}
	}
	return DrillTarget{Latest: get[bool](d, "latest"), Random: get[bool](d, "random"), Immediate: get[bool](d, "immediate")}
}

// drillNames resolves the references of a drill; false: they name none, or several.
func (l *loader) drillNames(one *Drill, d *decoded) bool {
	named := l.named(l.servers, d, "server")
	if len(named) != 1 {
		if len(named) > 1 {
			l.refuse("One server is wanted", mistake{fmt.Sprintf("This names %d servers: %s.", len(named), listing(named)), `Name one by its key, as server.orders["eu"].`}, d.ranges["server"])
		}
		return false
	}
	one.Server = named[0]
	if !d.set("repository") {
		return true
	}
	places := l.named(l.repositories, d, "repository")
	if len(places) != 1 {
		if len(places) > 1 {
			l.refuse("One repository is wanted", mistake{fmt.Sprintf("This names %d repositories: %s.", len(places), listing(places)), "Name one by its key."}, d.ranges["repository"])
		}
		return false
	}
	one.Repository = places[0]
	return true
}

// checkDrill refuses what contradicts itself or other blocks.
func (l *loader) checkDrill(one Drill, d *decoded, servers []Server) {
	t, n := one.Target, 0
	for _, given := range []bool{t.Latest, t.Random, t.Immediate} {
		if given {
			n++
		}
	}
	if n != 1 {
		l.refuse("Invalid target", mistake{fmt.Sprintf("%d targets are given, and a drill recovers one moment.", n), "Give one of latest, random and immediate."}, d.blocks["target"].at)
	}
	at := one.Where.Of("scratch")
	if len(one.Scratch) > longestScratch {
		l.refuse("Invalid scratch", mistake{fmt.Sprintf("The path is of %d bytes, and a socket below it can have no path longer than 107.", len(one.Scratch)), fmt.Sprintf("Name one of at most %d bytes.", longestScratch)}, at)
	}
	for _, name := range sortedKeys(l.built) {
		if r := l.built[name]; r.Path != "" && l.onHost(r.Host) == l.onHost(one.Host) && overlap(r.Path, one.Scratch) {
			l.refuse("Invalid scratch", mistake{fmt.Sprintf("The scratch directory %s overlaps %s in %s.", one.Scratch, r.Address, r.Path), "Give it a directory of its own."}, at)
		}
	}
	for _, s := range servers {
		if l.onHost(s.Receiver.Host) == l.onHost(one.Host) && overlap(s.Receiver.Spool, one.Scratch) {
			l.refuse("Invalid scratch", mistake{fmt.Sprintf("The scratch directory %s overlaps the spool of %s in %s.", one.Scratch, s.Address, s.Receiver.Spool), "Give it a directory of its own."}, at)
		}
		if s.Name == one.Server && one.Repository != "" && !slices.Contains(s.Repositories, one.Repository) {
			l.refuse("Invalid repository", mistake{fmt.Sprintf("%s does not write to repository.%s.", s.Address, one.Repository), ""}, one.Where.Of("repository"))
		}
	}
}

// NewDrill gives a drill of a server that stands in no file: newest moment, every default, due by nothing but being asked for.
func NewDrill(server string) Drill {
	l := newLoader(nil, LoadOptions{})
	schema := drillBlock()
	d := l.decodeAt("", &schema, nil, nil)
	return Drill{
		Address: "drill", Name: "by-hand", Server: server, Scratch: text0(d, "scratch"), Amcheck: text0(d, "amcheck"), Canaries: int(get[int64](d, "canaries")),
		MaxShrink: int(get[int64](d, "max_shrink")), Timeout: get[time.Duration](d, "timeout"), WALWait: get[time.Duration](d, "wal_wait"), Target: DrillTarget{Latest: true},
	}
}

// Check refuses what flags may have put into a drill that no block could say.
func (d Drill) Check() error {
	if err := checkPath(d.Scratch); err != nil {
		return err
	}
	if len(d.Scratch) > longestScratch {
		return fmt.Errorf("the path of the scratch directory is of %d bytes and may have %d, because a socket lies below it", len(d.Scratch), longestScratch)
	}
	if !slices.Contains([]string{"full", "index", "off"}, d.Amcheck) {
		return fmt.Errorf("%s is none of full, index and off", quote(d.Amcheck))
	}
	return nil
}

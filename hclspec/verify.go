package hclspec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Verify is one `verify` block: how often, and how closely, what repositories hold is proved.
type Verify struct {
	Address      string
	Name         string
	Servers      []string // stored names, sorted
	Repositories []string // stored names; empty in the HCL: all of the server's
	Level        string   // quick | full
	Cron         string   // empty: only MaxAge counts
	Timezone     string   // IANA name; default UTC
	MaxAge       time.Duration
	Sample       int   // percent of volumes and segments that a full look reads; 0: all
	MaxRate      int64 // bytes a second; 0: as fast as it goes
	Where        Where
}

func verifyBlock() block {
	schedule := scheduleBlock()
	same := func(name string) attribute {
		i := slices.IndexFunc(schedule.attributes, func(a attribute) bool { return a.name == name })
		return schedule.attributes[i]
	}
	cron := same("cron")
	cron.required, cron.otherwise = false, "by `max_age` alone"
	return block{name: "verify", label: "name", attributes: []attribute{
		{name: "servers", kind: references("server"), required: true},
		{name: "repositories", kind: references("repository"), otherwise: "all of each server"},
		{name: "level", kind: oneOf("quick", "full"), standard: `"full"`},
		cron,
		same("timezone"),
		{name: "max_age", kind: duration(time.Hour, 3660*24*time.Hour), otherwise: "35d of a full look and 1d of a quick one; none with `cron`"},
		{name: "sample", kind: share(), otherwise: "everything"},
		{name: "max_rate", kind: readRate(), otherwise: "as fast as it goes"},
	}, refused: []string{"`sample` with `level = \"quick\"`", "a repository that none of its servers writes to"}}
}

// share is a part of the whole in percent, as a number of them.
func share() kind {
	parse := func(s string) (int64, error) {
		n, err := strconv.ParseInt(strings.TrimSuffix(s, "%"), 10, 64)
		if err != nil || !strings.HasSuffix(s, "%") || n < 1 || n > 99 {
			return 0, mistake{fmt.Sprintf("%s is not a share from 1%% to 99%%.", quote(s)), `Write for example "10%".`}
		}
		return n, nil
	}
	return kind{name: "share", pattern: `^[0-9]+%$`, read: readText(parse), refused: []refusal{
		{"not from 1% to 99%", `"100%"`}, {"no `%`", `"10"`},
	}}
}

// readRate is a rate at which a repository is read.
func readRate() kind {
	parse := func(s string) (int64, error) {
		n, err := parseRate(s)
		if err == nil && n < 32<<10 {
			err = mistake{fmt.Sprintf("%s is less than 32KiB/s.", quote(s)), ""}
		}
		return n, err
	}
	return kind{name: "size/s", pattern: `^[0-9.]+([KMGTP]i)?B/s$`, read: readText(parse), refused: []refusal{
		{"no `/s`", `"10MiB"`}, {"less than 32KiB/s", `"1KiB/s"`},
	}}
}

func (l *loader) buildVerifies(servers []Server) []Verify {
	var out []Verify
	schema := verifyBlock()
	for _, b := range l.sorted("verify") {
		d := l.decode(&schema, b.Body, b.DefRange, nil)
		v := Verify{
			Address: "verify." + b.Labels[0], Name: b.Labels[0],
			Servers: l.named(l.servers, d, "servers"), Repositories: l.named(l.repositories, d, "repositories"),
			Level: text0(d, "level"), Cron: text0(d, "cron"), Timezone: text0(d, "timezone"), MaxAge: get[time.Duration](d, "max_age"),
			Sample: int(get[int64](d, "sample")), MaxRate: get[int64](d, "max_rate"), Where: d.where(),
		}
		if d.broken {
			continue
		}
		if v.Sample > 0 && v.Level == "quick" {
			l.refuse("Invalid sample", mistake{"A quick look reads no volumes and segments, of which sample could be a share.", `Write level = "full", or leave sample out.`}, v.Where.Of("sample"))
			continue
		}
		if v.MaxAge == 0 && v.Cron == "" {
			v.MaxAge = 35 * 24 * time.Hour
			if v.Level == "quick" {
				v.MaxAge = 24 * time.Hour
			}
		}
		l.checkVerified(v, servers)
		out = append(out, v)
	}
	return out
}

// checkVerified refuses a repository that none of the servers writes to.
func (l *loader) checkVerified(v Verify, servers []Server) {
	for _, name := range v.Repositories {
		used, known := false, true
		for _, s := range v.Servers {
			i := slices.IndexFunc(servers, func(o Server) bool { return o.Name == s })
			known = known && i >= 0
			used = used || i >= 0 && slices.Contains(servers[i].Repositories, name)
		}
		if known && !used {
			l.refuse("Invalid repositories", mistake{fmt.Sprintf("None of the servers of %s writes to repository.%s.", v.Address, name), ""}, v.Where.Of("repositories"))
		}
	}
}

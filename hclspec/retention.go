package hclspec

import (
	"fmt"
	"slices"
	"time"
)

func (l *loader) buildRetentions(servers []Server) []Retention {
	var out []Retention
	schema := retentionBlock()
	for _, b := range l.sorted("retention") {
		d := l.decode(&schema, b.Body, b.DefRange, nil)
		r := Retention{
			Address: "retention." + b.Labels[0], Name: b.Labels[0],
			Servers: l.named(l.servers, d, "servers"), Repositories: l.named(l.repositories, d, "repositories"),
			RecoveryWindow: get[time.Duration](d, "recovery_window"), WALWindow: get[time.Duration](d, "wal_window"), Redundancy: int(get[int64](d, "redundancy")),
			MinimumRedundancy: int(get[int64](d, "minimum_redundancy")), MaxDelete: int(get[int64](d, "max_delete")),
			Enforce: text0(d, "enforce"), Where: d.where(),
		}
		if d.broken {
			continue
		}
		keep := d.blocks["keep"]
		if keep.present {
			r.Keep = keepOf(keep)
		}
		if keep.present && !r.Keep.Any() {
			l.refuse("A keep block without a number", mistake{fmt.Sprintf("keep of %s counts nothing: it has none of daily, weekly, monthly and yearly.", r.Address), "Write for example weekly = 4."}, keep.at)
			continue
		}
		if !d.set("recovery_window") && !d.set("redundancy") && r.Keep.Any() {
			l.refuse("A retention that keeps single backups only", mistake{
				fmt.Sprintf("%s has a keep block, and neither recovery_window nor redundancy: with single backups alone, no moment between them could be recovered.", r.Address),
				`Say how far back every moment must be recoverable, for example recovery_window = "7d".`,
			}, b.DefRange)
			continue
		}
		if !d.set("recovery_window") && !d.set("redundancy") {
			l.refuse("A retention without a rule", mistake{fmt.Sprintf("%s keeps nothing: it has neither recovery_window nor redundancy.", r.Address), `Write for example recovery_window = "7d".`}, b.DefRange)
			continue
		}
		if d.set("recovery_window") && r.WALWindow > r.RecoveryWindow {
			l.refuse("A window of WAL beyond that of backups", mistake{
				fmt.Sprintf("%s asks for every moment of %s (wal_window), and keeps no backup before %s for it (recovery_window).", r.Address, FormatDuration(r.WALWindow), FormatDuration(r.RecoveryWindow)),
				"Make recovery_window as long at least.",
			}, r.Where.Of("wal_window"))
			continue
		}
		out = append(out, r)
	}
	l.checkRetentions(out, servers)
	return out
}

func keepOf(d *decoded) Keep {
	number := func(name string) int { return int(get[int64](d, name)) }
	return Keep{Daily: number("daily"), Weekly: number("weekly"), Monthly: number("monthly"), Yearly: number("yearly"), Timezone: text0(d, "timezone")}
}

// checkRetentions refuses two rules for one server in one repository, and a rule for a repository that nobody uses.
func (l *loader) checkRetentions(all []Retention, servers []Server) {
	uses := map[string][]string{}
	for _, s := range servers {
		uses[s.Name] = s.Repositories
	}
	ruled := map[[2]string]string{}
	for _, r := range all {
		for _, name := range r.Repositories {
			if !slices.ContainsFunc(r.Servers, func(s string) bool { return uses[s] == nil || slices.Contains(uses[s], name) }) {
				l.refuse("Invalid repositories", mistake{fmt.Sprintf("None of the servers of %s writes to repository.%s.", r.Address, name), ""}, r.Where.Of("repositories"))
			}
		}
		l.checkRuled(r, uses, ruled)
	}
}

func (l *loader) checkRuled(r Retention, uses map[string][]string, ruled map[[2]string]string) {
	for _, s := range r.Servers {
		for _, name := range uses[s] {
			if len(r.Repositories) > 0 && !slices.Contains(r.Repositories, name) {
				continue
			}
			if other, ok := ruled[[2]string{s, name}]; ok && other != r.Address {
				l.refuse("Two retentions for one server", mistake{fmt.Sprintf("%s and %s both rule %s in repository.%s.", other, r.Address, s, name), "Leave it to one of them."}, r.Where.Of("servers"))
				return
			}
			ruled[[2]string{s, name}] = r.Address
		}
	}
}

package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// LeftOut is a step that the world needs and that Options.Targets or Options.Exclude keep out of the plan.
type LeftOut struct {
	ID   string `json:"id"`
	Verb string `json:"verb"`
	Why  string `json:"why"` // a sentence without its full stop
}

// The parts of a server and of a repository that an address can name after a slash. A step's id continues with the
// repository where it concerns one: server.orders.eu/prune/main.
func partsOf(owner string) []string {
	switch kind, _, _ := strings.Cut(owner, "."); kind {
	case "server":
		return []string{
			"backup", "copy", "copy-wal", "delete", "drill", "gap", "incomplete", "prune", "receiver", "repair", "slot", "sweep", "switch", "timeline", "verify", "wal",
		}
	case "removed":
		return []string{"receiver", "slot"}
	case "repository":
		return []string{"create"}
	}
	return nil
}

// address is what one word of the command line names: owners are beginnings of step ids ("server.orders.eu"), part is
// what follows their slash; empty: all.
type address struct {
	text   string
	owners map[string]bool
	part   string
}

// names tells whether the address names the step.
func (a address) names(s *Step) bool {
	owner, part, _ := strings.Cut(s.ID, "/")
	if a.part != "" {
		return a.owners[owner] && (part == a.part || strings.HasPrefix(part, a.part+"/"))
	}
	if a.owners[owner] {
		return true
	}
	for _, label := range writesInto(s.Action) {
		if a.owners["repository."+label] {
			return true
		}
	}
	return false
}

// writesInto gives the repositories, by label, in which an action creates or deletes backups or WAL by name. What runs
// on after its step, as a receiver does, belongs to its server.
func writesInto(a Action) []string {
	switch act := a.(type) {
	case CreateRepository:
		return []string{act.Repository}
	case TakeBackup:
		return act.Repositories
	case RemoveIncomplete:
		return []string{act.Repository}
	case Prune:
		return []string{act.Repository}
	case PruneWAL:
		return []string{act.Repository}
	case CopyBackup:
		return []string{act.Repository}
	case CopyWAL:
		return []string{act.Repository}
	case ExtendLock:
		return []string{act.Repository}
	case Repair:
		return []string{act.Repository}
	case RecoverTo:
		return []string{act.Route.Repository}
	}
	return nil
}

// book finds addresses in a configuration.
type book struct {
	owners map[string][]string // by address without quotes, blocks with for_each included
	known  []string            // addresses as they are written
}

func newBook(spec *hclspec.Spec) *book {
	b := &book{owners: map[string][]string{}}
	for i := range spec.Servers {
		b.enter(spec.Servers[i].Address, "server."+spec.Servers[i].Name)
	}
	for i := range spec.Removed {
		b.enter(spec.Removed[i].From, "removed."+spec.Removed[i].Name)
	}
	for i := range spec.Repositories {
		r := &spec.Repositories[i]
		b.enter(r.Address, r.Address)
		if owner := "repository." + r.Name; owner != r.Address {
			b.owners[unquoted(r.Address)] = append(b.owners[unquoted(r.Address)], owner)
		}
	}
	for i := range spec.Recoveries {
		b.enter(spec.Recoveries[i].Address, "recovery."+spec.Recoveries[i].Name)
	}
	return b
}

// enter books an owner under its address, its block's, and the beginning of its step ids.
func (b *book) enter(written, owner string) {
	b.known = append(b.known, written)
	block, _, instance := strings.Cut(written, "[")
	if instance && len(b.owners[block]) == 0 {
		b.known = append(b.known, block)
	}
	names := []string{unquoted(written), block, owner}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		b.owners[name] = append(b.owners[name], owner)
	}
}

// unquoted takes the quotes out of an address: most shells do so too.
func unquoted(address string) string { return strings.NewReplacer(`"`, "", `'`, "").Replace(address) }

// find reads one word. The error says what was probably meant.
func (b *book) find(flag, text string) (address, error) {
	base, part, _ := strings.Cut(unquoted(text), "/")
	owners := b.owners[base]
	if len(owners) == 0 {
		return address{}, b.unknown(flag, text, base, part)
	}
	a := address{text: text, owners: make(map[string]bool, len(owners)), part: part}
	for _, o := range owners {
		a.owners[o] = true
	}
	if part == "" {
		return a, nil
	}
	first, _, _ := strings.Cut(part, "/")
	if known := partsOf(owners[0]); !slices.Contains(known, first) {
		hint := "its parts are " + names(known)
		if near := hclspec.Nearest(first, known); near != "" {
			hint = "Did you mean " + strings.TrimSuffix(text, part) + near + "?"
		}
		return a, &state.Error{Text: fmt.Sprintf("%s %s: %s has no part %q", flag, text, strings.TrimSuffix(text, "/"+part), first), Hint: hint}
	}
	return a, nil
}

func (b *book) unknown(flag, text, base, part string) error {
	near := hclspec.Nearest(base, b.known)
	if near == "" { // perhaps only the kind of block was left out
		for _, known := range b.known {
			if _, name, _ := strings.Cut(unquoted(known), "."); name == base {
				near = known
			}
		}
	}
	e := &state.Error{Text: fmt.Sprintf("%s %s: the configuration has no such address", flag, text), Hint: "it has " + names(b.known)}
	if near != "" {
		if part != "" {
			near += "/" + part
		}
		e.Hint = "Did you mean " + near + "?"
	}
	return e
}

// scope is what the options leave of a plan.
type scope struct{ targets, exclude, replace []address }

// Check tells whether the configuration has what the options name. The error is a *state.Error whose hint says what was
// probably meant.
func (o Options) Check(spec *hclspec.Spec) error {
	_, err := o.scope(spec)
	return err
}

func (o Options) scope(spec *hclspec.Spec) (scope, error) {
	var s scope
	if len(o.Targets)+len(o.Exclude)+len(o.Replace) == 0 {
		return s, nil
	}
	b := newBook(spec)
	for _, list := range []struct {
		flag  string
		words []string
		into  *[]address
	}{{"--target", o.Targets, &s.targets}, {"--exclude", o.Exclude, &s.exclude}, {"--replace", o.Replace, &s.replace}} {
		for _, word := range list.words {
			a, err := b.find(list.flag, word)
			if err != nil {
				return s, err
			}
			*list.into = append(*list.into, a)
		}
	}
	for _, a := range s.replace {
		for owner := range a.owners {
			if !strings.HasPrefix(owner, "server.") || a.part != "slot" && a.part != "backup" {
				return s, &state.Error{
					Text: "--replace " + a.text + ": what can be replaced is a server's slot, which is dropped and created anew, and its backup, which is taken anew",
					Hint: "for example --replace='server.orders/slot' or --replace='server.orders/backup'",
				}
			}
		}
	}
	return s, nil
}

// replaces tells whether a part of a server is to be made anew though nothing is wrong with it.
func (s scope) replaces(server *server, part string) bool {
	return slices.ContainsFunc(s.replace, func(a address) bool { return a.part == part && a.owners["server."+server.Name] })
}

// limit leaves in the plan the steps that are targets, those that they need, and none that is excluded or needs one that
// is. What is said of owners that are not asked for goes too.
func (b *builder) limit() {
	if len(b.scope.targets)+len(b.scope.exclude) == 0 {
		return
	}
	why := b.unwanted()
	kept := b.plan.Steps[:0:0]
	for _, s := range b.plan.Steps {
		if reason := why[s.ID]; reason != "" {
			b.plan.LeftOut = append(b.plan.LeftOut, LeftOut{ID: s.ID, Verb: Verb(s.Action), Why: reason})
			continue
		}
		kept = append(kept, s)
	}
	b.plan.Steps = kept
	b.silence(kept)
}

// unwanted says of each step that does not stay why not.
func (b *builder) unwanted() map[string]string {
	why, needed := map[string]string{}, map[string]bool{}
	for i := range b.plan.Steps { // After names earlier steps only
		s := &b.plan.Steps[i]
		if i := slices.IndexFunc(b.scope.exclude, func(a address) bool { return a.names(s) }); i >= 0 {
			why[s.ID] = "--exclude=" + b.scope.exclude[i].text
		}
		for _, id := range s.After {
			if why[s.ID] == "" && why[id] != "" {
				why[s.ID] = "it comes after " + id + ", which is left out"
			}
		}
	}
	if len(b.scope.targets) == 0 {
		return why
	}
	for i := len(b.plan.Steps) - 1; i >= 0; i-- {
		s := &b.plan.Steps[i]
		wanted := needed[s.ID] || slices.ContainsFunc(b.scope.targets, func(a address) bool { return a.names(s) })
		if why[s.ID] != "" {
			continue
		}
		if !wanted {
			why[s.ID] = "no target needs it"
			continue
		}
		for _, id := range s.After {
			needed[id] = true
		}
	}
	return why
}

// silence takes out what is said of servers and repositories that nobody asked about.
func (b *builder) silence(kept []Step) {
	touched := map[string]bool{}
	for i := range kept {
		owner, _, _ := strings.Cut(kept[i].ID, "/")
		touched[owner] = true
	}
	for i := range b.spec.Servers { // a target's repositories are asked for with it
		s := &b.spec.Servers[i]
		if !slices.ContainsFunc(b.scope.targets, func(a address) bool { return a.owners["server."+s.Name] }) {
			continue
		}
		for _, label := range s.Repositories {
			if p := b.repositories[label]; p != nil {
				touched[p.spec.Address] = true
			}
		}
	}
	asked := func(owner string) bool {
		if owner == "" || touched[owner] {
			return true
		}
		whole := func(a address) bool { return a.owners[owner] && a.part == "" }
		part := func(a address) bool { return a.owners[owner] }
		if slices.ContainsFunc(b.scope.exclude, whole) {
			return false
		}
		return len(b.scope.targets) == 0 || slices.ContainsFunc(b.scope.targets, part)
	}
	owners := map[string]string{}
	for i := range b.spec.Servers {
		owners[b.spec.Servers[i].Address] = "server." + b.spec.Servers[i].Name
		owners[b.spec.Servers[i].Name] = "server." + b.spec.Servers[i].Name
	}
	for i := range b.spec.Repositories {
		owners[b.spec.Repositories[i].Address] = b.spec.Repositories[i].Address
	}
	p := b.plan
	p.NotDone = slices.DeleteFunc(p.NotDone, func(n NotDone) bool { return !asked(n.Owner) })
	p.Findings = slices.DeleteFunc(p.Findings, func(f Finding) bool { return !asked(owners[f.Subject]) })
	p.Windows = slices.DeleteFunc(p.Windows, func(w Window) bool { return !asked("server." + w.Server) })
	p.Objectives = slices.DeleteFunc(p.Objectives, func(o Objective) bool { return !asked("server." + o.Server) })
	p.NextDue = slices.DeleteFunc(p.NextDue, func(d Due) bool { return !asked(owners[d.Subject]) })
}

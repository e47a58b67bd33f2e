package plan

import (
	"fmt"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// repository plans the creation of a repository where nothing is, and says of every other one that was not seen why
// nothing is planned from it.
func (b *builder) repository(r *hclspec.Repository) {
	p := b.repositories[r.Name]
	if p.known {
		b.repositorySpace(p)
		b.readers(p)
		return
	}
	what := "everything that needs " + r.Address
	unknown := p.seen.Unknown
	if unknown == nil {
		b.notDone(NotDone{What: what, Why: because("not-seen", r.Address+" was not looked at", r.Where.Block)})
		return
	}
	if unknown.Code == state.CodeOtherHost || !b.here(r.Host) {
		b.notDone(NotDone{
			What: what, Host: r.Host, Hint: "run on " + r.Host,
			Why: because("other-host", fmt.Sprintf("%s lives on %s and this machine is %s", r.Address, r.Host, b.seen.Host), r.Where.Of("host")),
		})
		return
	}
	if unknown.Code == state.CodeAbsent {
		b.createRepository(p, what)
		return
	}
	b.refuseRepository(p, what, unknown.Code, unknown.Because, unknown.Hint)
}

func (b *builder) createRepository(p *place, what string) {
	r := p.spec
	if p.seen.FstabMount != "" {
		b.refuseRepository(p, what, state.CodeNotMounted,
			fmt.Sprintf("%s is on %s, which /etc/fstab names and which is not mounted", r.Location(), p.seen.FstabMount), "mount "+p.seen.FstabMount)
		return
	}
	if proof := b.earlier(r); proof != "" {
		b.refuseRepository(p, what, state.CodeNotMounted,
			fmt.Sprintf("%s holds no repository, but %s: one existed before", r.Location(), proof),
			"mount or bring back what was at "+r.Location()+"; if it is gone for good, "+b.forgetting(r)+" first")
		return
	}
	if name := b.allUnseen(r); name != "" {
		b.notDone(NotDone{
			What: what, Why: because("server-unknown", fmt.Sprintf("%s holds no repository, and whether one existed before is not known: no server that uses it answers, %s among them", r.Location(), name), r.At()),
			Hint: "pgkeep check",
		})
		return
	}
	p.known = true
	p.create = b.step(Step{
		ID: r.Address + "/create", Action: CreateRepository{Repository: r.Name}, Change: Add, Impact: Safe, Host: r.Host,
		Because:  []Reason{because("no-repository", r.Location()+" is absent or empty, and nothing shows that a repository was there before", r.At())},
		Effect:   "writes REPOSITORY.json and README.txt; backups and WAL can be stored from then on" + encryptionEffect(r.Encryption),
		Requires: []Condition{{Code: NeedNoRepository, Text: r.Location() + " is absent or empty"}},
	})
}

// encryptionEffect says loudly, before anything is encrypted, who alone will be able to read it.
func encryptionEffect(e *hclspec.Encryption) string {
	if e == nil {
		return ""
	}
	text := fmt.Sprintf("; everything is encrypted, and only the holders of %s can restore: when all of these keys are lost, every backup is lost, and nobody can bring it back. Keep copies of them apart from this machine, and try one: pgkeep key check",
		andList(e.DataRecipients))
	if e.SigningKey == "" {
		text += ". No signing_key is named: the repository cannot be created from here"
	}
	return text
}

// andList joins words for a sentence.
func andList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// forgetting names what must go before a new repository may be created at this place: what proves that there was one.
func (b *builder) forgetting(r *hclspec.Repository) string {
	var out []string
	for i := range b.spec.Servers {
		s := &b.spec.Servers[i]
		if !containsString(s.Repositories, r.Name) {
			continue
		}
		if srv, ok := b.seen.Servers[s.Name]; ok && srv.Unknown == nil && findSlot(srv, s.Slot.Name) != nil {
			out = append(out, "drop the slot "+s.Slot.Name+" on "+s.Name)
		}
		if sp, ok := b.seen.Spools[s.Name]; ok && sp.Unknown == nil && sp.Durable != 0 {
			out = append(out, "remove the spool "+sp.Path)
		}
	}
	return strings.Join(out, " and ")
}

func (b *builder) refuseRepository(p *place, what string, code state.Code, why, hint string) {
	at := p.spec.At()
	b.notDone(NotDone{What: what, Why: because("repository-unknown", why, at), Hint: hint})
	b.finding(Finding{Severity: Error, Code: code, Subject: p.spec.Address, Text: why, Hint: hint, Range: rangeOf(at)})
}

// allUnseen names a server of the repository when none of them answered: its slot would have told whether a repository
// was there. Empty: one did, or the repository has no server.
func (b *builder) allUnseen(r *hclspec.Repository) string {
	name := ""
	for i := range b.spec.Servers {
		s := &b.spec.Servers[i]
		if !containsString(s.Repositories, r.Name) {
			continue
		}
		if seen, ok := b.seen.Servers[s.Name]; ok && seen.Unknown == nil {
			return ""
		}
		name = s.Name
	}
	return name
}

// earlier looks for proof that a repository existed at this place: a server has a slot of ours or received WAL
// already, and no other repository of its is here that these could come from.
func (b *builder) earlier(r *hclspec.Repository) string {
	for i := range b.spec.Servers {
		s := &b.spec.Servers[i]
		uses, elsewhere := false, false
		for _, name := range s.Repositories {
			uses = uses || name == r.Name
			if o := b.repositories[name]; name != r.Name && o != nil && o.known && o.create == "" {
				elsewhere = true
			}
		}
		if !uses || elsewhere {
			continue
		}
		if sp, ok := b.seen.Spools[s.Name]; ok && sp.Unknown == nil && sp.Durable != 0 {
			return fmt.Sprintf("the spool %s has WAL of %s up to %s", sp.Path, s.Name, sp.Durable)
		}
		if srv, ok := b.seen.Servers[s.Name]; ok && srv.Unknown == nil {
			if slot := findSlot(srv, s.Slot.Name); slot != nil && slot.Physical && slot.RestartLSN != 0 {
				return fmt.Sprintf("%s has the slot %s already", s.Name, slot.Name)
			}
		}
	}
	return ""
}

// repositorySpace warns before a repository is full.
func (b *builder) repositorySpace(p *place) {
	if p.seen.Total <= 0 || p.seen.Free < 0 || p.create != "" {
		return
	}
	percent := p.seen.Free * 100 / p.seen.Total
	if percent >= 10 {
		return
	}
	severity := Warning
	if percent < 3 {
		severity = Error
	}
	b.finding(Finding{
		Severity: severity, Code: state.CodeDiskFull, Subject: p.spec.Address, Range: rangeOf(p.spec.At()),
		Text: fmt.Sprintf("%s has %s free of %s (%d %%)", p.seen.Location, Size(p.seen.Free), Size(p.seen.Total), percent),
		Hint: "add space, or shorten the retention",
	})
}

func findSlot(s state.Server, name string) *state.Slot {
	for i := range s.Slots {
		if s.Slots[i].Name == name {
			return &s.Slots[i]
		}
	}
	return nil
}

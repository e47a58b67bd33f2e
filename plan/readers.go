package plan

import (
	"fmt"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// maxStrays bounds what lies beside the keys of a repository without a warning: creations that were broken off leave some.
const maxStrays = 100

// readers says where the readers that the configuration names and those who can open the repository differ: a list that is
// edited changes nothing before pgkeep key does.
func (b *builder) readers(p *place) {
	e, r := p.seen.Encryption, p.spec
	if e == nil || r.Encryption == nil {
		return
	}
	warn := func(text, hint string) {
		b.finding(Finding{
			Severity: Warning, Code: state.CodeNoKey, Subject: r.Address, Text: text, Hint: hint, Range: rangeOf(r.Where.Of("encryption")),
		})
	}
	if e.Strays > maxStrays {
		warn(fmt.Sprintf("%d objects below keys/ belong to no key of the repository: somebody else can write there", e.Strays),
			"find out who, and take away what lies in keys/ beside the keys that pgkeep key check --repository "+r.Name+" names")
	}
	if len(e.Missing) > 0 {
		warn(fmt.Sprintf("the configuration names readers for whom not every key is wrapped, so they cannot read everything: %s", shortReaders(e.Missing)),
			"run where an identity of one of the data_recipients is: pgkeep key add --repository "+r.Name)
	}
	if len(e.Beyond) == 0 {
		return
	}
	hint := "if they are to read no more: "
	if len(e.Missing) > 0 {
		hint = "after that, if they are to read no more: "
	}
	for _, name := range beyondNames(e.Beyond) {
		hint += fmt.Sprintf("pgkeep key remove --repository %s %s; ", r.Name, name)
	}
	warn("keys are wrapped for readers whom the configuration does not name, and who read what is written now: "+strings.Join(e.Beyond, ", "),
		hint+"pgkeep key rotate --repository "+r.Name)
}

// shortReaders writes readers for a sentence: a recipient that a quantum computer could not break has 2,000 letters.
func shortReaders(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		if out[i] = n; len(n) > 80 {
			out[i] = n[:30] + "…"
		}
	}
	return strings.Join(out, ", ")
}

// beyondNames gives each reader of "meta X" and "data X" once.
func beyondNames(beyond []string) []string {
	var out []string
	for _, x := range beyond {
		if _, name, ok := strings.Cut(x, " "); ok && !containsString(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// plainBeside warns of a server whose backups are encrypted in one repository and lie open in another.
func (b *builder) plainBeside(s *server) {
	var sealed, plain []string
	for _, name := range s.Repositories {
		var r *hclspec.Repository
		if p := b.repositories[name]; p != nil {
			r = p.spec
		}
		switch {
		case r == nil:
		case r.Encryption != nil:
			sealed = append(sealed, r.Address)
		default:
			plain = append(plain, r.Address)
		}
	}
	if len(sealed) == 0 || len(plain) == 0 {
		return
	}
	verb, it := "does", "it"
	if len(plain) > 1 {
		verb, it = "do", "them"
	}
	b.finding(Finding{
		Severity: Warning, Code: state.CodeSettings, Subject: s.Address, Range: rangeOf(s.Where.Of("repositories")),
		Text: fmt.Sprintf("%s encrypts what it holds of %s, and %s %s not: whoever reads %s needs no key",
			strings.Join(sealed, " and "), s.Name, strings.Join(plain, " and "), verb, it),
		Hint: "a repository is encrypted from its creation on: where " + it + " should be encrypted too, name a new one with an encryption block instead",
	})
}

package plan

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pgkeep/pgkeep/state"
)

// synchronous compares synchronous_standby_names with what the receiver is meant to be.
func (b *builder) synchronous(s *server) {
	at := rangeOf(s.Where.Of("receiver.synchronous"))
	warn := func(severity Severity, text, hint string) {
		b.finding(Finding{Severity: severity, Code: state.CodeSettings, Subject: s.Address, Text: text, Hint: hint, Range: at})
	}
	value, readable := s.seen.Settings["synchronous_standby_names"]
	app := s.Receiver.ApplicationName
	names := parseSyncNames(value)
	place := names.place(app)
	if !s.Receiver.Synchronous {
		if place >= 0 {
			warn(Warning, fmt.Sprintf("synchronous_standby_names = %s on %s matches the receiver's application_name %q: commits wait for this receiver, although synchronous = false",
				quoteLiteral(value), s.Name, app), names.without(app))
		}
		return
	}
	if !readable {
		warn(Warning, fmt.Sprintf("synchronous_standby_names of %s could not be read, so it is not known whether commits wait for %q", s.Name, app), "")
		return
	}
	if place < 0 {
		warn(Error, fmt.Sprintf("synchronous = true, but the receiver's application_name %q is not in synchronous_standby_names of %s: commits do not wait, and some can be lost", app, s.Name),
			names.with(app))
		return
	}
	warn(Warning, fmt.Sprintf("commits on %s wait whenever this receiver stops", s.Name), "")
	if names.method == "ANY" && names.number < len(names.list) {
		warn(Warning, fmt.Sprintf("synchronous_standby_names = %s: a commit may be acknowledged by another standby and not be in the archive", quoteLiteral(value)),
			fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = %s; SELECT pg_reload_conf();", quoteLiteral(fmt.Sprintf("FIRST %d (%s)", names.number, names.first(app)))))
	}
	if names.method == "FIRST" && place >= names.number {
		warn(Warning, fmt.Sprintf("in synchronous_standby_names = %s the receiver stands behind the %d that are waited for", quoteLiteral(value), names.number),
			fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = %s; SELECT pg_reload_conf();", quoteLiteral(fmt.Sprintf("FIRST %d (%s)", names.number, names.first(app)))))
	}
	if s.seen.Settings["synchronous_commit"] == "remote_apply" {
		warn(Error, fmt.Sprintf("synchronous_commit = remote_apply on %s: a receiver never applies WAL, so commits wait for ever", s.Name),
			"ALTER SYSTEM SET synchronous_commit = 'on'; SELECT pg_reload_conf();")
	}
	if s.Receiver.Acknowledge == "repository" {
		warn(Warning, fmt.Sprintf("acknowledge = \"repository\": each commit on %s waits until the repositories hold its WAL, up to a second and the time of a put", s.Name), "")
	}
}

// syncNames is synchronous_standby_names, read as syncrep_gram.y does.
type syncNames struct {
	method string // FIRST | ANY; empty: the setting is empty
	number int
	list   []string
}

func parseSyncNames(value string) syncNames {
	rest := strings.TrimSpace(value)
	if rest == "" {
		return syncNames{}
	}
	out := syncNames{method: "FIRST", number: 1}
	if head, tail, ok := strings.Cut(rest, "("); ok && !strings.Contains(head, "\"") && strings.HasSuffix(tail, ")") {
		words := strings.Fields(head)
		if len(words) == 2 {
			out.method = strings.ToUpper(words[0])
			words = words[1:]
		}
		if n, err := strconv.Atoi(strings.Join(words, "")); err == nil {
			out.number = n
		}
		rest = strings.TrimSuffix(tail, ")")
	}
	for _, name := range strings.Split(rest, ",") {
		name = strings.TrimSpace(name)
		if len(name) >= 2 && name[0] == '"' && name[len(name)-1] == '"' {
			name = strings.ReplaceAll(name[1:len(name)-1], `""`, `"`)
		}
		if name != "" {
			out.list = append(out.list, name)
		}
	}
	return out
}

// place gives the index of the first entry that matches an application_name; -1: none does.
func (n syncNames) place(app string) int {
	for i, name := range n.list {
		if name == "*" || strings.EqualFold(name, app) {
			return i
		}
	}
	return -1
}

// quoted writes names as the setting wants them.
func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n
		if n != "*" {
			out[i] = quoteIdent(n)
		}
	}
	return strings.Join(out, ", ")
}

// first writes the list with app at its head.
func (n syncNames) first(app string) string {
	list := []string{app}
	for _, name := range n.list {
		if !strings.EqualFold(name, app) {
			list = append(list, name)
		}
	}
	return quoted(list)
}

// with gives the statement that makes commits wait for app as well as for who is waited for now.
func (n syncNames) with(app string) string {
	value := quoteIdent(app)
	if len(n.list) > 0 {
		value = fmt.Sprintf("FIRST %d (%s)", n.number+1, n.first(app))
	}
	return "ALTER SYSTEM SET synchronous_standby_names = " + quoteLiteral(value) + "; SELECT pg_reload_conf();"
}

// without gives the statement that lets commits wait for everyone but app.
func (n syncNames) without(app string) string {
	var list []string
	for _, name := range n.list {
		if name == "*" {
			return "name the standbys that commits shall wait for in synchronous_standby_names, instead of *"
		}
		if !strings.EqualFold(name, app) {
			list = append(list, name)
		}
	}
	value := ""
	if len(list) > 0 {
		value = fmt.Sprintf("%s %d (%s)", n.method, min(n.number, len(list)), quoted(list))
	}
	return "ALTER SYSTEM SET synchronous_standby_names = " + quoteLiteral(value) + "; SELECT pg_reload_conf();"
}

package recovery

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/host"
	"github.com/pgkeep/pgkeep/state/postgres"
)

// longestAnswer is how many bytes of an answer are kept.
const longestAnswer = 1000

// answerOf asks a copy one declared check. What goes wrong is the answer; only the end of ctx is an error.
func answerOf(ctx context.Context, q hclspec.Check, connect func() (*postgres.Conn, error)) (state.Answer, error) {
	out := state.Answer{Name: q.Name, Database: q.Database, Expect: q.Expect}
	c, err := connect()
	if err == nil {
		out.Got, err = c.Answer(ctx, q.SQL)
		_ = c.Close()
	}
	if ctx.Err() != nil {
		return out, errors.Join(ctx.Err(), context.Cause(ctx))
	}
	if err != nil {
		out.Error = postgres.Said(err)
	}
	out.Passed = err == nil && out.Got == q.Expect
	if len(out.Got) > longestAnswer {
		out.Got = strings.ToValidUTF8(out.Got[:longestAnswer], "") + "…"
	}
	return out, nil
}

// unmet says how an answer is not what it must be; empty: it is.
func unmet(a state.Answer) string {
	switch {
	case a.Error != "":
		return fmt.Sprintf("check %q in database %s: %s", a.Name, a.Database, a.Error)
	case !a.Passed:
		return fmt.Sprintf("check %q in database %s gave %q and not %q", a.Name, a.Database, a.Got, a.Expect)
	}
	return ""
}

// copyAt says how the server is asked: by its socket, as who owns it, whom the usual pg_hba.conf lets in without a password.
func (s *starting) copyAt() postgres.Copy {
	at := postgres.Copy{Major: s.Major}
	at.Socket, at.Port = Address(s.dir)
	if owner, err := host.LookupOwner(s.Route.Destination.Owner); err == nil {
		at.As = func(open func() error) error { return host.As(owner, open) }
	}
	return at
}

// answers asks the server, which stands at its target, all declared checks.
func (s *starting) answers(ctx context.Context) ([]state.Answer, error) {
	var out []state.Answer
	for _, q := range s.Checks {
		a, err := answerOf(ctx, q, func() (*postgres.Conn, error) {
			at := s.copyAt()
			at.Database = q.Database
			return letIn(ctx, at, s.Roles)
		})
		if err != nil {
			text := fmt.Sprintf("interrupted; the server in %s, process %d, is at its target and runs, and was not asked check %q: the same command asks", s.dir, s.server.pid, q.Name)
			return out, &leftRunning{text: text, err: err}
		}
		out = append(out, a)
	}
	return out, nil
}

// Unmet says which checks the server at its target answers otherwise than it must; empty: none, or none were asked.
func (r Reached) Unmet() string {
	var out []string
	for _, a := range r.Checks {
		if why := unmet(a); why != "" {
			out = append(out, why)
		}
	}
	return strings.Join(out, "; ")
}

// held says how many checks hold; empty: none were asked.
func (r Reached) held() string {
	switch n := len(r.Checks); {
	case n == 0 || r.Unmet() != "":
		return ""
	case n == 1:
		return "1 check holds"
	default:
		return fmt.Sprintf("%d checks hold", n)
	}
}

package plan

import (
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// verifyWithin is how long after it is due a verification may take before a check calls it overdue. A drill has its timeout.
const verifyWithin = 24 * time.Hour

// DrillStanding is how a server stands to one drill: what the newest ones have shown, and whether the next is wanted.
type DrillStanding struct {
	Server, Drill string // stored name; name of the block, or "by-hand"
	Address       string // of the block; empty: none asks for it
	MaxAge        time.Duration
	Newest        *state.Drill // nil: none was made
	Passed        *state.Drill // the newest that passed; nil: none did
	Since         time.Time    // when it became due; zero: it is not
	Overdue       bool         // it is due for longer than its timeout, and every repository was seen that may hold a newer one
	why           string       // it is due
}

// DrillStandings says how each server stands to its drills: those of its blocks, then others that its repositories hold evidence of.
func (p *Plan) DrillStandings(spec *hclspec.Spec, seen state.Observation) []DrillStanding {
	c := &checker{builder: newBuilder(spec, seen, p.Now, Options{}), plan: p}
	var out []DrillStanding
	for i := range spec.Servers {
		out = append(out, c.standings(c.gather(&spec.Servers[i]))...)
	}
	return out
}

func (c *checker) standings(s *server) []DrillStanding {
	var out []DrillStanding
	told := map[string]bool{}
	for i := range c.spec.Drills {
		d := &c.spec.Drills[i]
		if d.Server != s.Name {
			continue
		}
		told[d.Name] = true
		one := DrillStanding{Server: s.Name, Drill: d.Name, Address: d.Address, MaxAge: d.MaxAge}
		one.Newest, one.Passed = newestDrill(s, d.Name)
		one.Since, one.why, _ = c.drillDue(s, d, one.Newest)
		one.Overdue = one.why != "" && c.now.After(one.Since.Add(d.Timeout)) && c.seenWhere(s, d.Repository)
		out = append(out, one)
	}
	for _, h := range s.homes {
		if h.archive == nil {
			continue
		}
		for i := range h.archive.Drills {
			if name := h.archive.Drills[i].Drill; !told[name] {
				told[name] = true
				one := DrillStanding{Server: s.Name, Drill: name}
				one.Newest, one.Passed = newestDrill(s, name)
				out = append(out, one)
			}
		}
	}
	return out
}

// drilled says of each drill what the newest one has shown, and fails the check when one is overdue: then nothing proves what the
// block promises. That one has failed is a finding of the plan.
func (c *checker) drilled(s *server) {
	for _, d := range c.standings(s) {
		switch {
		case d.Overdue:
			c.bad(Error, state.CodeOverdue, s.Address, fmt.Sprintf("%s of %s is overdue since %s: %s", d.Address, s.Name, Moment(d.Since), d.why), "pgkeep drill "+d.Drill+"; then look why nobody made it: pgkeep plan")
		case d.Newest != nil && d.Newest.Passed:
			c.say(s.Address, c.passed(d.Newest))
		}
	}
}

func (c *checker) passed(d *state.Drill) string {
	return fmt.Sprintf("drill %s: %s passed in repository.%s, %s ago", d.Drill, Moment(d.Ended), d.Repository, Span(c.now.Sub(d.Ended)))
}

// seenWhere tells whether every repository was seen in which the evidence of a drill would lie: of that name, or of the server's. One
// that was not seen may hold a newer one.
func (c *checker) seenWhere(s *server, repository string) bool {
	for _, name := range s.Repositories {
		if (repository == "" || name == repository) && !c.repositories[name].known {
			return false
		}
	}
	return true
}

// verified says that a verification is overdue: an error where a block asks for it, a warning where only the default does.
func (c *checker) verified(s *server, h *home) {
	var worst *dueLook
	for _, v := range c.policies(s, h) {
		d := c.lookDue(v, h.archive.Cluster)
		if d.why == "" || !c.now.After(d.since.Add(verifyWithin)) {
			continue
		}
		if worst == nil || d.since.Before(worst.since) {
			worst = &d
		}
	}
	if worst == nil {
		return
	}
	severity := Warning
	if worst.spec.Address != "" {
		severity = Error
	}
	c.bad(severity, state.CodeOverdue, s.Address, fmt.Sprintf("the %s verification of %s in %s is overdue since %s: %s", worst.spec.Level, s.Name, h.spec.Address, Moment(worst.since), worst.why),
		verifyCommand(worst.spec, s.Name, h.spec.Name)+"; then look why nobody made it: pgkeep plan")
}

func verifyCommand(v *hclspec.Verify, server, repository string) string {
	command := "pgkeep verify --server " + server + " --repository " + repository
	if v.Level != string(state.VerifyFull) {
		command += " --level " + v.Level
	}
	return command
}

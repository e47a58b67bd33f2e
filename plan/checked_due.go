package plan

import (
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// verifyWithin is how long after it is due a verification may take before a check calls it overdue. A drill has its timeout.
const verifyWithin = 24 * time.Hour

// drilled says of each drill what the newest one has shown, and fails the check when one is overdue: then nothing proves what the
// block promises. That one has failed is a finding of the plan.
func (c *checker) drilled(s *server) {
	told := map[string]bool{}
	for i := range c.spec.Drills {
		d := &c.spec.Drills[i]
		if d.Server != s.Name {
			continue
		}
		told[d.Name] = true
		known := newestDrill(s, d.Name)
		since, why, _ := c.drillDue(s, d, known)
		late := why != "" && c.now.After(since.Add(d.Timeout))
		if late && c.seenWhere(s, d.Repository) {
			c.bad(Error, state.CodeOverdue, s.Address, fmt.Sprintf("%s of %s is overdue since %s: %s", d.Address, s.Name, Moment(since), why), "pgkeep drill "+d.Name+"; then look why nobody made it: pgkeep plan")
		}
		if known != nil && known.Passed && !late {
			c.say(s.Address, c.passed(known))
		}
	}
	for _, h := range s.homes {
		if h.archive == nil {
			continue
		}
		for i := range h.archive.Drills {
			d := &h.archive.Drills[i]
			if !told[d.Drill] && d.Passed && d == newestDrill(s, d.Drill) {
				c.say(s.Address, c.passed(d))
			}
			told[d.Drill] = true
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

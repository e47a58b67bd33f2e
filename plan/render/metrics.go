package render

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

// Metrics writes what drills have shown, how servers stand to their objectives and to which moments they can be recovered, in the
// text format of Prometheus (version 0.0.4), in base units. The same arguments give the same bytes. What is not known has no sample: its
// family has only those that are. Moments are Unix times, so that an age is time() minus the sample.
func Metrics(w io.Writer, p *plan.Plan, drills []plan.DrillStanding) error {
	m := &metrics{}
	m.add("pgkeep_observed_timestamp_seconds", "When all of this was looked at.", unix(p.Now))
	m.drills(drills)
	m.objectives(p.Objectives)
	m.windows(p.Windows)
	m.findings(p.Findings)
	_, err := io.WriteString(w, m.text())
	return err
}

// metrics gathers families in the order in which they are first named.
type metrics struct {
	families []*family
}

type family struct {
	name, help string
	samples    []string
}

// add adds a gauge; labels are names and values in turn.
func (m *metrics) add(name, help string, value float64, labels ...string) {
	var f *family
	for _, one := range m.families {
		if one.name == name {
			f = one
		}
	}
	if f == nil {
		f = &family{name: name, help: help}
		m.families = append(m.families, f)
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	var pairs []string
	for i := 0; i+1 < len(labels); i += 2 {
		pairs = append(pairs, labels[i]+`="`+quote.Replace(labels[i+1])+`"`)
	}
	sample := name
	if len(pairs) > 0 {
		sample += "{" + strings.Join(pairs, ",") + "}"
	}
	f.samples = append(f.samples, sample+" "+strconv.FormatFloat(value, 'f', -1, 64))
}

func (m *metrics) text() string {
	var out strings.Builder
	for _, f := range m.families {
		fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s gauge\n%s\n", f.name, f.help, f.name, strings.Join(f.samples, "\n"))
	}
	return out.String()
}

func (m *metrics) drills(all []plan.DrillStanding) {
	for _, d := range all {
		which := []string{"server", d.Server, "drill", d.Drill}
		if d.Address != "" {
			m.add("pgkeep_drill_due", "Whether the drill is due now (1) or not (0).", truth(!d.Since.IsZero()), which...)
			m.add("pgkeep_drill_overdue", "Whether the drill is due for longer than its timeout.", truth(d.Overdue), which...)
		}
		if d.MaxAge > 0 {
			m.add("pgkeep_drill_max_age_seconds", "How old the newest drill may be, by max_age.", d.MaxAge.Seconds(), which...)
		}
		if d.Passed != nil {
			m.add("pgkeep_drill_last_success_timestamp_seconds", "When the newest drill ended that passed.", unix(d.Passed.Ended), which...)
		}
		if d.Newest != nil {
			m.drill(*d.Newest, append(which, "repository", d.Newest.Repository))
		}
	}
}

func (m *metrics) drill(d state.Drill, which []string) {
	m.add("pgkeep_drill_passed", "Whether the newest drill passed (1) or failed (0).", truth(d.Passed), which...)
	m.add("pgkeep_drill_failures", "How many things the newest drill has found wrong.", float64(len(d.Failures)), which...)
	m.add("pgkeep_drill_last_start_timestamp_seconds", "When the newest drill began, from which on its age counts.", unix(d.Began), which...)
	m.add("pgkeep_drill_last_end_timestamp_seconds", "When the newest drill ended.", unix(d.Ended), which...)
	if !d.LastTime.IsZero() {
		m.add("pgkeep_drill_recovered_to_timestamp_seconds", "When the last transaction ended that the copy of the newest drill held.", unix(d.LastTime), which...)
	}
	parts := []struct {
		name   string
		phases []string
	}{{"restore", []string{"look", "claim", "files", "configure", "sync", "finish"}}, {"copy_wal", []string{"wal"}}, {"start", []string{"start"}}, {"replay", []string{"replay"}}, {"checks", []string{"checks"}}}
	for _, part := range parts {
		if len(d.Phases) > 0 {
			m.add("pgkeep_drill_phase_seconds", "How long each part of the newest drill took.", d.Seconds(part.phases...), append(which, "phase", part.name)...)
		}
	}
	if d.RTO > 0 {
		m.add("pgkeep_drill_recovery_seconds", "How long the recovery of the newest drill took: all parts but the checks.", d.RTO, which...)
	}
	m.add("pgkeep_drill_amcheck_relations", "How many indexes and tables amcheck looked at in the newest drill.", float64(d.Amcheck.Indexes+d.Amcheck.Tables), which...)
}

func (m *metrics) objectives(all []plan.Objective) {
	for _, o := range all {
		for _, x := range []struct {
			name string
			p    *plan.Promise
		}{{"rpo", o.RPO}, {"rto", o.RTO}} {
			if x.p == nil {
				continue
			}
			which := []string{"server", o.Server, "objective", x.name}
			m.add("pgkeep_objective_target_seconds", "What is promised of the server.", x.p.Promised, which...)
			if x.p.Known {
				m.add("pgkeep_objective_met", "Whether the promise is kept (1) or missed (0); no sample where nothing tells.", truth(x.p.Met), which...)
			}
			if x.p.Known && (x.p.Met || x.p.Now > 0) { // missed without a figure: nothing can be recovered at all
				m.add("pgkeep_objective_seconds", "What it is now: of rpo how much would be lost, of rto how long a recovery would take.", x.p.Now, which...)
			}
		}
	}
}

func (m *metrics) windows(all []plan.Window) {
	for _, w := range all {
		if w.SystemID != "" || len(w.Intervals) == 0 { // of a former cluster of this name
			continue
		}
		which := []string{"server", w.Server, "repository", w.Repository}
		m.add("pgkeep_recoverable_oldest_timestamp_seconds", "The oldest moment that can be recovered; there may be gaps behind it.", unix(w.Intervals[0].From), which...)
		m.add("pgkeep_recoverable_newest_timestamp_seconds", "The newest moment that can be recovered.", unix(w.Intervals[len(w.Intervals)-1].To), which...)
	}
}

func (m *metrics) findings(all []plan.Finding) {
	for _, severity := range []plan.Severity{plan.Error, plan.Warning} {
		n := 0
		for _, f := range all {
			if f.Severity == severity {
				n++
			}
		}
		m.add("pgkeep_findings", "How many findings status tells.", float64(n), "severity", string(severity))
	}
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// unix gives a moment to the microsecond, which is what a float64 holds of it.
func unix(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

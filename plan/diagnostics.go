package plan

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/hclspec"
)

// Diagnostics gives what keeps blocks of the configuration from being planned, each once and on its line: a server that
// cannot be reached or lacks a privilege, a repository that is not there, another cluster. Detail is the finding's text, and
// Extra an hclspec.Help with its code and the statement, line or command that changes it. What only another machine can
// do is not among them, nor what has no place in the HCL.
func (p *Plan) Diagnostics() hcl.Diagnostics {
	hindered := make(map[string]*NotDone, len(p.NotDone))
	for i := range p.NotDone {
		if n := &p.NotDone[i]; n.Host == "" {
			hindered[n.Why.Text] = n
		}
	}
	var out hcl.Diagnostics
	said := map[diagnosticKey]bool{}
	for _, f := range p.Findings {
		if f.Range == nil || hindered[f.Text] == nil || said[diagnosticKey{f.Subject, f.Text}] {
			continue
		}
		said[diagnosticKey{f.Subject, f.Text}] = true
		d := &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: f.Subject + " cannot be planned", Detail: f.Text, Subject: f.Range,
			Extra: hclspec.Help{Code: string(f.Code), Hint: f.Hint},
		}
		if f.Severity == Warning {
			d.Severity = hcl.DiagWarning
		}
		out = append(out, d)
	}
	return out
}

// diagnosticKey tells two things that keep blocks from being planned apart.
type diagnosticKey struct{ subject, text string }

// warned gives the diagnostics of a plan as warnings: other blocks are planned all the same.
func (p *Plan) warned() hcl.Diagnostics {
	out := p.Diagnostics()
	for _, d := range out {
		d.Severity = hcl.DiagWarning
	}
	return out
}

package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/state"
)

// RepairDamage asks for damaged objects to be healed from other repositories.
type RepairDamage struct {
	Servers    []string // stored names; empty: all
	Repository string   // that is healed; empty: every one that is damaged
	From       string   // the only one that it is healed from; empty: every other one of the server
}

// repair plans to heal what the newest verification found damaged.
func (b *builder) repair(r RepairDamage) {
	for i := range b.spec.Servers {
		spec := &b.spec.Servers[i]
		if len(r.Servers) > 0 && !containsString(r.Servers, spec.Name) {
			continue
		}
		b.owner = "server." + spec.Name
		s := b.gather(spec)
		for _, h := range s.homes {
			if r.Repository == "" || r.Repository == h.spec.Name {
				b.repairIn(s, h, r)
			}
		}
	}
}

func (b *builder) repairIn(s *server, h *home, r RepairDamage) {
	if h.archive == nil {
		return
	}
	what := "repair of " + s.Name + " in " + h.spec.Name
	v := h.archive.Verified
	if v == nil || v.Wrong == 0 {
		text := "nothing is known to be damaged; the newest verification began " + Moment(beganOf(v))
		if v == nil {
			text = "nothing was ever verified there"
		}
		b.plan.Already = append(b.plan.Already, Already{
			What: what, Text: text, Hint: "look closely: pgkeep verify --server " + s.Name + " --repository " + h.spec.Name, Owner: "server." + s.Name,
		})
		return
	}
	action := Repair{Server: s.Name, SystemID: s.systemID, Repository: h.spec.Name, RepositoryID: h.seen.ID}
	for _, o := range s.sources(h) {
		if r.From == "" || r.From == o.spec.Name {
			action.From = append(action.From, o.spec.Name)
		}
	}
	closed := s.closed(h)
	if len(action.From) == 0 && len(closed) > 0 && r.From == "" {
		text := "what " + strings.Join(closed, " and ") + " holds of " + s.Name + " is encrypted, and no identity here opens its data"
		hint := "run it where an identity of one of the data_recipients is: pgkeep repair --server " + s.Name + " --repository " + h.spec.Name
		b.notDone(NotDone{What: what, Hint: hint, Why: because("no-data-key", text, s.Where.Of("repositories"))})
		b.finding(Finding{Severity: Error, Code: state.CodeNoKey, Subject: h.spec.Address, Text: text, Hint: hint, Range: rangeOf(s.Where.Of("repositories"))})
		return
	}
	if len(action.From) == 0 {
		b.notDone(NotDone{
			What: what, Hint: "take a new backup: pgkeep backup " + s.Name,
			Why: because("nowhere-whole", "no other repository that was seen holds anything of "+s.Name+", so that what is damaged is lost: "+losses(v), s.Where.Of("repositories")),
		})
		return
	}
	if len(v.Damage) == 0 {
		b.notDone(NotDone{
			What: what, Hint: "name them first: pgkeep verify --server " + s.Name + " --repository " + h.spec.Name,
			Why: because("damage-unnamed", fmt.Sprintf("%s %s known to be damaged, and the newest verification does not say which", count(v.Wrong, "object"), isAre(v.Wrong)), h.spec.Where.Block),
		})
		return
	}
	step := Step{
		ID: b.copyID(s, "repair", h), Change: Modify, Impact: Declared, Host: h.spec.Host,
		Effect: fmt.Sprintf("%s replaced by what %s holds whole, each once its bytes are proved; the others stay as they are, and all is verified again",
			count(len(v.Damage), "object"), strings.Join(action.From, " or ")),
		Requires: []Condition{{Code: NeedDamage, Text: "each is still damaged or missing"}},
	}
	if more := v.Wrong - len(v.Damage); more > 0 {
		step.Effect += fmt.Sprintf(". %d more %s damaged: reading everything again afterwards names the next hundred, and another repair heals them", more, isAre(more))
	}
	for _, f := range v.Damage {
		action.Objects = append(action.Objects, f.Object)
		if len(step.Because) < 10 {
			step.Because = append(step.Because, because("damaged", f.Object+": "+f.Text+hurt(f), h.spec.Where.Block))
		}
	}
	if len(closed) > 0 {
		step.Effect += ". Nothing is healed from " + strings.Join(closed, " and ") + ": no identity here opens its data"
	}
	step.Action = action
	b.step(step)
}

// closed names the other repositories that hold something of the server of which no identity here opens the data, so that nothing is healed from them here.
func (s *server) closed(h *home) []string {
	var out []string
	for _, o := range s.homes {
		if o != h && o.archive != nil && o.create == "" && !o.seen.ReadsData() {
			out = append(out, o.spec.Address)
		}
	}
	return out
}

func beganOf(v *state.Verification) time.Time {
	if v == nil {
		return time.Time{}
	}
	return v.Began
}

func hurt(f state.Damage) string {
	if len(f.Hurts) == 0 {
		return ""
	}
	return "; cannot be restored: " + strings.Join(f.Hurts, ", ")
}

// losses says what is lost with what was found damaged.
func losses(v *state.Verification) string {
	var out []string
	for _, k := range v.Backups {
		if k.Damaged {
			out = append(out, "backup "+k.ID)
		}
	}
	for _, w := range v.BadWAL {
		out = append(out, "WAL of "+w.String())
	}
	if len(out) == 0 {
		return "nothing that a recovery needs"
	}
	return strings.Join(out, ", ")
}

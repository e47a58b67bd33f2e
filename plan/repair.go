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
	if len(action.From) == 0 {
		b.notDone(NotDone{
			What: what, Hint: "take a new backup: pgkeep backup " + s.Name,
			Why: because("nowhere-whole", "no other repository that was seen holds anything of "+s.Name+", so that what is damaged is lost: "+losses(v), s.Where.Of("repositories")),
		})
		return
	}
	step := Step{
		ID: b.copyID(s, "repair", h), Change: Modify, Impact: Declared, Host: h.spec.Host,
		Effect:   fmt.Sprintf("%s replaced by what %s holds whole, each once its bytes are proved; the others stay as they are, and all is verified again", count(v.Wrong, "object"), strings.Join(action.From, " or ")),
		Requires: []Condition{{Code: NeedDamage, Text: "each is still damaged or missing"}},
	}
	for _, f := range v.Damage {
		action.Objects = append(action.Objects, f.Object)
		if len(step.Because) < 10 {
			step.Because = append(step.Because, because("damaged", f.Object+": "+f.Text+hurt(f), h.spec.Where.Block))
		}
	}
	step.Action = action
	b.step(step)
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

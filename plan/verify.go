package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// verify plans to prove what the server's repositories hold where that was not done for longer than a verify block says,
// and tells what earlier proofs have found.
func (b *builder) verify(s *server) {
	for _, h := range s.homes {
		if h.create != "" || h.archive == nil {
			continue
		}
		b.damageSeen(s, h, h.archive.Cluster)
		var asked *dueLook
		for _, v := range b.policies(s, h) {
			d := b.lookDue(v, h.archive.Cluster)
			if !d.next.IsZero() && v.Address != "" { // what nobody wrote down is looked at with what else is
				b.plan.NextDue = append(b.plan.NextDue, Due{At: d.next, What: "verify", Subject: s.Name})
			}
			if d.why != "" && (asked == nil || d.more(asked)) {
				asked = &d
			}
		}
		if asked != nil && !b.opt.IgnoreDue {
			b.lookNow(s, h, asked)
		}
	}
	for _, h := range s.homes {
		for i := range h.others {
			b.damageSeen(s, h, &h.others[i])
		}
	}
}

// policies gives the verify blocks that name what a repository holds of a server; where none does, what holds by default: a quick look each
// day, and a full one within 35 days.
func (b *builder) policies(s *server, h *home) []*hclspec.Verify {
	var out []*hclspec.Verify
	for i := range b.spec.Verifies {
		v := &b.spec.Verifies[i]
		if containsString(v.Servers, s.Name) && (len(v.Repositories) == 0 || containsString(v.Repositories, h.spec.Name)) {
			out = append(out, v)
		}
	}
	if len(out) > 0 {
		return out
	}
	by := hclspec.Where{Block: s.Where.Block}
	return []*hclspec.Verify{
		{Level: string(state.VerifyFull), MaxAge: fullByDefault, Where: by},
		{Level: string(state.VerifyQuick), MaxAge: quickByDefault, Where: by},
	}
}

// How old a look may be where no verify block says it.
const (
	fullByDefault  = 35 * 24 * time.Hour
	quickByDefault = 24 * time.Hour
)

// dueLook is what one block asks for now.
type dueLook struct {
	spec  *hclspec.Verify
	since time.Time // when it became due
	why   string    // empty: it is not due
	next  time.Time // when it will be; zero: not known
}

// more tells whether a look answers for another one too: a full one for a quick one, all for a sample.
func (d dueLook) more(o *dueLook) bool {
	if d.spec.Level != o.spec.Level {
		return d.spec.Level == string(state.VerifyFull)
	}
	return d.spec.Sample == 0 && o.spec.Sample != 0
}

// lookDue tells whether a block asks for a look. What was never looked at is as old as its oldest backup.
func (b *builder) lookDue(v *hclspec.Verify, c *state.Cluster) dueLook {
	d := dueLook{spec: v}
	oldest := oldestBackup(c)
	if oldest.IsZero() {
		return d
	}
	last, was := lastLook(v, c.Verified), "nothing was ever verified at this level, and the oldest backup is of "+Moment(oldest)
	if last.IsZero() {
		last = oldest
	} else {
		was = "the newest verification at this level began " + Moment(last)
	}
	d.since, d.why, d.next = b.dueAgain(periodic{v.Address, v.Cron, v.Timezone, v.MaxAge}, last, was)
	return d
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// oldestBackup gives when the oldest backup that is there ended; zero: there is none.
func oldestBackup(c *state.Cluster) time.Time {
	var oldest time.Time
	for _, k := range c.Backups {
		if k.State == state.BackupCommitted && !k.Ended.IsZero() {
			oldest = sooner(oldest, k.Ended)
		}
	}
	return oldest
}

// lastLook gives when the newest look began that is as close as the block asks for.
func lastLook(v *hclspec.Verify, known *state.Verification) time.Time {
	switch {
	case known == nil:
		return time.Time{}
	case v.Level == string(state.VerifyQuick):
		return known.Quick.Began
	case known.Full.Sample == 0 || v.Sample != 0 && known.Full.Sample >= v.Sample:
		return known.Full.Began
	}
	return time.Time{}
}

func (b *builder) lookNow(s *server, h *home, d *dueLook) {
	v := d.spec
	effect := "proves that every object is there with its size; nothing is changed"
	if v.Level == string(state.VerifyFull) {
		var bytes int64
		for _, k := range h.archive.Backups {
			bytes += k.StoredBytes
		}
		for _, r := range h.archive.WAL {
			bytes += r.Bytes
		}
		if v.Sample > 0 {
			bytes = bytes / 100 * int64(v.Sample)
		}
		effect = fmt.Sprintf("reads about %s and proves every byte of it; nothing is changed", Size(bytes))
	}
	b.step(Step{
		ID: "server." + s.Name + "/verify/" + h.spec.Name, Change: NoChange, Impact: Safe, Host: h.spec.Host, Effect: effect,
		Action: Verify{
			Server: s.Name, SystemID: h.archive.SystemID, Repository: h.spec.Name, RepositoryID: h.seen.ID, Level: v.Level, Sample: v.Sample,
			MaxRate: v.MaxRate, Since: d.since.UTC(),
		},
		Because:  []Reason{because("verification-due", d.why, v.Where.Block)},
		Requires: []Condition{{Code: NeedUnverified, Text: "nobody else verified as closely since " + Moment(d.since)}},
	})
}

// damageSeen tells what the newest verification found.
func (b *builder) damageSeen(s *server, h *home, c *state.Cluster) {
	v := c.Verified
	if v == nil {
		return
	}
	wrong := v.Wrong
	for _, f := range v.Damage {
		if id := backupIn(f.Object); id != "" && !hasBackup(c, id) {
			wrong-- // it was deleted since
		}
	}
	if wrong <= 0 {
		return
	}
	var hurt []string
	for _, k := range v.Backups {
		if k.Damaged && hasBackup(c, k.ID) {
			hurt = append(hurt, k.ID)
		}
	}
	when := v.Ended
	if when.IsZero() {
		when = v.Began
	}
	text := fmt.Sprintf("verification of %s found %s damaged in %s", Moment(when), count(wrong, "object"), h.spec.Address)
	if len(hurt) > 0 {
		text += ", and cannot be restored: " + strings.Join(hurt, ", ")
	} else {
		text += "; every backup can be restored"
	}
	if len(v.BadWAL) > 0 {
		text += "; WAL that cannot be read: " + v.BadWAL[0].String()
		if n := len(v.BadWAL) - 1; n > 0 {
			text += fmt.Sprintf(" and %s more", count(n, "stretch"))
		}
	}
	b.finding(Finding{
		Severity: Error, Code: state.CodeCorrupt, Subject: s.Address, Text: text, Range: rangeOf(h.spec.Where.Block),
		Hint: "see what is lost with it: pgkeep verify --level quick --server " + s.Name + " --repository " + h.spec.Name,
	})
}

// backupIn gives the backup that an object belongs to; empty: none.
func backupIn(key string) string {
	_, rest, ok := strings.Cut(key, "/b/")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	return id
}

func hasBackup(c *state.Cluster, id string) bool {
	for _, k := range c.Backups {
		if k.ID == id {
			return true
		}
	}
	return false
}

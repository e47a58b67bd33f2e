package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Review is what somebody who reviews a plan agrees to: every act that needs approval, without times, sizes and positions.
// It is written as one word, the review digest:
//
//	sha256:ROOT                  nothing in particular is deleted, or too much to name
//	sha256:ROOT.OTHERS.D1.D2…    OTHERS stands for all that is not a deletion, each D for one thing deleted
//
// ROOT is the SHA-256 of all of it in hex. OTHERS and D are the first 16 bytes of a SHA-256, in unpadded URL base64. So the
// word alone tells whether a later plan asks for the same, or deletes only some of what was agreed to; and a word that was
// cut or mistyped is known as such, because ROOT no longer fits. Nothing in it comes from a secret.
type Review struct {
	root      [sha256.Size]byte
	others    part
	deletions []part // sorted, no two alike
	bare      bool   // only the root was given: nothing but the same review fits
}

type part [16]byte

const (
	reviewPrefix = "sha256:"
	// mostParts is how many deletions a digest names one by one. With more, only an equal plan fits.
	mostParts = 40
)

// Review gives what needs approval in the plan: the steps that would wait if nobody named anything.
func (p *Plan) Review() Review {
	var others []string
	var r Review
	for _, w := range p.Approve(nil, nil).Wait {
		if !w.Itself {
			continue // it waits only for another step
		}
		for _, item := range deletions(&w.Step) {
			r.deletions = append(r.deletions, partOf(item))
		}
		if len(deletions(&w.Step)) == 0 {
			others = append(others, reviewed(&w.Step))
		}
	}
	slices.Sort(others)
	if len(others) > 0 {
		r.others = partOf(strings.Join(others, "\n"))
	}
	slices.SortFunc(r.deletions, func(a, b part) int { return bytes.Compare(a[:], b[:]) })
	r.deletions = slices.Compact(r.deletions)
	r.root = r.sum()
	return r
}

// Empty tells that nothing needs approval.
func (r Review) Empty() bool { return r.root == Review{}.sum() }

// Allows tells whether a later plan's review asks for nothing that r does not hold: it is the same, or the same but for
// deletions that are no longer asked for. A review that needs no approval is always allowed.
func (r Review) Allows(later Review) bool {
	if later.Empty() || later.root == r.root {
		return true
	}
	if r.bare || later.others != r.others {
		return false
	}
	for _, d := range later.deletions {
		if !slices.Contains(r.deletions, d) {
			return false
		}
	}
	return true
}

// String writes the review digest; empty when nothing needs approval.
func (r Review) String() string {
	if r.Empty() {
		return ""
	}
	out := reviewPrefix + hex.EncodeToString(r.root[:])
	if r.bare || len(r.deletions) == 0 || len(r.deletions) > mostParts {
		return out
	}
	for _, p := range append([]part{r.others}, r.deletions...) {
		out += "." + base64.RawURLEncoding.EncodeToString(p[:])
	}
	return out
}

// errReview is what is wrong with a review digest that somebody gave.
var errReview = errors.New("it is not as a plan prints it: sha256: and 64 hexadecimal digits, and all that follows them")

// ParseReview reads a review digest. One that was cut or mistyped is an error.
func ParseReview(s string) (Review, error) {
	var r Review
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), reviewPrefix)
	words := strings.Split(rest, ".")
	root, err := hex.DecodeString(words[0])
	if !ok || err != nil || len(root) != len(r.root) || len(words) == 2 || len(words) > mostParts+2 {
		return Review{}, errReview
	}
	copy(r.root[:], root)
	r.bare = len(words) == 1
	for i, w := range words[1:] {
		b, err := base64.RawURLEncoding.Strict().DecodeString(w)
		if err != nil || len(b) != len(part{}) {
			return Review{}, errReview
		}
		if i == 0 {
			r.others = part(b)
			continue
		}
		r.deletions = append(r.deletions, part(b))
	}
	if !r.bare && r.sum() != r.root {
		return Review{}, errReview
	}
	return r, nil
}

func (r Review) sum() [sha256.Size]byte {
	b := append([]byte("pgkeep review 1\n"), r.others[:]...)
	for _, d := range r.deletions {
		b = append(b, d[:]...)
	}
	return sha256.Sum256(b)
}

func partOf(item string) part {
	sum := sha256.Sum256([]byte(item))
	return part(sum[:16])
}

// deletions names each backup that a step deletes, so that some of them can be agreed to without the others; none for
// steps that delete no backups. The same id in another repository, also one behind the same label, is another backup.
func deletions(s *Step) []string {
	var from string
	var ids []string
	switch a := s.Action.(type) {
	case Prune:
		from, ids = fmt.Sprintf("%q %q %q %q", a.Server, a.SystemID, a.Repository, a.RepositoryID), a.Backups
		if a.Sweep {
			from = "sweep " + from
		}
	case RemoveIncomplete:
		from, ids = fmt.Sprintf("abort %q %q %q %q", a.Server, a.SystemID, a.Repository, a.RepositoryID), a.Backups
	}
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = fmt.Sprintf("delete %s %q", from, id)
	}
	return out
}

// reviewed writes what a reviewer agrees to at a step that deletes no backups. A deletion of WAL by ranges is agreed to as
// such: the ranges are positions.
func reviewed(s *Step) string {
	act := settled(s.Action)
	switch a := act.(type) {
	case PruneWAL:
		a.Ranges, a.StaleParts = nil, false
		act = a
	case CopyWAL: // the ranges are positions
		a.Ranges = nil
		act = a
	case RecoverTo: // the target says how far, the rest is found again
		a.Route.Path, a.Route.End = nil, 0
		a.RepositoryIDs = idOf(a.RepositoryIDs, a.Route.Repository) // another one stands in where this one fails
		act = a
	}
	out := fmt.Sprintf("%q", s.ID)
	for _, f := range append([]fact{{"action", Verb(act)}, {"impact", string(s.Impact)}}, parameters(act)...) {
		if f.name == "due" || strings.HasPrefix(f.name, "route.before.") || strings.HasPrefix(f.name, "route.after.") {
			continue // times and positions
		}
		out += fmt.Sprintf(" %s=%q", f.name, f.value)
	}
	for _, c := range s.Requires {
		if c.Code == NeedSystem { // the same slot on another cluster is another slot
			out += fmt.Sprintf(" system=%q", c.Value)
		}
	}
	return out
}

package steps

import (
	"errors"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/repository"
)

// locks is what a step that deletes met of object locks. None is a failure: what is locked goes another time.
type locks struct{ until time.Time }

// is tells whether an error is of a lock, and notes until when that holds.
func (l *locks) is(err error) bool {
	var locked *repository.LockedError
	if !errors.As(err, &locked) {
		return false
	}
	l.note(locked.Until)
	return true
}

func (l *locks) note(until time.Time) {
	if until.After(l.until) {
		l.until = until
	}
}

func (l *locks) any() bool { return !l.until.IsZero() }

func (l *locks) text(what string) string { return what + ", until " + plan.Moment(l.until) }

package agent

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// tries hold back what failed lately: the first try again after some seconds, later ones after up to five minutes. They
// live in memory: a new agent tries at once.
type tries map[string]*try

type try struct {
	steps *backoff.ExponentialBackOff // nil: it worked last time
	until time.Time
}

// failed notes a failure and gives how long to wait.
func (t tries) failed(key string, now time.Time) time.Duration {
	one := t[key]
	if one == nil || one.steps == nil {
		one = &try{steps: backoff.NewExponentialBackOff()}
		one.steps.InitialInterval = 5 * time.Second
		one.steps.MaxInterval = 5 * time.Minute
		one.steps.Multiplier = 2
		one.steps.RandomizationFactor = 0.2
		t[key] = one
	}
	wait := one.steps.NextBackOff()
	one.until = now.Add(wait)
	return wait
}

// rest is how long a step that worked is not done again: a plan that asked for it without end would spin.
const rest = 10 * time.Second

// worked forgets the failures.
func (t tries) worked(key string, now time.Time) { t[key] = &try{until: now.Add(rest)} }

func (t tries) waiting(key string, now time.Time) bool {
	one := t[key]
	return one != nil && one.until.After(now)
}

// next gives the first moment at which something may be tried again; zero: nothing waits.
func (t tries) next(now time.Time) time.Time {
	var first time.Time
	for _, one := range t {
		if one.until.After(now) && (first.IsZero() || one.until.Before(first)) {
			first = one.until
		}
	}
	return first
}

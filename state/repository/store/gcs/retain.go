package gcs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// The service's words for governance and compliance.
const (
	unlocked = "Unlocked"
	locked   = "Locked"
)

// retention is an object's own lock, which its bucket must allow.
type retention struct {
	Mode  string    `json:"mode"`
	Until time.Time `json:"retainUntilTime"`
}

func asRetention(r store.Retention) *retention {
	switch {
	case r.IsZero():
		return nil
	case r.Compliance:
		return &retention{locked, r.Until.UTC()}
	}
	return &retention{unlocked, r.Until.UTC()}
}

// Retain is remote.Retainer's. A lock in compliance mode stays one.
func (b *backend) Retain(ctx context.Context, key string, r store.Retention) error {
	has, err := b.Retained(ctx, key)
	if err != nil {
		return err
	}
	r.Compliance = r.Compliance || has.Compliance
	if has.Until.After(r.Until) {
		r.Until = has.Until
	}
	if !has.IsZero() && has.Compliance == r.Compliance && has.Until.Equal(r.Until) {
		return nil
	}
	var o resource
	want := asRetention(r)
	text, err := json.Marshal(map[string]*retention{"retention": want})
	if err != nil {
		return err
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodPatch, b.objectURL(key)+"?fields=retention", bytes.NewReader(text))
	if err != nil {
		return err
	}
	ask.Header.Set("Content-Type", "application/json")
	err = b.ask(ask, &o)
	if isRefused(err) {
		return b.lockless(err)
	}
	if err != nil {
		return b.judge(b.whichAbsent(ctx, err), retaining)
	}
	if o.Retention.Until.Before(want.Until.Truncate(time.Second)) { // a service that does not know retention
		return b.lockless(nil)
	}
	return nil
}

// Retained is remote.Retainer's.
func (b *backend) Retained(ctx context.Context, key string) (store.Retention, error) {
	var o resource
	if err := b.get(ctx, b.objectURL(key)+"?fields=retention", &o); err != nil {
		return store.Retention{}, b.judge(b.whichAbsent(ctx, err), reading)
	}
	return store.Retention{Until: o.Retention.Until, Compliance: o.Retention.Mode == locked}, nil
}

// isRefused tells the answers that may mean that a bucket does not lock: they mean other things too.
func isRefused(err error) bool {
	var a *answer
	return errors.As(err, &a) && (a.status == http.StatusBadRequest || a.status == http.StatusPreconditionFailed || a.status == http.StatusConflict)
}

// unlocked decides what the refusal of a locked put means: that the name is taken, or that the bucket does not lock.
func (b *backend) unlocked(ctx context.Context, key string, refused error) error {
	_, err := b.Stat(ctx, key)
	switch {
	case err == nil:
		return b.judge(refused, putting)
	case errors.Is(err, store.ErrNotExist):
		return b.lockless(refused)
	}
	return err
}

func (b *backend) lockless(err error) error {
	return b.trouble(store.Unlocked, "the bucket has no object retention", "turn it on: gcloud storage buckets update gs://"+b.at.Bucket+" --enable-per-object-retention", err)
}

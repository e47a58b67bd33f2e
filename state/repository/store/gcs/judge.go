package gcs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// doing is what was asked when an error came.
type doing int

const (
	reading doing = iota
	putting
	deleting
	retaining
)

// answer is what the service said when it refused.
type answer struct {
	status       int
	reason, text string
}

// Error gives the service's reason and sentence.
func (a *answer) Error() string {
	said := a.reason
	if a.text != "" {
		said = strings.TrimSpace(said + ": " + a.text)
	}
	if said == "" {
		said = http.StatusText(a.status)
	}
	return fmt.Sprintf("the service answered %d (%s)", a.status, said)
}

// maxText bounds how much of the service's sentence is repeated.
const maxText = 300

// refused reads why a request was refused.
func refused(r *http.Response) *answer {
	var body struct {
		Error struct {
			Message string
			Errors  []struct{ Reason string }
		}
	}
	a := &answer{status: r.StatusCode}
	text, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil || json.Unmarshal(text, &body) != nil {
		return a // a proxy's page says nothing
	}
	a.text = printable(body.Error.Message)
	if len(body.Error.Errors) > 0 {
		a.reason = printable(body.Error.Errors[0].Reason)
	}
	return a
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), maxText)]
}

func isBehindEnd(err error) bool {
	var a *answer
	return errors.As(err, &a) && a.status == http.StatusRequestedRangeNotSatisfiable
}

// isAbsent tells the answer that means a missing object or a missing bucket.
func isAbsent(err error) bool {
	var a *answer
	return errors.As(err, &a) && a.status == http.StatusNotFound
}

// busy are reasons of a 403 that passes.
var busy = []string{"rateLimitExceeded", "userRateLimitExceeded"}

// judge gives an error the meaning that callers branch on; of a 404 the caller has found out that the object is meant.
func (b *backend) judge(err error, what doing) error {
	var a *answer
	if err == nil || !errors.As(err, &a) {
		return err
	}
	switch {
	case a.status == http.StatusNotFound && what == deleting:
		return nil
	case a.status == http.StatusNotFound && what != putting:
		return store.ErrNotExist
	case a.status == http.StatusPreconditionFailed && what == putting:
		return store.ErrExists
	case a.status == http.StatusForbidden && slices.Contains(busy, a.reason):
		return err
	case a.status == http.StatusForbidden && what == deleting:
		return fmt.Errorf("%w: %w", store.ErrRetained, err)
	case a.status == http.StatusForbidden && what == retaining:
		return b.trouble(store.Denied, "the credentials may not lock objects", "they need storage.objects.setRetention and storage.objects.update beside the role Storage Object User", err)
	case a.status == http.StatusForbidden:
		return b.trouble(store.Denied, "the credentials are refused", "they need the role Storage Object User on the bucket; Storage Object Creator and Viewer where nothing is deleted", err)
	case a.status == http.StatusUnauthorized:
		return b.trouble(store.Denied, "the credentials are refused", noCredentials, err)
	}
	return err
}

func (b *backend) missing() error {
	return b.trouble(store.Missing, "there is no such bucket", "create it, or look at its name in the URL", nil)
}

func (b *backend) trouble(kind store.Kind, text, hint string, err error) error {
	return &store.Trouble{Kind: kind, Text: b.Place() + ": " + text, Hint: hint, Err: err}
}

// Transient is remote.Backend's.
func (b *backend) Transient(err error) bool {
	var a *answer
	if !errors.As(err, &a) {
		return false
	}
	return a.status >= 500 && a.status != http.StatusNotImplemented || a.status == http.StatusTooManyRequests ||
		a.status == http.StatusRequestTimeout || slices.Contains(busy, a.reason)
}

package s3

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/minio/minio-go/v7"

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

// answer gives what the service itself said; false when the error is of another kind.
func answer(err error) (minio.ErrorResponse, bool) {
	var r minio.ErrorResponse
	if errors.As(err, &r) && (r.StatusCode != 0 || r.Code != "") {
		return r, true
	}
	return r, false
}

func isBehindEnd(err error) bool {
	r, ok := answer(err)
	return ok && (r.Code == "InvalidRange" || r.StatusCode == http.StatusRequestedRangeNotSatisfiable)
}

// judge gives an error the meaning that callers branch on.
func (b *backend) judge(err error, what doing) error {
	if err == nil {
		return nil
	}
	r, ok := answer(err)
	if !ok {
		return err
	}
	switch {
	case r.Code == "NoSuchBucket":
		return b.trouble(store.Missing, "there is no such bucket", "create it, or look at the name and the region in the URL", err)
	case what == deleting && (r.Code == "NoSuchKey" || r.StatusCode == http.StatusNotFound):
		return nil
	case what == putting && r.StatusCode == http.StatusPreconditionFailed:
		return store.ErrExists
	case r.Code == "NoSuchKey":
		return store.ErrNotExist
	case r.Code == "RequestTimeTooSkewed":
		return b.trouble(store.Clock, "the service's clock and this machine's differ by more than the service allows", "set the clock: timedatectl set-ntp true", err)
	case r.Code == "NotImplemented" && what == putting:
		return b.trouble(store.Unconditional, "the service cannot put an object only if its name is free", "use a service that knows If-None-Match, or a newer version of this one", err)
	case what == deleting && (r.StatusCode == http.StatusForbidden || r.Code == "AccessDenied"): // of one of many it has no status
		return fmt.Errorf("%w: %w", store.ErrRetained, err)
	case r.StatusCode == http.StatusForbidden, r.StatusCode == http.StatusUnauthorized, slices.Contains(refusals, r.Code):
		return b.trouble(store.Denied, "the credentials are refused ("+r.Code+")", denial(r.Code, what), err)
	}
	return err
}

// refusals are of credentials, with whatever status.
var refusals = []string{"ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "XAdminUserNotFound"}

func denial(code string, what doing) string {
	switch code {
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "XAdminUserNotFound":
		return "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile in ~/.aws/credentials, of the user who runs pgkeep"
	}
	if what == retaining {
		return "they need s3:PutObjectRetention and s3:GetObjectRetention beside s3:GetObject, s3:PutObject and s3:ListBucket"
	}
	return "they need s3:GetObject, s3:PutObject and s3:ListBucket, and s3:DeleteObject where retention deletes"
}

func (b *backend) trouble(kind store.Kind, text, hint string, err error) error {
	return &store.Trouble{Kind: kind, Text: b.Place() + ": " + text, Hint: hint, Err: err}
}

// passing are answers that another try may not get. ConditionalRequestConflict: two puts of one name at once, undecided.
var passing = []string{
	"ConditionalRequestConflict", "OperationAborted", "SlowDown", "SlowDownRead", "SlowDownWrite", "RequestTimeout", "InternalError",
	"ServiceUnavailable", "ThrottlingException", "Throttling", "RequestLimitExceeded", "RequestThrottled", "BadDigest", "IncompleteBody",
}

// Transient is remote.Backend's.
func (b *backend) Transient(err error) bool {
	r, ok := answer(err)
	if !ok {
		return false
	}
	return r.StatusCode >= 500 && r.StatusCode != http.StatusNotImplemented || r.StatusCode == http.StatusTooManyRequests || slices.Contains(passing, r.Code)
}

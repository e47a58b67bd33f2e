package azure

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

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

// answer is what the service said; the client's own error repeats the whole request.
type answer struct {
	code   string
	status int
}

// Error gives the service's code.
func (a *answer) Error() string {
	if a.code == "" {
		return fmt.Sprintf("the service answered %d %s", a.status, http.StatusText(a.status))
	}
	return fmt.Sprintf("the service answered %s (%d)", a.code, a.status)
}

func isBehindEnd(err error) bool {
	var r *azcore.ResponseError
	return errors.As(err, &r) && r.StatusCode == http.StatusRequestedRangeNotSatisfiable
}

// isKept tells the answers that a policy or a legal hold keeps the blob as it is.
func isKept(a *answer) bool {
	return a.code == "BlobImmutableDueToPolicy" || a.code == "BlobImmutableDueToLegalHold"
}

// isForbidden tells whether the credentials lack a right; judge may have said so already.
func isForbidden(err error) bool {
	var a *answer
	return errors.As(err, &a) && a.status == http.StatusForbidden
}

// lockAction is the right to set immutability policies, which the role of a contributor does not have.
const lockAction = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/immutableStorage/runAsSuperUser/action"

const noCredentials = "set AZURE_STORAGE_KEY, or give this machine a managed identity, or log in: az login"

// judge gives an error the meaning that callers branch on.
func (b *backend) judge(err error, what doing) error {
	if err == nil {
		return nil
	}
	var none *azidentity.AuthenticationFailedError
	var unavailable interface{ NonRetriable() }
	var r *azcore.ResponseError
	if !errors.As(err, &r) || errors.As(err, &none) {
		if errors.As(err, &none) || errors.As(err, &unavailable) {
			return b.trouble(store.Denied, "there are no credentials for Azure that work", noCredentials, nil)
		}
		return err
	}
	a := &answer{r.ErrorCode, r.StatusCode}
	switch {
	case a.code == "ContainerNotFound", a.code == "ContainerBeingDeleted":
		return b.trouble(store.Missing, "there is no such container", "create it, or look at its name and the account in the URL", nil)
	case what == deleting && a.status == http.StatusNotFound:
		return nil
	case what == putting && (a.code == "BlobAlreadyExists" || isKept(a) || a.status == http.StatusPreconditionFailed):
		return store.ErrExists
	case a.status == http.StatusNotFound:
		return store.ErrNotExist
	case isKept(a) && what == deleting, what == deleting && a.status == http.StatusForbidden:
		return fmt.Errorf("%w: %w", store.ErrRetained, a)
	case what == retaining && a.status == http.StatusForbidden:
		return b.trouble(store.Denied, "the credentials may not lock objects", "give the identity the role Storage Blob Data Owner, or one of your own with the data action "+lockAction, a)
	case a.status == http.StatusForbidden, a.status == http.StatusUnauthorized:
		return b.trouble(store.Denied, "the credentials are refused", "look at AZURE_STORAGE_KEY and the clock, or give the identity the role Storage Blob Data Contributor", a)
	}
	return a
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
	return a.status >= 500 && a.status != http.StatusNotImplemented || a.status == http.StatusTooManyRequests || a.code == "Md5Mismatch" || a.status == http.StatusRequestTimeout
}
